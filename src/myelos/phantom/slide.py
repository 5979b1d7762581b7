"""A whole synthetic slide: ground plan, cells, and blocks painted one by one into a pyramidal TIFF.

Everything random is drawn before the first block is painted, or depends on the block's own number; so the bytes depend
on the seed and the settings only, and one strip of blocks is all that is held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import myelos
from myelos import tables
from myelos.errors import UsageError
from myelos.phantom import forms
from myelos.phantom.annotating import AnnotationSettings
from myelos.phantom.cells import cell_rng
from myelos.phantom.compositions import draw_types
from myelos.phantom.cut_outs import CutOuts
from myelos.phantom.dataset import SOURCES, cell_table, source_rows, write_csv
from myelos.phantom.fields import FieldSettings
from myelos.phantom.landscape import Landscape, Plan, make_landscape
from myelos.phantom.optics import STEADY, photograph
from myelos.phantom.painting import HAZE, Painting
from myelos.phantom.placing import Bodies, Cells, Draw, draw_bodies, draw_cells
from myelos.phantom.shapes import noise
from myelos.phantom.sprites import SpritePool
from myelos.phantom.stain import EOSIN, Stain, random_stain
from myelos.slides.fingerprint import full_hash
from myelos.slides.write import Rows

BLOCK_WIDTH, BLOCK_HEIGHT = 2048, 512
FOCUS = 16  # px painted around a block, so that blurring knows its neighbours
DENSITY = {"marrow": (1400.0, 4500.0, 500.0), "blood": (260.0, 9500.0, 900.0)}  # cells, red cells, platelets per mm²

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SlideSettings:
    """width, height: px of level 0. Densities are per mm² of the readable area, None is usual for the specimen."""

    width: int
    height: int
    mpp: float = 0.25
    specimen: str = "marrow"
    seed: int = 0
    composition: str | dict[str, float] | None = None
    cells_per_mm2: float | None = None
    red_cells_per_mm2: float | None = None
    platelets_per_mm2: float | None = None
    red_cell_truth: bool = True
    stain: str = "may_gruenwald_giemsa"
    stain_variation: float = 0.5
    quality: int = 85

    def as_field(self) -> FieldSettings:
        """The same words as a field's, checked there."""
        seed = (self.seed * 7919 + 3) % (1 << 31)
        size = self.width, self.height, self.mpp
        return FieldSettings(*size, self.specimen, self.composition, stain=self.stain, pool_seed=seed)


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that is drawn before painting."""

    settings: SlideSettings
    pool: SpritePool
    landscape: Landscape
    stain: Stain
    cells: Cells
    red: Bodies
    platelets: Bodies
    clouds: tuple[Plan, ...]  # relative haze by dye, in squares of the landscape
    weave: Plan  # (side, side) fine unevenness of the haze


@dataclass(frozen=True, slots=True)
class _Truth:
    """The cells that a block owns. boxes: (N, 4). origins: see `Painting`."""

    boxes: NDArray[np.float64]
    types: list[str]
    origins: list[tuple[str, str]]


def write_slide(
    path: str | Path,
    *,
    width: int,
    height: int,
    mpp: float = 0.25,
    specimen: str,
    seed: int = 0,
    cells_per_mm2: float | None = None,
    composition: str | dict[str, float] | None = None,
    red_cells_per_mm2: float | None = None,
    red_cell_truth: bool = True,
    form: str = forms.TIFF,
    annotations: AnnotationSettings | None = None,
    cut_outs: CutOuts | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a synthetic slide as pyramidal JPEG TIFF, and its truth beside it; returns the folder of the truth.

    form: tiff, or dicom: then `path` becomes a folder, and the slide is annotated as `annotations` says. cut_outs: real
    cells, at `mpp`, that take the place of rendered ones; `cell_sources.csv` then says where each cell comes from.
    `<name>.truth/` holds slides, regions and cells as tables and `run.json`, last. progress(done, total) counts
    blocks. Raises ResultError where the slide exists and `overwrite` is false, UsageError for impossible values.
    """
    path = Path(path)
    settings = SlideSettings(
        width, height, mpp, specimen, seed, composition, cells_per_mm2, red_cells_per_mm2, red_cell_truth=red_cell_truth
    )
    settings.as_field()
    if cells_per_mm2 is not None and cells_per_mm2 < 0:
        raise UsageError(f"a density of {cells_per_mm2} cells per mm² is impossible")
    forms.check(path, form, overwrite=overwrite)
    truth = path.with_name(f"{path.stem}.truth")
    tables.prepare(truth, overwrite=overwrite or not path.exists())
    plan = _draw(settings, cut_outs)
    found: list[_Truth] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = Rows(width, height, _strips(plan, found, progress))
    study = forms.study_of(asdict(settings), label=False, cut_outs=cut_outs, annotations=annotations)
    with forms.begun(path, form) as place:
        forms.write_image(place, form, rows, mpp=mpp, study=study, quality=settings.quality)
        run = _write_truth(truth, place, plan, found)
        run |= forms.annotated(place, form, truth, study, seed=seed, settings=annotations)
    tables.write_run(truth, run | {"file": path.name})
    return truth


