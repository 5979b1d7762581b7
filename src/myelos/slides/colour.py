"""Samples as files hold them → RGB uint8: grey, palette, alpha, CMYK, 8 and 16 bit, rotation. One definition for all.

Alpha is laid over white. 16-bit samples are scaled by the range that the file declares, else by 65535; an image that
uses less than a sixteenth of that without saying so is refused, because it would come out nearly black.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.errors import InputError
from myelos.slides.base import OUTSIDE, Image

DARK = 4096  # a 16-bit image whose largest sample is below this uses 12 bits or fewer


def refuse_dark(largest: int, name: str) -> None:
    """Raise InputError for 16-bit samples that lie in the lowest sixteenth of an undeclared range."""
    if 0 < largest < DARK:
        raise InputError(
            f"{name} holds 16-bit samples of which the largest is {largest}",
            why="it does not say which value is white",
            remedy="Write the tag MaxSampleValue (4095 for a 12-bit camera), or convert it to 8 bits",
        )


def to_bytes(samples: NDArray[Any], white: int) -> NDArray[np.uint8]:
    """Samples of any unsigned type → uint8, `white` becoming 255 (rounded)."""
    if samples.dtype == np.uint8 and white == 255:
        return samples
    if samples.dtype == bool:
        samples, white = samples.astype(np.uint8), 1
    scaled = samples.astype(np.float32) * np.float32(255.0 / white) + np.float32(0.5)
    return np.minimum(scaled, 255.0).astype(np.uint8)


def over_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], *, premultiplied: bool = False) -> Image:
    """(h, w, 3) and (h, w) → RGB on white. Fully opaque pixels stay as they are."""
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgb)
    cover = alpha[..., None].astype(np.uint16)
    own = rgb.astype(np.uint16) * (255 if premultiplied else cover)
    blended = (own + OUTSIDE * (255 - cover) + 127) // 255
    return np.minimum(blended, 255).astype(np.uint8)


def from_cmyk(cmyk: NDArray[np.uint8]) -> Image:
    """(h, w, 4) ink coverage, 255 full ink → RGB without a profile: (255 - ink)(255 - black) / 255."""
    light = 255 - cmyk[..., :3].astype(np.uint16)
    dark = 255 - cmyk[..., 3:].astype(np.uint16)
    return ((light * dark + 127) // 255).astype(np.uint8)


def grey_to_rgb(grey: NDArray[np.uint8]) -> Image:
    return np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)


def oriented(pixels: Image, orientation: int) -> Image:
    """Apply the EXIF/TIFF orientation 1 to 8, so that the picture stands as it was taken."""
    turns = {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}.get(orientation, 0)  # quarter turns, counterclockwise
    turned = np.rot90(pixels, turns)
    if orientation in (2, 4, 5, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


def digest(profile: bytes) -> str:
    """SHA-256 of an ICC profile: noted, not applied."""
    return hashlib.sha256(profile).hexdigest()
