"""Where cells lie: at random, but not on top of each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ROUNDS = 25
LARGE = 14.0  # µm: larger cells are placed first, so that the search for neighbours stays short for the rest


def spread_out(
    radii: NDArray[np.float64], draw: Callable[[int], NDArray[np.float64]], *, spacing: float = 1.0
) -> NDArray[np.float64]:
    """(N, 2) centres in µm whose distances are at least `spacing` times the sum of their radii, where there is room.

    A cell that comes too close to one of lower number is put elsewhere by `draw(count) → (count, 2)`, up to ROUNDS
    times; no cell is left out, so crowding changes no composition.
    """
    centres = draw(len(radii))
    order = np.argsort(radii < LARGE, kind="stable")  # large ones first
    for _ in range(ROUNDS):
        clashing = _clashes(centres[order], radii[order], spacing)
        if not len(clashing):
            break
        centres[order[clashing]] = draw(len(clashing))
    return centres


def _clashes(centres: NDArray[np.float64], radii: NDArray[np.float64], spacing: float) -> NDArray[np.intp]:
    """Indices of cells too close to one of lower index."""
    from scipy.spatial import cKDTree  # slow to import

    if len(radii) < 2:
        return np.zeros(0, np.intp)
    large = int((radii >= LARGE).sum())
    found = []
    if large:
        tree, rest = cKDTree(centres[:large]), cKDTree(centres)
        reach = spacing * (radii[:large].max() + radii.max())
        pairs = tree.sparse_distance_matrix(rest, reach, output_type="coo_matrix")
        pairs_found = np.stack([pairs.row, pairs.col], axis=1)
        found.append(pairs_found[pairs_found[:, 0] < pairs_found[:, 1]])
    if large + 1 < len(radii):
        tree = cKDTree(centres[large:])
        found.append(tree.query_pairs(2 * spacing * radii[large:].max(), output_type="ndarray") + large)
    near = np.concatenate(found) if found else np.zeros((0, 2), np.intp)
    gap = np.hypot(*(centres[near[:, 0]] - centres[near[:, 1]]).T)
    close = gap < spacing * (radii[near[:, 0]] + radii[near[:, 1]])
    return np.unique(near[close].max(axis=1))
