"""Slides through OpenSlide: SVS, NDPI, MRXS, SCN, BIF, VSI, DICOM and the rest.

A handle of OpenSlide is dead after its first error; it is opened again, so that one bad tile does not end a slide.
"""

from __future__ import annotations

import configparser
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from myelos.errors import InputError
from myelos.geometry import Box
from myelos.slides import colour, files
from myelos.slides.base import OUTSIDE, Image, Level, Slide, Source
from myelos.slides.resolution import agreeing, doubts, resolution_of
from myelos.slides.tiff_layout import check_directories, snapped

MISSING_SIDE = 512  # px; the share of missing pixels is taken from a picture of this size
TRANSFER = {
    "1.2.840.10008.1.2": "NONE",
    "1.2.840.10008.1.2.1": "NONE",
    "1.2.840.10008.1.2.4.50": "JPEG",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000, lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE",
}
BOUNDS = ("x", "y", "width", "height")
# DICOM demands a manufacturer and a model; converters write these where they know none.
PLACEHOLDERS = frozenset({"", "-", "n/a", "na", "none", "not available", "not specified", "undefined", "unknown"})


class OpenSlideSlide(Slide):
    """A slide behind libopenslide."""

    kind = "slide"
    reader = "openslide"

    def __init__(self, path: Path, *, mpp: float | None = None) -> None:
        """Open `path`. Raises InputError naming a missing companion file, or with OpenSlide's own reason."""
        self.path = path
        form = files.sniff(path)
        if form == "mrxs":
            check_companions(path)
        elif form == "tiff" and path.suffix.lower() != ".ndpi":
            check_directories(path)
        self._lock = threading.Lock()
        self._handle = _open(path)
        found = self._handle.properties
        self._downsamples = [float(factor) for factor in self._handle.level_downsamples]
        sizes = self._handle.level_dimensions
        self.levels = tuple(Level(w, h, snapped(sizes[0][0], sizes[0][1], w, h)) for w, h in sizes)
        claimed = _claimed_mpp(found)
        self.resolution = resolution_of(claimed, mpp)
        self.warnings = doubts(claimed)
        self.properties = _properties(found, self._handle)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Image:
        result = np.full((height, width, 3), OUTSIDE, np.uint8)
        x1, y1 = max(x, 0), max(y, 0)
        x2, y2 = min(x + width, self.levels[level].width), min(y + height, self.levels[level].height)
        if x2 > x1 and y2 > y1:
            rgba = self._read(level, x1, y1, x2 - x1, y2 - y1)
            result[y1 - y : y2 - y, x1 - x : x2 - x] = colour.over_white(rgba[..., :3], rgba[..., 3])
        return result

    def sources(self) -> list[Source]:
        """OpenSlide takes positions in level-0 pixels: where a level's factor is no whole number it interpolates."""
        exact = [
            abs(given - level.downsample) * max(level.width, level.height) < 0.1
            for given, level in zip(self._downsamples, self.levels, strict=True)
        ]
        return [replace(source, exact=whole) for source, whole in zip(super().sources(), exact, strict=True)]

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> Image:
        """(height, width, 4) of a region inside the level."""
        import openslide

        factor = self._downsamples[level]
        with self._lock:
            handle = self._handle
        try:
            region = handle.read_region((round(x * factor), round(y * factor)), level, (width, height))
            return np.asarray(region)
        except (openslide.OpenSlideError, OSError, ValueError) as error:
            self._reopen(handle)
            where = f"The region {width} × {height} at ({x}, {y}) of level {level} of {self.path.name} cannot be read"
            raise InputError(where, why=str(error)) from None

    def _reopen(self, broken: Any) -> None:
        with self._lock:
            if self._handle is broken:  # another thread may have been faster
                self._handle = _open(self.path)
        # The broken handle is not closed here: other threads may still be inside it. Its last user frees it.

    def missing(self, box: Box) -> float:
        """From alpha: OpenSlide leaves transparent what a scanner skipped or a file lost."""
        inside = box.clipped(self.width, self.height)
        if inside.area == 0:
            return 0.0
        level = self.best_level(max(inside.width, inside.height) / MISSING_SIDE)
        factor = self.levels[level].downsample
        x, y = int(inside.x / factor), int(inside.y / factor)
        width = max(1, min(round(inside.width / factor), self.levels[level].width - x))
        height = max(1, min(round(inside.height / factor), self.levels[level].height - y))
        return float((self._read(level, x, y, width, height)[..., 3] == 0).mean())

    def close(self) -> None:
        self._handle.close()


