"""Which cells are alike: nearest neighbours among embeddings, by the cosine, and a classifier that asks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class NeighbourSettings:
    """count: neighbours that vote. temperature: a neighbour of cosine s weighs exp(s / temperature), as in Wu 2018
    (section 3.4) and in most papers on self-supervised encoders since; None: each has one vote."""

    count: int = 20
    temperature: float | None = 0.07


class NeighbourIndex:
    """All pairs are compared, a block of queries at a time: exact, and quick for a few hundred thousand cells."""

    def __init__(self, features: Features) -> None:
        """features: (N, C) of the cells among which is searched."""
        self._units = unit(features)

    def __len__(self) -> int:
        return len(self._units)

    def nearest(self, queries: Features, count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """(Q, C) → indices (Q, k) of the most alike, best first, and their cosines (Q, k); k is at most N.

        Of equally alike cells the earlier one comes first. A query that is itself in the index finds itself.
        """
        count = min(count, len(self))
        found = np.zeros((len(queries), count), np.intp)
        cosines = np.zeros((len(queries), count), np.float32)
        directions = unit(queries)
        for first in range(0, len(queries), 1024):
            block = directions[first : first + 1024] @ self._units.T
            order = np.argsort(-block, axis=1, kind="stable")[:, :count]
            found[first : first + 1024] = order
            cosines[first : first + 1024] = np.take_along_axis(block, order, axis=1)
        return found, cosines


def unit(features: Features) -> NDArray[np.float32]:
    """(N, C) → the same directions of length 1; a vector of zeros stays one."""
    values = np.asarray(features, np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def vote(
    index: NeighbourIndex,
    labels: Sequence[str],
    queries: Features,
    names: Sequence[str],
    settings: NeighbourSettings | None = None,
) -> NDArray[np.float64]:
    """(Q, C) → (Q, T) shares of the neighbours' votes over `names`; labels: of the N cells of the index."""
    settings = settings or NeighbourSettings()
    found, cosines = index.nearest(queries, settings.count)
    columns = np.array([names.index(label) for label in labels], np.intp)[found]
    power = np.zeros_like(cosines) if settings.temperature is None else (cosines - 1) / settings.temperature
    votes = np.zeros((len(queries), len(names)))
    np.add.at(votes, (np.arange(len(queries))[:, None], columns), np.exp(power))
    return votes / votes.sum(axis=1, keepdims=True)
