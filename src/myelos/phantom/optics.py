"""From concentrations to a photograph: focus, uneven light, noise of the sensor, JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.stain import Stain

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class OpticsSettings:
    """Ranges are drawn from evenly, once a field."""

    blur: Range = (0.06, 0.5)  # µm, deviation of the point spread; most fields are nearer to the first, in focus
    vignette: Range = (0.0, 0.25)  # loss of light in the corners
    shading: float = 0.05  # coloured slope across the field
    noise: Range = (0.5, 3.5)  # grey levels
    sharpen: Range = (0.0, 1.2)  # unsharp mask of the camera
    jpeg_quality: tuple[int, int] | None = (70, 95)


STEADY = OpticsSettings((0.2, 0.2), (0.0, 0.0), 0.0, (1.0, 1.0), (0.2, 0.2), None)  # a slide scanner


def photograph(
    dyes: NDArray[np.float32], stain: Stain, optics: OpticsSettings, rng: np.random.Generator, *, mpp: float
) -> NDArray[np.uint8]:
    """(h, w, 5) concentrations → (h, w, 3) RGB."""
    light = stain.transmit(dyes)
    if optics.vignette[1] > 0 or optics.shading > 0:
        light *= _illumination(light.shape[:2], optics, rng)
    blur = optics.blur[0] + (optics.blur[1] - optics.blur[0]) * rng.random() ** 2
    light = cv2.GaussianBlur(light, (0, 0), max(blur / mpp, 0.2))
    amount = rng.uniform(*optics.sharpen)
    if amount > 0:
        light += np.float32(amount) * (light - cv2.GaussianBlur(light, (0, 0), max(0.3 / mpp, 0.6)))
    light += np.float32(rng.uniform(*optics.noise)) * rng.standard_normal(light.shape, dtype=np.float32)
    rgb = np.clip(light + np.float32(0.5), 0, 255).astype(np.uint8)
    if optics.jpeg_quality is None:
        return rgb
    return _through_jpeg(rgb, int(rng.integers(optics.jpeg_quality[0], optics.jpeg_quality[1] + 1)))


def _illumination(shape: tuple[int, int], optics: OpticsSettings, rng: np.random.Generator) -> NDArray[np.float32]:
    """(h, w, 3) share of the light that arrives."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    off = rng.normal(0, 0.15, 2).astype(np.float32)
    fall = ((x - off[0]) ** 2 + (y - off[1]) ** 2) / 2
    loss = rng.uniform(*optics.vignette) * np.clip(1 + rng.normal(0, 0.25, 3), 0.2, 1.8)
    slope = rng.normal(0, optics.shading, (2, 3)) * 0.5
    light = 1 - fall[..., None] * loss.astype(np.float32)
    light += x[..., None] * slope[0].astype(np.float32) + y[..., None] * slope[1].astype(np.float32)
    return np.clip(light, 0.1, 1.05)


def _through_jpeg(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, encoded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8), cv2.COLOR_BGR2RGB)
