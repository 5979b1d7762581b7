"""A pool of rendered cells, and how one is put on a field: turned, scaled a little, coloured a little differently."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cells import Sprite, cell_rng, render_sprite
from myelos.phantom.cut_outs import CutOuts, to_sprite
from myelos.phantom.stain import DYES

Layers = NDArray[np.float32]  # (h, w, 6) dyes and cover

POOL_SIZES = {"erythrocyte": 96, "platelet": 48, "megakaryocyte": 10, "macrophage": 12}


@dataclass(frozen=True, slots=True)
class SpritePool:
    """Sprites at one resolution, rendered when first asked for; sprite `i` of a type depends on the seed only.

    cut_outs: cells cut out of images, which take the place of rendered ones; the rest becomes as soft as they are.
    """

    mpp: float
    seed: int = 0
    per_type: int = 40
    cut_outs: CutOuts | None = None

    def size(self, cell_type: str) -> int:
        return min(POOL_SIZES.get(cell_type, self.per_type), 2 * self.per_type)

    def sprite(self, cell_type: str, number: int) -> Sprite:
        kept = self.cut_outs.pick(cell_type, number) if self.cut_outs else None
        if kept:
            return to_sprite(kept, cell_type, self.mpp)
        return _sprite(cell_type, number % self.size(cell_type), self.mpp, self.seed, self._softness)

    def measures(self, cell_type: str, number: int) -> tuple[float, float]:
        """Radius of the circle of equal area in µm, and half the diagonal of the patch in px."""
        if self.cut_outs and self.cut_outs.pick(cell_type, number):
            return _measured(self.sprite(cell_type, number))
        return _measures(cell_type, number % self.size(cell_type), self.mpp, self.seed, self._softness)

    @property
    def real(self) -> tuple[str, ...]:
        """Types of which there are cut-out cells."""
        return self.cut_outs.types if self.cut_outs else ()

    @property
    def _softness(self) -> float:
        return self.cut_outs.softness if self.cut_outs else 0.0


@functools.lru_cache(maxsize=1536)
def _sprite(cell_type: str, number: int, mpp: float, seed: int, softness: float) -> Sprite:
    sprite = render_sprite(cell_type, cell_rng(seed, cell_type, number), mpp)
    return softened(sprite, softness) if softness else sprite


def softened(sprite: Sprite, softness: float) -> Sprite:
    """With room for a blur of `softness` µm all around."""
    sigma = softness / sprite.mpp
    room = int(np.ceil(2.5 * sigma))
    layers = np.pad(sprite.layers, ((room, room), (room, room), (0, 0)))
    nucleus = cv2.GaussianBlur(np.pad(sprite.nucleus, room), (0, 0), sigma)
    soft = np.dstack([cv2.GaussianBlur(layers[..., i : i + 3], (0, 0), sigma) for i in (0, 3)])
    return replace(sprite, layers=soft, nucleus=nucleus)


@functools.lru_cache(maxsize=65536)
def _measures(cell_type: str, number: int, mpp: float, seed: int, softness: float) -> tuple[float, float]:
    return _measured(_sprite(cell_type, number, mpp, seed, softness))


def _measured(sprite: Sprite) -> tuple[float, float]:
    return sprite.radius, float(np.hypot(*sprite.cover.shape)) / 2


def turn(layers: Layers, degrees: float, scale: float, flip: bool) -> Layers:
    """The layers turned by any angle and scaled, in a square patch that holds them."""
    if flip:
        layers = layers[:, ::-1]
    height, width = layers.shape[:2]
    side = int(np.ceil(np.hypot(height, width) * scale))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    matrix[:, 2] += [(side - width) / 2, (side - height) / 2]
    parts = [
        cv2.warpAffine(np.ascontiguousarray(layers[..., i : i + 3]), matrix, (side, side), flags=cv2.INTER_LINEAR)
        for i in (0, 3)
    ]
    return _trim(np.concatenate(parts, axis=2))


def _trim(layers: Layers) -> Layers:
    """Without the empty edges, equally on opposite sides, so that the centre stays."""
    used = layers[..., len(DYES)] > 0
    columns, rows = np.flatnonzero(used.any(axis=0)), np.flatnonzero(used.any(axis=1))
    if not len(columns):
        return layers
    side = layers.shape[0]
    cut = max(0, min(columns[0], rows[0], side - 1 - columns[-1], side - 1 - rows[-1]) - 1)
    return layers[cut : side - cut, cut : side - cut]


def flip(layers: Layers, position: int) -> Layers:
    """The layers in one of eight positions: enough for red cells and platelets, and much quicker."""
    layers = np.rot90(layers, position % 4)
    return layers[:, ::-1] if position >= 4 else layers
