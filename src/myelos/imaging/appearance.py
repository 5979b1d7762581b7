"""Flat field and white point: every field on one light, even background before a model sees it.

Cameras differ more than cells do. The background of a smear (plain glass, no cell) is what a camera shows of the
lamp; a smooth surface through it tells the vignette and the colour cast, and dividing by it leaves the cells.
Red cells may cover nearly all of a field, so the surface is an upper envelope: a low-order polynomial in log
intensity, fitted again and again with weights that fall off from the bright side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""RGB, (height, width, 3)."""


@dataclass(frozen=True, slots=True)
class AppearanceSettings:
    """What is done to a field before a model sees it; each step can be switched off.

    target: grey value of the background afterwards. max_gain, min_gain: bounds of what any channel is multiplied by.
    least_background: share of a field that must look like background; below it the field is left alone.
    order: highest order of the surface through the background.
    """

    flat_field: bool = True
    white_point: bool = True
    target: float = 240.0
    min_gain: float = 0.5
    max_gain: float = 3.0
    least_background: float = 0.01
    order: int = 4


@dataclass(frozen=True, slots=True)
class Illumination:
    """Brightness of the plain background over a field.

    white: (3,) grey value of the background, RGB, the median over the field. surface: (terms, 3) coefficients of
    log(background / white) in the monomials of `_monomials`, x and y running from -1 to 1 over the image.
    background: share of the lit pixels that look like background. reach: (2, 3) lowest and highest value that the
    surface has where background was seen: beyond them it would be a guess of the polynomial.
    """

    white: NDArray[np.float32]
    surface: NDArray[np.float32]
    order: int
    background: float
    reach: NDArray[np.float32]

    def gain(self, height: int, width: int) -> NDArray[np.float32]:
        """(height, width, 3): white / background, 1 where the background is as bright as the median."""
        y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
        terms = _monomials(*np.meshgrid(x, y), self.order).astype(np.float64)
        log = np.clip(terms @ self.surface, self.reach[0], self.reach[1])
        return np.exp(-log).reshape(height, width, 3).astype(np.float32)


_SMALL = 160  # long side of the image that surfaces are fitted to: red cells stay apart, noise is averaged out
_ANNEALING = (0.12, 0.08, 0.05, 0.035, 0.03, 0.03)  # widths of the background mode in log intensity, fit by fit
_FALL = 0.4  # in log intensity: blocks this far below the brightest are a large cell, not a vignette, to start with
_DARK = 0.25  # of the bright end: less is surround of an eyepiece, or a nucleus, never background


def normalise(
    rgb: Image, settings: AppearanceSettings | None = None, *, illumination: Illumination | None = None
) -> Image:
    """Even out the background and bring it to the target grey value; uint8 RGB to uint8 RGB of the same shape.

    illumination: what to correct by, estimated before (the same for all tiles of a slide); from `rgb` itself if
    None. An image in which hardly any background is found comes back unchanged (the same array).
    """
    settings = settings or AppearanceSettings()
    if not (settings.flat_field or settings.white_point) or rgb.size == 0:
        return rgb
    light = illumination if illumination is not None else estimate_illumination(rgb, settings)
    if light.background < settings.least_background:
        return rgb
    point = settings.target / light.white if settings.white_point else np.ones(3, np.float32)
    if not settings.flat_field or light.order == 0:
        return _apply_levels(rgb, np.clip(point, settings.min_gain, settings.max_gain))
    height, width = _small_size(rgb)
    gain = np.clip(light.gain(height, width) * point, settings.min_gain, settings.max_gain)
    return _apply_map(rgb, gain.astype(np.float32))


def estimate_illumination(rgb: Image | Sequence[Image], settings: AppearanceSettings | None = None) -> Illumination:
    """Fit the background's brightness over one field, or over several that share lamp and camera.

    Pixels of several images are pooled by their relative position: dense fields lend from emptier ones.
    """
    settings = settings or AppearanceSettings()
    images = [rgb] if isinstance(rgb, np.ndarray) else list(rgb)
    samples = [_samples(image) for image in images if image.size]
    if not samples:
        return _nothing()
    pixels, x, y = (np.concatenate(part) for part in zip(*samples, strict=True))
    bright = float(np.percentile(pixels[:, 1], 99)) if len(pixels) else 0.0
    if bright < 40:  # nothing but black
        return _nothing()
    lit = pixels[:, 1] > _DARK * bright
    return _fit(np.log(np.maximum(pixels[lit], 1.0)), x[lit], y[lit], settings.order)


def _nothing() -> Illumination:
    return Illumination(np.full(3, 255, np.float32), np.zeros((1, 3), np.float32), 0, 0.0, np.zeros((2, 3), np.float32))


