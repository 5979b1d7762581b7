"""Whether probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myelos.errors import UsageError


def reliability(confidences: ArrayLike, right: ArrayLike, *, bins: int = 15) -> NDArray[np.float64]:
    """(bins, 3) number, mean confidence and share of right answers of bins of equal width, (0, 1/bins], …

    confidences: (N,) probability of the answer given, 0 to 1; right: (N,) whether it was right. Empty bins have NaN.
    """
    given, correct = np.asarray(confidences, dtype=float), np.asarray(right, dtype=float)
    if given.shape != correct.shape or given.ndim != 1:
        raise UsageError(f"{given.shape} confidences do not fit {correct.shape} answers")
    if not ((given >= 0) & (given <= 1)).all():
        raise UsageError("confidences are probabilities", remedy="Pass numbers from 0 to 1")
    place = np.clip(np.ceil(given * bins).astype(int) - 1, 0, bins - 1)
    number = np.bincount(place, minlength=bins).astype(float)
    sums = [np.bincount(place, values, minlength=bins) for values in (given, correct)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([number, *(total / number for total in sums)], axis=1)


def expected_calibration_error(confidences: ArrayLike, right: ArrayLike, *, bins: int = 15) -> float | None:
    """Mean distance of confidence and share of right answers over bins, by their numbers (Guo et al., ICML 2017)."""
    table = reliability(confidences, right, bins=bins)
    filled = table[table[:, 0] > 0]
    if not len(filled):
        return None
    return float(np.average(np.abs(filled[:, 1] - filled[:, 2]), weights=filled[:, 0]))
