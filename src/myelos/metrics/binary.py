"""How well a score answers a question with yes or no: area under the ROC curve, and what one threshold makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myelos.errors import UsageError
from myelos.metrics.intervals import clopper_pearson
from myelos.metrics.roc import auroc


def choose_cut(scores: ArrayLike, positive: ArrayLike, *, sensitivity: float | None = None) -> float:
    """The score from which the answer is yes, in the middle between two scores that were seen.

    Without `sensitivity` the one of the highest sensitivity + specificity (Youden, Cancer 3:32, 1950), with it the
    highest that reaches it. 0.5 where one side has no cell. To be chosen on other cells than are judged.
    """
    values, truth = _checked(scores, positive)
    if not truth.any() or truth.all():
        return 0.5
    order = np.unique(values)
    cuts = np.concatenate([[order[0]], (order[1:] + order[:-1]) / 2])
    found = np.array([(values[truth] >= cut).mean() for cut in cuts])
    kept_out = np.array([(values[~truth] < cut).mean() for cut in cuts])
    if sensitivity is None:
        return float(cuts[int((found + kept_out).argmax())])
    return float(cuts[np.flatnonzero(found >= sensitivity)[-1]])


def binary_figures(scores: ArrayLike, positive: ArrayLike, threshold: float) -> dict[str, Any]:
    """Figures of N scores in [0, 1] against N answers; undefined ones are None.

    {"cells", "positives", "auroc", "auroc_interval", "threshold", "true_positive", "false_positive", "true_negative",
    "false_negative", and "sensitivity", "specificity", "precision", "negative_predictive_value", each with its
    "…_interval"}. Intervals hold 95 %: of shares by Clopper and Pearson, of the area by Hanley and McNeil (Radiology
    143:29, 1982); cells count as independent, which those of one patient are not. Precision is that of the cells at
    hand: where yes is rarer it is lower.
    """
    values, truth = _checked(scores, positive)
    said = values >= threshold
    counts = {
        "true_positive": int((said & truth).sum()),
        "false_positive": int((said & ~truth).sum()),
        "true_negative": int((~said & ~truth).sum()),
        "false_negative": int((~said & truth).sum()),
    }
    area = auroc(values[truth], values[~truth]) if truth.any() and not truth.all() else None
    result: dict[str, Any] = {"cells": len(truth), "positives": int(truth.sum()), "auroc": area}
    result |= {"auroc_interval": _area_interval(area, int(truth.sum()), int((~truth).sum())), "threshold": threshold}
    shares = {
        "sensitivity": (counts["true_positive"], counts["false_negative"]),
        "specificity": (counts["true_negative"], counts["false_positive"]),
        "precision": (counts["true_positive"], counts["false_positive"]),
        "negative_predictive_value": (counts["true_negative"], counts["false_negative"]),
    }
    for name, (right, wrong) in shares.items():
        number = right + wrong
        result[name] = right / number if number else None
        result[f"{name}_interval"] = list(clopper_pearson(right, number)) if number else None
    return result | counts


def _area_interval(area: float | None, positives: int, negatives: int) -> list[float] | None:
    """95 % by the normal approximation, cut at 0 and 1."""
    if area is None:
        return None
    both, either = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (both - area**2) + (negatives - 1) * (either - area**2)
    half = 1.959964 * float(np.sqrt(max(spread, 0.0) / (positives * negatives)))
    return [max(0.0, area - half), min(1.0, area + half)]


def _checked(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, truth = np.asarray(scores, float), np.asarray(positive, bool)
    if values.shape != truth.shape or values.ndim != 1 or np.isnan(values).any():
        raise UsageError(f"{values.shape} scores do not fit {truth.shape} answers, or some are no numbers")
    return values, truth
