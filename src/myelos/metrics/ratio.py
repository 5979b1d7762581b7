"""The ratio of myeloid to erythroid cells; its interval follows from that of the share M ÷ (M + E)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from myelos.metrics.bootstrap import percentile_interval
from myelos.metrics.intervals import clopper_pearson
from myelos.metrics.nested import interval_of
from myelos.metrics.shares import BY_UNITS, EXACT, NESTED, Deciding, Tally
from myelos.wording import number_of


@dataclass(frozen=True)
class Ratio:
    """Myeloid to erythroid ratio; `value` is null and `why` says so where it is undefined."""

    myeloid: int
    erythroid: int
    value: float | None
    low: float | None
    high: float | None
    method: str
    why: str
    deciding: Deciding | None = None


def ratio(tally: Tally, myeloid: Collection[str], erythroid: Collection[str], *, least: int) -> Ratio:
    """myeloid, erythroid: types; least: erythroid cells below which the ratio is undefined."""
    over, under, level = tally.number(myeloid), tally.number(erythroid), tally.settings.level
    if under < least:
        why = f"undefined: {number_of(under, 'erythroid cell')}, at least {least} are needed"
        return Ratio(over, under, None, None, None, "", why)
    low, high = (p / (1 - p) for p in clopper_pearson(over, over + under, level))
    method, m, e = EXACT, tally.drawn(myeloid), tally.drawn(erythroid)
    if m is not None and e is not None:
        between = percentile_interval(np.divide(m, e, out=np.full(len(m), np.nan), where=e > 0), level)
        if between is not None:
            (low, high), method = between, BY_UNITS
    deciding = _nested(tally, myeloid, erythroid) or Deciding(over / under, low, high, method, tally.why)
    return Ratio(over, under, over / under, low, high, method, "", deciding)


def _nested(tally: Tally, myeloid: Collection[str], erythroid: Collection[str]) -> Deciding | None:
    """From the nested bootstrap; null where that does not decide or leaves no erythroid cell."""
    part = tally.part(myeloid, among={*myeloid, *erythroid})
    if part is None:
        return None
    low, high = interval_of(part.draws, np.asarray(part.estimate), tally.settings.level)
    if max(high, part.estimate) >= 1:
        return None
    value, low, high = (float(p / (1 - p)) for p in (part.estimate, low, high))
    return Deciding(value, low, high, NESTED, tally.why)
