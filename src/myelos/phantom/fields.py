"""One field: cells of a composition placed at random, stained, photographed.

`layout` decides what lies where, `paint` turns that into concentrations, `optics.photograph` into pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from myelos.phantom.compositions import COMPOSITIONS, draw_types
from myelos.phantom.optics import OpticsSettings, photograph
from myelos.phantom.painting import Painting
from myelos.phantom.placing import spread_out
from myelos.phantom.sprites import SpritePool, flip_sprite, place_sprite
from myelos.phantom.stain import random_stain

SCALES = (0.94, 1.06)  # a sprite is drawn this much smaller or larger


@dataclass(frozen=True, slots=True)
class FieldSettings:
    """What a field shows. Densities are per mm²; None takes a usual one of the specimen at random."""

    width: int = 640
    height: int = 640
    mpp: float = 0.25
    specimen: str = "marrow"  # marrow or blood
    composition: str | dict[str, float] | None = None  # a name of COMPOSITIONS, or shares by type
    cells_per_mm2: float | None = None
    red_cells_per_mm2: float | None = None
    platelets_per_mm2: float | None = None
    red_cell_truth: bool = False  # give boxes of red cells and platelets, too
    visible: float = 0.3  # a cell cut by the border has a box if at least this share of it is inside
    stain: str | None = None  # a name of stain.STAINS, None for any
    stain_variation: float = 1.0
    pool_seed: int = 0
    pool_per_type: int = 40
    optics: OpticsSettings = field(default_factory=OpticsSettings)

    def shares(self) -> dict[str, float]:
        chosen = self.composition or f"{self.specimen}_normal"
        return COMPOSITIONS[chosen] if isinstance(chosen, str) else chosen

    def pool(self) -> SpritePool:
        return SpritePool(self.mpp, self.pool_seed, self.pool_per_type)


@dataclass(frozen=True, slots=True)
class Field:
    """rgb: (h, w, 3) uint8. boxes: (N, 4) x y width height in pixels. types: N names of the taxonomy."""

    rgb: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    types: tuple[str, ...]
    mpp: float


def render_field(settings: FieldSettings, rng: np.random.Generator) -> Field:
    """A field and its truth; the same settings and generator state give the same pixels."""
    pool = settings.pool()
    painting = Painting(settings.width, settings.height, visible=settings.visible)
    density = _densities(settings, rng)
    _nucleated(painting, pool, settings, density["cells"], rng)
    _red_cells(painting, pool, settings, density["red"], rng)
    _platelets(painting, pool, settings, density["platelets"], rng)
    painting.finish(rng, haze=density["haze"], debris=density["debris"], mpp=settings.mpp)
    stain = random_stain(rng, name=settings.stain, variation=settings.stain_variation)
    rgb = photograph(painting.dyes, stain, settings.optics, rng, mpp=settings.mpp)
    boxes = np.array(painting.boxes, np.float64).reshape(-1, 4)
    return Field(rgb, boxes, tuple(painting.types), settings.mpp)


def _densities(settings: FieldSettings, rng: np.random.Generator) -> dict[str, float]:
    """Cells per mm² as given, or drawn; haze and debris as factors."""
    if settings.specimen == "marrow":
        usual = {"cells": float(np.exp(rng.uniform(np.log(400), np.log(3200)))), "red": rng.uniform(1500, 9000)}
        usual |= {"platelets": rng.uniform(50, 900), "haze": rng.uniform(0.0, 1.0), "debris": rng.uniform(0, 1)}
    else:
        usual = {"cells": rng.uniform(80, 420), "red": rng.uniform(4000, 13500)}
        usual |= {"platelets": rng.uniform(200, 1500), "haze": rng.uniform(0, 0.25), "debris": rng.uniform(0, 0.3)}
    given = {
        "cells": settings.cells_per_mm2,
        "red": settings.red_cells_per_mm2,
        "platelets": settings.platelets_per_mm2,
    }
    return usual | {key: value for key, value in given.items() if value is not None}


def _number(settings: FieldSettings, density: float, margin: float, rng: np.random.Generator) -> int:
    """Cells on the field and on a margin around it, in µm, from which cells reach in."""
    width, height = settings.width * settings.mpp + 2 * margin, settings.height * settings.mpp + 2 * margin
    return int(rng.poisson(density * width * height * 1e-6))


def _positions(
    settings: FieldSettings, radii: NDArray[np.float64], margin: float, spacing: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(N, 2) centres in px of the field, spread so that cells overlap little."""
    size = np.array([settings.width, settings.height]) * settings.mpp + 2 * margin

    def draw(count: int) -> NDArray[np.float64]:
        return rng.random((count, 2)) * size

    return (spread_out(radii, draw, spacing=spacing) - margin) / settings.mpp


def _nucleated(
    painting: Painting, pool: SpritePool, settings: FieldSettings, density: float, rng: np.random.Generator
) -> None:
    margin = 12.0
    types = draw_types(settings.shares(), _number(settings, density, margin, rng), rng)
    numbers = rng.integers(0, 1 << 30, len(types))
    scales = rng.uniform(*SCALES, len(types))
    radii = np.array([pool.radius(t, int(n)) for t, n in zip(types, numbers, strict=True)]) * scales
    centres = _positions(settings, radii, margin, float(rng.uniform(0.9, 1.12)), rng)
    for cell_type, number, scale, (x, y) in zip(types, numbers, scales, centres, strict=True):
        layers = place_sprite(pool.sprite(cell_type, int(number)), rng, float(scale))
        painting.add_cell(layers, x, y, cell_type, press=bool(rng.random() < 0.75))


def _red_cells(
    painting: Painting, pool: SpritePool, settings: FieldSettings, density: float, rng: np.random.Generator
) -> None:
    margin = 5.0
    numbers = rng.integers(0, 1 << 30, _number(settings, density, margin, rng))
    radii = np.array([pool.radius("erythrocyte", int(n)) for n in numbers])
    centres = _positions(settings, radii, margin, float(rng.uniform(0.6, 0.98)), rng)
    for number, (x, y) in zip(numbers, centres, strict=True):
        layers = flip_sprite(pool.sprite("erythrocyte", int(number)), rng)
        painting.add_red_cell(layers, x, y, truth=settings.red_cell_truth)
    painting.settle_red_cells(settings.mpp)


def _platelets(
    painting: Painting, pool: SpritePool, settings: FieldSettings, density: float, rng: np.random.Generator
) -> None:
    count = _number(settings, density, 2.0, rng)
    extent = np.array([settings.width, settings.height])
    for number, place in zip(rng.integers(0, 1 << 30, count), rng.random((count, 2)), strict=True):
        x, y = place * extent
        painting.add_platelet(flip_sprite(pool.sprite("platelet", int(number)), rng), x, y, settings.red_cell_truth)
