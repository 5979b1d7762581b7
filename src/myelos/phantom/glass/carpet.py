"""Red cells and platelets: stamps in eight positions, and patterns of places that never repeat to the eye.

A pattern is a square of one block's side that closes on itself, on which places keep their distance. Each block takes
one of a few patterns, turned and shifted by chance; which of its places hold a red cell follows from the local density.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cells import cell_rng
from myelos.phantom.glass.layout import BLOCK, RED_UNIT
from myelos.phantom.glass.scanners import Scanner, seen
from myelos.phantom.sprites import SpritePool, flip
from myelos.phantom.stain import DYES, HAEMOGLOBIN, Stain

PER_MM2 = 16_000.0  # places of a pattern: as close as red cells lie without overlapping
PATTERNS = 6
HB_UNIT = 100.0  # haemoglobin in uint8: this value is concentration 1
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pattern:
    """places: (N, 2) px in [0, BLOCK). rank: (N,) in [0, 1), the order in which places fill up as density grows."""

    places: NDArray[np.float32]
    rank: NDArray[np.float32]


def make_pattern(seed: int, number: int, mpp: float) -> Pattern:
    """Places that push each other away until they lie even, but not in rows."""
    from scipy.spatial import cKDTree  # slow to import

    rng = cell_rng(seed, "pattern", number)
    count = max(4, round(PER_MM2 * (BLOCK * mpp * 1e-3) ** 2))
    places = rng.random((count, 2)) * BLOCK
    reach = BLOCK / np.sqrt(count) * 1.02
    for _ in range(12):
        pairs = cKDTree(places, boxsize=BLOCK).query_pairs(reach, output_type="ndarray")
        away = places[pairs[:, 0]] - places[pairs[:, 1]]
        away -= np.rint(away / BLOCK) * BLOCK
        far = np.maximum(np.hypot(*away.T), 1e-6)
        push = away / far[:, None] * (0.35 * (reach - far))[:, None]
        move = np.zeros_like(places)
        for axis in (0, 1):
            move[:, axis] = np.bincount(pairs[:, 0], push[:, axis], count) - np.bincount(
                pairs[:, 1], push[:, axis], count
            )
        places = (places + move) % BLOCK
        places[places >= BLOCK] = 0
    return Pattern(places.astype(np.float32), rng.random(count, np.float32))


@dataclass(frozen=True, slots=True)
class Carpet:
    """red: haemoglobin stamps in units of HB_UNIT, platelets: light that passes (RGB) on white 255."""

    seed: int
    patterns: tuple[Pattern, ...]
    red: tuple[Bytes, ...]
    platelets: tuple[Bytes, ...]

    def places(self, column: int, row: int, layer: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(N, 2) px of the whole slide and (N,) ranks, of one block; the same for whoever asks."""
        rng = cell_rng(self.seed, "carpet", column + 1, row + 1, layer)  # a generator takes no negative numbers
        pattern = self.patterns[int(rng.integers(len(self.patterns)))]
        places = (pattern.places + rng.integers(0, BLOCK, 2)) % BLOCK
        turn = int(rng.integers(8))
        places = places[:, ::-1] if turn & 4 else places
        places = np.where([turn & 1, turn & 2], BLOCK - places, places).astype(np.float32)
        return places + np.array([column * BLOCK, row * BLOCK], np.float32), pattern.rank


def make_carpet(seed: int, mpp: float, stain: Stain, made: Scanner) -> Carpet:
    """Stamps in the slide's stain, as the scanner sees them."""
    pool = SpritePool(mpp, seed)
    red, platelets = [], []
    for number in range(pool.size("erythrocyte")):
        layers = seen(_margin(pool.sprite("erythrocyte", number).layers), made, mpp)
        for turn in range(8):
            amount = flip(layers, turn)[..., HAEMOGLOBIN] * HB_UNIT
            red.append(np.ascontiguousarray(np.clip(np.rint(amount), 0, 255).astype(np.uint8)))
    clear = Stain(stain.name, stain.density, (255.0, 255.0, 255.0))
    for number in range(pool.size("platelet")):
        layers = seen(_margin(pool.sprite("platelet", number).layers), made, mpp)
        for turn in range(8):
            light = clear.transmit(np.ascontiguousarray(flip(layers, turn)[..., : len(DYES)]))
            platelets.append(np.clip(np.rint(light), 0, 255).astype(np.uint8))
    patterns = tuple(make_pattern(seed, number, mpp) for number in range(PATTERNS))
    return Carpet(seed, patterns, tuple(red), tuple(platelets))


def _margin(layers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Room for the blur, and one layer for all six, as OpenCV takes four channels at most where it warps."""
    return np.pad(layers, ((2, 2), (2, 2), (0, 0)))


def red_cells(carpet: Carpet, density: Bytes, step: float, window: tuple[int, int, int, int]) -> Bytes:
    """(h, w) haemoglobin in a window of the slide; `density` is the plan of red cells, RED_UNIT is full."""
    x1, y1, x2, y2 = window
    amount = np.zeros((y2 - y1, x2 - x1), np.uint8)
    for layer in (0, 1):  # the second only where red cells lie in heaps
        places, chosen = chosen_places(carpet, density, step, window, layer)
        stamp(amount, places - np.array([x1, y1], np.float32), carpet.red, chosen)
    return amount


def chosen_places(
    carpet: Carpet, density: Bytes, step: float, window: tuple[int, int, int, int], layer: int, share: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Places of a layer that hold a cell, and which stamp each takes: both the same in every window.

    Layer 0 fills up first, 1 where red cells lie in heaps, 2 is that of the platelets.
    """
    x1, y1, x2, y2 = window
    reach = 40
    found, ranks = [], []
    for row in range((y1 - reach) // BLOCK, (y2 + reach) // BLOCK + 1):
        for column in range((x1 - reach) // BLOCK, (x2 + reach) // BLOCK + 1):
            if row < 0 or column < 0:
                continue
            places, rank = carpet.places(column, row, layer)
            near = (places >= [x1 - reach, y1 - reach]).all(axis=1) & (places < [x2 + reach, y2 + reach]).all(axis=1)
            found.append(places[near])
            ranks.append(rank[near])
    places, rank = np.concatenate(found), np.concatenate(ranks)
    squares = (places / np.float32(step)).astype(np.intp)
    rows, columns = np.minimum(squares[:, 1], len(density) - 1), np.minimum(squares[:, 0], density.shape[1] - 1)
    wanted = density[rows, columns].astype(np.float32) * np.float32(share / RED_UNIT) - np.float32(layer == 1)
    kept = rank < wanted
    number = (rank[kept] * np.float32(1 << 20)).astype(np.int64)
    return places[kept], number * 7919 % 104729


def stamp(amount: Bytes, places: NDArray[np.float32], stamps: tuple[Bytes, ...], numbers: NDArray[np.int64]) -> None:
    """Add stamps of amounts around places in px of the window; what sticks out is cut off."""
    height, width = amount.shape
    count = len(stamps)
    for (x, y), number in zip(np.rint(places).astype(int).tolist(), numbers.tolist(), strict=True):
        patch = stamps[number % count]
        h, w = patch.shape
        left, top = x - w // 2, y - h // 2
        if left >= 0 and top >= 0 and left + w <= width and top + h <= height:
            part = amount[top : top + h, left : left + w]
        else:
            a, b = max(left, 0), max(top, 0)
            part = amount[b : max(top + h, 0), a : max(left + w, 0)]
            patch = patch[b - top : b - top + part.shape[0], a - left : a - left + part.shape[1]]
            if not part.size:
                continue
        cv2.add(part, patch, dst=part)
