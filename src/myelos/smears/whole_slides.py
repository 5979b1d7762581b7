"""A slide → its cells: tiles in random order within the readable area, until enough cells were found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from myelos.detection.run import Detected, detect
from myelos.detection.tiling import Tile, plan
from myelos.errors import InputError, MyelosError, NotASmearError, ResolutionError
from myelos.geometry import Box
from myelos.imaging.appearance import AppearanceSettings, estimate_illumination, normalise
from myelos.imaging.scale import estimate_mpp
from myelos.imaging.sharpness import sharpness
from myelos.models.types import Classifier, Detector
from myelos.regions import Readable, readable
from myelos.slides import open_slide
from myelos.slides.base import MPP_RANGE, Resolution, Slide
from myelos.smears.looking import Look, judged, no_smear
from myelos.smears.rows import Image, Reading, ReadSettings, around, cell_rows, chosen, jpeg, png, tile_plan, tile_rows
from myelos.smears.second_look import second_look
from myelos.smears.second_opinion import from_slide, scale_for, with_second_opinion
from myelos.smears.staining import stain_of_slide


def read_slide(
    look: Look,
    detector: Detector,
    *,
    settings: ReadSettings,
    threads: int,
    classifier: Classifier | None = None,
) -> Reading:
    """Tiles in random order within the readable area until enough cells were found; a second opinion on each.

    Raises ResolutionError where no scale is known and no red cells tell it, NotASmearError where nothing is readable
    or what is there is no smear.
    """
    with open_slide(look.path, mpp=look.resolution.mpp) as slide:
        look = scaled(look, slide, settings)
        area = _readable(slide, settings)
        tiles = tiles_to_read(look, area, detector, settings)
        samples = _samples(slide, tiles, settings.samples)
        look = judged(look, samples, detector.mpp)
        if look.doubt and not settings.force:
            raise no_smear(look.path, look.doubt)
        reader = TileReader(slide, samples, detector.mpp, settings)
        goal = math.inf if settings.cells is None else settings.cells * (1 + settings.margin)
        found = detect(
            reader, tiles, detector, settings=settings.detection, threads=threads, enough=lambda number: number >= goal
        )
        look = second_look(look, found.cells, settings.second_look, force=settings.force)
        rows, stain = cell_rows(look, found.cells, detector), None
        mpp = scale_for(classifier, look, settings)
        if classifier is not None and mpp:
            cut = from_slide(reader.lit, slide, mpp, classifier)
            stain = stain_of_slide(rows[0], cut, classifier, settings.stain)
            rows = with_second_opinion(*rows, stain.brought(cut) if stain else cut, classifier)
        read = _finish_slide(look, slide, area, found, reader.sharp, rows, settings)
        return replace(read, stain_apart=stain.apart if stain else None)


def tiles_to_read(look: Look, area: Readable, detector: Detector, settings: ReadSettings) -> list[Tile]:
    """The tiles of the readable area in random order; raises NotASmearError where there are none."""
    mpp = look.resolution.mpp if settings.common_scale else None
    tiles = area.select(tile_plan(look, detector, mpp, settings), settings.regions.covered)
    if not tiles:
        why = "its overview is empty, too dark or too thick"
        raise NotASmearError(f"{look.path.name} has no readable area", why=why)
    # By size, not by content: the same slide in another format is read at the same places.
    order = np.random.default_rng([settings.seed, look.width, look.height]).permutation(len(tiles))
    return [tiles[number] for number in order]


class TileReader:
    """Tile → pixels at the detector's scale, all with the white of the same samples; notes how sharp each was."""

    def __init__(self, slide: Slide, samples: Sequence[Image], mpp: float, settings: ReadSettings) -> None:
        self._slide, self._mpp = slide, mpp
        self._light = estimate_illumination(samples, settings.appearance)
        self._levels = AppearanceSettings(flat_field=False, white_point=settings.appearance.white_point)
        self.sharp: dict[int, float] = {}

    def __call__(self, tile: Tile) -> Image:
        pixels = self._slide.read_scaled(tile.box, tile.downsample)
        rgb = normalise(pixels, self._levels, illumination=self._light)
        self.sharp[tile.index] = sharpness(rgb, self._mpp)
        return rgb

    def lit(self, slide: Slide, box: Box, downsample: float) -> Image | None:
        """Any box with the same white, None where a damaged part of the file lies in it."""
        pixels = _pixels(slide, box, downsample)
        return None if pixels is None else normalise(pixels, self._levels, illumination=self._light)


def scaled(look: Look, slide: Slide, settings: ReadSettings) -> Look:
    """The look with a resolution: its own, or that of the red cells in places of the readable area."""
    if look.resolution.mpp:
        return look
    tiles = _readable(slide, settings).select(plan(slide.bounds, mpp_slide=None, detector_mpp=0.25), 0.5)
    order = np.random.default_rng(settings.seed).permutation(len(tiles))
    estimate = estimate_mpp(_samples(slide, [tiles[number] for number in order], 24))
    if estimate is None or not MPP_RANGE[0] <= estimate.mpp <= MPP_RANGE[1]:
        why = "the file does not state it and too few red cells show it"
        remedy = "Pass --mpp with its µm per pixel"
        raise ResolutionError(f"{look.path.name} has no known resolution", why=why, remedy=remedy)
    slide.resolution = Resolution(estimate.mpp, "red cells", estimate.uncertainty)
    return replace(look, resolution=slide.resolution)


def _readable(slide: Slide, settings: ReadSettings) -> Readable:
    """The readable area; all of a slide whose overview is damaged, whose tiles then say what can be read."""
    try:
        return readable(slide, settings.regions)
    except InputError:
        return Readable(np.ones((1, 1), bool), max(slide.width, slide.height), slide.mpp)


def _samples(slide: Slide, tiles: Sequence[Tile], most: int) -> list[Image]:
    """Pixels of the first tiles that can be read; raises InputError where none can."""
    images: list[Image] = []
    last: Exception | None = None
    for tile in tiles[: 4 * most]:
        try:
            images.append(slide.read_scaled(tile.box, tile.downsample))
        except (MyelosError, OSError) as error:
            last = error
        if len(images) == most:
            break
    if not images:
        raise InputError(f"{slide.path.name} cannot be read", why=str(last or "no tile"))
    return images


def _finish_slide(
    look: Look,
    slide: Slide,
    area: Readable,
    found: Detected,
    sharp: dict[int, float],
    rows: tuple[list[dict[str, Any]], list[dict[str, Any]]],
    settings: ReadSettings,
) -> Reading:
    cells, opinions = rows
    crops = {}
    for row in chosen(cells, settings.crops):
        pixels = _pixels(slide, around(row, settings), 1.0)
        if pixels is not None:
            crops[row["cell_id"]] = png(pixels)
    overview = _pixels(slide, slide.bounds, max(1.0, max(slide.width, slide.height) / settings.picture))
    bad = len(found.failed) > settings.bad_tiles * max(1, len(found.failed) + len(found.read))
    return Reading(
        look,
        cells,
        opinions,
        tile_rows(look, found, sharp, area),
        area.rows(look.slide_id),
        crops,
        b"" if overview is None else jpeg(overview, 1.0),
        1.0 if overview is None else overview.shape[1] / look.width,
        area=found.area,
        partial=bad,
    )


def _pixels(slide: Slide, box: Box, downsample: float) -> Image | None:
    """A picture for people, None where a damaged part of the file lies in it."""
    try:
        return slide.read_scaled(box, downsample)
    except InputError:
        return None
