"""Marrow particles, their fat vacuoles, and the trails of cells behind them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.glass.layout import GlassSettings, Layout, Mask, Plan
from myelos.phantom.landscape import blob
from myelos.phantom.shapes import Rng, noise

MM2_PER_PARTICLE = 13.0
TRAIL_DENSITY = (300.0, 1500.0)  # nucleated cells per mm²
CORE_DENSITY = 4200.0
USUAL_WIDTH, USUAL_HEIGHT = 50.0, 25.0  # mm; on a smaller glass everything is smaller


def draw_particles(layout: Layout, settings: GlassSettings, inside: Mask, along: Plan, rng: Rng) -> None:
    """Particles in the far part of the smear, each with a trail towards the label; densities into the maps."""
    square = (layout.step * settings.mpp * 1e-3) ** 2  # mm²
    width, height = settings.width * settings.mpp * 1e-3, settings.height * settings.mpp * 1e-3
    small = min(1.0, width / USUAL_WIDTH, height / USUAL_HEIGHT)
    room = np.flatnonzero(inside & (along > 0.33) & (along < 0.92))
    count = max(3, round(inside.sum() * square / small**2 / MM2_PER_PARTICLE)) if len(room) else 0
    trails, cores = np.zeros(inside.shape, np.float32), np.zeros(inside.shape, np.uint8)
    fat = []
    for _ in range(count):
        row, column = divmod(int(rng.choice(room)), inside.shape[1])
        radius = max(rng.uniform(140, 420) * small**0.5, 50.0) / settings.mpp / layout.step
        outline = blob(rng, np.array([column, row], float), np.array([radius, radius * rng.uniform(0.6, 0.95)]), 0.3)
        cv2.fillPoly(cores, [np.rint(outline).astype(np.int32)], 1)
        reach = rng.uniform(3.0, 8.5) * small * 1e3 / settings.mpp / layout.step
        _trail(trails, (column, row), radius * rng.uniform(0.9, 1.6), reach, rng)
        fat.append(_fat(outline * layout.step, settings.mpp, rng))
    layout.fat = np.concatenate([layout.fat, *fat])
    _into_maps(layout, settings, (inside, trails, (cores > 0) & inside), rng)


def _trail(trails: Plan, start: tuple[float, float], half: float, reach: float, rng: Rng) -> None:
    """A band that leaves its particle to the left, widens, bends a little and thins out; the densest of all counts."""
    steps = np.linspace(0, 1, 14)
    bend, phase = rng.uniform(0.02, 0.10) * reach, rng.uniform(0, 6)
    x, y = start[0] - steps * reach, start[1] + bend * (np.sin(phase + 3 * steps) - np.sin(phase))
    width = half * (0.75 + 0.6 * steps) * (1 - 0.55 * steps**3)
    left, right = int(max(x.min() - half, 0)), int(x.max() + half) + 2
    top, bottom = int(max((y - width).min(), 0)), int((y + width).max()) + 2
    part = trails[top:bottom, left:right]
    if not part.size:
        return
    fresh = np.zeros(part.shape, np.float32)
    for i in range(13):
        corners = [(x[i], y[i] - width[i]), (x[i + 1], y[i + 1] - width[i + 1]),
                   (x[i + 1], y[i + 1] + width[i + 1]), (x[i], y[i] + width[i])]  # fmt: skip
        level = 1.0 - 0.62 * (steps[i] + steps[i + 1]) / 2
        cv2.fillPoly(fresh, [np.rint(np.array(corners) - [left, top]).astype(np.int32)], level)
    soft = cv2.GaussianBlur(fresh, (0, 0), max(half / 7, 0.8))
    np.maximum(part, np.float32(rng.uniform(0.75, 1.1)) * soft, out=part)


def _into_maps(layout: Layout, settings: GlassSettings, masks: tuple[Mask, Plan, Mask], rng: Rng) -> None:
    inside, trails, cores = masks
    trails = trails * inside
    scale = settings.cells_per_mm2 / 1300.0
    uneven = 1 + 0.2 * noise(rng, inside.shape, 12)
    low, high = (v * scale for v in TRAIL_DENSITY)
    density = np.clip(settings.cells_per_mm2 * trails * uneven, low, high)
    soft = np.clip((trails - 0.2) / 0.12, 0, 1)
    layout.cells = layout.cells * (1 - soft) + density * soft
    layout.red *= 1 - np.float32(0.25) * np.clip(trails, 0, 1)
    layout.haze += np.float32(0.22) * trails
    core = cv2.GaussianBlur(cores.astype(np.float32), (0, 0), 1.5)
    trail = (trails > 0.2) & (layout.cells >= low) & (core < 0.02)
    layout.cells = layout.cells * (1 - core) + np.float32(CORE_DENSITY * scale) * core
    layout.red *= 1 - np.float32(0.5) * core
    layout.haze += np.float32(2.6) * core * np.clip(1 + 0.35 * noise(rng, inside.shape, 5), 0.3, 1.6)
    layout.add("trail", trail, smallest=60)
    layout.add("particle", cores)


def _fat(outline: NDArray[np.float64], mpp: float, rng: Rng) -> NDArray[np.float64]:
    """(M, 3) x, y, radius in px of round holes of 12 to 40 µm radius in a particle."""
    centre, spread = outline.mean(axis=0), outline.std(axis=0)
    count = int(np.clip(spread.prod() * mpp**2 / 1300, 1, 120))
    places = centre + rng.normal(0, 0.62, (count, 2)) * spread
    largest = min(40.0, float(spread.min()) * mpp * 0.4)
    return np.column_stack([places, rng.uniform(min(12.0, largest / 2), largest, count) / mpp])
