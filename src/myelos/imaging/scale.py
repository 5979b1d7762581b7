"""µm per pixel from the red cells: nature's ruler in every smear.

A red cell in a dried smear measures 7.2 to 7.8 µm across. Isolated, round, complete ones are outlined in each field,
their diameters pooled over the fields of a smear, and the most frequent one taken: doublets, platelets, fragments
and white cells lie elsewhere. No estimate is more certain than ±8 %: people's red cells differ by that much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.imaging.appearance import AppearanceSettings, Image, normalise


@dataclass(frozen=True, slots=True)
class ScaleSettings:
    """What a red cell is taken to be.

    diameter_um: mean area-equivalent diameter. smallest, largest: diameters looked for, in pixels; the largest is
    also held under `largest_share` of the shorter side of the field. fewest: red cells without which there is no
    estimate. least_uncertainty: floor of the relative uncertainty.
    """

    diameter_um: float = 7.5
    smallest: float = 7.0
    largest: float = 300.0
    largest_share: float = 0.6
    solidity: float = 0.93
    roundness: float = 0.70
    fewest: int = 10
    least_uncertainty: float = 0.08


@dataclass(frozen=True, slots=True)
class ScaleEstimate:
    """mpp: µm per pixel. uncertainty: relative standard error. red_cells measured in how many fields."""

    mpp: float
    uncertainty: float
    red_cells: int
    fields: int

    @property
    def diameter(self) -> float:
        """Of the measured red cells in pixels, if they are 7.5 µm across."""
        return 7.5 / self.mpp


def estimate_mpp(fields: Sequence[Image], *, settings: ScaleSettings | None = None) -> ScaleEstimate | None:
    """Scale of the fields of one smear, taken with one camera; None where too few plausible red cells are seen.

    fields: RGB uint8 (h, w, 3), all at the same unknown scale.
    """
    settings = settings or ScaleSettings()
    found = [round_cells(field, settings) for field in fields]
    sizes = np.concatenate([np.zeros(0), *found])
    owner = np.repeat(np.arange(len(found)), [len(sizes_of) for sizes_of in found])
    if len(sizes) < settings.fewest:
        return None
    mode = _mode(sizes)
    kept = np.abs(np.log(sizes / mode)) < 0.25
    if kept.sum() < settings.fewest or kept.mean() < 0.3:
        return None
    diameter, spread = float(np.mean(sizes[kept])), float(np.std(np.log(sizes[kept])))
    chance = max(spread, 0.1) / np.sqrt(kept.sum())
    uncertainty = float(np.hypot(settings.least_uncertainty, 2 * chance))
    return ScaleEstimate(settings.diameter_um / diameter, uncertainty, int(kept.sum()), len(np.unique(owner[kept])))


def round_cells(field: Image, settings: ScaleSettings | None = None) -> NDArray[np.float64]:
    """(N,) area-equivalent diameters in pixels of what looks like an isolated, complete red cell in the field."""
    settings = settings or ScaleSettings()
    height, width = field.shape[:2]
    if min(height, width) < 3 * settings.smallest:
        return np.zeros(0)
    even = normalise(field, AppearanceSettings())
    dark = _darkness(even)
    level, mask = _foreground(dark)
    if level < 6:  # nothing stands out of the background
        return np.zeros(0)
    largest = min(settings.largest, settings.largest_share * min(height, width))
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    sizes = [_diameter(contour, width, height, settings) for contour in contours]
    cells = [(size, contour) for size, contour in zip(sizes, contours, strict=True) if settings.smallest <= size <= largest]
    return np.array([size for size, contour in cells if _red(contour, even, dark, level)], dtype=np.float64)


def _darkness(rgb: Image) -> NDArray[np.uint8]:
    """(h, w) absorbance of haemoglobin: how much darker than the background in green and blue, smoothed."""
    dark = cv2.transform(cv2.bitwise_not(rgb), np.array([[0.1, 0.6, 0.3]], np.float32))
    return cv2.GaussianBlur(dark, (3, 3), 0)


def _foreground(dark: NDArray[np.uint8]) -> tuple[float, NDArray[np.uint8]]:
    """Step between background and cells, and the cells' mask (255 inside)."""
    background = float(np.percentile(dark, 5))
    capped = np.minimum(dark, 130)  # nuclei and the surround of an eyepiece shall not draw the threshold
    lit = capped[dark < 200]
    if lit.size < 100:
        return 0.0, np.zeros_like(dark)
    threshold, _ = cv2.threshold(lit.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    mask = np.where(dark > threshold, np.uint8(255), np.uint8(0))
    return threshold - background, mask


def _diameter(contour: NDArray[np.int32], width: int, height: int, settings: ScaleSettings) -> float:
    """Area-equivalent diameter of an outline that is round and whole, else 0. Holes (pallor) count as inside."""
    x, y, w, h = cv2.boundingRect(contour)
    if x <= 1 or y <= 1 or x + w >= width - 1 or y + h >= height - 1 or min(w, h) < settings.smallest - 2:
        return 0.0
    # The contour runs through the centres of border pixels: half a pixel of the cell lies outside it.
    perimeter = cv2.arcLength(contour, True)
    area = cv2.contourArea(contour) + 0.5 * perimeter + 1
    if cv2.contourArea(contour, oriented=True) > 0:  # a hole runs the other way round
        return 0.0
    hull = cv2.convexHull(contour)
    hull_perimeter = cv2.arcLength(hull, True)
    hull_area = cv2.contourArea(hull) + 0.5 * hull_perimeter + 1
    if area < settings.solidity * hull_area:
        return 0.0
    (_, axes, _) = cv2.fitEllipse(hull) if len(hull) >= 5 else (0, (w, h), 0)
    if min(axes) < settings.roundness * max(axes) or 4 * np.pi * hull_area < 0.85 * (hull_perimeter + np.pi) ** 2:
        return 0.0
    return float(np.sqrt(4 * area / np.pi))


def _red(contour: NDArray[np.int32], rgb: Image, dark: NDArray[np.uint8], level: float) -> bool:
    """No nucleus inside: little of the outline's inside is far darker than the step to the background."""
    x, y, w, h = cv2.boundingRect(contour)
    inside = np.zeros((h, w), np.uint8)
    cv2.drawContours(inside, [contour - (x, y)], -1, 255, cv2.FILLED)
    pixels = rgb[y : y + h, x : x + w][inside > 0]
    stained = (pixels[:, 0] < 150) & (pixels[:, 1] < 130)
    darkness = dark[y : y + h, x : x + w][inside > 0]
    return bool(stained.mean() < 0.15 and darkness.mean() > 0.5 * level)


def _mode(sizes: NDArray[np.float64]) -> float:
    """Most frequent diameter on a logarithmic axis; specks weigh less than cells."""
    log = np.log(sizes)
    grid = np.arange(log.min() - 0.05, log.max() + 0.06, 0.01)
    density = (sizes[:, None] * np.exp(-0.5 * ((log[:, None] - grid[None]) / 0.08) ** 2)).sum(axis=0)
    return float(np.exp(grid[density.argmax()]))
