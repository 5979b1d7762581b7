"""A pyramidal BigTIFF whose tiles come encoded and in any order, as OpenSlide, QuPath and this program read it.

Tiles go straight to their place in the file, so nothing is spooled; a tile that looks like one already written is
pointed to and not written again. The header points to no directory until `close`, and the file has a temporary name
until then: what is killed half way looks finished to nobody.
"""

from __future__ import annotations

import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError
from myelos.slides.base import Image

SHORT, LONG, RATIONAL, LONG8, ASCII = 3, 4, 5, 16, 2
_FORMATS = {SHORT: "H", LONG: "I", LONG8: "Q"}
Tag = tuple[int, int, int, bytes]  # number, type, count, content


class WholeOrNothing(ABC):
    """As a context: closed at the end, or discarded where something failed. `discard` leaves alone what is closed."""

    @abstractmethod
    def close(self) -> None:
        """Give the file its name."""

    @abstractmethod
    def discard(self) -> None:
        """Remove what is not closed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.discard()  # what is closed has its name by now, and is not touched


class TiledTiff(WholeOrNothing):
    """sizes: (width, height) px of each level, the largest first. Use as a context: an error leaves no file.

    Every tile of every level must be `put` once: JPEG of a whole tile, YCbCr with 4:2:0 (`slides.write` explains).
    """

    def __init__(self, path: str | Path, sizes: Sequence[tuple[int, int]], *, mpp: float, tile: int = 512) -> None:
        if tile % 16 or tile <= 0:
            raise UsageError(f"Tiles of {tile} px cannot be written", why="TIFF wants a multiple of 16")
        self.path, self.sizes, self.mpp, self.tile = Path(path), list(sizes), mpp, tile
        self.partial = self.path.with_name(f".{self.path.name}.partial")
        shapes = [(-(-height // tile), -(-width // tile)) for width, height in sizes]
        self._offsets: list[NDArray[np.uint64]] = [np.zeros(shape, np.uint64) for shape in shapes]
        self._counts: list[NDArray[np.uint32]] = [np.zeros(shape, np.uint32) for shape in shapes]
        self._file = self.partial.open("wb")
        self._file.write(b"II" + struct.pack("<HHHQ", 43, 8, 0, 0))
        self._end = 16

    def put(self, level: int, column: int, row: int, data: bytes) -> None:
        """Write one encoded tile."""
        self._file.write(data)
        self._offsets[level][row, column], self._counts[level][row, column] = self._end, len(data)
        self._end += len(data)

    def repeat(self, level: int, column: int, row: int, like: tuple[int, int]) -> None:
        """Point to the tile at (column, row) `like` of the same level."""
        for table in (self._offsets[level], self._counts[level]):
            table[row, column] = table[like[1], like[0]]

    def bytes_of(self, level: int) -> NDArray[np.uint32]:
        """(rows, columns) bytes of each tile."""
        return self._counts[level]

    def close(self) -> None:
        """Write the directories, sync, and give the file its name; ValueError where tiles are missing."""
        if any((counts == 0).any() for counts in self._counts):
            raise ValueError(f"tiles of {self.path.name} are missing")
        link = 8  # where the offset of the next directory stands
        for level in range(len(self.sizes)):
            start, link_inside, block = self._directory(level)
            self._file.write(block)
            self._end += len(block)
            self._file.seek(link)
            self._file.write(struct.pack("<Q", start))
            self._file.seek(self._end)
            link = link_inside
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.partial.replace(self.path)

    def discard(self) -> None:
        self._file.close()
        self.partial.unlink(missing_ok=True)

    def _directory(self, level: int) -> tuple[int, int, bytes]:
        """Start of a level's directory in the file, place of its link to the next, and the bytes to append."""
        tags = self._tags(level)
        pad = -self._end % 16
        head = 8 + 20 * len(tags) + 8
        start = self._end + pad
        entries, beyond = b"", b""
        for number, kind, count, content in tags:
            if len(content) <= 8:
                value = content.ljust(8, b"\0")
            else:
                value = struct.pack("<Q", start + head + len(beyond))
                beyond += content + b"\0" * (-len(content) % 8)
            entries += struct.pack("<HHQ", number, kind, count) + value
        block = b"\0" * pad + struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", 0) + beyond
        return start, start + 8 + 20 * len(tags), block

    def _tags(self, level: int) -> list[Tag]:
        width, height = self.sizes[level]
        per_cm = struct.pack("<II", round(1e4 / (self.mpp * 2**level) * 1000), 1000)
        offsets, counts = self._offsets[level].ravel(), self._counts[level].ravel()
        return [
            _numbers(254, LONG, 1 if level else 0),
            _numbers(256, LONG, width),
            _numbers(257, LONG, height),
            _numbers(258, SHORT, 8, 8, 8),
            _numbers(259, SHORT, 7),  # JPEG
            _numbers(262, SHORT, 6),  # YCbCr
            _numbers(277, SHORT, 3),
            (282, RATIONAL, 1, per_cm),
            (283, RATIONAL, 1, per_cm),
            _numbers(284, SHORT, 1),
            _numbers(296, SHORT, 3),  # centimetres
            (305, ASCII, 7, b"Myelos\0"),
            _numbers(322, LONG, self.tile),
            _numbers(323, LONG, self.tile),
            (324, LONG8, offsets.size, offsets.astype("<u8").tobytes()),
            (325, LONG, counts.size, counts.astype("<u4").tobytes()),
            _numbers(530, SHORT, 2, 2),
        ]


