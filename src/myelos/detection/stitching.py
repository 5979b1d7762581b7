"""The fast stitching model of Wang 2022 (section 3.1.3, equations 5 to 11), as `--stitch wang`.

Tiles touch and do not overlap, so a cell on a border is found in parts. Parts in neighbouring tiles are united where
their corners are near each other.

What the text says: boxes of a tile go back to the image by adding the tile's position (5); of all boxes with a score
above λ = 0.1, each is compared with the boxes in the four neighbouring tiles; between the four corners of the one and
the four of the other, C1 is the smallest distance (7, 8) and C2 the smallest once the corners of C1 are excluded (9,
10); the boxes are united where the average ζ = (C1 + C2) / 2 is below ε = 25 (11).

What it leaves open, and what is done here:

- *Excluded corners* (10): "the corner points φ', ψ' which have been used" are both left out, so C2 is over the other
  three corners of each box. (Leaving out the one pair only would let a corner be used twice.)
- *Types*: the text says that the type is "utilised" but (11) asks for none. Parts of one cell often get different
  types, so types need not be equal; `equal_types` asks for it.
- *Chains*: a cell on the corner of four tiles has parts that are neighbours in a chain only (diagonal tiles are no
  neighbours). Merging is transitive.
- *The merged cell*: its box is the box around all parts; type, probabilities and score are those of the surest part,
  of the larger one at equal scores.
- *ε*: 25 pixels of the paper's slides. 0.25 µm/px is assumed (40×), that is 6.25 µm; where a slide has no resolution
  the pixels of the detector are taken.

Known faults, measured in `benchmarks/stitching.py`: two whole cells that face each other across a border are united;
a part too small to be found leaves a cell cut; parts of very different height are not united.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.detection.found import Found
from myelos.detection.pairs import close_pairs, groups, unite
from myelos.detection.tiling import Tile
from myelos.geometry import corners


@dataclass(frozen=True)
class StitchSettings:
    """threshold: λ, the lowest score. epsilon_um: ε. equal_types: whether parts must have the same type."""

    threshold: float = 0.1
    epsilon_um: float = 25 * 0.25
    equal_types: bool = False


def stitch(found: Found, tiles: dict[int, Tile], *, mpp: float, settings: StitchSettings | None = None) -> Found:
    """Unite the parts of cells on the borders of touching tiles.

    mpp: µm per level-0 pixel. The result is sorted top to bottom and left to right, one row per cell.
    """
    settings = settings or StitchSettings()
    found = found.take(found.scores > settings.threshold).ordered()
    epsilon = settings.epsilon_um / mpp
    first, second = _neighbouring(found, tiles, epsilon)
    near = corner_distance(found.xywh[first], found.xywh[second]) < epsilon
    if settings.equal_types:
        near &= found.types[first] == found.types[second]
    return unite(found, groups(len(found), first[near], second[near])).sorted_by_place()


def corner_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N,) ζ of the boxes a[i] and b[i], (N, 4) x y width height each, in their pixels (equations 7 to 10)."""
    first, second = _corner_points(a), _corner_points(b)  # (N, 4, 2)
    distances = np.linalg.norm(first[:, :, None] - second[:, None, :], axis=3).reshape(-1, 16)
    nearest = distances.argmin(axis=1)
    rows = np.arange(len(distances))
    smallest = distances[rows, nearest]
    others = distances.reshape(-1, 4, 4).copy()
    others[rows, nearest // 4, :] = np.inf
    others[rows, :, nearest % 4] = np.inf
    return (smallest + others.reshape(-1, 16).min(axis=1)) / 2


def _corner_points(xywh: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N, 4, 2) x, y of the corners."""
    x1, y1, x2, y2 = corners(xywh).T
    return np.stack([np.stack([x, y], axis=1) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))], axis=1)


def _neighbouring(found: Found, tiles: dict[int, Tile], epsilon: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of boxes in tiles that share an edge, near enough for C1 to be below ε."""
    padded = found.xywh + epsilon * np.array([-1, -1, 2, 2])
    first, second = close_pairs(padded)
    place = np.array([(tiles[int(t)].column, tiles[int(t)].row) for t in found.tile]).reshape(-1, 2)
    steps = np.abs(place[first] - place[second]).sum(axis=1)
    return first[steps == 1], second[steps == 1]
