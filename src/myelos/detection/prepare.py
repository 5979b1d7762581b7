"""What every field goes through before a model sees it: common scale, then even light. Training uses the same code.

The scale of fields that do not state it comes from their red cells, pooled over the fields of one source and size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.datasets.records import FieldRecord
from myelos.errors import InputError
from myelos.imaging.appearance import AppearanceSettings, normalise
from myelos.imaging.scale import ScaleEstimate, estimate_mpp

Image = NDArray[np.uint8]  # (height, width, 3) RGB
ScaleKey = tuple[str, int, int]  # source, width, height
Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
POOLED = 24  # fields from which a scale is pooled: more cost time and tell no more


def read_rgb(path: Path) -> Image:
    """An annotated field as its labels count pixels; raises InputError."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise InputError(f"{path.name} cannot be read as an image")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


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


def scale_key(record: FieldRecord) -> ScaleKey:
    """Fields of one source and nearly one size come from one camera at one magnification."""
    return record.source, round(record.width, -1), round(record.height, -1)


def by_scale(records: Sequence[FieldRecord]) -> dict[ScaleKey, list[Path]]:
    """Paths of the fields of one scale, sorted: the order of the records changes nothing."""
    groups: dict[ScaleKey, list[Path]] = defaultdict(list)
    for record in sorted(records, key=lambda record: str(record.path)):
        groups[scale_key(record)].append(record.path)
    return dict(groups)


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
