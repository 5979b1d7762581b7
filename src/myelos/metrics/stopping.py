"""When enough cells were counted to say whether a type is above a threshold, however often one looks.

Whoever looks after every field and stops at the first clear answer is wrong far more often than the interval says. The
beta mixture of binomial likelihood ratios (Robbins 1970, Annals of Mathematical Statistics 41:1397) is a martingale
while the share equals the threshold, so the chance that it ever reaches 1 ÷ level is at most the level (Ville).

Cells cluster and are misnamed: they count as the effective number that has the variance of the share. What the unknown
part of the confusion matrix adds to the variance stays, however many cells are counted; where it alone blurs the answer
no further cell settles it, and the rule says that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import lgamma, log

from myelos.wording import number_of

_ENDLESS = 1e9  # cells


@dataclass(frozen=True)
class StopSettings:
    level: float = 0.05  # chance of ever settling for the wrong side of a threshold
    prior: float = 0.5  # both parameters of the beta mixture
    most: int = 20_000  # further cells beyond which the answer is "more than"


@dataclass(frozen=True)
class Stop:
    """settled: the side is known and the count is long enough. further: cells still to be counted, null where no number
    up to `StopSettings.most` would settle it or nothing can be said."""

    settled: bool
    further: int | None
    sentence: str


def log_evidence(share: float, cells: float, threshold: float, prior: float = 0.5) -> float:
    """Logarithm of the mixture's likelihood ratio against `threshold` after `cells` (may be a fraction) cells."""
    if cells <= 0:
        return 0.0
    k = share * cells
    mixed = lgamma(k + prior) + lgamma(cells - k + prior) - lgamma(cells + 2 * prior)
    mixed -= 2 * lgamma(prior) - lgamma(2 * prior)
    return mixed - k * log(threshold) - (cells - k) * log(1 - threshold)


def effective_cells(share: float, variance: float, counted: float) -> float:
    """Independent, rightly named cells that would know the share as well; never more than were counted."""
    share = min(max(share, 0.5 / max(counted, 1)), 1 - 0.5 / max(counted, 1))  # 0 cells are no certainty
    return min(counted, share * (1 - share) / variance) if variance > 0 else counted


def is_decided(share: float, cells: float, threshold: float, settings: StopSettings | None = None) -> bool:
    """Whether the evidence that the share is not the threshold suffices at any look."""
    settings = settings or StopSettings()
    return log_evidence(share, cells, threshold, settings.prior) >= -log(settings.level)


def stop_rule(
    what: str,
    *,
    percent: float,
    share: float,
    counted: int,
    sampling: float,
    lasting: float = 0.0,
    minimum: int,
    settings: StopSettings | None = None,
) -> Stop:
    """Whether a threshold is settled, and if not, how many more cells would settle it if the share stays as it is.

    what: in words, plural. share: of 1, as it decides. sampling, lasting: variance of the share that shrinks with the
    number of cells, and that which stays (the classifier's errors). minimum: cells below which nothing is settled.
    """
    settings = settings or StopSettings()
    threshold, side = percent / 100, "above" if share > percent / 100 else "below"

    def decided(cells: int) -> bool:
        variance = sampling * counted / cells + lasting
        return is_decided(share, effective_cells(share, variance, cells), threshold, settings)

    line = f"{percent:g} %"
    if decided(counted):
        if counted >= minimum:
            return Stop(True, 0, f"Settled: {what} are {side} {line}.")
        short = minimum - counted
        more = number_of(short, "more cell")
        return Stop(False, short, f"Looks {side} {line}; settled after {more} at the earliest.")
    needed = _first(decided, counted, counted + settings.most)
    if needed is not None:
        further = max(needed, minimum) - counted
        more = number_of(_round(further), "more cell")
        return Stop(False, further, f"About {more} would settle whether {what} are above {line}.")
    if lasting and not is_decided(share, effective_cells(share, lasting, _ENDLESS), threshold, settings):
        return Stop(False, None, f"More cells would not settle it: the classifier's errors blur {line}.")
    return Stop(False, None, f"Too near {line}: more than {settings.most} further cells would be needed.")


def _first(decided: Callable[[int], bool], low: int, high: int) -> int | None:
    """Fewest cells in (low, high] with a decision; null where even `high` brings none. More cells never undo one."""
    if not decided(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _round(number: int) -> int:
    """Two digits, rounded up: more would pretend to know."""
    step = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // step) * step
