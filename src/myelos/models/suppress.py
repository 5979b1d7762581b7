"""From the raw proposals of one tile to `Boxes`: the suppression that stays outside the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.geometry import from_corners, iou_matrix
from myelos.models.types import Boxes

FLOOR = 0.02  # scores below never leave a model: precision-recall curves need the tail, nothing else does
OVERLAP = 0.5  # IoU from which two boxes are one cell, whatever their types


def padded(tile: NDArray[np.uint8], multiple: int = 32, value: int = 235) -> NDArray[np.uint8]:
    """Tile (H, W, 3) with sides filled up to a multiple of the coarsest stride, at the right and at the bottom."""
    height, width = tile.shape[:2]
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return tile
    return np.pad(tile, ((0, below), (0, right), (0, 0)), constant_values=value)


def to_boxes(
    corners: NDArray[Any], scores: NDArray[Any], types: NDArray[Any], *, width: int, height: int, floor: float = FLOOR
) -> Boxes:
    """corners (P, 4) x1 y1 x2 y2, scores (P,), types (P, T) → suppressed `Boxes` inside `width` × `height`."""
    corners = np.clip(corners, 0, [width, height, width, height]).astype(np.float32)
    xywh = from_corners(corners)
    usable = (scores >= floor) & (xywh[:, 2] >= 2) & (xywh[:, 3] >= 2)
    order = np.argsort(-scores[usable], kind="stable")
    xywh, scores, types = xywh[usable][order], scores[usable][order], types[usable][order]
    keep = suppress(xywh)
    return Boxes(
        xywh[keep].astype(np.float32), scores[keep].astype(np.float32), types[keep].astype(np.float32, copy=False)
    )


def suppress(xywh: NDArray[Any], overlap: float = OVERLAP) -> NDArray[np.intp]:
    """Indices of the boxes (N, 4), sorted by falling score, that no kept better box covers by more than `overlap`."""
    covered = iou_matrix(xywh, xywh) > overlap
    alive = np.ones(len(xywh), dtype=bool)
    for index in range(len(xywh)):
        if alive[index]:
            alive[index + 1 :] &= ~covered[index, index + 1 :]
    return np.flatnonzero(alive)
