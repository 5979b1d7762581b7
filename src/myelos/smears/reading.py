"""An image → its cells: read, prepare, tile, detect, and take each cell's picture.

Fields are read whole and kept at the common scale; slides are read tile by tile in random order within the readable
area, until enough cells were found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.detection.found import Found
from myelos.detection.prepare import prepare
from myelos.detection.run import Detected, DetectionSettings, ahead, ask, batches, detect, resolve
from myelos.detection.tiling import Tile, plan
from myelos.errors import InputError, MyelosError, NotASmearError, ResolutionError
from myelos.geometry import Box
from myelos.imaging.appearance import AppearanceSettings, estimate_illumination, normalise
from myelos.imaging.scale import estimate_mpp
from myelos.models.types import Detector
from myelos.regions import Readable, RegionSettings, readable
from myelos.slides import open_slide
from myelos.slides.base import MPP_RANGE, Resolution, Slide
from myelos.smears.inputs import SetAside
from myelos.smears.looking import Look, doubt, read_whole

Image = NDArray[np.uint8]  # (height, width, 3) RGB


@dataclass(frozen=True)
class ReadSettings:
    """How images are read. cells: of a slide, how many to find before reading ends, None for all; fields are always
    read in full. margin: so many more, because some are not part of the hundred. samples: tiles of a slide that are
    judged and whose background is its white. bad_tiles: share of unreadable tiles above which a result is partial.
    crop_margin: share of a cell's sides added around it. picture: longer side of a field's picture in pixels.
    """

    detection: DetectionSettings = field(default_factory=DetectionSettings)
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    regions: RegionSettings = field(default_factory=RegionSettings)
    common_scale: bool = True
    cells: int | None = 500
    margin: float = 0.2
    samples: int = 9
    bad_tiles: float = 0.05
    crop_margin: float = 0.15
    crops: int = 400  # of one type and smear, least certain first
    picture: int = 1280
    seed: int = 0
    force: bool = False


@dataclass(frozen=True)
class Reading:
    """One image and what was found on it; rows are of the tables of the same names."""

    look: Look
    cells: list[dict[str, Any]]
    opinions: list[dict[str, Any]]
    tiles: list[dict[str, Any]]
    regions: list[dict[str, Any]]
    crops: dict[str, bytes]  # cell_id → PNG at full resolution
    picture: bytes  # JPEG, empty where there is none
    picture_scale: float
    area: float  # level-0 pixels that were read
    partial: bool = False

    @property
    def area_mm2(self) -> float | None:
        mpp = self.look.resolution.mpp
        return self.area * mpp**2 / 1e6 if mpp else None


def read_all(
    looks: Sequence[Look],
    detector: Detector,
    *,
    settings: ReadSettings,
    threads: int,
    step: Callable[[], None],
) -> Iterator[Reading | SetAside]:
    """Every image of a smear, fields before slides, each in the order of `looks`."""
    fields = [look for look in looks if not look.by_tiles]
    loaded = ahead(lambda look: _tried(_load, look, detector, settings), fields, threads=threads, depth=4 + threads)
    for group in batches(loaded, 4):  # a few fields at a time keep every core of the detector busy
        good = [item for item in group if isinstance(item, _Field)]
        found = dict(zip((item.look.slide_id for item in good), _detect_fields(good, detector, settings), strict=True))
        for item in group:
            step()
            yield (
                _finish_field(item, found[item.look.slide_id], detector, settings) if isinstance(item, _Field) else item
            )
    for look in looks:
        if look.by_tiles:
            yield _tried(
                lambda one, *_: read_slide(one, detector, settings=settings, threads=threads), look, detector, settings
            )
            step()


def _tried(function: Callable[..., Any], look: Look, *rest: Any) -> Any:
    """The function's answer, or why the image is set aside."""
    try:
        return function(look, *rest)
    except NotASmearError as error:
        return SetAside.by(error, number=look.number, path=look.path, reason="no smear", slide_id=look.slide_id)
    except ResolutionError as error:
        return SetAside.by(error, number=look.number, path=look.path, reason="no scale", slide_id=look.slide_id)
    except InputError as error:
        return SetAside.by(error, number=look.number, path=look.path, reason="unreadable", slide_id=look.slide_id)