def _draw(settings: SlideSettings, cut_outs: CutOuts | None = None) -> _Plan:
    """The ground plan and every cell's place."""
    pool = settings.as_field().pool(cut_outs)
    rng = cell_rng(settings.seed, "slide", settings.specimen)
    landscape = make_landscape(settings.width, settings.height, settings.mpp, settings.specimen, rng)
    usual = DENSITY[settings.specimen]
    given = (settings.cells_per_mm2, settings.red_cells_per_mm2, settings.platelets_per_mm2)
    wanted = [u if g is None else g for u, g in zip(usual, given, strict=True)]
    square = (landscape.step * settings.mpp) ** 2 * 1e-6
    plans = (landscape.cells, landscape.red, landscape.red)
    counts = [int(rng.poisson(d * square * float(p.sum()))) for d, p in zip(wanted, plans, strict=True)]
    places = [_by_plan(plan, landscape, settings, rng) for plan in plans]
    types = draw_types(settings.as_field().shares(), counts[0], rng, real=pool.real)
    cells = draw_cells(types, pool, places[0], rng, spacing=1.0)
    red = draw_bodies("erythrocyte", counts[1], pool, places[1], rng, spacing=0.85, rounds=5)
    platelets = draw_bodies("platelet", counts[2], pool, places[2], rng, spacing=1.0, rounds=1)
    shape, common = landscape.haze.shape, noise(rng, landscape.haze.shape, 3.0)
    clouds = tuple(np.clip(0.8 + 0.3 * common + 0.15 * noise(rng, shape, 5.0), 0.1, 2) for _ in HAZE)
    stain = random_stain(rng, name=settings.stain, variation=settings.stain_variation)
    return _Plan(settings, pool, landscape, stain, cells, red, platelets, clouds, _weave(settings.mpp, rng))


def _by_plan(plan: Plan, landscape: Landscape, settings: SlideSettings, rng: np.random.Generator) -> Draw:
    """Places in px by the density of a plan, none inside a fat vacuole."""
    chance = np.cumsum(plan.ravel().astype(np.float64))
    size, rim = np.array([settings.width, settings.height], float), 7 / settings.mpp

    def draw(count: int) -> NDArray[np.float64]:
        square = np.searchsorted(chance, rng.random(count) * chance[-1], side="right")
        rows, columns = np.divmod(np.minimum(square, plan.size - 1), plan.shape[1])
        places = (np.stack([columns, rows], axis=1) + rng.random((count, 2))) * landscape.step
        for x, y, radius in landscape.fat:
            away = places - [x, y]
            far = np.hypot(*away.T)
            near = far < radius + rim
            places[near] = [x, y] + away[near] * ((radius + rim) / np.maximum(far[near], 1e-6))[:, None]
        return np.clip(places, 0, size - 1)

    return draw


