"""The looks of a classifier's training cells, source by source, as its card holds them.

A count brings the cells of a smear to one of them before the classifier is asked (`smears.staining`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from myelos.classification.evaluate import Aside, crops_of
from myelos.classification.judging import as_aside, part_of
from myelos.datasets.cell_sets import read_cell_sets
from myelos.detection.prepare import spread
from myelos.errors import UsageError
from myelos.imaging.crops import Image
from myelos.imaging.matching import look_of
from myelos.models.files import find, read_card, rewrite_card

_LOOKED_AT = 200  # cells that tell the look of a source


def looks_of_crops(crops: Mapping[str, Sequence[Image]]) -> dict[str, dict[str, Any]]:
    """Source → look as a dictionary, of its crops as the classifier sees them; sources that show no background lack."""
    looks = {}
    for source, own in crops.items():
        try:
            looks[source] = look_of(own).as_dict()
        except UsageError:
            continue
    return looks


def few_of_each(sources: Sequence[str]) -> dict[str, list[int]]:
    """Source → numbers of some of its cells, taken evenly."""
    numbers: dict[str, list[int]] = {}
    for number, source in enumerate(sources):
        numbers.setdefault(source, []).append(number)
    return {source: spread(own, _LOOKED_AT) for source, own in numbers.items()}


def add_looks(
    model: str | Path, data: Sequence[Path], *, mpp: float | None = None
) -> tuple[dict[str, dict[str, Any]], Aside]:
    """Write into the card of a classifier that is there the looks of its training cells; these, and what was set aside.

    The weights stay as they are. data: the folders that it was trained on; of a source that the recipes split only the
    part `train` is looked at. mpp: µm/px of sets that do not say. Raises UsageError where no folder holds a source of
    the card.
    """
    path = find(model)
    card = read_card(path)
    learned = {row["source"] for row in card.data}
    read, faults = read_cell_sets(data)
    records = [record for record in part_of(read, "train") if record.source in learned]
    if not records:
        why = f"it learned from {', '.join(sorted(learned))}"
        raise UsageError(f"no folder holds cells that {card.name} was trained on", why=why, remedy="Pass those folders")
    looks, aside = {}, as_aside(faults)
    for source, numbers in few_of_each([record.source for record in records]).items():
        crops, _, unread = crops_of([records[i] for i in numbers], to_mpp=card.mpp, side=card.tile, mpp=mpp)
        looks[source] = look_of(crops).as_dict()
        aside += unread
    rewrite_card(path, replace(card, looks={**card.looks, **looks}))
    return looks, aside
