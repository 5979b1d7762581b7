"""Shares of types among counted cells, with the exact interval and the one that knows that cells cluster."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.metrics.bootstrap import percentile_interval, resampled_totals
from myelos.metrics.intervals import clopper_pearson

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ShareSettings:
    """How intervals are made; the defaults of the bootstrap are ours."""

    level: float = 0.95
    draws: int = 2000
    seed: int = 0
    minimum_units: int = 5  # fields or tiles below which no bootstrap is given
    minimum_events: int = 5  # cells of a type, and of all others, below which resampling says nothing of it


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


@dataclass(frozen=True)
class Tally:
    """Numbers by type, the types that make the hundred, and what the bootstrap drew of them."""

    numbers: Mapping[str, int]
    inside: tuple[str, ...]
    counted: int
    draws: FloatArray | None  # (draws, len(inside)) numbers
    settings: ShareSettings

    @classmethod
    def of(
        cls, matrix: FloatArray, numbers: Mapping[str, int], inside: tuple[str, ...], settings: ShareSettings
    ) -> Tally:
        """matrix: (U, T) numbers by unit and type of `inside`; cells without a place are in `numbers` alone."""
        draws = None
        if len(matrix) >= max(settings.minimum_units, 2):
            draws = resampled_totals(matrix, draws=settings.draws, seed=settings.seed)
        return cls(numbers, inside, sum(numbers.get(name, 0) for name in inside), draws, settings)

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

    def share(self, name: str, label: str, group: Collection[str]) -> Share:
        number = self.number(group)
        if not self.counted:
            return Share(name, label, number, None, None, None, None, None)
        low, high = clopper_pearson(number, self.counted, self.settings.level)
        drawn = self.drawn(group)
        between = None if drawn is None else percentile_interval(drawn, self.settings.level)
        again = (None, None) if between is None else (100 * between[0], 100 * between[1])
        return Share(name, label, number, 100 * number / self.counted, 100 * low, 100 * high, *again)


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
