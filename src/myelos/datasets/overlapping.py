"""Single cells whose images overlap, before a split: kept on one side of it, or all but one discarded as in Matek 2021.

The recipes' own split (`cell_splits.split_cells`) looks at whole images only, so that it does not move what the shipped
models were trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from myelos.datasets.cell_checks import distinct
from myelos.datasets.cell_splits import cell_units
from myelos.datasets.cells import CellRecord
from myelos.datasets.duplicates import join
from myelos.datasets.keypoints import overlaps
from myelos.errors import UsageError

OVERLAPS = ("together", "discard", "off")


def overlapping_units(
    records: Sequence[CellRecord], how: str, *, progress: Callable[[str, int, int], None] | None = None
) -> tuple[list[CellRecord], list[int]]:
    """The cells that stay, and labels of what shares a patient, a near-duplicate or a part of its image.

    how: one of `OVERLAPS`; off searches for none. Cells in boxes of fields are not searched. Raises UsageError.
    """
    if how not in OVERLAPS:
        raise UsageError(f"--overlaps {how} means nothing", remedy=f"Choose {', '.join(OVERLAPS)}")
    if how == "off":
        return list(records), cell_units(records)
    places = [index for index, record in enumerate(records) if record.box is None]
    single = [records[index] for index in places]
    step = partial(progress, "looking for overlaps") if progress else None
    found = overlaps([record.path for record in single], progress=step)
    if how == "discard":
        kept = {record.path for record in distinct(single, found)}
        left = [record for record in records if record.box is not None or record.path in kept]
        return left, cell_units(left)
    first: dict[int, int] = {}
    links = [(first.setdefault(label, index), index) for index, label in enumerate(cell_units(records))]
    return list(records), join(len(records), links + [(places[one.first], places[one.second]) for one in found])
