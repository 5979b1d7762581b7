"""Smooth implicit shapes in µm: positive inside, negative outside, about the distance to the edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Rng = np.random.Generator
Field = Callable[[Array, Array, float], Array]  # (x, y, scale) → distance; scale 1 is a nucleus as drawn

MARGIN = 0.2  # µm of cytoplasm that always remain outside the nucleus


def grid(radius: float, mpp: float) -> tuple[Array, Array]:
    """x and y in µm of the pixels of a square patch that reaches `radius` from its centre; an even side."""
    side = 2 * int(np.ceil(radius / mpp))
    axis = ((np.arange(side) + 0.5) * mpp - side * mpp / 2).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def noise(rng: Rng, shape: tuple[int, int], pixels: float) -> Array:
    """Smooth noise, mean 0 and deviation about 1, whose grains are `pixels` wide."""
    step = max(pixels, 1.0)
    coarse = (int(shape[0] / step) + 4, int(shape[1] / step) + 4)
    raw = rng.standard_normal(coarse, dtype=np.float32) * np.float32(1.5)
    if step == 1.0:
        return raw[: shape[0], : shape[1]] / np.float32(1.5)
    offset_x, offset_y = rng.random(2) + 1.0
    matrix = np.array([[1 / step, 0, offset_x], [0, 1 / step, offset_y]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(raw, matrix, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REFLECT)


@dataclass(frozen=True, slots=True)
class Polar:
    """A closed outline R(θ) with R² averaging `radius`², so that its area is that of the circle."""

    radius: float
    table: Array  # (256,) relative radius by angle

    def __call__(self, x: Array, y: Array, scale: float = 1.0) -> Array:
        angle = np.arctan2(y, x) * np.float32(128 / np.pi) + np.float32(256.5)
        return self.table[angle.astype(np.int32) & 255] * np.float32(self.radius * scale) - np.hypot(x, y)


def polar(rng: Rng, radius: float, *, irregular: float, elongation: float = 1.0, dent: float = 0.0) -> Polar:
    """A round outline with random waves, stretched by `elongation`, pushed in on one side by `dent` (0 to 0.6)."""
    angle = np.arange(256) * (2 * np.pi / 256)
    shape = 1.0 / np.hypot(np.cos(angle) / np.sqrt(elongation), np.sin(angle) * np.sqrt(elongation))
    for wave in range(2, 9):
        size = irregular * rng.normal() * (1.6 / wave)
        shape = shape + size * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    if dent:
        where, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.6)
        turn = (angle - where + np.pi) % (2 * np.pi) - np.pi
        shape = shape - dent * np.exp(-((turn / width) ** 2))
    shape = np.roll(np.clip(shape, 0.25, None), int(rng.integers(256)))
    return Polar(radius, (shape / np.sqrt((shape**2).mean())).astype(np.float32))


@dataclass(frozen=True, slots=True)
class Chain:
    """The union of discs along a curve: bands, lobes and the bridges between them."""

    centres: Array  # (M, 2) µm
    radii: Array  # (M,) µm
    reach: float  # µm; scaled up, the lobes grow thicker but their centres stay within

    def __call__(self, x: Array, y: Array, scale: float = 1.0) -> Array:
        best = np.full(x.shape, -1e3, np.float32)
        spread = min(scale, self.reach / max(float(np.hypot(*self.centres.T).max()), 1e-6))
        for (cx, cy), radius in zip(self.centres * np.float32(spread), self.radii * np.float32(scale), strict=True):
            np.maximum(best, radius - np.hypot(x - cx, y - cy), out=best)
        return best


def _centred(centres: NDArray[np.floating], radii: NDArray[np.floating], radius: float) -> Chain:
    weight = radii**2
    middle = (centres * weight[:, None]).sum(axis=0) / weight.sum()
    return Chain(((centres - middle) * radius).astype(np.float32), (radii * radius).astype(np.float32), 0.72 * radius)


def _arc(rng: Rng, span: float, radius: float, points: int) -> NDArray[np.floating]:
    """(points, 2) on a wobbling arc of `span` radians, turned at random."""
    angle = np.linspace(-span / 2, span / 2, points) + rng.uniform(0, 2 * np.pi)
    wobble = radius * (1 + 0.12 * np.sin(np.linspace(0, rng.uniform(2, 6), points) + rng.uniform(0, 6)))
    return np.stack([np.cos(angle) * wobble, np.sin(angle) * wobble], axis=1)


def arc_nucleus(rng: Rng, radius: float, *, span: float, bend: float, tube: float, waist: float = 0.0) -> Chain:
    """A sausage bent around a point: kidney, band, horseshoe; `waist` thins its middle."""
    points = 22
    along = np.linspace(-1, 1, points)
    width = tube * (1 - waist * np.exp(-((along - rng.uniform(-0.3, 0.3)) ** 2) / 0.12))
    width = width * (1 + 0.08 * np.sin(along * rng.uniform(3, 8) + rng.uniform(0, 6)))
    return _centred(_arc(rng, span, bend, points), width, radius)


def segmented_nucleus(rng: Rng, radius: float, *, lobes: int) -> Chain:
    """`lobes` rounded segments on an arc or a zigzag, joined by thin bridges."""
    span = {2: 1.8, 3: 3.2, 4: 4.1, 5: 4.8}[lobes] * rng.uniform(0.8, 1.05)
    middles = _arc(rng, span, rng.uniform(0.46, 0.6), lobes) + rng.normal(0, 0.09, (lobes, 2))
    size = rng.uniform(0.7, 1.2, lobes) * {2: 0.38, 3: 0.32, 4: 0.28, 5: 0.25}[lobes]
    centres, radii = [], []
    for i in range(lobes):
        turn = rng.uniform(0, np.pi)  # each segment is a short capsule
        reach = size[i] * rng.uniform(0.2, 0.8) * np.array([np.cos(turn), np.sin(turn)])
        centres += [middles[i] - reach, middles[i], middles[i] + reach]
        radii += [size[i] * 0.86, size[i] * 0.92, size[i] * 0.86]
        if i + 1 < lobes:
            steps = np.linspace(0, 1, 7)[1:-1, None]
            centres += list(middles[i] * (1 - steps) + middles[i + 1] * steps)
            radii += [rng.uniform(0.05, 0.17)] * 5
    return _centred(np.array(centres), np.array(radii), radius)


def lobulated_nucleus(rng: Rng, radius: float) -> Chain:
    """Many overlapping lobes in a heap, as in a megakaryocyte."""
    lobes = int(rng.integers(5, 12))
    angle, reach = rng.uniform(0, 2 * np.pi, lobes), 0.52 * np.sqrt(rng.random(lobes))
    centres = np.stack([np.cos(angle) * reach, np.sin(angle) * reach], axis=1)
    return _centred(centres, rng.uniform(0.16, 0.34, lobes), radius)


def mitotic_nucleus(rng: Rng, radius: float, *, phase: str) -> Chain:
    """Condensed chromosomes: a plate, two plates, or an irregular heap of short rods."""
    rods = int(rng.integers(16, 26))
    across = rng.uniform(-0.5, 0.5, rods)
    thick = {"metaphase": 0.09, "anaphase": 0.07, "prometaphase": 0.3}[phase]
    along = rng.normal(0, thick, rods)
    if phase == "anaphase":
        along = along + np.where(np.arange(rods) % 2 == 0, -1, 1) * rng.uniform(0.32, 0.45)
    turn = rng.uniform(0, 2 * np.pi)
    ends = rng.normal(0, 0.07, (rods, 2))
    line = np.stack([along, across * (0.8 if phase == "prometaphase" else 1.0)], axis=1)
    points = np.concatenate([line - ends, line, line + ends])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return _centred(points @ rotation.T, np.tile(rng.uniform(0.06, 0.11, rods), 3), radius)


NUCLEI: dict[str, Callable[[Rng, float], Field]] = {
    "round": lambda rng, r: polar(rng, r, irregular=0.025, elongation=rng.uniform(1, 1.08)),
    "oval": lambda rng, r: polar(rng, r, irregular=0.045, elongation=rng.uniform(1.05, 1.3)),
    "dented": lambda rng, r: polar(
        rng, r, irregular=0.05, elongation=rng.uniform(1.05, 1.3), dent=rng.uniform(0.12, 0.3)
    ),
    "cleft": lambda rng, r: polar(rng, r, irregular=0.07, elongation=rng.uniform(1, 1.25), dent=rng.uniform(0.3, 0.5)),
    "cup": lambda rng, r: polar(rng, r, irregular=0.03, elongation=rng.uniform(1, 1.15), dent=rng.uniform(0.5, 0.65)),
    "folded": lambda rng, r: polar(rng, r, irregular=0.11, elongation=rng.uniform(1, 1.35), dent=rng.uniform(0.1, 0.5)),
    "kidney": lambda rng, r: arc_nucleus(
        rng, r, span=rng.uniform(1.5, 2.4), bend=0.42, tube=rng.uniform(0.36, 0.44), waist=rng.uniform(0, 0.15)
    ),
    "horseshoe": lambda rng, r: arc_nucleus(
        rng, r, span=rng.uniform(2.4, 3.6), bend=0.46, tube=rng.uniform(0.28, 0.36), waist=rng.uniform(0, 0.2)
    ),
    "band": lambda rng, r: arc_nucleus(
        rng, r, span=rng.uniform(2.7, 4.6), bend=0.52, tube=rng.uniform(0.2, 0.26), waist=rng.uniform(0, 0.3)
    ),
    "segmented": lambda rng, r: segmented_nucleus(rng, r, lobes=int(rng.choice([2, 3, 3, 3, 4, 4, 5]))),
    "bilobed": lambda rng, r: segmented_nucleus(rng, r, lobes=2),
    "lobulated": lobulated_nucleus,
    "metaphase": lambda rng, r: mitotic_nucleus(rng, r, phase="metaphase"),
    "anaphase": lambda rng, r: mitotic_nucleus(rng, r, phase="anaphase"),
    "prometaphase": lambda rng, r: mitotic_nucleus(rng, r, phase="prometaphase"),
    "smear": lambda rng, r: polar(rng, r, irregular=0.14, elongation=rng.uniform(1, 1.5)),
}


def fit_nucleus(field: Field, cell: Field, radius: float, shift: tuple[float, float], ratio: float) -> float:
    """The scale at which the nucleus, moved by `shift` and kept inside the cell, covers `ratio` of its area."""
    x, y = grid(radius * 1.7, radius * 1.7 / 24)
    body = cell(x, y, 1.0)
    inside = body > 0
    low, high = 0.1, 6.0
    for _ in range(10):
        scale = (low * high) ** 0.5
        covered = (field(x - shift[0], y - shift[1], scale) > 0) & (body > MARGIN)
        low, high = (scale, high) if covered.sum() < ratio * inside.sum() else (low, scale)
    return (low * high) ** 0.5
