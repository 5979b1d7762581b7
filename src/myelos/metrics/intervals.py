"""How far a proportion or a figure of merit may be off.

Three answers to three questions: the exact binomial interval of a count (Clopper and Pearson, Biometrika 26:404, 1934;
it reproduces Rümke's limits), the probability that the true share is above a threshold (Jeffreys' posterior), and the
percentile interval of anything that is computed from groups which were sampled whole: fields, regions, patients.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval of k successes among n, as proportions (low, high); (0, 1) where n is 0."""
    from scipy.special import betaincinv

    _check(k, n)
    tail = (1 - _share(level, "level")) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high


def probability_above(k: int, n: int, threshold: float) -> float:
    """Probability that the true proportion exceeds `threshold` (0 to 1), from the posterior Beta(k + ½, n − k + ½)."""
    from scipy.special import betainc

    _check(k, n)
    if not 0 <= threshold <= 1:
        raise UsageError(f"threshold {threshold} is no proportion", remedy="Pass a number from 0 to 1")
    # 1 − I_t(a, b) = I_{1−t}(b, a), which keeps its digits where the probability is tiny.
    return float(betainc(n - k + 0.5, k + 0.5, 1 - threshold))


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float],
    groups: int,
    *,
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of `statistic` when whole groups are drawn with replacement.

    statistic: (groups,) indices of the drawn groups, repeats included → a number; NaN where it is undefined.
    Undefined draws are left out; the interval is (NaN, NaN) where there are fewer than 2 groups, which tell nothing of
    how groups differ, or where more than half of the draws are undefined.
    """
    tail = (1 - _share(level, "level")) / 2
    if groups < 2:
        return float("nan"), float("nan")
    drawn = np.array([statistic(rng.integers(0, groups, groups)) for _ in range(draws)], dtype=float)
    defined = drawn[np.isfinite(drawn)]
    if 2 * len(defined) < draws:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _check(k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise UsageError(f"{k} of {n} is no count", why="the part must lie between 0 and the whole")


def _share(value: float, name: str) -> float:
    if not 0 < value < 1:
        raise UsageError(f"{name} {value} is no share", remedy="Pass a number between 0 and 1, such as 0.95")
    return value