def vendor(path: Path) -> str | None:
    """OpenSlide's name of the format, None where it does not know the file."""
    import openslide

    try:
        found = openslide.OpenSlide.detect_format(str(path))
    except (openslide.OpenSlideError, OSError, ValueError):
        return None
    return str(found) if found else None


def _open(path: Path) -> Any:
    import openslide

    try:
        return openslide.OpenSlide(str(path))
    except openslide.OpenSlideUnsupportedFormatError:
        raise InputError(
            f"{path.name} is not an image that can be read", remedy=f"These formats are: {files.READABLE}"
        ) from None
    except (openslide.OpenSlideError, OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be opened", why=str(error)) from None


def check_companions(path: Path) -> None:
    """Raise InputError naming the first file of an MRXS slide that is missing or empty."""
    folder = path.with_suffix("")
    index = folder / "Slidedat.ini"
    if not index.is_file():
        raise InputError(
            f"{path.name} is incomplete: {folder.name}/Slidedat.ini is missing",
            remedy="An MRXS slide is a file and a folder of the same name: copy both",
        )
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(index.read_text(encoding="utf-8-sig", errors="replace"))
    except configparser.Error as error:
        raise InputError(
            f"{path.name} is damaged: {folder.name}/Slidedat.ini", why=str(error).splitlines()[0]
        ) from None
    names = [parser.get("HIERARCHICAL", "INDEXFILE", fallback="Index.dat")]
    if parser.has_section("DATAFILE"):
        names += [value for key, value in parser.items("DATAFILE") if key.startswith("file_") and key != "file_count"]
    for name in names:
        companion = folder / name
        if not companion.is_file() or companion.stat().st_size == 0:
            state = "is empty" if companion.is_file() else "is missing"
            raise InputError(
                f"{path.name} is incomplete: {folder.name}/{name} {state}", remedy="Copy the folder again as a whole"
            )


def _claimed_mpp(found: Any) -> float | None:
    try:
        return agreeing(float(found["openslide.mpp-x"]), float(found["openslide.mpp-y"]))
    except (KeyError, ValueError):
        return None


def scanner_name(manufacturer: str, model: str) -> str:
    """Maker and model of a scanner, without words that stand for nothing; empty where nothing is left."""
    maker, model = (name.strip() if name.strip().lower() not in PLACEHOLDERS else "" for name in (manufacturer, model))
    return model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()


def _properties(found: Any, handle: Any) -> dict[str, str]:
    """A positive list: everything else may name a person."""
    wanted = {
        "format": "openslide.vendor",
        "objective": "openslide.objective-power",
        "manufacturer": "dicom.Manufacturer",
        "model": "dicom.ManufacturerModelName",
        "compression": "dicom.TransferSyntaxUID",
        "bits": "dicom.BitsStored",
        "colour": "dicom.PhotometricInterpretation",
    }
    properties = {name: str(found[key]) for name, key in wanted.items() if key in found}
    if "compression" in properties:
        properties["compression"] = TRANSFER.get(properties["compression"], properties["compression"])
    scanner = scanner_name(properties.pop("manufacturer", ""), properties.pop("model", ""))
    if scanner or properties.get("format") not in ("generic-tiff", "dicom", None):
        properties["scanner"] = scanner or properties["format"]
    width, height = (found.get(f"openslide.level[0].tile-{side}") for side in ("width", "height"))
    if width and height:
        properties["tile"] = f"{width} × {height}"
    bounds = [found.get(f"openslide.bounds-{side}") for side in BOUNDS]
    if all(bounds):  # viewers that crop to the bounds count from there
        properties["bounds"] = " ".join(str(value) for value in bounds)
    profile = getattr(handle, "color_profile", None)
    if profile is not None:
        properties["icc_sha256"] = colour.digest(profile.tobytes())
    return properties
