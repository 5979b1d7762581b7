"""Writes pyramidal tiled JPEG TIFF, as OpenSlide, QuPath and this program read it.

A whole array may be given, or `Rows`: strips from top to bottom, of which only one row of tiles per level is ever held,
so that a slide of any size can be written within bounded memory. The same pixels give the same bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError
from myelos.slides.base import Image

SMALLEST_SIDE = 1024  # px; the pyramid ends with the first level whose longer side is no longer than this
CLASSIC_LIMIT = 2**32 - 2**26  # bytes; raw pixels beyond this may not fit into a TIFF with 32-bit offsets


@dataclass(frozen=True, slots=True)
class Rows:
    """An image that comes in strips: each (any height, `width`, 3) uint8 RGB, together `height` rows."""

    width: int
    height: int
    strips: Iterable[Image]


def write_tiff(
    path: str | Path,
    image: Image | Rows,
    *,
    mpp: float | None,
    tile: int = 256,
    quality: int = 80,
    levels: int | None = None,
) -> None:
    """Write `image` as a pyramidal TIFF with factor 2 between levels, all at once or not at all.

    image: (h, w, 3) uint8 RGB, or `Rows`. mpp: µm per pixel, kept as a resolution in centimetres; None leaves it out.
    tile: side of a tile in px, a multiple of 16. levels: their number; None goes on to a longer side of at most 1024.
    """
    if tile % 16 or tile <= 0:
        raise UsageError(f"Tiles of {tile} px cannot be written", why="TIFF wants a multiple of 16")
    rows = image if isinstance(image, Rows) else Rows(image.shape[1], image.shape[0], [image])
    sizes = level_sizes(rows.width, rows.height, levels)
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _write(partial, rows, sizes, mpp, tile, quality)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def level_sizes(width: int, height: int, levels: int | None) -> list[tuple[int, int]]:
    """(width, height) px of each level of a pyramid, as `write_tiff` writes it."""
    if width < 1 or height < 1 or (levels is not None and levels < 1):
        raise UsageError(f"An image of {width} × {height} px in {levels} levels cannot be written")
    sizes = [(width, height)]
    while len(sizes) < levels if levels is not None else max(sizes[-1]) > SMALLEST_SIDE:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def _write(path: Path, rows: Rows, sizes: list[tuple[int, int]], mpp: float | None, tile: int, quality: int) -> None:
    import tifffile

    raw = 3 * sum(width * height for width, height in sizes)
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".pyramid") as folder,
        tifffile.TiffWriter(path, bigtiff=raw > CLASSIC_LIMIT, byteorder="<") as writer,
    ):
        spools = [_Spool(Path(folder) / str(i)) for i in range(1, len(sizes))]
        try:
            writer.write(_first_level(rows, sizes, spools, tile, quality), **_tags(sizes[0], mpp, tile, reduced=False))
            for spool, size in zip(spools, sizes[1:], strict=True):
                writer.write(spool.tiles(), **_tags(size, None, tile, reduced=True))
        finally:
            for spool in spools:
                spool.close()


def _tags(size: tuple[int, int], mpp: float | None, tile: int, *, reduced: bool) -> dict[str, Any]:
    tags: dict[str, Any] = {
        "shape": (size[1], size[0], 3),
        "dtype": np.uint8,
        "tile": (tile, tile),
        "photometric": "ycbcr",
        "subsampling": (2, 2),
        "compression": "jpeg",
        "subfiletype": 1 if reduced else 0,
        "metadata": None,
        "software": "Myelos",
    }
    if mpp is not None:
        tags |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    return tags


class _Spool:
    """Encoded tiles of one lower level, kept on disk until the level's turn has come."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("w+b")
        self._lengths: list[int] = []

    def add(self, data: bytes) -> None:
        self._file.write(data)
        self._lengths.append(len(data))

    def tiles(self) -> Iterator[bytes]:
        self._file.seek(0)
        for length in self._lengths:
            yield self._file.read(length)

    def close(self) -> None:
        self._file.close()


def _first_level(
    rows: Rows, sizes: list[tuple[int, int]], spools: list[_Spool], tile: int, quality: int
) -> Iterator[bytes]:
    """Encoded tiles of level 0; the others are spooled first, because the writer never asks for more than it needs."""
    waiting: list[Image] = [np.empty((0, width, 3), np.uint8) for width, _ in sizes[1:]]
    done = 0
    for strip in _rows_of_tiles(rows, tile):
        done += len(strip)
        _pass_down(strip, waiting, spools, tile, quality)
        if done == rows.height:
            _finish(waiting, spools, tile, quality)
        yield from _encode(strip, tile, quality)


def _finish(waiting: list[Image], spools: list[_Spool], tile: int, quality: int) -> None:
    """Encode what is left at the bottom of each level, from fine to coarse."""
    for i, spool in enumerate(spools):
        if len(waiting[i]):
            for data in _encode(waiting[i], tile, quality):
                spool.add(data)
            below = waiting[i + 1 :]
            _pass_down(waiting[i], below, spools[i + 1 :], tile, quality)
            waiting[i + 1 :] = below


def _pass_down(strip: Image, waiting: list[Image], spools: list[_Spool], tile: int, quality: int) -> None:
    """Halve `strip` into the next level, and encode there what has become a full row of tiles."""
    if not waiting:
        return
    waiting[0] = np.concatenate([waiting[0], halve(strip)])
    while len(waiting[0]) >= tile:
        full, waiting[0] = waiting[0][:tile], waiting[0][tile:]
        for data in _encode(full, tile, quality):
            spools[0].add(data)
        rest = waiting[1:]
        _pass_down(full, rest, spools[1:], tile, quality)
        waiting[1:] = rest


def _rows_of_tiles(rows: Rows, tile: int) -> Iterator[Image]:
    """Strips of any height → strips of `tile` rows; the last may be lower."""
    waiting, seen = np.empty((0, rows.width, 3), np.uint8), 0
    for strip in rows.strips:
        if strip.dtype != np.uint8 or strip.ndim != 3 or strip.shape[1:] != (rows.width, 3):
            raise UsageError(f"A strip of {strip.dtype} {strip.shape} does not fit an image {rows.width} px wide")
        seen += len(strip)
        if seen > rows.height:
            break
        waiting = np.concatenate([waiting, strip]) if len(waiting) else strip
        while len(waiting) >= tile:
            yield waiting[:tile]
            waiting = waiting[tile:]
    if len(waiting):
        yield waiting
    if seen != rows.height:
        raise UsageError(f"{seen} rows came for an image of {rows.height}")


def _encode(strip: Image, tile: int, quality: int) -> Iterator[bytes]:
    """JPEG tiles of one row of tiles; the right and lower edges are filled with the last pixel."""
    import imagecodecs

    height, width = strip.shape[:2]
    pad = ((0, tile - height), (0, -width % tile), (0, 0))
    full = np.pad(strip, pad, mode="edge") if any(side for _, side in pad) else strip
    for x in range(0, full.shape[1], tile):
        piece = np.ascontiguousarray(full[:, x : x + tile])
        yield bytes(imagecodecs.jpeg8_encode(piece, level=quality, subsampling="420"))


def halve(pixels: Image) -> Image:
    """Mean of every 2 × 2 pixels, rounded; an odd last row or column is doubled."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    parts: NDArray[np.uint16] = pixels[0::2].astype(np.uint16) + pixels[1::2]
    return ((parts[:, 0::2] + parts[:, 1::2] + 2) >> 2).astype(np.uint8)
