"""The square that a classifier sees of a cell: one scale, one white point, the cell in its middle.

Training, evaluation and the count cut their crops here, so that a model meets nothing in use that it was not taught.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.imaging.appearance import AppearanceSettings, normalise

Image = NDArray[np.uint8]  # (height, width, 3) RGB
TYPICAL_CELL = 14.0  # µm, the mean of white cells in blood: the scale of a box where no other is known

# A single cell's image is too small for a vignette to be told from the cell.
CELL_APPEARANCE = AppearanceSettings(flat_field=False)


def window(rgb: Image, centre: tuple[float, float], factor: float, side: int) -> Image:
    """(side, side, 3): the surroundings of `centre` (x, y in pixels) with `factor` pixels for each of the image.

    Where a pixel of the window covers several of the image they are averaged; outside the image its border is mirrored.
    """
    if factor >= 1:
        return _shifted(rgb, centre, factor, side)
    reach = side / factor  # no more than the window can show, and its mirrored border, is averaged
    left, top = (max(0, int(c - reach)) for c in centre)
    part = rgb[top : int(centre[1] + reach) + 2, left : int(centre[0] + reach) + 2]
    width, height = (max(1, round(length * factor)) for length in (part.shape[1], part.shape[0]))
    small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    place = (centre[0] - left) * width / part.shape[1], (centre[1] - top) * height / part.shape[0]
    return _shifted(small, place, 1.0, side)


def _shifted(rgb: Image, centre: tuple[float, float], factor: float, side: int) -> Image:
    shift = [side / 2 - factor * c - (0.5 - 0.5 * factor) for c in centre]
    matrix = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
    flags = cv2.INTER_LINEAR if factor <= 1 else cv2.INTER_CUBIC
    return cv2.warpAffine(rgb, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def cell_window(
    rgb: Image, *, mpp: float, to_mpp: float, side: int, appearance: AppearanceSettings | None = None
) -> Image:
    """The middle of an image of a single cell, evened out and at the classifier's scale."""
    even = normalise(rgb, appearance or CELL_APPEARANCE)
    height, width = rgb.shape[:2]
    return window(even, (width / 2, height / 2), mpp / to_mpp, side)


def views(crop: Image, number: int) -> list[Image]:
    """The crop in up to eight poses (turned by quarters, then mirrored): a cell has no upright."""
    poses = [np.rot90(image, turns) for image in (crop, crop[:, ::-1]) for turns in range(4)]
    order = (0, 2, 5, 7, 1, 3, 4, 6)
    return [np.ascontiguousarray(poses[i]) for i in order[:number]]


def stacked(crops: Sequence[Image]) -> NDArray[np.uint8]:
    """(N, side, side, 3) of crops of one size."""
    return np.stack(crops) if len(crops) else np.zeros((0, 1, 1, 3), np.uint8)
