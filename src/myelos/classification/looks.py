"""The looks of a classifier's training cells, source by source, as its card holds them.

A count brings the cells of a smear to one of them before the classifier is asked (`smears.staining`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from myelos.classification.evaluate import look_of_cells
from myelos.classification.judging import part_of
from myelos.datasets.cell_sets import read_cell_sets
from myelos.datasets.cells import CellRecord
from myelos.detection.prepare import spread
from myelos.errors import UsageError
from myelos.imaging.crops import Image
from myelos.imaging.matching import look_of
from myelos.models import load_classifier
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


def add_looks(model: str | Path, data: Sequence[Path], *, mpp: float | None = None) -> dict[str, dict[str, Any]]:
    """Write into the card of a classifier that is there the looks of its training cells; the weights stay as they are.

    data: the folders that it was trained on; of a source that the recipes split only the part `train` is looked at.
    mpp: µm/px of sets that do not say. Raises UsageError where no folder holds a source of the card.
    """
    path = find(model)
    card, classifier = read_card(path), load_classifier(path)
    learned = {row["source"] for row in card.data}
    records = [record for record in part_of(read_cell_sets(data)[0], "train") if record.source in learned]
    if not records:
        why = f"it learned from {', '.join(sorted(learned))}"
        raise UsageError(f"no folder holds cells that {card.name} was trained on", why=why, remedy="Pass those folders")
    by_source: dict[str, list[CellRecord]] = {}
    for record in records:
        by_source.setdefault(record.source, []).append(record)
    looks = {source: look_of_cells(own, classifier, mpp=mpp).as_dict() for source, own in by_source.items()}
    rewrite_card(path, replace(card, looks={**card.looks, **looks}))
    return looks
