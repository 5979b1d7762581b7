"""Pixels: OpenSlide, TIFF, DICOM and plain fields behind one interface, `open_slide(path) -> Slide`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from myelos.errors import InputError, UsageError
from myelos.slides import files
from myelos.slides.base import MPP_RANGE, OUTSIDE, Image, Level, Resolution, Slide
from myelos.slides.field import FieldSlide
from myelos.slides.openslide import OpenSlideSlide, vendor
from myelos.slides.tiff import TiffSlide
from myelos.slides.tiff_decode import plain_colours
from myelos.slides.tiff_layout import Layout, read_layout, segment_size

__all__ = ["MPP_RANGE", "OUTSIDE", "READERS", "Image", "Level", "Resolution", "Slide", "open_slide"]

READERS: dict[str, type[OpenSlideSlide] | type[TiffSlide] | type[FieldSlide]] = {
    "openslide": OpenSlideSlide,
    "tiff": TiffSlide,
    "field": FieldSlide,
}
DIRECT = (None, "aperio", "generic-tiff")  # what OpenSlide calls the TIFFs whose tiles need no knowledge of a vendor
FIELD_PIXELS = 50_000_000  # a TIFF in strips up to this size is a photograph, beyond it is read strip by strip
PROBE_SIDE = 16  # px


def open_slide(path: str | Path, *, mpp: float | None = None, reader: str | None = None) -> Slide:
    """Open a slide or a camera field, by its content; a folder is taken as a DICOM slide.

    mpp: µm per pixel of level 0 as a person states it; it goes before what the file claims.
    reader: openslide, tiff or field, where the choice shall not be automatic.
    Raises InputError naming the file where it is missing, empty, truncated, damaged or of no known kind, and UsageError
    for an unknown reader or an impossible `mpp`.
    """
    if reader is not None and reader not in READERS:
        raise UsageError(f"There is no reader {reader!r}", remedy=f"Choose one of {', '.join(READERS)}")
    path = files.resolve(Path(path))
    slide = READERS[reader or choose(path)](path, mpp=mpp)
    try:
        _probe(slide)
    except InputError:
        slide.close()
        raise
    return slide


def choose(path: Path) -> str:
    """Name of the reader for a file, from its first bytes and, for TIFF, its directories."""
    form = files.sniff(path)
    if form in ("jpeg", "png", "bmp"):
        return "field"
    if form != "tiff":
        return "openslide"
    maker = vendor(path)
    if path.suffix.lower() == ".ndpi" or maker not in DIRECT:
        return "openslide"
    layout = read_layout(path)
    if maker is not None and not plain_colours(layout.pages[0]):
        return "openslide"
    return "tiff" if _wants_tiles(layout) else "field"


def _wants_tiles(layout: Layout) -> bool:
    page = layout.pages[0]
    width, height = segment_size(page)
    pixels = page.imagewidth * page.imagelength
    return bool(page.is_tiled) or len(layout.pages) > 1 or (pixels > FIELD_PIXELS and width * height < pixels)


def _probe(slide: Slide) -> None:
    """Read a little of level 0 at five places; only where all fail is the slide refused."""
    failed: InputError | None = None
    for across, down in ((0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25)):
        x, y = int(across * max(slide.width - PROBE_SIDE, 0)), int(down * max(slide.height - PROBE_SIDE, 0))
        try:
            pixels = slide.read_level(0, x, y, PROBE_SIDE, PROBE_SIDE)
        except InputError as error:
            failed = failed or error
        else:
            assert pixels.dtype == np.uint8
            return
    raise InputError(
        f"{slide.path.name} cannot be read at full resolution", why=str(failed), remedy="Copy it again from its source"
    )
