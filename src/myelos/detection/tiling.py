"""Tiles of an image at the common scale of a detector (Wang 2022, section 3.1.2).

Everything is planned on the grid of the detector's pixels, so that a tile is cut without resampling a second time and
a box of the detector goes back to level-0 pixels by one factor.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.geometry import Box

ASSUMED_TILE = 640  # pixels, after section 3.1.2


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a plan.

    box: what is read; core: the part that no other tile owns, cores cover the plan without gap or overlap (both in
    level-0 pixels). column, row: position in the grid. downsample: level-0 pixels per pixel of the tile.
    inner: whether the left, top, right and bottom edge borders on another tile of the plan.
    """

    index: int
    box: Box
    core: Box
    column: int
    row: int
    downsample: float
    inner: tuple[bool, bool, bool, bool]

    @property
    def offset(self) -> tuple[int, int]:
        """x, y of the tile in the image at the detector's scale, where the plan starts at the image's origin."""
        return round(self.box.x / self.downsample), round(self.box.y / self.downsample)

    @property
    def size(self) -> tuple[int, int]:
        """width, height of the tile in its own pixels."""
        return round(self.box.width / self.downsample), round(self.box.height / self.downsample)

    def cut(self, prepared: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The tile's pixels out of the whole image at the detector's scale."""
        (x, y), (width, height) = self.offset, self.size
        return prepared[y : y + height, x : x + width]


def plan(
    bounds: Box,
    *,
    mpp_slide: float | None,
    detector_mpp: float,
    tile: int = ASSUMED_TILE,
    overlap_um: float = 30.0,
) -> list[Tile]:
    """Tiles that cover `bounds`, row by row, each pair of neighbours sharing at least `overlap_um`.

    bounds: level-0 pixels. tile: side in pixels of `detector_mpp`. Tiles are spread evenly; an image smaller than a
    tile gives one tile of its own size. Where `mpp_slide` is None the image is taken to have the detector's scale.
    With `overlap_um` 0 neighbours touch and the last of a row may be narrower (the grid of equation 3).
    """
    downsample = detector_mpp / mpp_slide if mpp_slide else 1.0
    overlap = math.ceil(overlap_um / detector_mpp)
    if not 0 <= overlap < tile:
        raise ValueError(f"an overlap of {overlap} px does not fit a tile of {tile} px")
    columns = _spans(max(1, round(bounds.width / downsample)), tile, overlap)
    rows = _spans(max(1, round(bounds.height / downsample)), tile, overlap)
    across, down = _cores(columns), _cores(rows)
    tiles: list[Tile] = []
    for row, (top, height) in enumerate(rows):
        for column, (left, width) in enumerate(columns):
            core = Box(across[column], down[row], across[column + 1] - across[column], down[row + 1] - down[row])
            inner = (column > 0, row > 0, column < len(columns) - 1, row < len(rows) - 1)
            tiles.append(
                Tile(
                    index=len(tiles),
                    box=Box(left, top, width, height).scaled(downsample).shifted(bounds.x, bounds.y),
                    core=core.scaled(downsample).shifted(bounds.x, bounds.y),
                    column=column,
                    row=row,
                    downsample=downsample,
                    inner=inner,
                )
            )
    return tiles


def owners(tiles: Iterable[Tile], xywh: NDArray[np.floating]) -> NDArray[np.int64]:
    """(N,) index of the tile in whose core the centre of each box lies, -1 where that tile is not among `tiles`.

    xywh: (N, 4) level-0 pixels. A centre beyond the border of the plan belongs to the nearest core.
    """
    kept = list(tiles)
    xywh = np.asarray(xywh, dtype=float).reshape(-1, 4)
    if not kept:
        return np.full(len(xywh), -1, np.int64)
    lefts = {t.column: (t.core.x if t.inner[0] else -np.inf, t.core.right if t.inner[2] else np.inf) for t in kept}
    tops = {t.row: (t.core.y if t.inner[1] else -np.inf, t.core.bottom if t.inner[3] else np.inf) for t in kept}
    column = _place(lefts, xywh[:, 0] + xywh[:, 2] / 2)
    row = _place(tops, xywh[:, 1] + xywh[:, 3] / 2)
    index = {(t.column, t.row): t.index for t in kept}
    return np.array([index.get(pair, -1) for pair in zip(column, row, strict=True)], np.int64)


def _place(spans: dict[int, tuple[float, float]], positions: NDArray[np.floating]) -> list[int]:
    """Number of the half-open span that holds each position, -1 where there is none."""
    numbers = np.array(sorted(spans))
    starts = np.array([spans[n][0] for n in numbers])
    ends = np.array([spans[n][1] for n in numbers])
    nearest = np.clip(np.searchsorted(starts, positions, side="right") - 1, 0, len(numbers) - 1)
    inside = (positions >= starts[nearest]) & (
        positions < ends[nearest] + 1e-6
    )  # cores may miss each other by a rounding
    return np.where(inside, numbers[nearest], -1).tolist()


def _spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """(start, length) of each tile along one axis."""
    if length <= tile:
        return [(0, length)]
    if overlap == 0:
        return [(start, min(tile, length - start)) for start in range(0, length, tile)]
    number = 1 + math.ceil((length - tile) / (tile - overlap))
    # Rounding down never spreads neighbours by more than the step rounded up, which is at most tile - overlap.
    return [((length - tile) * i // (number - 1), tile) for i in range(number)]


def _cores(spans: list[tuple[int, int]]) -> list[float]:
    """Borders between the cores along one axis: the middle of each overlap, and both ends."""
    middles = [(start + before + length) / 2 for (before, length), (start, _) in itertools.pairwise(spans)]
    return [float(spans[0][0]), *middles, float(sum(spans[-1]))]