def _strips(plan: _Plan, found: list[_Truth], progress: Progress | None) -> Iterator[NDArray[np.uint8]]:
    """The slide from top to bottom, a row of blocks at a time; truths are appended to `found`."""
    width, height = plan.settings.width, plan.settings.height
    across, down = -(-width // BLOCK_WIDTH), -(-height // BLOCK_HEIGHT)
    for row in range(down):
        top, bottom = row * BLOCK_HEIGHT, min((row + 1) * BLOCK_HEIGHT, height)
        strip = np.empty((bottom - top, width, 3), np.uint8)
        for column in range(across):
            left, right = column * BLOCK_WIDTH, min((column + 1) * BLOCK_WIDTH, width)
            rgb, painting = render_block(plan, left, top, right, bottom)
            strip[:, left:right] = rgb
            found.append(_Truth(np.array(painting.boxes).reshape(-1, 4), painting.types, painting.origins))
            if progress:
                progress(row * across + column + 1, across * down)
        yield strip


def render_block(plan: _Plan, left: int, top: int, right: int, bottom: int) -> tuple[NDArray[np.uint8], Painting]:
    """Pixels of one block, and the painting whose boxes are of the cells that have their centre in it."""
    s, cells = plan.settings, plan.cells
    owned = _within(cells.centres, (left, top, right, bottom), 0)
    margin = int(np.ceil(max(FOCUS, cells.reach[owned].max(initial=0.0))))
    x1, y1 = max(left - margin, 0), max(top - margin, 0)
    x2, y2 = min(right + margin, s.width), min(bottom + margin, s.height)
    painting = Painting(x2 - x1, y2 - y1, plan.pool, origin=(x1, y1))
    window = (x1, y1, x2, y2)
    painting.add_cells(cells, np.flatnonzero(_within(cells.centres, window, cells.reach)), owned)
    for bodies, add in ((plan.red, painting.add_red_cells), (plan.platelets, painting.add_platelets)):
        noted = _within(bodies.centres, (left, top, right, bottom), 0) if s.red_cell_truth else None
        add(bodies, np.flatnonzero(_within(bodies.centres, window, 6.5 / s.mpp)), noted)
    _add_ground(painting, plan, window)
    rng = cell_rng(s.seed, "block", left, top)
    rgb = photograph(painting.dyes, plan.stain, STEADY, rng, mpp=s.mpp)
    return rgb[top - y1 : bottom - y1, left - x1 : right - x1], painting


def _within(
    centres: NDArray[np.float64], window: tuple[int, int, int, int], reach: NDArray[np.float64] | float
) -> NDArray[np.bool_]:
    """(N,) whether each centre, widened by its reach, touches the window."""
    x, y = centres.T
    x1, y1, x2, y2 = window
    return (x + reach >= x1) & (x - reach < x2) & (y + reach >= y1) & (y - reach < y2)


def _add_ground(painting: Painting, plan: _Plan, window: tuple[int, int, int, int]) -> None:
    """Haze of the ground plan, continuous across blocks, and fat vacuoles with their thin dark edge."""
    glass = painting.open_glass()
    haze = _zoom(plan.landscape.haze, plan, window) * _fibres(plan, window)
    haze = np.minimum(haze, 1) * glass + np.maximum(haze - 1, 0)  # in a particle it lies over the cells, too
    for (dye, strength, _), cloud in zip(HAZE, plan.clouds, strict=True):
        painting.dyes[..., dye] += np.float32(strength) * haze * _zoom(cloud, plan, window)
    x1, y1, x2, y2 = window
    for x, y, radius in plan.landscape.fat:
        if x + radius < x1 or x - radius > x2 or y + radius < y1 or y - radius > y2:
            continue
        columns, rows = np.arange(x1, x2, dtype=np.float32) - x, np.arange(y1, y2, dtype=np.float32)[:, None] - y
        deep = (np.float32(radius) - np.hypot(columns, rows)) * np.float32(plan.settings.mpp)
        hole = np.clip(deep / np.float32(0.6) + np.float32(0.5), 0, 1)
        painting.dyes *= (1 - np.float32(0.97) * hole)[..., None]
        painting.dyes[..., EOSIN] += np.float32(0.35) * np.exp(-((deep / np.float32(0.6)) ** 2))


def _fibres(plan: _Plan, window: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Fine unevenness, about 1, that repeats every `len(plan.weave)` px and so has no seams between blocks."""
    x1, y1, x2, y2 = window
    side = len(plan.weave)
    return plan.weave[np.ix_(np.arange(y1, y2) % side, np.arange(x1, x2) % side)]


def _weave(mpp: float, rng: np.random.Generator) -> Plan:
    """A square tile of fine noise whose opposite edges fit each other."""
    side, reach = 768, 64
    total = np.zeros((side, side), np.float32)
    for size, strength in ((1.5, 0.15), (6.0, 0.25)):
        sigma = size / mpp / 2
        raw = np.pad(rng.standard_normal((side, side), dtype=np.float32), reach, mode="wrap")
        smooth = cv2.GaussianBlur(raw, (0, 0), sigma)[reach:-reach, reach:-reach]
        total += np.float32(strength) * smooth / smooth.std()
    return np.clip(1 + total, 0.1, 2)


def _zoom(squares: Plan, plan: _Plan, window: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """A ground plan's values at the pixels of a window."""
    x1, y1, x2, y2 = window
    step = plan.landscape.step
    matrix = np.array([[1 / step, 0, (x1 + 0.5) / step - 0.5], [0, 1 / step, (y1 + 0.5) / step - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    zoomed = cv2.warpAffine(squares, matrix, (x2 - x1, y2 - y1), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(zoomed, np.float32)


def _write_truth(folder: Path, path: Path, plan: _Plan, found: list[_Truth]) -> dict[str, Any]:
    """All tables, and what `run.json` is to tell."""
    s = plan.settings
    fingerprint = full_hash(path)
    slide_id = fingerprint[:12]
    boxes = np.concatenate([truth.boxes for truth in found])
    types = [name for truth in found for name in truth.types]
    regions = plan.landscape.region_of(boxes[:, :2] + boxes[:, 2:] / 2)
    cells = cell_table(slide_id, boxes, types, regions)
    tables.write_table(folder, "cells", cells)
    tables.write_table(folder, "regions", [_region_row(slide_id, n, plan) for n in range(len(plan.landscape.regions))])
    slide: dict[str, Any] = {"slide_id": slide_id, "fingerprint": fingerprint, "specimen": s.specimen}
    slide |= {"width": s.width, "height": s.height, "mpp": s.mpp, "mpp_source": "file", "mpp_uncertainty": 0.0}
    tables.write_table(folder, "slides", [slide | {"stain": s.stain, "scanner": "phantom", "kind": "slide"}])
    run: dict[str, Any] = {"made_by": "myelos phantom slide", "version": myelos.__version__, "seed": s.seed}
    if plan.pool.cut_outs:
        origins = [origin for truth in found for origin in truth.origins]
        write_csv(folder / SOURCES, ("cell_id", "source", "image"), source_rows(slide_id, boxes, origins))
        run["cell_images"] = dict(plan.pool.cut_outs.about)
    return run | {"synthetic": True, "cells": cells.num_rows, "settings": asdict(s)}


def _region_row(slide_id: str, number: int, plan: _Plan) -> dict[str, Any]:
    region = plan.landscape.regions[number]
    row = {"slide_id": slide_id, "region": number, "kind": region.kind, "area_mm2": region.area_mm2(plan.settings.mpp)}
    return row | {"polygon": [float(v) for v in region.polygon.ravel()]}
