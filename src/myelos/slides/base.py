"""The seam of all pixels: `slide.read(box, mpp)` gives RGB of a physical box at a physical resolution.

Levels, padding, alpha, colour conversion, missing resolution and the quirks of formats end here.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.errors import ResolutionError, UsageError
from myelos.geometry import Box

MPP_RANGE = (0.05, 2.0)  # µm/px that a file may claim; anything else is a mistake (72 dpi would be 352.8)
OUTSIDE = 255  # grey value of what lies outside the image
READ_LIMIT = 2**25  # source pixels in memory at once while a region is shrunk (100 MB)

Image = NDArray[np.uint8]  # (height, width, 3) RGB


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the pyramid; `downsample` is its pixel size in level-0 pixels."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True, slots=True)
class Source:
    """One scale at which pixels can be had: `read(x, y, width, height)` in pixels of `downsample` level-0 pixels.

    exact: its pixels come as they are stored; False where the reader can only interpolate between them.
    """

    downsample: float
    read: Callable[[int, int, int, int], Image]
    exact: bool = True


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
    warnings: tuple[str, ...] = ()  # sentences for the person who gave the file

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
        if not (downsample > 0 and box.width > 0 and box.height > 0 and np.isfinite(box.area + box.x + box.y)):
            raise UsageError(f"{self.path.name}: {box} at downsample {downsample:g} is no region")
        out_width = max(1, round(box.width / downsample))
        out_height = max(1, round(box.height / downsample))
        source = self._source_for(box, downsample)
        x, y, step = box.x / source.downsample, box.y / source.downsample, downsample / source.downsample
        columns = max(1, min(out_width, int(READ_LIMIT / (step * step))))
        rows = max(1, min(out_height, int(READ_LIMIT / (step * step * columns))))
        if (columns, rows) == (out_width, out_height):
            return _read_block(source, x, y, step, out_width, out_height)
        result = np.empty((out_height, out_width, 3), np.uint8)
        for top in range(0, out_height, rows):
            for left in range(0, out_width, columns):
                part = result[top : top + rows, left : left + columns]
                part[:] = _read_block(source, x + left * step, y + top * step, step, part.shape[1], part.shape[0])
        return result

    def sources(self) -> list[Source]:
        """All scales at which pixels can be read; a format that decodes at reduced size adds its own."""
        return [Source(level.downsample, partial(self.read_level, i)) for i, level in enumerate(self.levels)]

    def _source_for(self, box: Box, downsample: float) -> Source:
        """The coarsest source that gives what level 0 would: at least two of its pixels go into one, or its grid fits.

        Averages of averages differ from averages where grids do not fit: on sharp images by 2 to 5 grey levels in the
        mean at one pixel for one, by less than 1 at two (measured on smears at 2 and 4 times the pixel).
        """
        sources = sorted(self.sources(), key=lambda source: source.downsample)
        return next((source for source in reversed(sources) if _fits(source, box, downsample)), sources[0])

    def best_level(self, downsample: float) -> int:
        """Index of the coarsest level that is still no coarser than `downsample`."""
        fitting = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * 1.001]
        return max(fitting, key=lambda i: self.levels[i].downsample) if fitting else 0

    def missing(self, box: Box) -> float:
        """Share of the part of `box` inside the image for which the file holds no pixels (they read as OUTSIDE)."""
        del box  # a photograph leaves nothing out
        return 0.0

    def overview(self, max_side: int = 2048) -> Image:
        """The whole image with its longer side at most `max_side` pixels."""
        return self.read_scaled(self.bounds, max(1.0, max(self.width, self.height) / max_side))

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fits(source: Source, box: Box, downsample: float) -> bool:
    step = downsample / source.downsample
    if step >= 2:
        return True
    if abs(step - 1) > 1e-3 or not source.exact:
        return False
    size = round(box.width / downsample), round(box.height / downsample)
    return _on_grid(box.x / source.downsample, box.y / source.downsample, step, *size) is not None


def _read_block(source: Source, x: float, y: float, step: float, width: int, height: int) -> Image:
    """`width` × `height` output pixels, each `step` pixels of the source wide, from (x, y) of the source on."""
    grid = _on_grid(x, y, step, width, height)
    if grid is None:  # parts of pixels: look at the neighbours too
        x1, y1 = int(np.floor(x)) - 1, int(np.floor(y)) - 1
        x2, y2 = int(np.ceil(x + width * step)) + 1, int(np.ceil(y + height * step)) + 1
        return resample(source.read(x1, y1, x2 - x1, y2 - y1), x - x1, y - y1, step, width, height)
    pixels = source.read(*grid)
    if grid[2:] == (width, height):
        return pixels
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _on_grid(x: float, y: float, step: float, width: int, height: int) -> tuple[int, int, int, int] | None:
    """x, y, width, height in source pixels where the region's edges lie on them, to a sixteenth of an output pixel.

    None where they do not, or where the region is magnified.
    """
    edges = (x, y, x + width * step, y + height * step)
    whole = [round(edge) for edge in edges]
    off = max(abs(edge - near) for edge, near in zip(edges, whole, strict=True))
    columns, rows = whole[2] - whole[0], whole[3] - whole[1]
    if off > max(step, 1e-3) / 16 or columns < width or rows < height:
        return None
    return whole[0], whole[1], columns, rows


def resample(pixels: Image, x: float, y: float, step: float, width: int, height: int) -> Image:
    """`width` × `height` output pixels from (x, y) on, each the mean over `step` source pixels both ways.

    Between the edges of pixels the running sum is interpolated by cubics instead of straight lines: it keeps means and
    stays exact on the grid, and a level of a pyramid gives nearly what level 0 gives, at any offset. The same formula
    magnifies. Every reader's pixels go through here.
    """
    across = _mean_of_rows(pixels.reshape(len(pixels), -1), y, step, height).reshape(height, -1, 3)
    down = _mean_of_rows(cv2.transpose(across).reshape(across.shape[1], -1), x, step, width).reshape(width, -1, 3)
    return cv2.transpose(np.clip(down + 0.5, 0, 255).astype(np.uint8))


def _mean_of_rows(rows: NDArray[Any], start: float, step: float, count: int) -> NDArray[np.float32]:
    """(n, m) → (count, m): means over consecutive spans of `step` rows; what lies outside repeats the edge."""
    edges = start + step * np.arange(count + 1)
    first = np.floor(edges[:-1]).astype(int) - 1
    result = np.zeros((count, rows.shape[1]), np.float32)
    for k in range(int(np.ceil(step)) + 3):
        row = first + k
        weight = ((_passed(edges[1:] - row) - _passed(edges[:-1] - row)) / step).astype(np.float32)
        if weight.any():
            result += weight[:, None] * rows[np.clip(row, 0, len(rows) - 1)]
    return result


def _passed(t: NDArray[np.floating]) -> NDArray[np.floating]:
    """Share of a pixel [0, 1) that the running sum up to `t` holds: Catmull and Rom's cubic through the whole sums."""
    before, inside, after = np.clip(t + 1, 0, 1), np.clip(t, 0, 1), np.clip(t - 1, 0, 1)
    return (
        before**2 * (before - 1)  # nothing yet: the cubic dips on its way
        + inside * (1 + inside * (3 - 2 * inside))
        + after * (1 + after * (after - 2))
    ) / 2
