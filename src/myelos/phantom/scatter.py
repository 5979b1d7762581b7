"""Every cut-out cell changed a little at random, by the same chances for all sources: what is left of a source drowns.

Sources that are alike on average still differ in what cannot be fitted; between cells of one source that are as
different from each other, it says less.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from myelos.phantom.cutting import WORKING, CutOut
from myelos.phantom.matching import scaled, with_contrast


@dataclass(frozen=True, slots=True)
class ScatterSettings:
    """colour: deviation of the logarithm of the factors of R, G and B densities in nucleus and cytoplasm, each and
    together. gamma: of the exponent that bends densities about their median. contrast: of the contrast in each band and
    in all. bands: see `matching.MatchSettings`. blur: µm, drawn evenly. size: greatest logarithm of a cell's factor."""

    colour: float = 0.12
    gamma: float = 0.15
    contrast: float = 0.15
    bands: tuple[float, ...] = (0.075, 0.15, 0.3, 0.6)
    blur: tuple[float, float] = (0.05, 0.3)
    size: float = 0.08


def scattered(cell: CutOut, rng: np.random.Generator, settings: ScatterSettings | None = None) -> CutOut:
    """The cell in other colours, contrast, sharpness and size; the same generator state gives the same cell."""
    settings = settings or ScatterSettings()
    cell = _recoloured(cell, rng, settings)
    bands = len(settings.bands)
    gains = rng.normal(0, settings.contrast, (2, 1)) + rng.normal(0, settings.contrast, (2, bands))
    cell = with_contrast(cell, gains, [width / WORKING for width in settings.bands])
    blur = rng.uniform(*settings.blur) / WORKING
    room = int(np.ceil(2.5 * blur))
    planes = [cell.density, cell.cover, cell.nucleus]
    wide = [np.pad(p, ((room, room), (room, room), (0, 0))[: p.ndim]) for p in planes]
    soft = CutOut(*(np.asarray(cv2.GaussianBlur(plane, (0, 0), blur), np.float32) for plane in wide))
    return scaled(soft, float(np.exp(rng.uniform(-settings.size, settings.size))))


def _recoloured(cell: CutOut, rng: np.random.Generator, settings: ScatterSettings) -> CutOut:
    factors = np.exp(rng.normal(0, settings.colour, (2, 3)) + rng.normal(0, settings.colour, (2, 1)))
    exponent = np.exp(rng.normal(0, settings.gamma))
    share = np.clip(cell.nucleus, 0, 1)[..., None]
    density = cell.density * (share * factors[0] + (1 - share) * factors[1])
    whole = density.sum(axis=-1) / np.maximum(cell.cover, 1e-3)
    inside = cell.cover > 0.9
    middle = float(np.median(whole[inside])) if inside.any() else 1.0
    bent = np.clip((np.maximum(whole, 1e-3) / max(middle, 1e-3)) ** (exponent - 1), 0.25, 4)
    return CutOut((density * bent[..., None]).astype(np.float32), cell.cover, cell.nucleus)
