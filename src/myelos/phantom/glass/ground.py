"""What all blocks of a glass share: stain, red-cell carpet, unevenness of the plasma, light and noise of the camera."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cells import cell_rng
from myelos.phantom.glass.block import NOISE_ZERO, WEAVE, Ground
from myelos.phantom.glass.carpet import make_carpet
from myelos.phantom.glass.layout import BLOCK, GlassSettings, Layout
from myelos.phantom.glass.scanners import Scanner, scanner
from myelos.phantom.shapes import Rng
from myelos.phantom.stain import Stain, random_stain

SPARE = 512  # px by which the noise is larger than a block, so that it can be shifted
PICTURES = ("noise", "weave", "shade")  # of a ground: each as large as a block
REACH = 1024  # px by which the weave is larger than a block: windows are


def stain_of(settings: GlassSettings) -> Stain:
    """The slide's stain in the light of its scanner."""
    rng = cell_rng(settings.seed, "stain")
    drawn = random_stain(rng, name=settings.stain, variation=settings.stain_variation)
    return Stain(drawn.name, drawn.density, scanner(settings.scanner).white)


def make_ground(settings: GlassSettings, layout: Layout) -> Ground:
    """noise: (n, n, 3) around NOISE_ZERO. weave: factors of the haze, 128 is 1. shade: light of a field, 255 is all."""
    made, stain = scanner(settings.scanner), stain_of(settings)
    red, haze = layout.in_bytes()
    rng = cell_rng(settings.seed, "ground")
    side = BLOCK + SPARE
    grey = rng.standard_normal((side, side, 1), np.float32) * np.float32(0.85 * made.noise)
    noise = grey + rng.standard_normal((side, side, 3), np.float32) * np.float32(0.52 * made.noise) + NOISE_ZERO
    return Ground(
        settings=settings,
        stain=stain,
        carpet=make_carpet(settings.seed, settings.mpp, stain, made),
        step=layout.step,
        red=red,
        haze=haze,
        label=layout.label,
        focus=layout.focus,
        fat=layout.fat,
        dust=layout.dust,
        bubbles=layout.bubbles,
        scratches=layout.scratches,
        noise=np.clip(np.rint(noise), 0, 2 * NOISE_ZERO).astype(np.uint8),
        weave=_weave(settings.mpp, rng),
        shade=_shade(made, rng),
    )


def lay_down(ground: Ground, folder: Path) -> Ground:
    """Its pictures go into files of a folder; what is left is light to send."""
    for name in PICTURES:
        if (picture := getattr(ground, name)) is not None:
            np.save(folder / f"{name}.npy", picture)
    nothing = np.zeros((0, 0), np.uint8)
    return replace(ground, noise=nothing, weave=nothing, shade=None if ground.shade is None else nothing)


def pick_up(ground: Ground, folder: Path) -> Ground:
    """What `lay_down` was given, its pictures mapped from the files: all processes share one copy."""
    found = {name: folder / f"{name}.npy" for name in PICTURES if getattr(ground, name) is not None}
    return replace(ground, **{name: np.load(path, mmap_mode="r") for name, path in found.items()})


def _weave(mpp: float, rng: Rng) -> NDArray[np.uint8]:
    """Fine unevenness that repeats every WEAVE px and has no seams."""
    total, around = np.ones((WEAVE, WEAVE), np.float32), 64
    for size, strength in ((0.7, 0.12), (1.5, 0.15), (6.0, 0.25)):
        raw = np.pad(rng.standard_normal((WEAVE, WEAVE), dtype=np.float32), around, mode="wrap")
        smooth = cv2.GaussianBlur(raw, (0, 0), size / mpp / 2)[around:-around, around:-around]
        total += np.float32(strength) * smooth / smooth.std()
    tile = np.clip(np.rint(total * 128), 10, 255).astype(np.uint8)
    times = -(-(BLOCK + REACH + WEAVE) // WEAVE)
    return np.tile(tile, (times, times))


def _shade(made: Scanner, rng: Rng) -> NDArray[np.uint8] | None:
    """(BLOCK, BLOCK, 3) with a little chance in the rounding, so that the slope shows no steps."""
    if not made.shading:
        return None
    axis = np.linspace(-1, 1, BLOCK, dtype=np.float32)
    off = rng.normal(0, 0.15, 2).astype(np.float32)
    fall = ((axis - off[0]) ** 2)[None] + ((axis - off[1]) ** 2)[:, None]
    loss = np.float32(made.shading / 2) * np.array([0.8, 1.0, 1.15], np.float32)
    light = np.float32(254.5) * (1 - fall[..., None] * loss)
    return np.floor(light + rng.random(light.shape, np.float32)).clip(0, 255).astype(np.uint8)
