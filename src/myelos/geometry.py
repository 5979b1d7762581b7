"""Boxes, and the units they are measured in.

Everything that is stored is in level-0 pixels as `x, y, width, height` with the origin in the upper left corner.
Arrays of boxes are `(N, 4)` in that order; `corners` and `from_corners` convert from and to `x1, y1, x2, y2`, which
is what torchvision and OpenCV work with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in level-0 pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def area(self) -> float:
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def center(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2

    def shifted(self, dx: float, dy: float) -> Box:
        return Box(self.x + dx, self.y + dy, self.width, self.height)

    def scaled(self, factor: float) -> Box:
        """The same rectangle in a frame whose pixels are `1 / factor` times as large."""
        return Box(self.x * factor, self.y * factor, self.width * factor, self.height * factor)

    def padded(self, margin: float) -> Box:
        return Box(self.x - margin, self.y - margin, self.width + 2 * margin, self.height + 2 * margin)

    def clipped(self, width: float, height: float) -> Box:
        """The part inside an image of `width` × `height`; its area is 0 where there is none."""
        x1, y1 = min(max(self.x, 0.0), width), min(max(self.y, 0.0), height)
        x2, y2 = min(max(self.right, 0.0), width), min(max(self.bottom, 0.0), height)
        return Box(x1, y1, x2 - x1, y2 - y1)

    def contains(self, x: float, y: float) -> bool:
        return self.x <= x < self.right and self.y <= y < self.bottom

    def iou(self, other: Box) -> float:
        """Intersection over union, 0 for boxes without area."""
        overlap_width = min(self.right, other.right) - max(self.x, other.x)
        overlap_height = min(self.bottom, other.bottom) - max(self.y, other.y)
        intersection = max(overlap_width, 0.0) * max(overlap_height, 0.0)
        union = self.area + other.area - intersection
        return intersection / union if union > 0 else 0.0


def corners(xywh: FloatArray) -> FloatArray:
    """(N, 4) x y width height → (N, 4) x1 y1 x2 y2."""
    xywh = np.asarray(xywh).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def from_corners(xyxy: FloatArray) -> FloatArray:
    """(N, 4) x1 y1 x2 y2 → (N, 4) x y width height."""
    xyxy = np.asarray(xyxy).reshape(-1, 4)
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)


def overlaps(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Intersection areas and unions of every pair: (N, 4) and (M, 4) x y width height → two (N, M) arrays."""
    first, second = corners(a), corners(b)
    upper_left = np.maximum(first[:, None, :2], second[None, :, :2])
    lower_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = np.prod(np.clip(lower_right - upper_left, 0, None), axis=2)
    areas_a = np.prod(np.clip(first[:, 2:] - first[:, :2], 0, None), axis=1)
    areas_b = np.prod(np.clip(second[:, 2:] - second[:, :2], 0, None), axis=1)
    return intersection, areas_a[:, None] + areas_b[None, :] - intersection


def iou_matrix(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of every pair, (N, M); pairs without area give 0."""
    intersection, union = overlaps(a, b)
    return np.divide(intersection, union, out=np.zeros_like(intersection, dtype=float), where=union > 0)
