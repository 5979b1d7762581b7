"""Where to look: the readable area of a slide, seen on its overview.

Light passes plain glass, is absorbed a little where cells lie side by side, and much where they lie in heaps. The
overview's absorbance tells the three apart: background, readable, and too dark or too thick to read. (Particles and
the trails behind them are found by a model of their own, which takes this file's place in the main path.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.detection.tiling import Tile
from myelos.geometry import Box
from myelos.slides.base import Slide


@dataclass(frozen=True)
class RegionSettings:
    """overview: longer side of the overview in pixels. faintest, darkest: absorbance (-log10 of the light that
    passes, mean of R, G and B) between which an area is readable. smooth_um: details smaller than this do not count.
    smallest_mm2: smaller areas are left out. covered: share of a tile's core that must be readable.
    """

    overview: int = 2048
    faintest: float = 0.02
    darkest: float = 0.33
    smooth_um: float = 150.0
    smallest_mm2: float = 0.02
    covered: float = 0.5


@dataclass(frozen=True)
class Readable:
    """mask: (h, w) whether each pixel of the overview is readable; downsample: level-0 pixels per pixel of it."""

    mask: NDArray[np.bool_]
    downsample: float
    mpp: float | None

    def share(self, box: Box) -> float:
        """Share of a level-0 box that is readable."""
        x1, y1 = int(box.x / self.downsample), int(box.y / self.downsample)
        x2 = max(x1 + 1, round(box.right / self.downsample))
        y2 = max(y1 + 1, round(box.bottom / self.downsample))
        part = self.mask[y1:y2, x1:x2]
        return float(part.mean()) if part.size else 0.0

    def select(self, tiles: Sequence[Tile], covered: float) -> list[Tile]:
        """The tiles whose core is readable by at least `covered`."""
        return [tile for tile in tiles if self.share(tile.core) >= covered]

    def region_of(self, box: Box) -> int | None:
        """Number of the region that holds the middle of a level-0 box, None where none does."""
        x, y = (position / self.downsample - 0.5 for position in box.center)
        inside = [
            number for number, outline in enumerate(self.outlines) if cv2.pointPolygonTest(outline, (x, y), False) >= 0
        ]
        return inside[0] if inside else None

    @cached_property
    def outlines(self) -> list[NDArray[np.int32]]:
        """Outer outlines in pixels of the overview, largest first."""
        contours, _ = cv2.findContours(self.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        return sorted(contours, key=lambda contour: (-cv2.contourArea(contour), contour.tolist()))

    def rows(self, slide_id: str) -> list[dict[str, Any]]:
        """Rows of the table `regions`: outer outlines in level-0 pixels, x y x y …, largest first."""
        return [self._row(slide_id, number, outline) for number, outline in enumerate(self.outlines)]

    def _row(self, slide_id: str, number: int, contour: NDArray[np.int32]) -> dict[str, Any]:
        points = (contour.reshape(-1, 2) + 0.5) * self.downsample
        area = cv2.contourArea(contour) * self.downsample**2 * self.mpp**2 / 1e6 if self.mpp else None
        return {
            "slide_id": slide_id,
            "region": number,
            "kind": "readable",
            "polygon": points.ravel().tolist(),
            "area_mm2": area,
        }


def readable(slide: Slide, settings: RegionSettings | None = None) -> Readable:
    """The readable area of a slide, from its overview."""
    settings = settings or RegionSettings()
    overview = slide.overview(settings.overview)
    downsample = max(slide.width / overview.shape[1], slide.height / overview.shape[0])
    mpp = slide.mpp * downsample if slide.mpp else None
    return Readable(readable_mask(overview, mpp, settings), downsample, slide.mpp)


def readable_mask(
    overview: NDArray[np.uint8], mpp: float | None, settings: RegionSettings | None = None
) -> NDArray[np.bool_]:
    """(h, w) readable pixels of an RGB overview with `mpp` µm per pixel (None: nothing is known of its size)."""
    settings = settings or RegionSettings()
    absorbed = absorbance(overview)
    radius = min(settings.smooth_um / mpp / 2, 100.0) if mpp else 3.0
    if radius >= 0.5:
        absorbed = cv2.GaussianBlur(absorbed, (0, 0), radius / 1.5)
    mask = ((absorbed >= settings.faintest) & (absorbed <= settings.darkest)).astype(np.uint8)
    smallest = settings.smallest_mm2 * 1e6 / mpp**2 if mpp else 0.0
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    large = statistics[:, cv2.CC_STAT_AREA] >= smallest
    large[0] = False
    return large[labels]


def absorbance(overview: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(h, w) mean absorbance of R, G and B against the brightest that is common in the overview."""
    white = np.percentile(overview.reshape(-1, 3), 98, axis=0).astype(np.float32)
    white = np.maximum(white, 128.0)  # an overview without any glass: no channel is taken for white that is dark
    light = np.maximum(overview.astype(np.float32), 1.0) / white
    return np.clip(-np.log10(light), 0, None).mean(axis=2).astype(np.float32)