def _numbers(number: int, kind: int, *values: int) -> Tag:
    return number, kind, len(values), struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)


def encode_tiles(strip: Image, tile: int, quality: int) -> list[list[bytes]]:
    """JPEG of the tiles of a piece that starts at a tile's corner, row by row; edges are filled with the last pixel."""
    import imagecodecs

    height, width = strip.shape[:2]
    found = []
    for y in range(0, height, tile):
        row = []
        for x in range(0, width, tile):
            piece = strip[y : y + tile, x : x + tile]
            below, right = tile - piece.shape[0], tile - piece.shape[1]
            if below or right:
                piece = cv2.copyMakeBorder(piece, 0, below, 0, right, cv2.BORDER_REPLICATE)
            encoded = imagecodecs.jpeg8_encode(np.ascontiguousarray(piece), level=quality, subsampling="420")
            row.append(bytes(encoded))
        found.append(row)
    return found


def halved(pixels: Image) -> Image:
    """As `slides.write.halve`, quicker: mean of every 2 × 2 pixels, rounded; an odd last row or column is doubled."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    size = (pixels.shape[1] // 2, pixels.shape[0] // 2)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


class Pyramid(Protocol):
    """What takes encoded tiles: `TiledTiff`, or `slides.dicom_write.DicomPyramid`."""

    sizes: list[tuple[int, int]]
    tile: int

    def put(self, level: int, column: int, row: int, data: bytes) -> None: ...

    def repeat(self, level: int, column: int, row: int, like: tuple[int, int]) -> None: ...


class UpperLevels:
    """Fills the levels from `first` on with strips of that level, each of the full width, from top to bottom."""

    def __init__(self, tiff: Pyramid, first: int, quality: int) -> None:
        self.tiff, self.first, self.quality = tiff, first, quality
        self._waiting: list[Image] = [np.empty((0, width, 3), np.uint8) for width, _ in tiff.sizes]
        self._rows = [0] * len(tiff.sizes)

    def add(self, strip: Image) -> None:
        self._add(self.first, strip)

    def finish(self) -> None:
        """What is left at the bottom of each level, from fine to coarse."""
        for level in range(self.first, len(self.tiff.sizes)):
            if len(self._waiting[level]):
                self._pass_on(level, self._waiting[level])

    def _add(self, level: int, strip: Image) -> None:
        tile = self.tiff.tile
        waiting = self._waiting[level]
        self._waiting[level] = np.concatenate([waiting, strip]) if len(waiting) else strip
        while len(self._waiting[level]) >= tile:
            full, self._waiting[level] = self._waiting[level][:tile], self._waiting[level][tile:]
            self._pass_on(level, full)

    def _pass_on(self, level: int, full: Image) -> None:
        """Encode one row of tiles, and halve it into the next level."""
        row = self._rows[level]
        self._rows[level] += 1
        for column, data in enumerate(encode_tiles(full, self.tiff.tile, self.quality)[0]):
            self.tiff.put(level, column, row, data)
        if level + 1 < len(self.tiff.sizes):
            self._add(level + 1, halved(full))
