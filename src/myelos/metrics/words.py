"""The words of a count and the types of a confusion matrix: which word is which type, finer, or none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Words:
    """W words for T types. onto: (W, T), 1 where a word is of a type, else 0. apart: (W,) whether it is of none.
    first: (W,) whether it takes the cells of its type where none was named."""

    onto: FloatArray
    apart: NDArray[np.bool_]
    first: FloatArray

    def gathered(self, said: FloatArray) -> FloatArray:
        """(…, W) numbers of words → (…, T) of types, without those kept apart."""
        return said @ self.onto

    def dealt(self, found: FloatArray, said: FloatArray) -> FloatArray:
        """(…, T) true numbers of types → (…, W) of words: those of a type share it as they were said."""
        below = self.gathered(said) @ self.onto.T
        nobody = np.broadcast_to(self.first, below.shape).copy()
        return np.where(self.apart, said, found @ self.onto.T * np.divide(said, below, out=nobody, where=below > 0))


def words_of(columns: Sequence[int | None], types: int) -> Words:
    """columns: of each word the number of its type, None where it is kept apart."""
    onto = np.array([[column == own for own in range(types)] for column in columns], dtype=float)
    first = np.asarray((onto.cumsum(axis=0) * onto == 1).any(axis=1), dtype=float)
    return Words(onto, np.asarray(~onto.any(axis=1)), first)
