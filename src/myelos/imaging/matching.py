"""Images of one source brought to the look of another: the brightness of the plain background, and the stain's colours.

Matek 2021 (External validation) expects a classifier to do better on foreign images once these match what it was
trained on. Both are told from a sample of a source's images; no label is needed. The third remedy, the patch size,
needs the µm per pixel alone: `imaging.crops.window`. Stains are not told apart for it: where nuclei are nearly black,
the extremes that Macenko's method finds are no stains, and matching them one by one gave green cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError
from myelos.imaging.appearance import AppearanceSettings, estimate_illumination
from myelos.imaging.stain import BACKGROUND, density

Image = NDArray[np.uint8]  # (height, width, 3) RGB
_LIGHT = AppearanceSettings(flat_field=False)
_PIXELS = 4000  # of each image
ALIKE = 0.5  # how far groups of eight and more cells of one source lie apart at most (docs/classifier.md: 0.49)
_FAINT = 1e-4  # squared density: what two sources differ by less in is not stretched


@dataclass(frozen=True, slots=True)
class MatchingSettings:
    """most: the factor by which the spread of colours is changed at most, in any direction. least: optical density
    (length of the three channels) from which a pixel is stained."""

    most: float = 3.0
    least: float = 0.15


@dataclass(frozen=True, slots=True)
class Look:
    """white: (3,) grey value of the plain background, RGB. moments: (3, 3) mean of d dᵀ over stained pixels, d their
    optical densities: how strongly and in which colours a source is stained."""

    white: NDArray[np.float64]
    moments: NDArray[np.float64]

    def as_dict(self) -> dict[str, list[Any]]:
        """Twelve rounded numbers, as a model's card holds them."""
        return {"white": np.round(self.white, 1).tolist(), "moments": np.round(self.moments, 5).tolist()}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Look:
        """Back from `as_dict`."""
        return cls(np.array(stored["white"], float), np.array(stored["moments"], float))


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
    densities = density(pooled)[:, 0].astype(float)
    stained = densities[np.linalg.norm(densities, axis=1) > settings.least]
    moments = (stained.T @ stained / max(len(stained), 1)) + _FAINT * np.eye(3)
    return Look(np.median([white for _, white in pairs], axis=0), moments)


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

    white: (3,) the image's own background where it was told; that of the source otherwise. The densities are mapped by
    the one symmetric matrix that turns the moments of one source into those of the other (the linear map of Monge and
    Kantorovich; Pitié and Kokaram, CVMP 2007), which moves colours as little as possible and leaves plain glass alone.
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
    """Densities mapped from one look to the other; the background at `BACKGROUND` before and after."""
    light = (BACKGROUND + 1) * cv2.exp(-cv2.transform(density(rgb), transport(own, like, settings.most))) - 1
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def transport(own: Look, like: Look, most: float = 3.0) -> NDArray[np.float64]:
    """(3, 3) symmetric T with T · own · T = like, its eigenvalues kept within 1/most and most."""
    root, inverse = _power(own.moments, 0.5), _power(own.moments, -0.5)
    values, vectors = np.linalg.eigh(inverse @ _power(root @ like.moments @ root, 0.5) @ inverse)
    return (vectors * np.clip(values, 1 / most, most)) @ vectors.T


def apart(own: Look, like: Look) -> float:
    """How far two looks lie apart: length of the logarithms of the factors by which colours would be stretched."""
    values = np.linalg.eigvalsh(transport(own, like, np.inf))
    return float(np.linalg.norm(np.log(np.maximum(values, 1e-9))))


def goal_of(own: Look, looks: Sequence[Look]) -> Look | None:
    """The nearest of several looks, None where `own` is as near as cells of one source are to each other."""
    near = min(looks, key=lambda like: apart(own, like))
    return near if apart(own, near) > ALIKE else None


def _power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 1e-9) ** exponent) @ vectors.T