# --- fields ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Field:
    look: Look
    rgb: Image  # as the file has it
    prepared: Image  # at the detector's scale
    tiles: list[Tile]


def _load(look: Look, detector: Detector, settings: ReadSettings) -> _Field:
    rgb = read_whole(look.path)
    mpp = look.resolution.mpp if settings.common_scale else None
    prepared = prepare(rgb, factor=mpp / detector.mpp if mpp else 1.0, appearance=settings.appearance)
    return _Field(look, rgb, prepared, _plan(look, detector, mpp, settings))


def _plan(look: Look, detector: Detector, mpp: float | None, settings: ReadSettings) -> list[Tile]:
    bounds = Box(0, 0, look.width, look.height)
    overlap = settings.detection.overlap
    return plan(bounds, mpp_slide=mpp, detector_mpp=detector.mpp, tile=detector.tile, overlap_um=overlap)


def _detect_fields(fields: Sequence[_Field], detector: Detector, settings: ReadSettings) -> list[Detected]:
    """All tiles of a few fields in common batches."""
    boxes = iter(ask(detector, [tile.cut(item.prepared) for item in fields for tile in item.tiles]))
    results = []
    for item in fields:
        answers = [(tile, next(boxes)) for tile in item.tiles]
        results.append(Detected(resolve(answers, item.tiles, detector, settings.detection), tuple(item.tiles)))
    return results


def _finish_field(item: _Field, found: Detected, detector: Detector, settings: ReadSettings) -> Reading:
    cells, opinions = _cell_rows(item.look, found.cells, detector)
    crops = {row["cell_id"]: _png(_cut(item.rgb, _around(row, settings))) for row in cells}
    sharp = {tile.index: sharpness(tile.cut(item.prepared)) for tile in item.tiles}
    scale = min(1.0, settings.picture / max(item.rgb.shape[:2]))
    tiles = _tile_rows(item.look, found, sharp, None)
    return Reading(
        item.look,
        cells,
        opinions,
        tiles,
        [],
        crops,
        _jpeg(item.rgb, scale),
        scale,
        area=item.look.width * item.look.height,
    )


# --- slides ---------------------------------------------------------------------------------------------------------


