"""Shares of types among counted cells, with the exact interval and the one that knows that cells cluster."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from myelos.metrics.bootstrap import percentile_interval, resampled_totals
from myelos.metrics.intervals import clopper_pearson
from myelos.metrics.nested import NestedSettings, Part, interval_of

if TYPE_CHECKING:
    from myelos.metrics.confusion import Corrected

NESTED, BY_UNITS, EXACT = "nested bootstrap", "bootstrap", "exact binomial"
SINGLY = "Jeffreys posterior"  # single cells drawn again
_ALONE = "the detector alone names this type: its errors are not in the interval"

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ShareSettings:
    """How intervals are made; the defaults of the bootstrap are ours."""

    level: float = 0.95
    draws: int = 2000
    seed: int = 0
    minimum_units: int = 5  # fields or tiles below which no bootstrap is given
    minimum_events: int = 5  # cells of a type, and of all others, below which resampling says nothing of it
    nested: NestedSettings = field(default_factory=NestedSettings)


@dataclass(frozen=True)
class Deciding:
    """The figure that decides and its interval (of 100 for a share), how it was made, and why so and not otherwise."""

    value: float | None
    low: float | None
    high: float | None
    method: str
    why: str


@dataclass(frozen=True)
class Share:
    """One type or lineage among the counted cells; percentages of 100, null where nothing was counted."""

    name: str
    label: str
    number: int
    percent: float | None
    low: float | None  # Clopper-Pearson
    high: float | None
    bootstrap_low: float | None  # fields or tiles drawn again, null where there are too few
    bootstrap_high: float | None
    deciding: Deciding


@dataclass(frozen=True)
class Tally:
    """Numbers by type, the types that make the hundred, and what the bootstraps drew of them. why: for what reason the
    nested bootstrap decides or does not."""

    numbers: Mapping[str, int]
    inside: tuple[str, ...]
    counted: int
    draws: FloatArray | None  # (draws, len(inside)) numbers
    settings: ShareSettings
    corrected: Corrected | None = None
    why: str = ""

    @classmethod
    def of(
        cls,
        matrix: FloatArray,
        numbers: Mapping[str, int],
        inside: tuple[str, ...],
        settings: ShareSettings,
        *,
        corrected: Corrected | None = None,
        why: str = "",
    ) -> Tally:
        """matrix: (U, T) numbers by unit and type of `inside`; cells without a place are in `numbers` alone."""
        draws = None
        if len(matrix) >= max(settings.minimum_units, 2):
            draws = resampled_totals(matrix, draws=settings.draws, seed=settings.seed)
        counted = sum(numbers.get(name, 0) for name in inside)
        return cls(numbers, inside, counted, draws, settings, corrected if counted else None, why)

    def number(self, group: Collection[str]) -> int:
        return sum(self.numbers.get(name, 0) for name in self.inside if name in group)

    def drawn(self, group: Collection[str]) -> FloatArray | None:
        """(draws,) shares of a group of types, null where resampling says nothing of it."""
        number, least = self.number(group), self.settings.minimum_events
        if self.draws is None or number < least or self.counted - number < least:
            return None
        part = self.draws[:, [name in group for name in self.inside]].sum(axis=1)
        whole = self.draws.sum(axis=1)
        return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)

    def part(self, group: Collection[str], *, among: Collection[str] | None = None) -> Part | None:
        """The share of a group in the hundred, or in part of it, as the nested bootstrap has it; null without one."""
        if self.corrected is None:
            return None
        whole = set(self.inside) if among is None else set(self.inside) & set(among)
        types = self.corrected.types
        if not whole.intersection(group, types):
            return None  # a type that the classifier cannot name is not absent for that
        return self.corrected.shares.of(
            [name in whole and name in group for name in types], [t in whole for t in types]
        )

    def share(self, name: str, label: str, group: Collection[str]) -> Share:
        number = self.number(group)
        if not self.counted:
            nothing = Deciding(None, None, None, "", "nothing was counted")
            return Share(name, label, number, None, None, None, None, None, nothing)
        low, high = clopper_pearson(number, self.counted, self.settings.level)
        drawn = self.drawn(group)
        between = None if drawn is None else percentile_interval(drawn, self.settings.level)
        again = None if between is None else (100 * between[0], 100 * between[1])
        percent, exact = 100 * number / self.counted, (100 * low, 100 * high)
        deciding = self._deciding(group, percent, exact, again)
        fields_low, fields_high = again or (None, None)
        return Share(name, label, number, percent, *exact, fields_low, fields_high, deciding)

    def _deciding(
        self, group: Collection[str], percent: float, exact: tuple[float, float], again: tuple[float, float] | None
    ) -> Deciding:
        part = self.part(group)
        if part is not None:
            between = interval_of(part.draws, np.asarray(part.estimate), self.settings.level)
            method, why = self._method(group)
            return Deciding(100 * part.estimate, 100 * float(between[0]), 100 * float(between[1]), method, why)
        why = "the classifier's held-out cells have none of this type" if self.corrected else self.why
        if again is not None:
            return Deciding(percent, *again, BY_UNITS, why)
        few = "too few cells or fields to draw fields again"
        return Deciding(percent, *exact, EXACT, f"{why}; {few}" if why else few)

    def _method(self, group: Collection[str]) -> tuple[str, str]:
        """How a corrected share was made, and why so; the matrix says nothing of what is kept apart."""
        if self.corrected is None or not self.corrected.apart.issuperset(set(group) & set(self.corrected.types)):
            return NESTED, self.why
        return BY_UNITS if self.corrected.by_units else SINGLY, _ALONE


def by_place(cells: Sequence[tuple[str, str | None]], inside: Sequence[str]) -> FloatArray:
    """(U, T) numbers by place and type; places in the order of their names, so that no order of cells counts."""
    placed = [(name, place) for name, place in cells if place is not None]
    row = {place: number for number, place in enumerate(sorted({place for _, place in placed}))}
    column = {name: number for number, name in enumerate(inside)}
    matrix = np.zeros((len(row), len(inside)))
    for name, place in placed:
        if name in column:
            matrix[row[place], column[name]] += 1
    return matrix
