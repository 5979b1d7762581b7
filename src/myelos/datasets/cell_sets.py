"""Single cells of several folders together: sets of cell images, and the typed boxes of annotated fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from myelos.datasets.cells import CellRecord, cells_of_fields, read_cells
from myelos.datasets.layouts import LAYOUTS, read_fields
from myelos.datasets.records import Fault

Progress = Callable[[str, int, int], None]


def read_cell_sets(
    folders: Sequence[Path], *, scheme: str | None = None, check: bool = False, progress: Progress | None = None
) -> tuple[list[CellRecord], list[Fault]]:
    """All cells whose type is known, and everything that is wrong; raises LabelError where a folder has none.

    scheme: the label scheme whose codes the sets use, where they do not tell. check: look at the images too, see
    `checked`; before anything is learned from them.
    """
    records: list[CellRecord] = []
    faults: list[Fault] = []
    for folder in folders:
        if any(layout.recognise(folder) for layout in LAYOUTS.values()):
            fields, bad = read_fields(folder)
            found = cells_of_fields(fields)
        else:
            found, bad = read_cells(folder, scheme=scheme)
        records, faults = records + found, faults + bad
    if not check:
        return records, faults
    sound, seen = checked(records, progress=progress)
    return sound, faults + seen


def checked(records: Sequence[CellRecord], *, progress: Progress | None = None) -> tuple[list[CellRecord], list[Fault]]:
    """The cells without those whose image is damaged, and as faults these and images that have two labels.

    Damage is found by content (`damaged.find_damaged`). Images under two labels, of which neither includes the other,
    are reported and stay: near-duplicates (`duplicates`) are kept on one side of every split anyway. Fields are taken
    as they are.
    """
    from myelos.datasets.cell_checks import contradictions
    from myelos.datasets.damaged import find_damaged
    from myelos.datasets.duplicates import DuplicateSettings, pairs

    single = [record for record in records if record.box is None]
    step = (lambda done, total: progress("looking for damage", done, total)) if progress else None
    faults = find_damaged([record.path for record in single], progress=step)
    bad = {fault.file for fault in faults}
    single = [record for record in single if record.path not in bad]
    alike = pairs([record.path for record in single], DuplicateSettings(crops=None))
    kept = [record for record in records if record.path not in bad]
    return kept, faults + contradictions(single, alike)
