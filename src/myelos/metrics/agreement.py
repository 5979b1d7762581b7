"""How two namings of the same cells agree: confusion matrix and Cohen's kappa."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myelos.errors import UsageError
from myelos.wording import number_of


def confusion_matrix(truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> NDArray[np.int64]:
    """(T, T + 1) counts, rows by truth and columns by prediction in the order of `labels`.

    The last column holds cells that were missed (None) or called something that is no label. Truth outside `labels`
    raises UsageError.
    """
    place = {label: index for index, label in enumerate(labels)}
    unknown = sorted(set(truth) - place.keys())
    if unknown or len(truth) != len(predicted):
        numbers = f"{len(truth)} and {number_of(len(predicted), 'cell')}"
        why = f"the truth has {', '.join(unknown)}" if unknown else numbers
        raise UsageError("truth and predictions do not fit", why=why)
    matrix = np.zeros((len(labels), len(labels) + 1), np.int64)
    for right, said in zip(truth, predicted, strict=True):
        matrix[place[right], len(labels) if said is None else place.get(said, len(labels))] += 1
    return matrix


def cohen_kappa(matrix: ArrayLike) -> float | None:
    """Cohen's kappa (Educ. Psychol. Meas. 20:37, 1960) of a square matrix of counts; None where it is undefined.

    Of a matrix of `confusion_matrix` give `matrix[:, :-1]`: kappa is over matched cells, and their number belongs
    beside it.
    """
    counts = np.asarray(matrix, dtype=float)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise UsageError(f"kappa needs a square matrix, not {counts.shape}")
    total = counts.sum()
    if total == 0:
        return None
    observed = np.trace(counts) / total
    expected = float(counts.sum(axis=0) @ counts.sum(axis=1)) / total**2
    return float((observed - expected) / (1 - expected)) if expected < 1 else None
