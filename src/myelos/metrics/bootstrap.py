"""Intervals that know that cells cluster: whole fields or tiles are drawn again, not single cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def resampled_totals(numbers: FloatArray, *, draws: int, seed: int) -> FloatArray:
    """Numbers of each type after drawing units again: (U, T) numbers by unit and type → (draws, T).

    Each draw takes U - 1 of the U units with replacement, which makes the variance of the bootstrap unbiased for few
    units (Rao and Wu 1988, Journal of the American Statistical Association 83, section 2, with m = n - 1). The same
    rows and the same seed give the same draws. Raises ValueError for fewer than two units.
    """
    numbers = np.asarray(numbers, dtype=float)
    units = len(numbers)
    if units < 2:
        raise ValueError(f"a bootstrap needs at least two units, not {units}")
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(units - 1, np.full(units, 1 / units), size=draws)  # (draws, U)
    return weights @ numbers


def percentile_interval(draws: FloatArray, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of (draws,) values; null where more than one draw in a hundred is undefined (NaN)."""
    finite = draws[np.isfinite(draws)]
    if len(draws) == 0 or len(finite) < 0.99 * len(draws):
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
