"""What is known of a classifier's errors, and whether it holds for a count.

A matrix measured on another specimen, stain or source corrects nothing: the errors of a classifier are those of the
images it was tested on. Whoever passes a matrix says whether it fits; what can be checked here is checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myelos import taxonomy
from myelos.errors import UsageError
from myelos.metrics.nested import FalseDetections, NestedShares, nested_shares
from myelos.metrics.shares import ShareSettings, by_place

LEAST_HELD_OUT = 20  # cells of a type that makes 2 % of a count or more; ours
FREQUENT = 0.02
_BESIDE = (
    " The smear is stained as their sources are and its cells pass for such; whether the classifier errs as often here "
    "was not measured. The numbers and percentages beside are of the adopted names."
)


@dataclass(frozen=True)
class Confusion:
    """Held-out cells of a classifier.

    matrix: (T, T + 1) by true type and by named type in the order of `types`, the last column those that were missed,
    refused, or named otherwise. fits: false, for the reason in `why`, where the count is of another stain or source.
    alone: types that the detector names and the classifier cannot. What is finer than one of `types` is a word for some
    of its cells; the others are kept apart, and the matrix says nothing of them. adopted: whether the count's names are
    the classifier's; where not, its answers are corrected, and the detector's names stand beside.
    """

    types: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    source: str
    specimen: str
    false_detections: FalseDetections | None = None
    fits: bool = True
    why: str = ""
    alone: tuple[str, ...] = ()
    adopted: bool = True

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
        rest["alone"] = tuple(stored.get("alone", ()))  # files of earlier versions have none
        rest["adopted"] = stored.get("adopted", True)
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
        named: Counter[str] = Counter()
        for name, number in numbers.items():
            column = self.column(name)
            if number and column is not None:
                named[column] += number
        if set(named) - set(self.types):
            return f"it does not have {', '.join(sorted(set(named) - set(self.types)))}"
        cells = dict(zip(self.types, map(sum, self.matrix), strict=True))
        frequent = FREQUENT * sum(numbers.values())
        few = [name for name in sorted(named) if cells[name] < (LEAST_HELD_OUT if named[name] >= frequent else 1)]
        return f"it rests on too few held-out cells of {', '.join(few)}" if few else ""

    def column(self, name: str) -> str | None:
        """The type as which the classifier knows a cell of this name, None where it is kept apart."""
        return taxonomy.coarsen(name, self.types) if name in self.alone else name

    def word(self, detected: str, classified: str | None) -> str:
        """What a cell is called where the classifier decides: its type, or the detector's where that is finer or apart.

        The rule is that of `classification.opinion.adopt`. classified: None where the classifier was not asked.
        """
        if classified is None or self.column(detected) is None or classified in taxonomy.ancestors(detected):
            return detected
        return classified

    def sentence(self, drawn: str, numbers: Mapping[str, int]) -> str:
        """What a report says of corrected figures. drawn: what was drawn again; numbers: cells by adopted type."""
        source = f"{self.held_out} held-out cells of {self.source}"
        said = f"The deciding figures are corrected for the classifier's errors: {drawn}, and its errors from {source}."
        names = ", ".join(taxonomy.cell_type(name).label.lower() for name in self.alone if numbers.get(name))
        kept = f" What the detector alone names ({names}) is as it says, its errors not in the intervals."
        return said + ("" if self.adopted else _BESIDE) + (kept if names else "")

    def known(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Types with held-out cells, and their matrix; what was named by another type counts with the last column."""
        matrix = np.array(self.matrix)
        has = matrix.sum(axis=1) > 0
        kept = matrix[has][:, [*has, False]]
        rest = matrix[has].sum(axis=1) - kept.sum(axis=1)
        return tuple(name for name, one in zip(self.types, has, strict=True) if one), np.column_stack([kept, rest])

    def words(self) -> tuple[str, ...]:
        """What a counted cell can be called: the known types, and what the detector alone names."""
        return tuple(dict.fromkeys([*self.known()[0], *self.alone]))


@dataclass(frozen=True)
class Corrected:
    """The nested bootstrap of one count, by the words of the matrix. apart: those that it says nothing of."""

    types: tuple[str, ...]
    shares: NestedShares
    by_units: bool  # fields or tiles were drawn again, else single cells
    apart: frozenset[str] = frozenset()

    @classmethod
    def of_cells(
        cls, confusion: Confusion, cells: Sequence[tuple[str, str | None]], settings: ShareSettings
    ) -> Corrected:
        """cells: type and place. Over fields or tiles; over single cells where any cell has no place."""
        places = all(place is not None for _, place in cells)
        named = by_place([(name, place if places else "all") for name, place in cells], confusion.words())
        return cls.of(confusion, named, settings, places=places)

    @classmethod
    def of(
        cls, confusion: Confusion, named: NDArray[np.float64], settings: ShareSettings, *, places: bool
    ) -> Corrected:
        """named: (U, W) numbers by unit and word of `confusion.words()`, one row where cells have no place."""
        types, matrix = confusion.known()
        enough = places and len(named) >= max(settings.minimum_units, 3)
        false = confusion.false_detections if places else None
        if false is not None:
            every = dict(zip(confusion.types, false.numbers, strict=True))
            false = FalseDetections(tuple(every[name] for name in types), false.units)
        words = confusion.words()
        at = [types.index(own) if (own := confusion.column(name)) in types else None for name in words]
        columns = None if words == types else at
        found = nested_shares(
            named, matrix, false, settings.nested, seed=settings.seed, singly=not enough, columns=columns
        )
        return cls(words, found, enough, frozenset(n for n, c in zip(words, at, strict=True) if c is None))
