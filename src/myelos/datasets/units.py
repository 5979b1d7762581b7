"""What a split may not part: records that share a patient, a sample, an image or a near-duplicate of it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from myelos.datasets.duplicates import join


class Grouped(Protocol):
    """A record of a field or of a cell: the set it comes from, and the patient or sample, None where not known."""

    @property
    def source(self) -> str: ...

    @property
    def group(self) -> str | None: ...


def unit_labels(records: Sequence[Grouped], duplicates: Sequence[int]) -> list[int]:
    """A label for every record, equal where they may not be parted. duplicates: labels of `duplicates.groups`."""
    first: dict[tuple[str, str], int] = {}
    links = []
    for index, (record, duplicate) in enumerate(zip(records, duplicates, strict=True)):
        names = [("duplicate", str(duplicate))]
        if record.group is not None:  # a patient of one set may have the number of another set's
            names.append((record.source.split("/")[0], record.group))
        links += [(first.setdefault(name, index), index) for name in names]
    return join(len(records), links)


def members(labels: Sequence[int]) -> list[list[int]]:
    """Indices of each unit, in the order of first appearance."""
    found: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        found[label].append(index)
    return list(found.values())


def key(content: str, seed: int) -> str:
    """A hash (hexadecimal) of a unit's content and the seed of a split."""
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()


def place(of: str) -> float:
    """Where in the unit interval a key falls."""
    return int(of[:13], 16) / 16**13
