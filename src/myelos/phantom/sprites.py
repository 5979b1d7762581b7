"""A pool of rendered cells, and how one is put on a field: turned, scaled a little, coloured a little differently."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cells import Sprite, cell_rng, render_sprite
from myelos.phantom.stain import DYES

Layers = NDArray[np.float32]  # (h, w, 6) dyes and cover

POOL_SIZES = {"erythrocyte": 96, "platelet": 48, "megakaryocyte": 10, "macrophage": 12}


@dataclass(frozen=True, slots=True)
class SpritePool:
    """Sprites at one resolution, rendered when first asked for; sprite `i` of a type depends on the seed only."""

    mpp: float
    seed: int = 0
    per_type: int = 40

    def size(self, cell_type: str) -> int:
        return min(POOL_SIZES.get(cell_type, self.per_type), 2 * self.per_type)

    def sprite(self, cell_type: str, number: int) -> Sprite:
        return _sprite(cell_type, number % self.size(cell_type), self.mpp, self.seed)

    def radius(self, cell_type: str, number: int) -> float:
        """µm, before the scale of the placement."""
        return _radius(cell_type, number % self.size(cell_type), self.mpp, self.seed)


@functools.lru_cache(maxsize=4096)
def _sprite(cell_type: str, number: int, mpp: float, seed: int) -> Sprite:
    return render_sprite(cell_type, cell_rng(seed, cell_type, number), mpp)


@functools.lru_cache(maxsize=65536)
def _radius(cell_type: str, number: int, mpp: float, seed: int) -> float:
    return _sprite(cell_type, number, mpp, seed).radius


def place_sprite(sprite: Sprite, rng: np.random.Generator, scale: float = 1.0) -> Layers:
    """The layers of a nucleated cell, turned by any angle, scaled, and with dyes of its own strength."""
    turned = _turn(sprite.layers, rng.uniform(0, 360), scale, bool(rng.integers(2)))
    turned[..., : len(DYES)] *= np.exp(rng.normal(0, 0.08, len(DYES))).astype(np.float32)
    return turned


def flip_sprite(sprite: Sprite, rng: np.random.Generator) -> Layers:
    """The layers in one of eight positions: enough for red cells and platelets, and much quicker."""
    layers = np.rot90(sprite.layers, int(rng.integers(4)))
    return layers[:, ::-1] if rng.integers(2) else layers


def _turn(layers: Layers, degrees: float, scale: float, flip: bool) -> Layers:
    if flip:
        layers = layers[:, ::-1]
    height, width = layers.shape[:2]
    side = int(np.ceil(np.hypot(height, width) * max(scale, 0.1)))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    matrix[:, 2] += [(side - width) / 2, (side - height) / 2]
    parts = [
        cv2.warpAffine(np.ascontiguousarray(layers[..., i : i + 3]), matrix, (side, side), flags=cv2.INTER_LINEAR)
        for i in (0, 3)
    ]
    return np.concatenate(parts, axis=2)
