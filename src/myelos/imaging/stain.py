"""Stains told apart by colour (Macenko et al., ISBI 2009) and perturbed one by one (Tellez et al., TMI 2018).

Colours are taken as optical densities, −ln(I / background): there, stains add up. The two directions of the plane of
highest variance that enclose nearly all stained pixels are the stains. On pale, empty or one-coloured crops there is
no such plane; the separation then falls back on the stains of the Munich marrow cells and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (height, width, 3) RGB
BACKGROUND = 240.0  # grey value of plain glass after `imaging.appearance.normalise`

# Rows: the blue-violet and the pink stain of May-Grünwald-Giemsa; columns: red, green, blue; of length 1. Medians of
# `separate` over intact cells of the Munich marrow set, even light.
MAY_GRUENWALD_GIEMSA = ((0.66, 0.75, 0.04), (0.37, 0.88, 0.28))


@dataclass(frozen=True, slots=True)
class StainSettings:
    """least: optical density (length of the three channels) from which a pixel is stained; Macenko 2009 takes 0.15.
    edge: percentile of the angles that are left out on either side. pixels: how many stained ones a fit needs.
    thickness: share of the variance that the plane's second direction needs. angle: degrees between two stains."""

    least: float = 0.15
    edge: float = 1.0
    pixels: int = 100
    thickness: float = 0.005
    angle: float = 5.0


@dataclass(frozen=True, slots=True)
class Separation:
    """stains: (2, 3) directions of optical density in RGB, of length 1, the bluer stain first.

    fallback: why the image did not tell and `MAY_GRUENWALD_GIEMSA` is given; empty where it did.
    """

    stains: NDArray[np.float64]
    fallback: str = ""

    def concentrations(self, rgb: Image) -> NDArray[np.float32]:
        """(height, width, 2) amounts of the stains, least squares; below 0 where a pixel is brighter than glass."""
        inverse = np.linalg.pinv(self.stains).T  # (2, 3)
        return cv2.transform(density(rgb), inverse)


def density(rgb: Image) -> NDArray[np.float32]:
    """(height, width, 3) optical densities, natural logarithm, 0 at plain glass."""
    table = -np.log((np.arange(256, dtype=np.float32) + 1) / (BACKGROUND + 1))
    return cv2.LUT(np.ascontiguousarray(rgb), table)


def separate(rgb: Image, settings: StainSettings | None = None) -> Separation:
    """The two stains of an image, after Macenko et al. 2009; never fails."""
    settings = settings or StainSettings()
    step = max(1, int(np.sqrt(rgb.shape[0] * rgb.shape[1] / 4096)))  # 4,096 pixels tell a plane as well as all do
    pixels = density(rgb[::step, ::step]).reshape(-1, 3).astype(np.float64)
    stained = pixels[np.linalg.norm(pixels, axis=1) > settings.least]
    if len(stained) < settings.pixels:
        return _fallback(f"{len(stained)} of {len(pixels)} pixels are stained")
    values, vectors = np.linalg.eigh(np.cov(stained.T))  # ascending
    if values[1] < settings.thickness * values.sum():
        return _fallback("all stained pixels have one colour")
    plane = vectors[:, [2, 1]] * np.sign(vectors[:, [2, 1]].sum(axis=0))  # (3, 2)
    coordinates = stained @ plane
    angles = np.arctan2(coordinates[:, 1], coordinates[:, 0])
    low, high = np.percentile(angles, (settings.edge, 100 - settings.edge))
    if np.degrees(high - low) < settings.angle:
        return _fallback(f"its stains lie {np.degrees(high - low):.1f} degrees apart")
    return _ordered(np.array([[np.cos(low), np.sin(low)], [np.cos(high), np.sin(high)]]) @ plane.T)


def _ordered(stains: NDArray[np.float64]) -> Separation:
    """The stain that takes more red out of the light, relative to blue, is the blue-violet one."""
    if (stains < -0.5).any():
        return _fallback("a direction is no stain: it would brighten a colour")
    stains = np.maximum(stains, 0)
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    redness = stains[:, 0] - stains[:, 2]
    return Separation(stains if redness[0] >= redness[1] else stains[::-1].copy())


def _fallback(why: str) -> Separation:
    stains = np.array(MAY_GRUENWALD_GIEMSA)
    return Separation(stains / np.linalg.norm(stains, axis=1, keepdims=True), why)


def perturbed(rgb: Image, strength: float, rng: np.random.Generator, *, separation: Separation | None = None) -> Image:
    """Each stain's amount times α and plus β, α from 1 ± strength and β from 0 ± strength, evenly, every pixel alike.

    strength: 0.05 is the light one, 0.2 the strong one of Tellez et al. 2019 as others have it. What the two stains
    do not explain of a colour stays as it was: the change is one affine map of the densities.
    """
    stains = (separation or separate(rgb)).stains
    factor = rng.uniform(1 - strength, 1 + strength, 2)
    offset = rng.uniform(-strength, strength, 2)
    change = stains.T @ np.diag(factor - 1) @ np.linalg.pinv(stains).T  # (3, 3), on columns of density
    matrix = np.column_stack([np.eye(3) + change, stains.T @ offset])
    light = (BACKGROUND + 1) * cv2.exp(-cv2.transform(density(rgb), matrix)) - 1
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)
