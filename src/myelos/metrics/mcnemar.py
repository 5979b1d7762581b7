"""Whether two classifiers that named the same cells differ: McNemar's test (Psychometrika 12:153, 1947)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from myelos.errors import UsageError


@dataclass(frozen=True, slots=True)
class McNemar:
    """both, first, second, neither: cells that both, only the first, only the second or neither named rightly.

    p: two-sided, exact (binomial over the cells that one of them got right); 1 where they never differ.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> McNemar:
    """Compare two (N,) arrays of whether each cell was named rightly; raises UsageError where they differ in length."""
    from scipy.stats import binomtest

    a, b = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise UsageError(f"{a.shape} and {b.shape} are not the same cells")
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(int((a & b).sum()), only_a, only_b, int((~a & ~b).sum()), p)