def read_slide(look: Look, detector: Detector, *, settings: ReadSettings, threads: int) -> Reading:
    """Tiles in random order within the readable area until enough cells were found.

    Raises ResolutionError where no scale is known and no red cells tell it, NotASmearError where nothing is readable
    or what is there is no smear.
    """
    with open_slide(look.path, mpp=look.resolution.mpp) as slide:
        look = scaled(look, slide, settings)
        area = _readable(slide, settings)
        mpp = look.resolution.mpp if settings.common_scale else None
        tiles = area.select(_plan(look, detector, mpp, settings), settings.regions.covered)
        if not tiles:
            raise NotASmearError(
                f"{look.path.name} has no readable area", why="its overview is empty, too dark or too thick"
            )
        order = np.random.default_rng([settings.seed, int(look.slide_id, 16)]).permutation(len(tiles))
        tiles = [tiles[number] for number in order]
        samples = _samples(slide, tiles, settings.samples)
        why = "" if settings.force else doubt(samples, detector.mpp)
        if why:
            raise NotASmearError(f"{look.path.name} shows no smear", why=why, remedy="Pass --force to count it")
        light, sharp = estimate_illumination(samples, settings.appearance), {}
        levels = AppearanceSettings(flat_field=False, white_point=settings.appearance.white_point)

        def read(tile: Tile) -> Image:
            rgb = normalise(slide.read_scaled(tile.box, tile.downsample), levels, illumination=light)
            sharp[tile.index] = sharpness(rgb)
            return rgb

        goal = math.inf if settings.cells is None else settings.cells * (1 + settings.margin)
        found = detect(
            read, tiles, detector, settings=settings.detection, threads=threads, enough=lambda number: number >= goal
        )
        return _finish_slide(look, slide, area, found, sharp, detector, settings)


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
    detector: Detector,
    settings: ReadSettings,
) -> Reading:
    cells, opinions = _cell_rows(look, found.cells, detector)
    crops = {}
    for row in chosen(cells, settings.crops):
        pixels = _pixels(slide, _around(row, settings), 1.0)
        if pixels is not None:
            crops[row["cell_id"]] = _png(pixels)
    overview = _pixels(slide, slide.bounds, max(1.0, max(slide.width, slide.height) / settings.picture))
    bad = len(found.failed) > settings.bad_tiles * max(1, len(found.failed) + len(found.read))
    return Reading(
        look,
        cells,
        opinions,
        _tile_rows(look, found, sharp, area),
        area.rows(look.slide_id),
        crops,
        b"" if overview is None else _jpeg(overview, 1.0),
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


# --- rows and pictures ----------------------------------------------------------------------------------------------


def _cell_rows(look: Look, found: Found, detector: Detector) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `cells` and `opinions`, numbered top to bottom and left to right."""
    cells, opinions = [], []
    width, height = look.width, look.height
    for number, (xywh, kind) in enumerate(zip(found.xywh.tolist(), found.types.tolist(), strict=True), 1):
        box = Box(*xywh).clipped(width, height)
        name = {"slide_id": look.slide_id, "cell_id": f"{look.slide_id}-{number}", "cell_type": detector.types[kind]}
        shares = found.probabilities[number - 1]
        where = {"x": box.x, "y": box.y, "width": box.width, "height": box.height, "tile": int(found.tile[number - 1])}
        cells.append({**name, **where, "score": float(found.scores[number - 1]), "probability": float(shares[kind])})
        opinions.append({**name, "source": detector.name, "scheme": "myelos", "probabilities": shares.tolist()})
    return cells, opinions


def _tile_rows(look: Look, found: Detected, sharp: dict[int, float], area: Readable | None) -> list[dict[str, Any]]:
    number = {index: int(count) for index, count in zip(*np.unique(found.cells.tile, return_counts=True), strict=True)}
    reasons = {tile.index: reason for tile, reason in found.failed}
    rows = []
    for tile in sorted([*found.read, *(tile for tile, _ in found.failed)], key=lambda tile: tile.index):
        box, failed = tile.box, tile.index in reasons
        where = {"x": box.x, "y": box.y, "width": box.width, "height": box.height}
        reason = "unreadable" if failed else None
        cells = None if failed else number.get(tile.index, 0)
        row = {"slide_id": look.slide_id, "tile": tile.index, **where, "cells": cells, "set_aside": reason}
        region = area.region_of(tile.core) if area else None
        rows.append(row | {"sharpness": sharp.get(tile.index), "region": region})
    return rows


def chosen(cells: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Cells whose picture is kept: up to `most` of each type, least certain first."""
    ranked = sorted(cells, key=lambda row: (row["probability"], row["cell_id"]))
    taken: dict[str, int] = {}
    kept = []
    for row in ranked:
        taken[row["cell_type"]] = taken.get(row["cell_type"], 0) + 1
        if taken[row["cell_type"]] <= most:
            kept.append(row)
    return kept


def sharpness(rgb: Image) -> float:
    """Variance of the Laplacian of the green channel."""
    return float(cv2.Laplacian(np.ascontiguousarray(rgb[..., 1]), cv2.CV_32F).var())


def _around(row: dict[str, Any], settings: ReadSettings) -> Box:
    """The square around a cell, on whole pixels."""
    side = max(row["width"], row["height"]) * (1 + 2 * settings.crop_margin)
    x, y = row["x"] + row["width"] / 2 - side / 2, row["y"] + row["height"] / 2 - side / 2
    return Box(math.floor(x), math.floor(y), math.ceil(side), math.ceil(side))


def _cut(rgb: Image, box: Box) -> Image:
    height, width = rgb.shape[:2]
    inside = box.clipped(width, height)
    return rgb[int(inside.y) : int(inside.bottom), int(inside.x) : int(inside.right)]


def _png(rgb: Image) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def _jpeg(rgb: Image, scale: float) -> bytes:
    if scale < 1:
        size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
