"""One field: cells of a composition placed at random, stained, photographed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError
from myelos.phantom.compositions import COMPOSITIONS, draw_types
from myelos.phantom.cut_outs import CutOuts
from myelos.phantom.optics import OpticsSettings, photograph
from myelos.phantom.painting import Painting
from myelos.phantom.placing import Draw, draw_bodies, draw_cells
from myelos.phantom.sprites import SpritePool
from myelos.phantom.stain import STAINS, random_stain

MARGIN = 12.0  # µm around the field from which cells reach in
SPECIMENS = ("marrow", "blood")


@dataclass(frozen=True, slots=True)
class FieldSettings:
    """What a field shows. Densities are per mm²; None takes a usual one of the specimen at random.

    Raises UsageError for impossible values.
    """

    width: int = 640
    height: int = 640
    mpp: float = 0.25
    specimen: str = "marrow"  # marrow or blood
    composition: str | dict[str, float] | None = None  # a name of COMPOSITIONS, or shares by type
    cells_per_mm2: float | None = None
    red_cells_per_mm2: float | None = None
    platelets_per_mm2: float | None = None
    haze: float | None = None  # dried plasma between the cells, 0 to about 1
    debris: float | None = None  # specks that are no cells, 0 to about 1
    red_cell_truth: bool = False  # give boxes of red cells and platelets, too
    visible: float = 0.3  # a cell cut by the border has a box if at least this share of it is seen
    stain: str | None = None  # a name of stain.STAINS, None for any
    stain_variation: float = 1.0
    pool_seed: int = 0
    pool_per_type: int = 40
    optics: OpticsSettings = field(default_factory=OpticsSettings)

    def __post_init__(self) -> None:
        if self.specimen not in SPECIMENS:
            raise UsageError(f"no specimen '{self.specimen}'", remedy=f"Choose one of {', '.join(SPECIMENS)}")
        if min(self.width, self.height) < 1 or not 0.02 <= self.mpp <= 2:
            raise UsageError(f"no field of {self.width} × {self.height} px at {self.mpp} µm/px can be rendered")
        if self.stain is not None and self.stain not in STAINS:
            raise UsageError(f"no stain '{self.stain}'", remedy=f"Choose one of {', '.join(STAINS)}")
        if isinstance(self.composition, str) and self.composition not in COMPOSITIONS:
            raise UsageError(f"no composition '{self.composition}'", remedy=f"Choose one of {', '.join(COMPOSITIONS)}")

    def shares(self) -> dict[str, float]:
        chosen = self.composition or f"{self.specimen}_normal"
        return COMPOSITIONS[chosen] if isinstance(chosen, str) else chosen

    def pool(self, cut_outs: CutOuts | None = None) -> SpritePool:
        return SpritePool(self.mpp, self.pool_seed, self.pool_per_type, cut_outs)


@dataclass(frozen=True, slots=True)
class Field:
    """rgb: (h, w, 3) uint8. boxes: (N, 4) x y width height in pixels. types: N names of the taxonomy.

    origins: N of source ("rendered", or the set that a cell was cut out of) and first digits of its image's SHA-256.
    """

    rgb: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    types: tuple[str, ...]
    mpp: float
    origins: tuple[tuple[str, str], ...] = ()


def render_field(
    settings: FieldSettings,
    rng: np.random.Generator,
    *,
    centre: str | None = None,
    cut_outs: CutOuts | None = None,
) -> Field:
    """A field and its truth; the same settings and generator state give the same pixels.

    centre: a type of which one cell lies whole in the middle of the field and is the first of the truth. cut_outs:
    real cells, at the field's µm/px, that take the place of rendered ones.
    """
    density = _densities(settings, rng)
    painting = Painting(settings.width, settings.height, settings.pool(cut_outs), visible=settings.visible)
    gap = _paint_centre(painting, settings, centre, rng) if centre else 0.0
    _paint_around(painting, settings, density, gap, rng)
    painting.add_haze(rng, density["haze"])
    painting.add_specks(rng, density["debris"])
    stain = random_stain(rng, name=settings.stain, variation=settings.stain_variation)
    rgb = photograph(painting.dyes, stain, settings.optics, rng, mpp=settings.mpp)
    boxes = np.array(painting.boxes, np.float64).reshape(-1, 4)
    return Field(rgb, boxes, tuple(painting.types), settings.mpp, tuple(painting.origins))


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
        "haze": settings.haze,
        "debris": settings.debris,
    }
    return usual | {key: value for key, value in given.items() if value is not None}


def _paint_centre(painting: Painting, settings: FieldSettings, cell_type: str, rng: np.random.Generator) -> float:
    """Lay the cell in the middle; returns how far in px others must stay away."""
    middle = np.array([[settings.width, settings.height]]) / 2
    types = draw_types({cell_type: 1.0}, 1, rng, real=painting.pool.real)
    if types == ["erythrocyte"] or types == ["platelet"]:
        body = draw_bodies(types[0], 1, painting.pool, lambda _: middle.copy(), rng, spacing=0, rounds=0)
        lay = painting.add_red_cells if types == ["erythrocyte"] else painting.add_platelets
        lay(body, [0], np.ones(1, bool))
        return 4 / settings.mpp
    cells = draw_cells(types, painting.pool, lambda _: middle.copy(), rng, spacing=0)
    painting.add_cells(cells, [0])
    return float(cells.reach[0]) * 0.72 + 5 / settings.mpp


def _paint_around(
    painting: Painting, settings: FieldSettings, density: dict[str, float], gap: float, rng: np.random.Generator
) -> None:
    """The cells of the composition, the red cells and the platelets; none within `gap` px of the middle."""
    pool, margin = painting.pool, MARGIN / settings.mpp
    draw = _anywhere(settings, margin, gap, rng)
    area = (settings.width + 2 * margin) * (settings.height + 2 * margin) * settings.mpp**2 * 1e-6  # mm²
    truth = settings.red_cell_truth
    types = draw_types(settings.shares(), int(rng.poisson(density["cells"] * area)), rng, real=pool.real)
    cells = draw_cells(types, pool, draw, rng, spacing=float(rng.uniform(0.9, 1.12)))
    painting.add_cells(cells, range(len(types)))
    draw = _anywhere(settings, margin, 0.0, rng)
    count, spacing = int(rng.poisson(density["red"] * area)), float(rng.uniform(0.6, 0.98))
    red = draw_bodies("erythrocyte", count, pool, draw, rng, spacing=spacing, rounds=12)
    painting.add_red_cells(red, range(count), np.full(count, truth))
    count = int(rng.poisson(density["platelets"] * area))
    platelets = draw_bodies("platelet", count, pool, draw, rng, spacing=1.0, rounds=2)
    painting.add_platelets(platelets, range(count), np.full(count, truth))


def _anywhere(settings: FieldSettings, margin: float, gap: float, rng: np.random.Generator) -> Draw:
    """Even places on the field and its margin, outside a circle of `gap` px in the middle."""
    size = np.array([settings.width, settings.height], float)

    def draw(count: int) -> NDArray[np.float64]:
        places = rng.random((count, 2)) * (size + 2 * margin) - margin
        for _ in range(20 if gap else 0):
            near = np.hypot(*(places - size / 2).T) < gap
            places[near] = rng.random((int(near.sum()), 2)) * (size + 2 * margin) - margin
        return places

    return draw
