"""What every field goes through before a model sees it: common scale, then even light. Training uses the same code.

The scale of fields that do not state it comes from their red cells, pooled over the fields of one source and size.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.imaging.appearance import AppearanceSettings, normalise
from myelos.imaging.scale import ScaleEstimate, estimate_mpp

Image = NDArray[np.uint8]  # (height, width, 3) RGB
Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
POOLED = 24  # fields from which a scale is pooled: more cost time and tell no more


def prepare(rgb: Image, *, factor: float = 1.0, appearance: AppearanceSettings | None = None) -> Image:
    """A field at the detector's scale with its light evened out.

    factor: the detector's pixels per pixel of the field, its µm/px ÷ the detector's; 1 where its scale is unknown.
    The result is (round(height · factor), round(width · factor), 3), at least 1 × 1.
    """
    return normalise(rescale(rgb, factor), appearance or AppearanceSettings())


def rescale(rgb: Image, factor: float) -> Image:
    """RGB with `factor` pixels per former pixel: averaged by area where smaller, interpolated where larger."""
    height, width = rgb.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size == (width, height):
        return rgb
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def pooled_scales(
    groups: Mapping[Key, Sequence[Item]], read: Callable[[Item], Image], *, most: int = POOLED
) -> dict[Key, ScaleEstimate | None]:
    """Scale of each group of fields of one source and size, from the red cells of up to `most` of them."""
    return {key: estimate_mpp([read(item) for item in spread(items, most)]) for key, items in groups.items()}


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """Up to `most` items, evenly spaced over the sequence, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)] if most > 1 else [items[0]]
