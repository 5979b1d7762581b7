"""The lines at which a percentage changes a diagnosis: how probably the truth is above, and when counting may stop."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from myelos.metrics.intervals import probability_above
from myelos.metrics.shares import BY_UNITS, NESTED, Tally
from myelos.metrics.stopping import Stop, StopSettings, stop_rule


@dataclass(frozen=True)
class Threshold:
    """Probability that the true percentage of a type is above `percent`; null where it cannot be judged."""

    name: str
    label: str
    percent: float
    number: int | None
    probability: float | None
    method: str
    stop: Stop | None = None


@dataclass(frozen=True)
class Looks:
    """minimum: cells below which the stop rule settles nothing. clustering: index of overdispersion of the count, used
    where a type is too rare for one of its own."""

    minimum: int
    clustering: float = 1.0
    settings: StopSettings = field(default_factory=StopSettings)


def threshold(
    tally: Tally, name: str, label: str, percent: float, group: Collection[str], *, looks: Looks
) -> Threshold:
    """Judge one line from the draws that decide, else from the Jeffreys posterior. The tally has counted cells."""
    number = tally.number(group)
    part, drawn = tally.part(group), tally.drawn(group)
    share = number / tally.counted
    spread = share * (1 - share) or 0.5 / tally.counted  # of 0 cells: as of half a cell
    sampling, lasting = spread * max(looks.clustering, 1.0) / tally.counted, 0.0
    if part is not None:
        above, method, share = float(np.mean(part.draws > percent / 100)), NESTED, part.estimate
        sampling, lasting = part.sampling, max(part.variance - part.sampling, 0.0)
    elif drawn is not None:
        above, method, sampling = float(np.mean(drawn > percent / 100)), BY_UNITS, float(np.var(drawn))
    else:
        above, method = probability_above(number, tally.counted, percent / 100), "Jeffreys posterior"
    stop = stop_rule(
        f"{label.lower()}s",
        percent=percent,
        share=share,
        counted=tally.counted,
        sampling=sampling,
        lasting=lasting,
        minimum=looks.minimum,
        settings=looks.settings,
    )
    return Threshold(name, label, percent, number, above, method, stop)
