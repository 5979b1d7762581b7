"""Landscapes that never were, in ramps of colours that nobody named: the relief maps that the trees are fitted on.

The relief maps that are quoted show another landscape, a measured one, in other ramps (`measured_images`).
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.drawn_images import SIZES, Image, Random, fractal, through_jpeg

Plane = NDArray[np.float32]
WAYS = ("plain", "ridges", "valleys", "terraces", "islands", "folds")
STAIN_HUES = ((290, 330), (310, 360), (330, 375), (270, 305))  # degrees in L*a*b*: violet, magenta, pink, blue


def invented_reliefs(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Heights of six ways in ramps of three makes, some with shadows, contour lines, grain or as a JPEG."""
    for index in range(count):
        way = WAYS[index % len(WAYS)]
        w, h = SIZES[rng.integers(len(SIZES))]
        heights = _landscape(way, h, w, rng)
        ramp = (_stain_ramp, _stain_ramp, _any_ramp, _map_ramp)[index // len(WAYS) % 4](rng)
        image = _painted(heights, ramp, rng)
        if rng.random() < 0.25:
            image = image * (1 + rng.uniform(0.1, 0.5) * _shadow(heights, rng))[..., None]
        if rng.random() < 0.2:
            _draw_contours(image, heights, rng)
        if rng.random() < 0.25:
            image = image + rng.normal(0, rng.uniform(1, 6), image.shape)
        image = np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))
        yield way, through_jpeg(image, int(rng.integers(60, 96))) if rng.random() < 0.25 else image


def _landscape(way: str, h: int, w: int, rng: Random) -> Plane:
    """Heights (h, w) in 0..1; drawn on a coarser grid and enlarged as often as not."""
    coarse = float(rng.choice([1.0, rng.uniform(1.5, 8.0)]))
    rows, columns = max(24, int(h / coarse)), max(24, int(w / coarse))
    plane = fractal(rows, columns, rng.uniform(1.0, 2.2), rng)
    if way == "ridges":
        plane = -np.abs(plane) + 0.3 * fractal(rows, columns, 1.5, rng)
    elif way == "valleys":
        plane = np.abs(plane) ** rng.uniform(0.5, 1.5)
    elif way == "terraces":
        steps = rng.uniform(1.5, 6)
        plane = np.round(plane * steps) / steps + rng.uniform(0, 0.3) * plane
    elif way == "islands":
        plane = np.maximum(plane, rng.uniform(-0.7, 0.7))
    elif way == "folds":
        y, x = np.mgrid[0:rows, 0:columns] / max(rows, columns)
        angle = rng.uniform(0, np.pi)
        plane = np.sin(rng.uniform(8, 50) * (np.cos(angle) * x + np.sin(angle) * y) + plane) + 0.5 * plane
    low, high = np.percentile(plane, (1, 99))
    plane = np.clip((plane - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
    return np.clip(cv2.resize(plane, (w, h), interpolation=cv2.INTER_CUBIC), 0, 1)


def _stain_ramp(rng: Random) -> NDArray[np.float32]:
    """Two to four colours (n, 3) of L*a*b* from a light ground to dark nuclei, or from a counterstain to them."""
    number = int(rng.integers(2, 5))
    light = np.linspace(rng.uniform(80, 100), rng.uniform(5, 50), number) + rng.normal(0, 3, number)
    hue = np.radians([rng.uniform(*STAIN_HUES[rng.integers(len(STAIN_HUES))]) for _ in range(number)])
    chroma = (
        np.linspace(rng.uniform(0, 25), rng.uniform(20, 75), number) + rng.uniform(0, 25) * np.hanning(number + 2)[1:-1]
    )
    return _lab(light, hue, chroma)


def _any_ramp(rng: Random) -> NDArray[np.float32]:
    """From light to dark, or dark, light, dark, in any hues."""
    number = int(rng.integers(2, 6))
    light = np.linspace(rng.uniform(75, 100), rng.uniform(0, 50), number)
    if rng.random() < 0.3:
        light = np.r_[light[::-1], light[1:]]
    hue = np.radians(rng.uniform(0, 360) + rng.uniform(-120, 120) * np.linspace(0, 1, len(light)))
    return _lab(light, hue, rng.uniform(5, 80, len(light)))


def _map_ramp(rng: Random) -> NDArray[np.float32]:
    """Any colours in any order, as maps of heights have them."""
    number = int(rng.integers(3, 8))
    return _lab(rng.uniform(10, 98, number), np.radians(rng.uniform(0, 360, number)), rng.uniform(0, 80, number))


def _lab(light: NDArray[np.float64], hue: NDArray[np.float64], chroma: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.stack([np.clip(light, 0, 100), chroma * np.cos(hue), chroma * np.sin(hue)], axis=1).astype(np.float32)


def _painted(heights: Plane, ramp: NDArray[np.float32], rng: Random) -> NDArray[np.float32]:
    """RGB (h, w, 3) in 0..255; high is dark or light by chance, and the middle of the ramp lies anywhere."""
    shares = heights ** rng.uniform(0.5, 2.0)
    shares = 1 - shares if rng.random() < 0.5 else shares
    table = np.stack([np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(ramp)), plane) for plane in ramp.T], 1)
    colours = cv2.cvtColor(table.astype(np.float32)[None], cv2.COLOR_Lab2RGB)[0] * 255
    return np.clip(colours[(shares * 255).astype(np.uint8)], 0, 255)


def _shadow(heights: Plane, rng: Random) -> Plane:
    """Slopes towards a light from the side, of unit spread."""
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * np.gradient(heights, axis=1) + np.sin(angle) * np.gradient(heights, axis=0)
    return np.clip(slope / max(float(slope.std()), 1e-6), -2.5, 2.5).astype(np.float32)


def _draw_contours(image: NDArray[np.float32], heights: Plane, rng: Random) -> None:
    colour = rng.integers(0, 160, 3).tolist()
    for level in np.linspace(0.1, 0.9, int(rng.integers(3, 12))):
        lines, _ = cv2.findContours((heights > level).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, lines, -1, colour, 1, cv2.LINE_AA)
