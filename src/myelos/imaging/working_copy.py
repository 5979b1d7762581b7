"""A small, evenly lit working copy of an image, with its light background and the black surround left out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

WORKING_SIDE = 224  # features are taken from an image of about 224 × 224 pixels of area


@dataclass(frozen=True)
class Working:
    """The image in the working size; `valid` leaves out the black surround of a round field of view."""

    rgb: Image  # (h, w, 3)
    lab: Array  # (h, w, 3), L* 0..100
    valid: Mask  # (h, w)
    white_lab: Array  # (3,) light background
    white_rgb: Array  # (3,)
    sample_lab: Array  # (n, 3) every third valid pixel, relative to white_lab
    sample_rgb: Array  # (n, 3) the same pixels


def working_copy(rgb: Image) -> Working:
    """The working copy of an RGB image (h, w, 3); small images grow at most to twice their size."""
    height, width = rgb.shape[:2]
    factor = min(2.0, WORKING_SIDE / float(np.sqrt(height * width)))
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    small = cv2.GaussianBlur(small, (3, 3), 0)
    valid = _inside(small)
    small = _without_shading(small, valid)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    chosen = np.flatnonzero(valid)[::3]
    some_lab, some_rgb = lab.reshape(-1, 3)[chosen], small.reshape(-1, 3)[chosen].astype(np.float32)
    low, high = np.percentile(some_lab[:, 0], (85, 98))
    brightest = (some_lab[:, 0] >= low) & (some_lab[:, 0] <= high)
    white_lab, white_rgb = np.median(some_lab[brightest], axis=0), np.median(some_rgb[brightest], axis=0)
    return Working(small, lab, valid, white_lab, white_rgb, some_lab - white_lab, some_rgb)


def _inside(small: Image) -> Mask:
    """Pixels inside the field of view: a black surround that reaches at least three corners is left out."""
    dark = (largest(small) < 45).astype(np.uint8)
    everything = np.ones(dark.shape, bool)
    corners = [dark[0, 0], dark[0, -1], dark[-1, 0], dark[-1, -1]]
    if sum(int(corner) for corner in corners) < 3 or not 0.03 < dark.mean() < 0.7:
        return everything
    _, labels = cv2.connectedComponents(dark)
    surround = np.isin(labels, [labels[y, x] for y in (0, -1) for x in (0, -1) if labels[y, x]])
    inside = ~cv2.dilate(surround.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    return inside if inside.mean() > 0.2 else everything


def _without_shading(small: Image, valid: Mask) -> Image:
    """Divide by a quadratic surface through the light parts of a grid of 8 × 8 blocks, per channel.

    The surface keeps the mean colour: only the vignette goes, at most by a factor of two.
    """
    height, width = valid.shape
    rows, columns = np.arange(8).repeat(8), np.tile(np.arange(8), 8)
    parts = zip(rows, columns, strict=True)
    blocks = [np.s_[y * height // 8 : (y + 1) * height // 8, x * width // 8 : (x + 1) * width // 8] for y, x in parts]
    used = np.array([valid[block].mean() > 0.5 for block in blocks])
    if used.sum() < 20:
        return small
    lights = np.array([_light(small[block]) for block in blocks])
    fit = _light_surface(_quadratic(columns / 3.5 - 1, rows / 3.5 - 1), np.log(lights + 1.0), used)
    y, x = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 24), indexing="ij")
    shade = (_quadratic(x.ravel(), y.ravel()) @ fit).reshape(24, 24, 3).astype(np.float32)
    gain = np.exp(np.clip(shade.mean(axis=(0, 1)) - shade, -0.7, 0.7))
    return cv2.multiply(small, cv2.resize(gain, (width, height)), dtype=cv2.CV_8U)


def _light(block: Image) -> Image:
    """The 90th percentile of each channel, (3,)."""
    place = max(1, block.size // 30)
    return np.partition(block.reshape(-1, 3), -place, axis=0)[-place]


def _light_surface(surface: NDArray[np.float64], logs: NDArray[np.float64], used: Mask) -> NDArray[np.float64]:
    """Coefficients (6, 3); blocks without background lie below the surface and lose their weight."""
    weights = used.astype(float)
    for _ in range(3):
        root = np.sqrt(weights)[:, None]
        fit = np.linalg.lstsq(surface * root, logs * root, rcond=None)[0]
        weights = used * np.exp(-np.clip((surface @ fit - logs).mean(axis=1), 0, None) / 0.05)
    return fit


def _quadratic(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=1)


def largest(image: Image) -> Image:
    """Largest of the three channels, (h, w)."""
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])
