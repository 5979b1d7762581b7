"""Dyes, and what a stained, photographed smear makes of them.

A rendered cell is a map of dye concentrations, not of colours: concentrations of overlapping cells add up, so their
transmissions multiply (Beer-Lambert), and one cell can be shown in any stain. Optical densities were read by eye and
by percentile from openly licensed photographs of Romanowsky-stained blood and marrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DYES = ("chromatin", "blue", "eosin", "azure", "haemoglobin")
CHROMATIN, BLUE, EOSIN, AZURE, HAEMOGLOBIN = range(5)

# Optical density (base 10) in red, green and blue at concentration 1, rows in the order of DYES.
STAINS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "may_gruenwald_giemsa": (
        (0.60, 1.05, 0.23),
        (0.56, 0.50, 0.08),
        (0.11, 0.34, 0.22),
        (0.26, 0.66, 0.20),
        (0.09, 0.15, 0.10),
    ),
    "wright_giemsa": (
        (0.53, 0.90, 0.29),
        (0.42, 0.38, 0.11),
        (0.08, 0.36, 0.26),
        (0.24, 0.62, 0.22),
        (0.06, 0.17, 0.14),
    ),
    "liu": (
        (0.52, 0.78, 0.14),
        (0.50, 0.36, 0.06),
        (0.10, 0.28, 0.14),
        (0.30, 0.58, 0.14),
        (0.08, 0.14, 0.10),
    ),
}


# How differently cameras and batches show each of these numbers: deviation of their logarithm.
ENTRIES = np.full((len(DYES), 3), 0.08)
ENTRIES[CHROMATIN, 2] = 0.30  # nuclei are anything from violet to a clear blue
ENTRIES[HAEMOGLOBIN] = 0.18  # red cells from grey and mauve to orange


@dataclass(frozen=True, slots=True)
class Stain:
    """density: (5, 3) optical densities of DYES in RGB. white: RGB of empty glass, 0 to 255."""

    name: str
    density: tuple[tuple[float, float, float], ...]
    white: tuple[float, float, float] = (246.0, 244.0, 248.0)

    def transmit(self, dyes: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h, w, 5) concentrations → (h, w, 3) RGB, 0 to 255, not yet rounded."""
        matrix = np.asarray(self.density, np.float32) * np.float32(-np.log(10.0))
        height, width, channels = dyes.shape
        light = np.exp(dyes.reshape(-1, channels) @ matrix) * np.asarray(self.white, np.float32)
        return light.reshape(height, width, 3)


def standard_stain(name: str = "may_gruenwald_giemsa") -> Stain:
    return Stain(name, STAINS[name])


def random_stain(rng: np.random.Generator, *, name: str | None = None, variation: float = 1.0) -> Stain:
    """A stain as another laboratory, batch and camera would give it; `variation` 0 is the standard."""
    name = name or str(rng.choice(sorted(STAINS)))
    density = np.array(STAINS[name])
    strength = np.exp(rng.normal(-0.05, 0.16 * variation))
    by_dye = np.exp(rng.normal(0.0, 0.14 * variation, (len(DYES), 1)))
    by_entry = np.exp(rng.normal(0.0, variation * ENTRIES))
    by_channel = np.exp(rng.normal(0.0, 0.06 * variation, (1, 3)))
    mixed = density * strength * by_dye * by_entry * by_channel
    rows = tuple((float(r), float(g), float(b)) for r, g, b in mixed)
    return Stain(name, rows, _white_point(rng, variation))


def _white_point(rng: np.random.Generator, variation: float) -> tuple[float, float, float]:
    dim = rng.random() < 0.25 * min(variation, 1.0)  # one camera in four exposes for a grey background
    level = rng.uniform(145, 205) if dim else rng.uniform(232 - 12 * min(variation, 1.0), 250)
    tint = rng.normal(0.0, 0.025 * variation, 3) + np.array([0.0, -0.01, 0.01])
    red, green, blue = np.clip(level * (1 + tint), 90, 254)
    return float(red), float(green), float(blue)
