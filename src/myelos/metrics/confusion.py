"""What is known of a classifier's errors, and whether it holds for a count.

A matrix measured on another specimen, stain or source corrects nothing: the errors of a classifier are those of the
images it was tested on. Whoever passes a matrix says whether it fits; what can be checked here is checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myelos.errors import UsageError
from myelos.metrics.nested import FalseDetections, NestedShares, nested_shares
from myelos.metrics.shares import ShareSettings

LEAST_HELD_OUT = 20  # cells of a type that makes 2 % of a count or more; ours
FREQUENT = 0.02


@dataclass(frozen=True)
class Confusion:
    """Held-out cells of a classifier.

    matrix: (T, T + 1) by true type and by named type in the order of `types`, the last column those that were missed,
    refused, or named otherwise. fits: false, for the reason in `why`, where the count is of another stain or source.
    """

    types: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    source: str
    specimen: str
    false_detections: FalseDetections | None = None
    fits: bool = True
    why: str = ""

    @classmethod
    def of(cls, types: Sequence[str], matrix: ArrayLike, *, source: str, specimen: str, **other: Any) -> Confusion:
        """From an array, such as `agreement.confusion_matrix` gives. Raises UsageError where the shape does not fit."""
        counts = np.asarray(matrix)
        if counts.shape != (len(types), len(types) + 1) or len(set(types)) != len(types):
            why = f"{len(types)} types need as many rows and one column more"
            raise UsageError(f"a confusion matrix of shape {counts.shape} does not fit", why=why)
        rows = tuple(tuple(int(number) for number in row) for row in counts)
        return cls(tuple(types), rows, source, specimen, **other)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Confusion:
        """Back from `dataclasses.asdict`, as `report.json` holds it."""
        false = stored["false_detections"]
        given = None if false is None else FalseDetections(tuple(false["numbers"]), false["units"])
        rest = {key: stored[key] for key in ("source", "specimen", "fits", "why")}
        return cls.of(stored["types"], stored["matrix"], **rest, false_detections=given)

    @property
    def held_out(self) -> int:
        return sum(map(sum, self.matrix))

    def objection(self, specimen: str, numbers: Mapping[str, int]) -> str:
        """Why the matrix does not hold for a count of these numbers by type of the hundred; empty where it does."""
        if not self.fits:
            return self.why or f"it was measured on {self.source}, which is another specimen, stain or source"
        if self.specimen != specimen:
            return f"it was measured on {self.specimen}, and this is {specimen}"
        seen = {name for name, number in numbers.items() if number}
        if seen - set(self.types):
            return f"it does not have {', '.join(sorted(seen - set(self.types)))}"
        cells = dict(zip(self.types, map(sum, self.matrix), strict=True))
        frequent = FREQUENT * sum(numbers.values())
        few = [name for name in sorted(seen) if cells[name] < (LEAST_HELD_OUT if numbers[name] >= frequent else 1)]
        return f"it rests on too few held-out cells of {', '.join(few)}" if few else ""

    def known(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Types with held-out cells, and their matrix; what was named by another type counts with the last column."""
        matrix = np.array(self.matrix)
        has = matrix.sum(axis=1) > 0
        kept = matrix[has][:, [*has, False]]
        rest = matrix[has].sum(axis=1) - kept.sum(axis=1)
        return tuple(name for name, one in zip(self.types, has, strict=True) if one), np.column_stack([kept, rest])


@dataclass(frozen=True)
class Corrected:
    """The nested bootstrap of one count, by the types of the matrix."""

    types: tuple[str, ...]
    shares: NestedShares
    by_units: bool  # fields or tiles were drawn again, else single cells

    @classmethod
    def of(
        cls, confusion: Confusion, named: NDArray[np.float64], settings: ShareSettings, *, places: bool
    ) -> Corrected:
        """named: (U, T) numbers by unit and type of `confusion.known()`, one row where cells have no place."""
        types, matrix = confusion.known()
        enough = places and len(named) >= max(settings.minimum_units, 3)
        false = confusion.false_detections if places else None
        if false is not None:
            every = dict(zip(confusion.types, false.numbers, strict=True))
            false = FalseDetections(tuple(every[name] for name in types), false.units)
        found = nested_shares(named, matrix, false, settings.nested, seed=settings.seed, singly=not enough)
        return cls(types, found, enough)
