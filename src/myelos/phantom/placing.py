"""Which cells lie where: drawn once for a whole field or slide, so that the order of painting changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.phantom.sprites import SpritePool
from myelos.phantom.stain import DYES

Reals = NDArray[np.float64]
Draw = Callable[[int], Reals]  # count → (count, 2) places in px

ROUNDS = 25
LARGE = 14.0  # µm: larger cells are placed first, so that the search for neighbours stays short for the rest
SCALES = (0.94, 1.06)  # a sprite is drawn this much smaller or larger
FLATTENED = 0.75  # share of cells that flatten against their neighbours instead of lying over them


@dataclass(frozen=True, slots=True)
class Cells:
    """N nucleated cells. centres: (N, 2) px. gains: (N, 5) factors of the dyes. reach: (N,) px from centre to rim."""

    types: Sequence[str]
    numbers: NDArray[np.int64]
    scales: Reals
    angles: Reals
    flips: NDArray[np.bool_]
    gains: NDArray[np.float32]
    press: NDArray[np.bool_]
    centres: Reals
    reach: Reals


@dataclass(frozen=True, slots=True)
class Bodies:
    """N red cells or platelets. positions: one of eight turns each."""

    cell_type: str
    numbers: NDArray[np.int64]
    positions: NDArray[np.int64]
    centres: Reals


def draw_cells(
    types: Sequence[str], pool: SpritePool, draw: Draw, rng: np.random.Generator, *, spacing: float
) -> Cells:
    """Cells of `types` at places given by `draw`, spread out."""
    count = len(types)
    numbers, scales = rng.integers(0, 1 << 30, count), rng.uniform(*SCALES, count)
    measures = [pool.measures(t, int(n)) for t, n in zip(types, numbers, strict=True)]
    radii, reach = np.array(measures).reshape(-1, 2).T
    gains = np.exp(rng.normal(0, 0.08, (count, len(DYES)))).astype(np.float32)
    angles, flips, press = rng.uniform(0, 360, count), rng.random(count) < 0.5, rng.random(count) < FLATTENED
    centres = spread_out(radii * scales / pool.mpp, draw, spacing=spacing, large=LARGE / pool.mpp)
    return Cells(types, numbers, scales, angles, flips, gains, press, centres, reach * scales + 2)


def draw_bodies(
    cell_type: str, count: int, pool: SpritePool, draw: Draw, rng: np.random.Generator, *, spacing: float, rounds: int
) -> Bodies:
    """`count` red cells or platelets; with few `rounds` some of them overlap."""
    numbers = rng.integers(0, pool.size(cell_type), count)
    radii = np.array([pool.measures(cell_type, i)[0] for i in range(pool.size(cell_type))])[numbers] / pool.mpp
    positions = rng.integers(0, 8, count)
    centres = spread_out(radii, draw, spacing=spacing, rounds=rounds)
    return Bodies(cell_type, numbers, positions, centres)


def spread_out(radii: Reals, draw: Draw, *, spacing: float = 1.0, rounds: int = ROUNDS, large: float = np.inf) -> Reals:
    """(N, 2) centres whose distances are at least `spacing` times the sum of their radii, where there is room.

    A cell that comes too close to one of lower number is put elsewhere by `draw(count) → (count, 2)`, up to `rounds`
    times; no cell is left out, so crowding changes no composition. Cells of a radius above `large` are placed first.
    """
    centres = draw(len(radii))
    order = np.argsort(radii < large, kind="stable")
    big = int((radii >= large).sum())
    for _ in range(rounds):
        clashing = _clashes(centres[order], radii[order], spacing, big)
        if not len(clashing):
            break
        centres[order[clashing]] = draw(len(clashing))
    return centres


def _clashes(centres: Reals, radii: Reals, spacing: float, big: int) -> NDArray[np.intp]:
    """Indices of cells too close to one of lower index; the first `big` are the large ones."""
    from scipy.spatial import cKDTree  # slow to import

    found = [np.zeros((0, 2), np.intp)]
    if big:
        reach = spacing * (radii[:big].max() + radii.max())
        near = cKDTree(centres[:big]).sparse_distance_matrix(cKDTree(centres), reach, output_type="coo_matrix")
        pairs = np.stack([near.row, near.col], axis=1).astype(np.intp)
        found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    if big + 1 < len(radii):
        pairs = cKDTree(centres[big:]).query_pairs(2 * spacing * radii[big:].max(), output_type="ndarray")
        found.append(pairs + big)
    near = np.concatenate(found)
    gap = np.hypot(*(centres[near[:, 0]] - centres[near[:, 1]]).T)
    close = gap < spacing * (radii[near[:, 0]] + radii[near[:, 1]])
    return np.unique(near[close].max(axis=1))
