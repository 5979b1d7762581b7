"""The ground plan of a slide: where it can be read, where particles lie, how dense cells and red cells are."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.shapes import noise

STEP = 16.0  # µm, side of a square of the plan
Plan = NDArray[np.float32]  # (rows, columns) of squares


@dataclass(frozen=True, slots=True)
class Region:
    """polygon: (M, 2) x y in level-0 px. kind: readable or particle."""

    kind: str
    polygon: NDArray[np.float64]

    def area_mm2(self, mpp: float) -> float:
        x, y = self.polygon.T
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 * mpp**2 * 1e-6)


@dataclass(frozen=True, slots=True)
class Landscape:
    """cells, red: density relative to that of the readable area. haze: how much dried matter lies there.

    fat: (M, 3) x, y, radius in px of fat vacuoles, in which nothing lies.
    """

    regions: tuple[Region, ...]
    cells: Plan
    red: Plan
    haze: Plan
    fat: NDArray[np.float64]
    step: float  # px, side of a square of the plans

    def region_of(self, centres: NDArray[np.float64]) -> NDArray[np.int64]:
        """(N,) number of the last region that holds each centre, -1 for none."""
        found = np.full(len(centres), -1, np.int64)
        for number, region in enumerate(self.regions):
            low, high = region.polygon.min(axis=0), region.polygon.max(axis=0)
            near = np.flatnonzero(((centres >= low) & (centres <= high)).all(axis=1))
            found[near[_inside(region.polygon, centres[near])]] = number
        return found


def _inside(polygon: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether a ray from each point crosses the polygon's edges an odd number of times."""
    odd = np.zeros(len(points), bool)
    x, y = points.T
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y1 != y2:
            odd ^= ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return odd


def make_landscape(width: int, height: int, mpp: float, specimen: str, rng: np.random.Generator) -> Landscape:
    """A ground plan for a slide of `width` × `height` px."""
    step = STEP / mpp
    shape = (int(np.ceil(height / step)), int(np.ceil(width / step)))
    extent = np.array([width, height], float)
    radii = (0.47, 0.44) if min(width, height) * mpp < 2000 else (0.40, 0.38)
    readable = Region("readable", blob(rng, extent / 2, extent * radii, 0.10))
    inside = _fill(readable, shape, step, soft=max(1.0, min(shape) * 0.04))
    patchy = np.clip(1 + 0.25 * noise(rng, shape, 25), 0.3, 2)
    if specimen == "blood":
        return Landscape(
            (readable,), 0.3 + 0.7 * inside, (0.45 + 0.55 * inside) * patchy, 0.1 * patchy, np.zeros((0, 3)), step
        )
    particles = _particles(width, height, mpp, rng)
    cells, haze = (0.06 + 0.94 * inside) * patchy, 0.1 + 0.25 * inside * patchy
    for particle in particles:
        core = _fill(particle, shape, step, soft=1.5)
        cells, haze = cells * (1 - core) + 4.5 * core, haze * (1 - core) + 3.5 * core
    fat = _fat(particles, mpp, rng)
    return Landscape((readable, *particles), cells, (0.5 + 0.5 * inside) * patchy, haze, fat, step)


def blob(
    rng: np.random.Generator, centre: NDArray[np.float64], radii: NDArray[np.float64], irregular: float
) -> NDArray[np.float64]:
    """(72, 2) points of a wavy ellipse."""
    angle = np.arange(72) * (2 * np.pi / 72)
    shape = np.ones(72)
    for wave in range(2, 7):
        shape += irregular / wave * rng.normal() * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    shape = np.clip(shape, 0.5, 1.12)
    return centre + np.stack([np.cos(angle), np.sin(angle)], axis=1) * shape[:, None] * radii


def _fill(region: Region, shape: tuple[int, int], step: float, *, soft: float) -> Plan:
    plan = np.zeros(shape, np.float32)
    cv2.fillPoly(plan, [np.rint(region.polygon / step - 0.5).astype(np.int32)], 1.0)
    return cv2.GaussianBlur(plan, (0, 0), soft).astype(np.float32)


def _particles(width: int, height: int, mpp: float, rng: np.random.Generator) -> tuple[Region, ...]:
    """One particle for about every 6 mm², at least one, none larger than a tenth of the shorter side."""
    area = width * height * mpp**2 * 1e-6
    extent = np.array([width, height], float)
    count = int(np.clip(area / 6, 1, 12))
    regions = []
    for _ in range(count):
        radius = min(rng.uniform(90, 320), 0.1 * min(width, height) * mpp) / mpp
        centre = extent * rng.uniform(0.2, 0.8, 2)
        regions.append(Region("particle", blob(rng, centre, np.array([radius, radius * rng.uniform(0.7, 1)]), 0.25)))
    return tuple(regions)


def _fat(particles: tuple[Region, ...], mpp: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Fat vacuoles: round holes of 15 to 40 µm radius inside the particles."""
    found = []
    for particle in particles:
        centre, spread = particle.polygon.mean(axis=0), particle.polygon.std(axis=0)
        count = int(np.clip(spread.prod() * mpp**2 / 2500, 1, 60))
        places = centre + rng.normal(0, 0.6, (count, 2)) * spread
        largest = min(40.0, float(spread.min()) * mpp * 0.4)
        radii = rng.uniform(min(15.0, largest / 2), largest, count) / mpp
        found.append(np.column_stack([places, radii]))
    return np.concatenate(found) if found else np.zeros((0, 3))
