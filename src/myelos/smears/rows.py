"""What reading an image gives: settings, rows of tables, and pictures of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.detection.found import Found
from myelos.detection.run import Detected, DetectionSettings
from myelos.detection.tiling import Tile, plan
from myelos.geometry import Box
from myelos.imaging.appearance import AppearanceSettings
from myelos.models.types import Detector
from myelos.regions import Readable, RegionSettings
from myelos.smears.looking import Look
from myelos.smears.second_look import SecondLookSettings

Image = NDArray[np.uint8]  # (height, width, 3) RGB


@dataclass(frozen=True, slots=True)
class StainSettings:
    """match: whether cells in another stain are brought to that of the classifier's training cells before it is asked.
    cells: so many tell the stain of a smear; fewest: below this nothing is matched, because few cells tell their types,
    too."""

    match: bool = True
    cells: int = 200
    fewest: int = 8


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
    second_look: SecondLookSettings = field(default_factory=SecondLookSettings)
    stain: StainSettings = field(default_factory=StainSettings)
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
    stain_apart: float | None = None  # distance of the smear's from the nearest that the classifier was taught

    @property
    def area_mm2(self) -> float | None:
        mpp = self.look.resolution.mpp
        return self.area * mpp**2 / 1e6 if mpp else None


def cell_rows(look: Look, found: Found, detector: Detector) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
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


def tile_rows(look: Look, found: Detected, sharp: dict[int, float], area: Readable | None) -> list[dict[str, Any]]:
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


def around(row: dict[str, Any], settings: ReadSettings) -> Box:
    """The square around a cell, on whole pixels."""
    side = max(row["width"], row["height"]) * (1 + 2 * settings.crop_margin)
    x, y = row["x"] + row["width"] / 2 - side / 2, row["y"] + row["height"] / 2 - side / 2
    return Box(math.floor(x), math.floor(y), math.ceil(side), math.ceil(side))


def cut(rgb: Image, box: Box) -> Image:
    height, width = rgb.shape[:2]
    inside = box.clipped(width, height)
    return rgb[int(inside.y) : int(inside.bottom), int(inside.x) : int(inside.right)]


def png(rgb: Image) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def jpeg(rgb: Image, scale: float) -> bytes:
    if scale < 1:
        size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def tile_plan(look: Look, detector: Detector, mpp: float | None, settings: ReadSettings) -> list[Tile]:
    """Tiles of a whole image; mpp: its µm per pixel, None where it is read at its own scale."""
    bounds = Box(0, 0, look.width, look.height)
    overlap = settings.detection.overlap
    return plan(bounds, mpp_slide=mpp, detector_mpp=detector.mpp, tile=detector.tile, overlap_um=overlap)
