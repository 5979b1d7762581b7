"""How well a score tells two kinds of things apart, whatever threshold is chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from myelos.errors import UsageError


def auroc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """The chance that a positive scores higher than a negative, ties counting half: the area under the ROC curve
    (Hanley and McNeil, Radiology 143:29, 1982). Raises UsageError where either is empty or a score is no number.
    """
    from scipy.stats import rankdata

    above, below = np.asarray(positives, float), np.asarray(negatives, float)
    if not above.size or not below.size or np.isnan(above).any() or np.isnan(below).any():
        raise UsageError(f"{above.size} and {below.size} scores give no area under a curve")
    ranks = rankdata(np.concatenate([above, below]))
    return float((ranks[: above.size].sum() / above.size - (above.size + 1) / 2) / below.size)
