"""Choice of features by highest relevance and lowest redundancy.

After Ding and Peng (J. Bioinform. Comput. Biol. 3:185, 2005). For numbers they propose the F statistic as relevance and
the mean absolute correlation with what is already chosen as redundancy; the next feature is the one of the highest
quotient. Matek 2021 cites Schowe and Morik 2011 for the fast form of this greedy search: one row of correlations a
step, summed up, instead of all pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError

LEAST_REDUNDANCY = 0.05  # a feature that correlates with nothing would win whatever it tells


def select(features: NDArray[np.floating], labels: Sequence[str], number: int) -> list[int]:
    """Indices of `number` columns of (N, F) features, the best first; constant columns are never taken.

    Raises UsageError where there are fewer columns that vary, or only one label.
    """
    values = np.asarray(features, dtype=np.float32)
    spread = values.std(axis=0)
    usable = spread > 1e-6 * (1 + np.abs(values.mean(axis=0)))
    if usable.sum() < number or len(set(labels)) < 2:
        raise UsageError(
            f"{number} features cannot be chosen", why=f"{int(usable.sum())} vary over {len(set(labels))} types"
        )
    unit = np.where(usable, (values - values.mean(axis=0)) / np.where(usable, spread, 1), 0).astype(np.float32)
    relevance = np.where(usable, f_statistic(unit, labels), -1.0)
    chosen = [int(relevance.argmax())]
    redundancy = np.zeros(values.shape[1])
    while len(chosen) < number:
        redundancy += np.abs(unit[:, chosen[-1]] @ unit) / len(unit)
        score = relevance / np.maximum(redundancy / len(chosen), LEAST_REDUNDANCY)
        score[chosen] = -np.inf
        chosen.append(int(score.argmax()))
    return chosen


def f_statistic(features: NDArray[np.floating], labels: Sequence[str]) -> NDArray[np.float64]:
    """(F,) variance between types ÷ variance within them, of one-way analysis of variance."""
    names, place = np.unique(np.asarray(labels), return_inverse=True)
    number = np.bincount(place)
    member = np.zeros((len(names), len(place)))
    member[place, np.arange(len(place))] = 1
    blocks = []
    for first in range(0, np.shape(features)[1], 500):  # in double precision, a part at a time
        values = np.asarray(features[:, first : first + 500], dtype=np.float64)
        middle = values.mean(axis=0)
        between = (number[:, None] * ((member @ values) / number[:, None] - middle) ** 2).sum(axis=0)
        within = np.maximum(((values - middle) ** 2).sum(axis=0) - between, 1e-12)
        blocks.append((between / max(len(names) - 1, 1)) / (within / max(len(place) - len(names), 1)))
    return np.concatenate(blocks)
