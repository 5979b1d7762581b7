"""Tiled and pyramidal TIFF and BigTIFF, read tile by tile without OpenSlide; JPEG tiles are decoded directly.

Several threads may read at once: tiles are fetched by position, and only the small cache of decoded tiles is locked.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.errors import InputError
from myelos.geometry import Box
from myelos.slides import colour
from myelos.slides.base import OUTSIDE, Image, Slide, Source
from myelos.slides.files import too_large
from myelos.slides.resolution import doubts, resolution_of
from myelos.slides.tiff_decode import TileDecoder
from myelos.slides.tiff_layout import Layout, number, read_layout, segment_size

CACHE_BYTES = 64 * 2**20  # decoded tiles kept: some rows of overlapping reads
TILE_LIMIT = 2**26  # px of one tile or strip


class TiffSlide(Slide):
    """A TIFF whose tiles (or strips) are decoded when they are needed."""

    reader = "tiff"

    def __init__(self, path: Path, *, mpp: float | None = None) -> None:
        """Read the directories. Raises InputError for damaged ones and for codecs that are not read."""
        self.path = path
        layout = read_layout(path)
        width, height = segment_size(layout.pages[0])
        if width * height > TILE_LIMIT:
            raise too_large(path, width, height)
        self._file = _File(path)
        self._cache = _Cache(CACHE_BYTES)
        self._decoders = [TileDecoder(page, path.name) for page in layout.pages]
        self.levels, self.properties = layout.levels, layout.properties
        self.kind = "slide" if layout.pages[0].is_tiled or len(layout.levels) > 1 else "field"
        self.resolution = resolution_of(layout.mpp, mpp)
        self.warnings = (*doubts(layout.mpp), *_remarks(layout))
        self._check_range()

    def _check_range(self) -> None:
        """16-bit samples without a declared white: look at a few tiles before believing 65535."""
        decoder = self._decoders[0]
        if not decoder.undeclared:
            return
        count = decoder.columns * decoder.rows
        found = [self._samples(i) for i in sorted({0, count // 4, count // 2, 3 * count // 4, count - 1})]
        largest = max((int(tile.max(initial=0)) for tile in found if tile is not None), default=0)
        colour.refuse_dark(largest, self.path.name)

    def _samples(self, index: int) -> NDArray[Any] | None:
        try:
            data = self._data(0, index)
            return self._decoders[0].samples(data, index) if data else None
        except InputError:
            return None  # a bad tile says so when it is read

    def _data(self, level: int, index: int) -> list[bytes]:
        return [self._file.read(offset, length) for offset, length in self._decoders[level].segments(index)]

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Image:
        decoder = self._decoders[level]
        return _assemble(x, y, width, height, decoder, 1, lambda i: self._tile(level, i, 1))

    def sources(self) -> list[Source]:
        """The levels, and the coarsest again at an eighth, which JPEG decodes as means of 8 × 8 pixels."""
        last = len(self.levels) - 1
        decoder = self._decoders[last]
        if not decoder.scalable:
            return super().sources()

        def eighth(x: int, y: int, width: int, height: int) -> Image:
            return _assemble(x, y, width, height, decoder, 8, lambda i: self._tile(last, i, 8))

        return [*super().sources(), Source(8 * self.levels[last].downsample, eighth)]

    def _tile(self, level: int, index: int, shrink: int) -> Image | None:
        """A decoded tile, None where the file has none. Raises InputError naming it."""
        key = (level, index, shrink)
        found = self._cache.get(key)
        if found is not None:
            return found
        decoder = self._decoders[level]
        data = self._data(level, index)
        if not data:
            return None
        try:
            tile = decoder.shrunk(data[0]) if shrink > 1 else decoder.rgb(data, index)
        except InputError as error:
            column, row = index % decoder.columns, index // decoder.columns
            where = f"Tile ({column}, {row}) of level {level} of {self.path.name} cannot be read"
            raise InputError(where, why=error.why or error.what) from None
        self._cache.put(key, tile)
        return tile

    def missing(self, box: Box) -> float:
        inside = box.clipped(self.width, self.height)
        decoder = self._decoders[0]
        if inside.area == 0:
            return 0.0
        lost = 0.0
        for column, row in decoder.covering(
            int(inside.x), int(inside.y), int(np.ceil(inside.right)), int(np.ceil(inside.bottom))
        ):
            if not decoder.segments(row * decoder.columns + column):
                tile = Box(column * decoder.width, row * decoder.height, decoder.width, decoder.height)
                right, bottom = min(tile.right, inside.right), min(tile.bottom, inside.bottom)
                lost += (right - max(tile.x, inside.x)) * (bottom - max(tile.y, inside.y))
        return lost / inside.area

    def close(self) -> None:
        self._file.close()


def _remarks(layout: Layout) -> tuple[str, ...]:
    orientation = number(layout.pages[0], 274) or 1
    return ("The file asks to be turned; a tiled image is read as it is stored",) if orientation != 1 else ()


def _assemble(
    x: int, y: int, width: int, height: int, decoder: TileDecoder, shrink: int, tile: Callable[[int], Image | None]
) -> Image:
    """Tiles → one region, in pixels that are `shrink` times those of the level."""
    result = np.full((height, width, 3), OUTSIDE, np.uint8)
    tile_width, tile_height = decoder.width // shrink, decoder.height // shrink
    right = min(x + width, -(-decoder.image_width // shrink))
    bottom = min(y + height, -(-decoder.image_height // shrink))
    left, top = max(x, 0), max(y, 0)
    for row in range(top // tile_height, -(-bottom // tile_height) if bottom > top else 0):
        for column in range(left // tile_width, -(-right // tile_width) if right > left else 0):
            pixels = tile(row * decoder.columns + column)
            if pixels is None:
                continue
            tx, ty = column * tile_width, row * tile_height
            x1, y1 = max(left, tx), max(top, ty)
            part = pixels[y1 - ty : bottom - ty, x1 - tx : right - tx]
            result[y1 - y : y1 - y + part.shape[0], x1 - x : x1 - x + part.shape[1]] = part
    return result


class _File:
    """Reads at a position without moving a shared one, where the system can."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def read(self, offset: int, length: int) -> bytes:
        if length == 0:
            return b""
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), length, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(length)

    def close(self) -> None:
        self._file.close()


class _Cache:
    """The tiles decoded last, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._tiles: OrderedDict[tuple[int, int, int], Image] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int, int]) -> Image | None:
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: tuple[int, int, int], tile: Image) -> None:
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self._held += tile.nbytes
            while self._held > self._limit and len(self._tiles) > 1:
                self._held -= self._tiles.popitem(last=False)[1].nbytes


def decode_whole(path: Path, limit: int) -> tuple[Image, float | None, dict[str, str]]:
    """A small TIFF at once, turned as its orientation asks: pixels, claimed µm/px, properties."""
    layout = read_layout(path)
    page = layout.pages[0]
    if page.imagewidth * page.imagelength > limit:
        raise too_large(path, page.imagewidth, page.imagelength)
    with TiffSlide(path) as slide:
        pixels = slide.read_level(0, 0, 0, slide.width, slide.height)
    return colour.oriented(pixels, int(number(page, 274) or 1)), layout.mpp, layout.properties
