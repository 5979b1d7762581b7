"""Features of many dimensions as a map of two, as in Figure 6 of Matek 2021: UMAP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.errors import MissingDependencyError, UsageError
from myelos.wording import number_of


@dataclass(frozen=True, slots=True)
class ProjectionSettings:
    """neighbours: few show local structure, many the whole. closeness: how near points may come to each other.
    metric: of the features. The paper states none of them; these are the library's own (McInnes 2018), but for the
    cosine, which is also what neighbours are found by."""

    neighbours: int = 15
    closeness: float = 0.1
    metric: str = "cosine"
    seed: int = 0


def project(features: NDArray[np.float32], settings: ProjectionSettings | None = None) -> NDArray[np.float32]:
    """(N, C) features → (N, 2). The same seed gives the same map on one machine.

    Only who is near whom means something: distances across the map, sizes of clusters and directions do not. Raises
    UsageError for fewer than four cells.
    """
    settings = settings or ProjectionSettings()
    if len(features) < 4:
        few = number_of(len(features), "cell makes", "cells make")
        raise UsageError(f"{few} no map", remedy="Pass a folder with more cells")
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingDependencyError(
            "a map of cells needs umap-learn", remedy='Install it with: pip install "myelos[train]"'
        ) from error
    reducer = UMAP(
        n_neighbors=min(settings.neighbours, len(features) - 1),
        min_dist=settings.closeness,
        metric=settings.metric,
        random_state=settings.seed,
        init="spectral" if len(features) > 50 else "random",
        n_jobs=1,  # what a fixed seed asks for
    )
    return np.asarray(reducer.fit_transform(features), np.float32)
