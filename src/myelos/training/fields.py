"""Annotated fields made ready for training: at the detector's scale, evened out, with the types that labels allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy
from myelos.datasets.records import FieldRecord
from myelos.detection.prepare import ScaleKey, by_scale, pooled_scales, prepare, read_rgb, scale_key
from myelos.geometry import corners
from myelos.imaging.appearance import AppearanceSettings


@dataclass(frozen=True, slots=True)
class Field:
    """One field as the network sees it.

    image: (H, W, 3) uint8 RGB at the detector's scale. boxes: (G, 4) x1 y1 x2 y2 in its pixels. allowed: (G, T) bool,
    the types that each label leaves open. ignored: (I, 4) cells that the detector has no type for.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    ignored: NDArray[np.float32]
    source: str
    name: str
    factor: float

    @property
    def bucket(self) -> tuple[str, int]:
        """Source, and the first stated type (-1: none): what the sampler balances."""
        stated = np.flatnonzero(self.allowed.sum(axis=1) < self.allowed.shape[1])
        return self.source, int(self.allowed[stated[0]].argmax()) if len(stated) else -1


def allowed_types(label: str | None, types: Sequence[str]) -> NDArray[np.bool_] | None:
    """(T,) which of `types` a label leaves open; all for a cell of unstated type; None for what is no such cell.

    Raises KeyError-free: a white cell that the detector has no type for gives an empty mask (to be ignored).
    """
    if label is None:
        return np.ones(len(types), dtype=bool)
    if label in types:  # a lymphocyte, where hairy cells have a name of their own, is none of them
        return np.array([name == label for name in types])
    narrower = taxonomy.narrower(label)
    mask = np.array([name in narrower or label in taxonomy.narrower(name) for name in types])
    if mask.any():
        return mask
    return mask if counts_as_cell(label) else None


def counts_as_cell(label: str) -> bool:
    """White cells and other nucleated marrow cells; neither red cells, platelets nor artefacts."""
    kind = taxonomy.cell_type(label)
    return kind.white or any(kind.counted.values())


def scales(records: Sequence[FieldRecord], stated: Mapping[str, float] | None = None) -> dict[ScaleKey, float]:
    """µm/px of every source and image size: as stated, else pooled from the red cells of its fields.

    Sources without enough red cells are left out: their fields are used at the scale they have.
    """
    groups = by_scale(records)
    known = {key: stated[key[0]] for key in groups if stated and key[0] in stated}
    unknown = {key: paths for key, paths in groups.items() if key not in known}
    found = {key: estimate.mpp for key, estimate in pooled_scales(unknown, read_rgb).items() if estimate}
    return known | found


def load(
    records: Sequence[FieldRecord],
    *,
    types: Sequence[str],
    mpp: float,
    known: Mapping[ScaleKey, float],
    appearance: AppearanceSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Field]:
    """Read and prepare all records; they stay in memory (a field of 1440 × 900 at 0.1 µm/px takes 0.6 MB)."""
    fields = []
    for number, record in enumerate(records):
        fields.append(_load(record, types, known.get(scale_key(record), mpp) / mpp, appearance))
        if progress:
            progress(number + 1, len(records))
    return fields


def _load(record: FieldRecord, types: Sequence[str], factor: float, appearance: AppearanceSettings | None) -> Field:
    image = prepare(read_rgb(record.path), factor=factor, appearance=appearance)
    kept, masks, ignored = [], [], list(corners(record.ignored) * factor)
    for box, label in zip(corners(record.boxes) * factor, record.types, strict=True):
        mask = allowed_types(label, types)
        if mask is None:
            continue
        if mask.any():
            kept.append(box)
            masks.append(mask)
        else:
            ignored.append(box)
    return Field(
        image=image,
        boxes=np.array(kept, np.float32).reshape(-1, 4),
        allowed=np.array(masks, bool).reshape(-1, len(types)),
        ignored=np.array(ignored, np.float32).reshape(-1, 4),
        source=record.source,
        name=record.path.name,
        factor=factor,
    )