def _small_size(rgb: Image) -> tuple[int, int]:
    height, width = rgb.shape[:2]
    scale = min(1.0, _SMALL / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _samples(rgb: Image) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Pixels (N, 3) of the reduced image, every second in both directions, and their places x, y in -1…1."""
    height, width = _small_size(rgb)
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)[::2, ::2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[::2]
    x = np.linspace(-1, 1, width, dtype=np.float32)[::2]
    grid_x, grid_y = np.meshgrid(x, y)
    return small.reshape(-1, 3).astype(np.float32), grid_x.ravel(), grid_y.ravel()


@lru_cache(maxsize=8)
def _powers(order: int) -> tuple[tuple[int, int], ...]:
    """(power of x, power of y), by rising degree, the constant first."""
    return tuple((degree - k, k) for degree in range(order + 1) for k in range(degree + 1))


def _monomials(x: NDArray[np.float32], y: NDArray[np.float32], order: int) -> NDArray[np.float32]:
    """(..., terms) values of all monomials up to `order`."""
    powers_x, powers_y = [np.ones_like(x)], [np.ones_like(y)]
    for _ in range(order):
        powers_x.append(powers_x[-1] * x)
        powers_y.append(powers_y[-1] * y)
    return np.stack([powers_x[i] * powers_y[j] for i, j in _powers(order)], axis=-1)


def _fit(log: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32], highest: int) -> Illumination:
    """log: (N, 3) log intensities of lit pixels at x, y (N,)."""
    weight = _envelope(log[:, 1], x, y, min(2, highest))
    order = min(highest, _order(weight > 0.3, x, y))
    if order > 2:
        weight = _envelope(log[:, 1], x, y, order)
    member = weight > 0.3
    if member.sum() < 20:
        return _nothing()
    terms = _monomials(x[member], y[member], order)
    surface = np.stack([_robust(terms, log[member, channel], order) for channel in range(3)], axis=1)
    middle = np.median(terms @ surface, axis=0)
    surface[0] -= middle
    reach = np.percentile(terms @ surface, (0.5, 99.5), axis=0).astype(np.float32)
    white = np.exp(middle).astype(np.float32)
    return Illumination(white, surface.astype(np.float32), order, float(member.mean()), reach)


def _envelope(log: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32], order: int) -> NDArray:
    """(N,) weights in 0…1 of belonging to the bright background, from the channel that cells absorb most."""
    terms = _monomials(x, y, order)
    bright = (log >= _block_quantiles(log, x, y) - 1e-3) & (log > np.percentile(log, 98) - _FALL)
    weight = bright.astype(np.float32)
    for width in _ANNEALING:
        residual = log - terms @ _solve(terms, log, weight, order)
        weight = np.exp(-0.5 * (residual / width) ** 2)
        weight[residual < 0] *= 0.5
    weight[residual < 0] *= 2
    return weight


def _block_quantiles(log: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray:
    """(N,) the 80th percentile of the block (of 6 × 6) that a pixel lies in: a start on the bright side."""
    block = np.minimum((x + 1) * 3, 5).astype(int) * 6 + np.minimum((y + 1) * 3, 5).astype(int)
    level = np.zeros(36, np.float32)
    for index in np.unique(block):
        level[index] = np.percentile(log[block == index], 80)
    return level[block]


def _order(member: NDArray[np.bool_], x: NDArray[np.float32], y: NDArray[np.float32]) -> int:
    """Order that the background can carry: 4 where it is seen nearly everywhere, else 2, or a constant."""
    block = np.minimum((x + 1) * 3, 5).astype(int) * 6 + np.minimum((y + 1) * 3, 5).astype(int)
    there = np.bincount(block, minlength=36)
    seen = np.bincount(block[member], minlength=36) > 0.02 * np.maximum(there, 1)
    share = seen[there > 0].mean()
    return 4 if share > 0.8 else 2 if share > 0.4 else 0


def _solve(terms: NDArray, log: NDArray, weight: NDArray, order: int) -> NDArray:
    """Weighted least squares with a light ridge on everything but the constant, stronger for higher powers.

    Summed in float64: sums of float32 differ with the number of threads, and some pixels came out one level off.
    """
    ridge = np.array([float(i + j) ** 2 for i, j in _powers(order)]) * 1e-4 * max(float(weight.sum()), 1.0)
    weighted = (terms * weight[:, None]).astype(np.float64)
    return np.linalg.solve(weighted.T @ terms + np.diag(ridge + 1e-6), weighted.T @ log)


def _robust(terms: NDArray, log: NDArray, order: int) -> NDArray:
    """Coefficients (terms,) of one channel over the background pixels, outliers given less weight."""
    weight = np.ones(len(log), np.float32)
    for _ in range(3):
        coefficients = _solve(terms, log, weight, order)
        residual = log - terms @ coefficients
        spread = max(1.4826 * float(np.median(np.abs(residual))), 0.005)
        weight = 1 / (1 + (residual / (2 * spread)) ** 2)
    return coefficients


def _apply_levels(rgb: Image, gain: NDArray) -> Image:
    """One gain a channel, by a table."""
    table = np.clip(np.rint(np.arange(256)[:, None] * gain[None, :]), 0, 255).astype(np.uint8)
    return cv2.LUT(rgb, table[None])


def _apply_map(rgb: Image, gain: NDArray[np.float32]) -> Image:
    """A small gain map, resized; in strips, which stay in the cache."""
    height, width = rgb.shape[:2]
    full = cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(rgb, full, dtype=cv2.CV_8U)
