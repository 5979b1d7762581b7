"""What a detector found in all tiles of one image, as columns of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.detection.tiling import Tile
from myelos.models.types import Boxes


@dataclass(frozen=True)
class Found:
    """xywh: (N, 4) float64, level-0 pixels. scores: (N,). probabilities: (N, T). tile: (N,) index of the tile."""

    xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    tile: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def types(self) -> NDArray[np.intp]:
        """(N,) index of the most probable type."""
        return self.probabilities.argmax(axis=1) if len(self) else np.zeros(0, np.intp)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Found:
        return Found(self.xywh[rows], self.scores[rows], self.probabilities[rows], self.tile[rows])

    def ordered(self) -> Found:
        """One order of the rows, whatever the order they came in."""
        keys = (*self.probabilities.T[::-1], *self.xywh.T[::-1], -self.scores, self.tile)
        return self.take(np.lexsort(keys))

    def sorted_by_place(self) -> Found:
        """Top to bottom, left to right, by the upper left corner."""
        x, y, width, height = self.xywh.T
        return self.take(np.lexsort((self.tile, -self.scores, height, width, x, y)))

    @staticmethod
    def empty(types: int) -> Found:
        return Found(np.zeros((0, 4)), np.zeros(0), np.zeros((0, types)), np.zeros(0, np.int64))

    @staticmethod
    def gather(answers: Sequence[tuple[Tile, Boxes]], types: int, *, threshold: float) -> Found:
        """Boxes of all tiles at or above `threshold`, moved to level-0 pixels; boxes without area are left out."""
        parts = [Found.empty(types)]
        for tile, boxes in answers:
            xywh = boxes.xywh.astype(float).reshape(-1, 4) * tile.downsample + (tile.box.x, tile.box.y, 0, 0)
            rows = (boxes.scores >= threshold) & (xywh[:, 2] > 0) & (xywh[:, 3] > 0)
            index = np.full(int(rows.sum()), tile.index, np.int64)
            parts.append(
                Found(xywh[rows], boxes.scores[rows].astype(float), boxes.probabilities[rows].astype(float), index)
            )
        return Found(*(np.concatenate([getattr(p, c) for p in parts]) for c in Found.__annotations__))
