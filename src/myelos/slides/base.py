"""The seam of all pixels: `slide.read(box, mpp)` gives RGB of a physical box at a physical resolution.

Levels, padding, alpha, colour conversion, missing resolution and the quirks of formats end here.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.errors import ResolutionError
from myelos.geometry import Box

MPP_RANGE = (0.05, 2.0)  # µm/px that a file may claim; anything else is a mistake (72 dpi would be 352.8)
OUTSIDE = 255  # grey value of what lies outside the image

Image = NDArray[np.uint8]  # (height, width, 3) RGB


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the pyramid; `downsample` is its pixel size in level-0 pixels."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True, slots=True)
class Resolution:
    """µm per level-0 pixel, where it came from, and its relative uncertainty (one standard deviation)."""

    mpp: float | None
    source: str = "unknown"  # file, argument, red cells, unknown
    uncertainty: float = 0.0


class Slide(abc.ABC):
    """An open image: a whole slide or a camera field.

    Subclasses give `read_level`; everything else follows from it.
    """

    path: Path
    kind: str  # "slide" (has a stage position and, usually, a pyramid) or "field" (a photograph)
    reader: str  # openslide, tiff, field
    levels: tuple[Level, ...]
    resolution: Resolution
    properties: dict[str, str]  # scanner, objective, compression, ...: nothing that names a person

    @property
    def width(self) -> int:
        return self.levels[0].width

    @property
    def height(self) -> int:
        return self.levels[0].height

    @property
    def mpp(self) -> float | None:
        return self.resolution.mpp

    @property
    def bounds(self) -> Box:
        return Box(0, 0, self.width, self.height)

    @abc.abstractmethod
    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Image:
        """Pixels of one level, (x, y) in that level's own pixels; outside the image is `OUTSIDE`."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release the file."""

    def read(self, box: Box, mpp: float | None = None) -> Image:
        """RGB of `box` (level-0 pixels) at `mpp` µm/px, or at full resolution where `mpp` is None.

        Raises ResolutionError where `mpp` is given and the slide has none.
        """
        if mpp is None:
            return self.read_scaled(box, 1.0)
        if self.mpp is None:
            raise ResolutionError(
                f"{self.path.name} has no known resolution", remedy="Pass --mpp with its µm per pixel"
            )
        return self.read_scaled(box, mpp / self.mpp)

    def read_scaled(self, box: Box, downsample: float) -> Image:
        """RGB of `box` with output pixels of `downsample` level-0 pixels (below 1 magnifies).

        The result is (round(height / downsample), round(width / downsample), 3), at least 1 × 1. It is read from the
        finest level that is no coarser than asked and shrunk by area, so that every reader gives the same pixels.
        """
        out_width = max(1, round(box.width / downsample))
        out_height = max(1, round(box.height / downsample))
        index = self.best_level(downsample)
        factor = self.levels[index].downsample
        x1, y1 = int(np.floor(box.x / factor)), int(np.floor(box.y / factor))
        x2 = max(x1 + 1, int(np.ceil(box.right / factor)))
        y2 = max(y1 + 1, int(np.ceil(box.bottom / factor)))
        pixels = self.read_level(index, x1, y1, x2 - x1, y2 - y1)
        return _resample(pixels, box.x / factor - x1, box.y / factor - y1, downsample / factor, out_width, out_height)

    def best_level(self, downsample: float) -> int:
        """Index of the coarsest level that is still no coarser than `downsample`."""
        fitting = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * 1.001]
        return max(fitting, key=lambda i: self.levels[i].downsample) if fitting else 0

    def overview(self, max_side: int = 2048) -> Image:
        """The whole image with its longer side at most `max_side` pixels."""
        return self.read_scaled(self.bounds, max(1.0, max(self.width, self.height) / max_side))

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _resample(pixels: Image, x: float, y: float, step: float, width: int, height: int) -> Image:
    """`width` × `height` output pixels from (x, y) on, each `step` source pixels wide."""
    if step == 1.0 and x == 0.0 and y == 0.0 and pixels.shape[:2] == (height, width):
        return pixels
    if step > 1.0 and x == 0.0 and y == 0.0 and pixels.shape[0] * pixels.shape[1] > 0:
        exact = abs(pixels.shape[1] - width * step) < 1 and abs(pixels.shape[0] - height * step) < 1
        if exact:
            return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if step > 1.0:  # blur by area first, then place: avoids aliasing for odd offsets
        shrunk = cv2.resize(
            pixels,
            (max(1, round(pixels.shape[1] / step)), max(1, round(pixels.shape[0] / step))),
            interpolation=cv2.INTER_AREA,
        )
        x, y = x * shrunk.shape[1] / pixels.shape[1], y * shrunk.shape[0] / pixels.shape[0]
        pixels, step = shrunk, 1.0
    matrix = np.array([[step, 0, x + (step - 1) / 2], [0, step, y + (step - 1) / 2]])
    return cv2.warpAffine(
        pixels, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
