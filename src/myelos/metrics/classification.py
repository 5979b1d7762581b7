"""How well cells are named: precision, recall and F1 by type, strict and tolerant, never accuracy alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy
from myelos.errors import UsageError
from myelos.wording import number_of

_FIGURES = ("precision", "recall", "f1", "tolerant_precision", "tolerant_recall", "tolerant_f1")


def evaluate(
    truth: Sequence[str],
    predicted: Sequence[str | None],
    *,
    labels: Sequence[str] | None = None,
    tolerated: Callable[[str, str], bool] = taxonomy.tolerated,
) -> dict[str, Any]:
    """Figures of one naming of N cells; a prediction of None is a cell that was missed.

    labels: the types that get a row, by default those of truth and predictions in alphabetical order. tolerated(truth,
    prediction): whether a tolerant evaluation accepts it. A prediction of a type counts for tolerant precision if the
    truth is tolerated for it; a cell of a type counts for tolerant recall if its prediction is tolerated for it.

    Returns {"cells", "missed", "accuracy", "tolerant_accuracy", "classes": {NAME: {"support", "predicted", "precision",
    "recall", "f1", the same three as "tolerant_…", "one_vs_rest_accuracy"}}, "macro", "weighted"}. Undefined figures
    are None and left out of the means. One-vs-rest accuracy is what Wang 2022 calls accuracy: given for comparison,
    since it is high for every rare type.
    """
    if len(truth) != len(predicted):
        raise UsageError(f"{number_of(len(predicted), 'prediction')} for {number_of(len(truth), 'cell')}")
    names = list(labels) if labels is not None else sorted({*truth, *(said for said in predicted if said is not None)})
    pairs = list(zip(truth, predicted, strict=True))
    right = np.array([t == p for t, p in pairs], bool)
    tolerant = np.array([p is not None and (t == p or tolerated(t, p)) for t, p in pairs], bool)
    is_true = {name: np.array([t == name for t in truth], bool) for name in names}
    is_said = {name: np.array([p == name for p in predicted], bool) for name in names}
    classes = {name: _row(is_true[name], is_said[name], right, tolerant) for name in names}
    return {
        "cells": len(pairs),
        "missed": sum(p is None for p in predicted),
        "accuracy": _share(right),
        "tolerant_accuracy": _share(tolerant),
        "classes": classes,
        "macro": _mean(classes, weighted=False),
        "weighted": _mean(classes, weighted=True),
    }


def _row(
    true: NDArray[np.bool_], said: NDArray[np.bool_], right: NDArray[np.bool_], tolerant: NDArray[np.bool_]
) -> dict[str, float | int | None]:
    row: dict[str, float | int | None] = {"support": int(true.sum()), "predicted": int(said.sum())}
    for prefix, accepted in (("", right), ("tolerant_", tolerant)):
        precision, recall = _share(accepted[said]), _share(accepted[true])
        row |= {f"{prefix}precision": precision, f"{prefix}recall": recall, f"{prefix}f1": _f1(precision, recall)}
    return row | {"one_vs_rest_accuracy": _share(true == said)}


def _f1(precision: float | None, recall: float | None) -> float | None:
    """The harmonic mean; 0 where one of the two is undefined because nothing was found or nothing was there."""
    if precision is None and recall is None:
        return None
    low, high = precision or 0.0, recall or 0.0
    return 2 * low * high / (low + high) if low + high else 0.0


def _share(accepted: NDArray[np.bool_]) -> float | None:
    return float(accepted.mean()) if len(accepted) else None


def _mean(classes: dict[str, dict[str, Any]], *, weighted: bool) -> dict[str, float | None]:
    """Means over the types that occur in the truth, each once or each by its cells."""
    means: dict[str, float | None] = {}
    for figure in _FIGURES:
        rows = [(row[figure], row["support"] if weighted else 1) for row in classes.values()
                if row["support"] and row[figure] is not None]  # fmt: skip
        values, weights = [value for value, _ in rows], [weight for _, weight in rows]
        means[figure] = float(np.average(values, weights=weights)) if rows else None
    return means
