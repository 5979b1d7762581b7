"""Pairs of boxes that touch, found through a grid, and groups of boxes that are one cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from myelos.detection.found import Found
from myelos.geometry import corners

Indices = NDArray[np.intp]
_LARGE = 64  # grid cells that one box may fill; larger boxes are compared with all others


def close_pairs(xywh: NDArray[np.floating]) -> tuple[Indices, Indices]:
    """Every pair (i, j), i < j, of boxes that share area, in rising order; (N, 4) x y width height.

    Boxes are put into the squares of a grid that they touch and compared within a square only.
    """
    xywh = np.asarray(xywh, dtype=float).reshape(-1, 4)
    if len(xywh) < 2:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    side = max(float(np.median(xywh[:, 2:])) * 2, 1e-9)
    low = np.floor(xywh[:, :2] / side).astype(np.int64)
    count = np.floor((xywh[:, :2] + xywh[:, 2:]) / side).astype(np.int64) - low + 1
    large = count.prod(axis=1) > _LARGE
    first, second = _pairs_in_squares(low, count, np.flatnonzero(~large))
    for row in np.flatnonzero(large):
        first = np.concatenate([first, np.full(len(xywh), row)])
        second = np.concatenate([second, np.arange(len(xywh))])
    first, second = np.minimum(first, second), np.maximum(first, second)
    key = np.unique((first * len(xywh) + second)[first != second])
    first, second = key // len(xywh), key % len(xywh)
    touching = intersections(xywh[first], xywh[second]) > 0
    return first[touching], second[touching]


def _pairs_in_squares(low: NDArray[np.int64], count: NDArray[np.int64], rows: Indices) -> tuple[Indices, Indices]:
    """Pairs of boxes with a square in common; `low` first square, `count` number of squares, each (N, 2)."""
    entries = np.repeat(rows, count[rows].prod(axis=1))
    within = np.arange(len(entries)) - np.repeat(
        np.cumsum(count[rows].prod(axis=1)) - count[rows].prod(axis=1), count[rows].prod(axis=1)
    )
    square = low[entries] + np.stack([within % count[entries, 0], within // count[entries, 0]], axis=1)
    order = np.lexsort((entries, square[:, 0], square[:, 1]))
    entries, square = entries[order], square[order]
    firsts, seconds = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
    for step in range(1, len(entries)):
        same = (square[step:] == square[:-step]).all(axis=1)
        if not same.any():
            break
        firsts.append(entries[:-step][same])
        seconds.append(entries[step:][same])
    return np.concatenate(firsts), np.concatenate(seconds)


def intersections(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N,) common areas of boxes a[i] and b[i]; (N, 4) x y width height each."""
    first, second = corners(a), corners(b)
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    return np.clip(sides, 0, None).prod(axis=1)


def groups(number: int, first: Indices, second: Indices) -> Indices:
    """(N,) smallest member of each row's group, where the pairs (first, second) belong together, chains included."""
    parent = np.arange(number)

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        a, b = root(i), root(j)
        parent[max(a, b)] = min(a, b)
    return np.array([root(row) for row in range(number)], np.intp)


def unite(found: Found, group: Indices) -> Found:
    """One row per group: the box around all members; score, types and tile of the surest (ties: the larger)."""
    if len(np.unique(group)) == len(found):
        return found
    boxes = corners(found.xywh)
    area = found.xywh[:, 2] * found.xywh[:, 3]
    order = np.lexsort((np.arange(len(found)), -area, -found.scores, group))
    leaders = order[np.unique(group[order], return_index=True)[1]]
    number = np.unique(group, return_inverse=True)[1]
    low, high = np.full((len(leaders), 2), np.inf), np.full((len(leaders), 2), -np.inf)
    np.minimum.at(low, number, boxes[:, :2])
    np.maximum.at(high, number, boxes[:, 2:])
    merged = found.take(leaders)
    return Found(np.concatenate([low, high - low], axis=1), merged.scores, merged.probabilities, merged.tile)
