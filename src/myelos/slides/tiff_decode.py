"""One tile or strip of a TIFF → RGB uint8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.errors import InputError
from myelos.slides import colour
from myelos.slides.base import Image
from myelos.slides.files import frame_size
from myelos.slides.tiff_layout import number, segment_size

JPEG = (7, 33007)
VENDOR_CODECS = (33003, 33005)  # Aperio's JPEG 2000, whose colours only OpenSlide knows
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
ADOBE_RGB = bytes.fromhex("ffee000e41646f6265006400000000") + b"\x00"  # APP14, transform 0: samples are RGB
END_SEARCH = 1024  # bytes at the end of a tile among which its end marker must be


class TileDecoder:
    """Decodes the tiles of one page (a level); strips count as tiles as wide as the image."""

    def __init__(self, page: Any, name: str) -> None:
        """Raises InputError for sample formats and codecs that are not read."""
        self._page, self._name = page, name
        self.image_width, self.image_height = page.imagewidth, page.imagelength
        self.width, self.height = segment_size(page)
        self.columns = -(-self.image_width // self.width)
        self.rows = -(-self.image_height // self.height)
        self._photometric, self._bands = int(page.photometric), page.samplesperpixel
        self._planes = page.samplesperpixel if page.planarconfig == 2 else 1
        self._tables = page.jpegtables
        _check_readable(page, name)
        self.white, self.undeclared = _white(page)
        self._direct = (
            page.compression in JPEG
            and page.bitspersample == 8
            and self._bands == 3
            and page.planarconfig == 1
            and self._photometric in (RGB, YCBCR)
        )
        whole = self.width % 8 == 0 and self.height % 8 == 0
        self.scalable = self._direct and bool(page.is_tiled) and whole

    def segments(self, index: int) -> list[tuple[int, int]]:
        """Offset and length of a tile in the file, for each of its planes; none where the file has no such tile."""
        every = range(index, self.columns * self.rows * self._planes, self.columns * self.rows)
        found = [(self._page.dataoffsets[i], self._page.databytecounts[i]) for i in every]
        return found if all(offset and length for offset, length in found) else []

    def covering(self, x1: int, y1: int, x2: int, y2: int) -> Iterator[tuple[int, int]]:
        """(column, row) of the tiles that touch a region of the level."""
        for row in range(y1 // self.height, min(self.rows, -(-y2 // self.height))):
            for column in range(x1 // self.width, min(self.columns, -(-x2 // self.width))):
                yield column, row

    def rgb(self, data: list[bytes], index: int) -> Image:
        """(height, width, 3); padding at the right and lower edge included where the file has it."""
        if self._direct:
            return self._jpeg(data[0])
        return self._to_rgb(self.samples(data, index))

    def shrunk(self, data: bytes) -> Image:
        """A JPEG tile at an eighth of its size."""
        import cv2

        self._check_jpeg(data)
        pixels = cv2.imdecode(np.frombuffer(self._complete(data), np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
        if pixels is None:
            raise InputError(f"A tile of {self._name} cannot be decoded", why="its JPEG data are damaged")
        return np.ascontiguousarray(pixels[..., ::-1])

    def _complete(self, data: bytes) -> bytes:
        """An abbreviated stream with its tables, and with the word that its samples are RGB where they are."""
        tables = self._tables[2:-2] if self._tables else b""
        return data[:2] + (ADOBE_RGB if self._photometric == RGB else b"") + tables + data[2:]

    def _jpeg(self, data: bytes) -> Image:
        import imagecodecs

        self._check_jpeg(data)
        try:
            return imagecodecs.jpeg8_decode(
                data,
                tables=self._tables,
                colorspace="RGB" if self._photometric == RGB else "YCBCR",
                outcolorspace="RGB",
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(f"A tile of {self._name} cannot be decoded", why=str(error)) from None

    def _check_jpeg(self, data: bytes) -> None:
        """Decoders fill what is missing with grey and obey any size: both are looked at before."""
        if not data.startswith(b"\xff\xd8") or data.rfind(b"\xff\xd9", max(0, len(data) - END_SEARCH)) < 0:
            raise InputError(f"A tile of {self._name} is damaged", why="its JPEG data have no beginning or no end")
        size = frame_size(data)
        if size is None or size[0] > self.width or size[1] > self.height:
            raise InputError(f"A tile of {self._name} is damaged", why=f"its JPEG claims {size}")

    def samples(self, data: list[bytes], index: int) -> NDArray[Any]:
        """(height, width, bands) as stored; `data` holds one segment for each plane."""
        each = self.columns * self.rows
        planes = [self._plane(segment, index + i * each) for i, segment in enumerate(data)]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)

    def _plane(self, data: bytes, index: int) -> NDArray[Any]:
        import tifffile

        try:
            if self._page.compression in JPEG:
                self._check_jpeg(data)
            decoded, _, shape = self._page.decode(data, index, jpegtables=self._tables)
            return decoded.reshape(shape[1], shape[2], shape[3])
        except (RuntimeError, ValueError, LookupError, AttributeError, TypeError, tifffile.TiffFileError) as error:
            raise InputError(f"A tile of {self._name} cannot be decoded", why=str(error)) from None

    def _to_rgb(self, samples: NDArray[Any]) -> Image:
        if self._photometric == PALETTE:
            palette = np.asarray(self._page.colormap)  # (3, entries) uint16
            return np.ascontiguousarray((palette[:, samples[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0))
        values = colour.to_bytes(samples, self.white)
        if self._photometric == CMYK:
            return colour.from_cmyk(values[..., :4])
        if self._photometric == WHITE_IS_ZERO:
            values = 255 - values
        bands = 3 if self._photometric in (RGB, YCBCR) else 1
        light = values[..., :bands] if bands == 3 else colour.grey_to_rgb(values[..., 0])
        extra = tuple(kind for kind in self._page.extrasamples if isinstance(kind, int))
        if extra and extra[0] in (1, 2) and values.shape[2] > bands:
            return colour.over_white(light, values[..., bands], premultiplied=extra[0] == 1)
        return np.ascontiguousarray(light)


def _check_readable(page: Any, name: str) -> None:
    """Name what is not read, before anything is decoded."""
    import tifffile

    codec = getattr(page.compression, "name", f"number {page.compression}")
    if page.compression != 1 and page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise InputError(
            f"{name} is compressed with {codec}, which is not read", remedy="Convert it with the scanner's own program"
        )
    if page.dtype is None or page.dtype.kind not in "ub" or page.dtype.itemsize > 2:
        raise InputError(f"{name} holds samples of type {page.dtype}", why="8 and 16 bit per sample are read")
    if not plain_colours(page):
        raise InputError(f"{name} stores colours as {page.photometric}, which is not read", remedy="Convert it to RGB")


def plain_colours(page: Any) -> bool:
    """Whether the colours can be had without knowing a vendor: YCbCr comes as RGB only from JPEG."""
    if page.compression in VENDOR_CODECS or (page.photometric == YCBCR and page.compression not in (6, *JPEG)):
        return False
    return int(page.photometric) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR)


def _white(page: Any) -> tuple[int, bool]:
    """Sample value of white, and whether a 16-bit file leaves it open. Tags MaxSampleValue, SMaxSampleValue."""
    full = 2 ** int(page.bitspersample) - 1
    for tag in (281, 341):
        value = number(page, tag)
        if value is not None and 0 < value <= full:
            return int(value), False
    return full, page.dtype is not None and page.dtype.itemsize == 2 and page.bitspersample == 16
