"""Parts of a set of single cells that share no patient and no near-duplicate.

Where a unit goes is decided by a hash of its content alone, never by what else is given: a further source moves no cell
of another one from one part to the other, so that models trained one upon the other can share their held-out cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from myelos.datasets.cells import CellRecord
from myelos.datasets.duplicates import DuplicateSettings, groups
from myelos.datasets.images import content_hash
from myelos.datasets.units import key, members, place, unit_labels
from myelos.errors import UsageError

PARTS: Mapping[str, float] = {"train": 0.8, "choose": 0.05, "test": 0.15}
_WHOLE = DuplicateSettings(crops=None, unreadable=True)


def cell_units(records: Sequence[CellRecord], *, duplicates: Sequence[int] | None = None) -> list[int]:
    """A label for every cell: what shares a patient, an image or a near-duplicate of it has one label.

    duplicates: labels of `datasets.duplicates.groups` over the records' images, computed where None.
    """
    if duplicates is None:
        paths = list(dict.fromkeys(record.path for record in records))
        labels = dict(zip(paths, groups(paths, _WHOLE), strict=True))
        duplicates = [labels[record.path] for record in records]
    return unit_labels(records, duplicates)


def split_cells(
    records: Sequence[CellRecord],
    *,
    fractions: Mapping[str, float] = PARTS,
    seed: int = 0,
    duplicates: Sequence[int] | None = None,
) -> dict[str, list[int]]:
    """Indices of the records by part; a unit goes where the smallest content hash of its images says.

    Raises UsageError where the fractions do not add up to 1.
    """
    if abs(sum(fractions.values()) - 1) > 1e-6 or min(fractions.values(), default=0) < 0:
        raise UsageError(f"fractions {dict(fractions)} do not add up to 1", remedy="Pass shares of the whole")
    parts: dict[str, list[int]] = {name: [] for name in fractions}
    for unit in members(cell_units(records, duplicates=duplicates)):
        smallest = min(content_hash(records[index].path) for index in unit)
        parts[_part(key(smallest, seed), fractions)] += unit
    return {name: sorted(indices) for name, indices in parts.items()}


def _part(of: str, fractions: Mapping[str, float]) -> str:
    """The part in whose share of the unit interval the key falls."""
    left = place(of)
    for name, share in fractions.items():
        left -= share
        if left < 0:
            return name
    return name


def cell_folds(
    records: Sequence[CellRecord], *, folds: int = 5, seed: int = 0, duplicates: Sequence[int] | None = None
) -> list[int]:
    """The fold, from 0, of every record: units stay whole, and each type is spread as evenly as they allow.

    Units are taken by size, then by a hash of their content, and each goes where its types are rarest so far: the same
    records give the same folds in whatever order they come. Raises UsageError for fewer than two folds.
    """
    if folds < 2:
        raise UsageError(f"{folds} folds leave nothing to learn from", remedy="Pass 2 or more")
    hashes = {path: content_hash(path) for path in {record.path for record in records}}
    whole = members(cell_units(records, duplicates=duplicates))
    units = sorted(whole, key=lambda unit: _order(unit, records, hashes, seed))
    total = Counter(record.cell_type for record in records)
    held: list[Counter[str]] = [Counter() for _ in range(folds)]
    result = [0] * len(records)
    for turn, unit in enumerate(units):
        types = Counter(records[index].cell_type for index in unit)
        fold = min(
            range(folds),
            key=lambda one: (sum(n * held[one][t] / total[t] for t, n in types.items()), (one - turn) % folds),
        )
        held[fold] += types
        for index in unit:
            result[index] = fold
    return result


def _order(
    unit: Sequence[int], records: Sequence[CellRecord], hashes: Mapping[Path, str], seed: int
) -> tuple[int, str]:
    """The largest units first, then by chance that hangs on content alone."""
    smallest = min(f"{hashes[records[index].path]}:{records[index].box}" for index in unit)
    return -len(unit), key(smallest, seed)
