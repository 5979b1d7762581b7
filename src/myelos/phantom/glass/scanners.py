"""Scanners as named conditions: what a camera and its stitching add to a smear."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError


@dataclass(frozen=True, slots=True)
class Scanner:
    """What differs between scanners. A scan is put together from square fields of `layout.BLOCK` px.

    white: RGB of empty glass. noise: grey levels. shading: loss of light in a field's corners. gain: difference of
    exposure between fields. jitter: px by which a field may lie beside its place, seen as seams. blur: µm, deviation
    of the point spread in focus. sharpen: how much of what another 0.3 µm of blur would take away is added.
    defocused: share of fields out of focus. quality: of the JPEG tiles.
    """

    white: tuple[float, float, float] = (244.0, 242.0, 246.0)
    noise: float = 2.6
    shading: float = 0.035
    gain: float = 0.008
    jitter: int = 2
    blur: float = 0.10
    sharpen: float = 0.6
    defocused: float = 0.07
    quality: int = 94


SCANNERS: dict[str, Scanner] = {
    "area_camera": Scanner(),  # a microscope's camera: fields differ in light and do not quite meet
    "line_camera": Scanner((247.0, 247.0, 247.0), 2.2, 0.0, 0.0, 0, 0.14, 0.5, 0.05, 94),  # no seams, softer
    "old_camera": Scanner(
        (226.0, 230.0, 222.0), 3.4, 0.09, 0.02, 4, 0.2, 0.2, 0.14, 92
    ),  # greenish, seams plain to see
}


def scanner(name: str) -> Scanner:
    """UsageError for an unknown name."""
    if name not in SCANNERS:
        raise UsageError(f"no scanner '{name}'", remedy=f"Choose one of {', '.join(SCANNERS)}")
    return SCANNERS[name]


def seen(layers: NDArray[np.float32], made: Scanner, mpp: float) -> NDArray[np.float32]:
    """(h, w, c) layers of a rendered cell as the scanner's optics and its sharpening show them."""
    soft = cv2.GaussianBlur(layers, (0, 0), max(made.blur / mpp, 0.3))
    if not made.sharpen:
        return soft
    softer = cv2.GaussianBlur(soft, (0, 0), max(0.3 / mpp, 0.6))
    return np.maximum(soft + np.float32(made.sharpen) * (soft - softer), 0)
