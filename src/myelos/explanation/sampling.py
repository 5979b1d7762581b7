"""Which cells of a set are shown: some of every type, held out where the usual split holds any out."""

from __future__ import annotations

from collections.abc import Sequence

from myelos.datasets.cell_splits import split_cells
from myelos.datasets.cells import CellRecord

_SPARE = 4  # further candidates of a type, from which those named correctly are taken


def candidates(records: Sequence[CellRecord], per_type: int) -> list[int]:
    """Indices of up to `per_type` + `_SPARE` cells of each type: of the part "test" of the usual split first, which the
    recipes of this program never train on, then of the others. The same cells whatever they are called."""
    parts = split_cells(records)
    order = [*parts["test"], *parts["choose"], *parts["train"]]
    chosen: dict[str, list[int]] = {}
    for index in order:
        own = chosen.setdefault(records[index].cell_type, [])
        if len(own) < per_type + _SPARE:
            own.append(index)
    return [index for kind in sorted(chosen) for index in chosen[kind]]


def preferred(truths: Sequence[str], predicted: Sequence[str], per_type: int) -> list[int]:
    """Indices of `per_type` cells of each type, correctly named ones first, as in Figure 5 of Matek 2021."""
    result = []
    for kind in dict.fromkeys(truths):
        own = [index for index, truth in enumerate(truths) if truth == kind]
        result += sorted(own, key=lambda index: predicted[index] != kind)[:per_type]
    return result
