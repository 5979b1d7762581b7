"""Images of one source brought to the look of another: the brightness of the plain background, and the stain's colours.

Matek 2021 (External validation) expects a classifier to do better on foreign images once these match what it was
trained on. Both are told from a sample of a source's images; no label is needed. What the third remedy, the patch
size, needs is the µm per pixel alone: `imaging.crops.window`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError
from myelos.imaging.appearance import AppearanceSettings, estimate_illumination
from myelos.imaging.stain import BACKGROUND, density, separate

Image = NDArray[np.uint8]  # (height, width, 3) RGB
_LIGHT = AppearanceSettings(flat_field=False)
_PIXELS = 4000  # of each image


@dataclass(frozen=True, slots=True)
class MatchingSettings:
    """strongest: percentile of a stain's amount over stained pixels that is brought from one source to the other.
    most: the factor by which an amount is changed at most. least: optical density from which a pixel is stained."""

    strongest: float = 95.0
    most: float = 2.0
    least: float = 0.15


@dataclass(frozen=True, slots=True)
class Look:
    """white: (3,) grey value of the plain background, RGB. stains: (2, 3), see `imaging.stain.Separation`. amounts:
    (2,) of each in strongly stained pixels. fallback: why the stains could not be told; empty where they were."""

    white: NDArray[np.float64]
    stains: NDArray[np.float64]
    amounts: NDArray[np.float64]
    fallback: str = ""


def white_of(rgb: Image) -> NDArray[np.float64] | None:
    """(3,) grey value of the plain background; None where hardly any is seen."""
    light = estimate_illumination(rgb, _LIGHT)
    return light.white.astype(float) if light.background >= _LIGHT.least_background else None


def look_of(images: Sequence[Image], settings: MatchingSettings | None = None) -> Look:
    """The look of a source, pooled over images of it; raises UsageError where none shows its background.

    The colours depend on what is shown: a sample of other cells has another look even from one laboratory.
    """
    settings = settings or MatchingSettings()
    pairs = [(image, white) for image in images if (white := white_of(image)) is not None]
    if not pairs:
        raise UsageError(f"none of {len(images)} images shows its background, so that their look cannot be told")
    pooled = np.concatenate([_sampled(levelled(image, white, BACKGROUND)) for image, white in pairs])[:, None]
    found = separate(pooled)
    stained = np.linalg.norm(density(pooled), axis=2) > settings.least
    amounts = np.percentile(found.concentrations(pooled)[stained], settings.strongest, axis=0) if stained.any() else 1.0
    white = np.median([white for _, white in pairs], axis=0)
    return Look(white, found.stains, np.maximum(np.broadcast_to(amounts, 2), 0.05), found.fallback)


def _sampled(rgb: Image) -> Image:
    pixels = rgb.reshape(-1, 3)
    return pixels[:: max(1, len(pixels) // _PIXELS)]


def matched(
    rgb: Image,
    own: Look,
    like: Look,
    *,
    background: bool = True,
    stain: bool = True,
    white: NDArray[np.float64] | None = None,
    settings: MatchingSettings | None = None,
) -> Image:
    """An image of the source `own` with the background and the stain of `like`; uint8 RGB to uint8 RGB.

    white: (3,) the image's own background where it was told; that of the source otherwise. What the two stains do not
    explain of a colour stays as it is.
    """
    settings = settings or MatchingSettings()
    bright = own.white if white is None else white
    if stain:
        rgb = _restained(levelled(rgb, bright, BACKGROUND), own, like, settings)
        return levelled(rgb, np.full(3, BACKGROUND), like.white if background else bright)
    return levelled(rgb, bright, like.white) if background else rgb


def levelled(rgb: Image, white: NDArray[np.float64], goal: NDArray[np.float64] | float) -> Image:
    """Each channel multiplied so that grey value `white` (3,) becomes `goal`, one or (3,)."""
    gain = np.asarray(goal, float) / np.maximum(white, 1.0) * np.ones(3)
    if np.allclose(gain, 1.0, atol=1e-3):
        return rgb
    table = np.clip(np.rint(np.arange(256)[:, None] * gain), 0, 255).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(rgb), table[None])


def _restained(rgb: Image, own: Look, like: Look, settings: MatchingSettings) -> Image:
    """Amounts of the own stains, scaled, in the colours of the other's; the background at `BACKGROUND`."""
    factor = np.clip(like.amounts / own.amounts, 1 / settings.most, settings.most)
    change = (like.stains.T * factor - own.stains.T) @ np.linalg.pinv(own.stains.T)  # (3, 3), on columns of density
    light = (BACKGROUND + 1) * cv2.exp(-cv2.transform(density(rgb), np.eye(3) + change)) - 1
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)
