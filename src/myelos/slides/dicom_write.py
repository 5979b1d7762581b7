"""A pyramid of DICOM whole-slide images whose JPEG tiles come encoded: one file a level, for OpenSlide and wsidicom.

The counterpart of `slides.tiled`: tiles may come in any order, but frames lie in the file from left to right and top to
bottom (TILED_FULL), so a tile that comes early waits in memory until its turn; painted block by block, that is at most
one row of blocks. The head of a file is written last, and what has no head is no DICOM file: what is killed half way
looks finished to nobody.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError
from myelos.slides.base import Image
from myelos.slides.dicom_study import (
    JPEG_BASELINE,
    MICROSCOPY_IMAGE,
    NO_DATE,
    NO_TIME,
    Study,
    as_bytes,
    begin,
    coded,
    pydicom_or_remedy,
)
from myelos.slides.tiled import UpperLevels, WholeOrNothing
from myelos.slides.write import Rows, level_sizes

THICK = 0.0005  # mm, the depth of field that is claimed
SERIES = "image"
ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
PIXELS = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff" + ITEM + b"\x00\x00\x00\x00"  # of open length, no basic offsets


class DicomPyramid(WholeOrNothing):
    """sizes: (width, height) px of each level, the largest first. Use as a context: an error leaves no file.

    Every tile of every level must be `put` once, as JPEG of a whole tile, YCbCr with 4:2:0. Files are named
    `level-0.dcm`, `level-1.dcm`, ... in `folder`, which must exist.
    """

    def __init__(
        self, folder: str | Path, sizes: Sequence[tuple[int, int]], *, mpp: float, study: Study, tile: int = 512
    ) -> None:
        if tile % 16 or not 0 < tile <= 65_520:
            raise UsageError(f"Tiles of {tile} px cannot be written", why="a multiple of 16 is wanted")
        pydicom_or_remedy()
        self.sizes, self.tile = list(sizes), tile
        self._levels = [_Level(Path(folder), sizes, number, mpp, study, tile) for number in range(len(sizes))]

    def put(self, level: int, column: int, row: int, data: bytes) -> None:
        """Write one encoded tile, or keep it until those before it have come."""
        self._levels[level].put(column, row, data)

    def repeat(self, level: int, column: int, row: int, like: tuple[int, int]) -> None:
        """Write the tile at (column, row) `like` of the same level once more: DICOM cannot point to it."""
        self._levels[level].put(column, row, self._levels[level].get(*like))

    def bytes_of(self, level: int) -> NDArray[np.uint64]:
        """(rows, columns) bytes of each tile."""
        return self._levels[level].lengths

    def close(self) -> None:
        """Write the heads and sync; ValueError where tiles are missing."""
        for level in reversed(self._levels):  # the first one last: readers look for it
            level.close()

    def discard(self) -> None:
        for level in self._levels:
            level.discard()


class _Level:
    """One file: a gap for the head, then the frames."""

    def __init__(
        self, folder: Path, sizes: Sequence[tuple[int, int]], number: int, mpp: float, study: Study, tile: int
    ) -> None:
        self.sizes, self.number, self.mpp, self.study, self.tile = sizes, number, mpp, study, tile
        self.columns, rows = (-(-side // tile) for side in sizes[number])
        self.offsets = np.zeros((rows, self.columns), np.uint64)
        self.lengths = np.zeros((rows, self.columns), np.uint64)
        self._waiting: dict[int, bytes] = {}
        self._done = 0
        self._head = len(self._header())
        self.path = folder / f"level-{number}.dcm"
        self._file = self.path.open("w+b")
        self._file.seek(self._head)
        self._file.write(PIXELS)
        self._start = self._end = self._head + len(PIXELS)

    def put(self, column: int, row: int, data: bytes) -> None:
        self._waiting[row * self.columns + column] = data
        while (ready := self._waiting.pop(self._done, None)) is not None:
            padded = ready + b"\0" * (len(ready) % 2)
            self._file.write(ITEM + struct.pack("<I", len(padded)) + padded)
            self.offsets.flat[self._done], self.lengths.flat[self._done] = self._end - self._start, len(padded)
            self._end += 8 + len(padded)
            self._done += 1

    def get(self, column: int, row: int) -> bytes:
        number = row * self.columns + column
        if number in self._waiting:
            return self._waiting[number]
        self._file.seek(self._start + int(self.offsets[row, column]) + 8)
        data = self._file.read(int(self.lengths[row, column]))
        self._file.seek(self._end)
        return data

    def close(self) -> None:
        if self._done < self.offsets.size or self._waiting:
            raise ValueError(f"tiles of {self.path.name} are missing")
        self._file.write(END)
        self._file.flush()
        os.fsync(self._file.fileno())
        head = self._header()
        assert len(head) == self._head  # every value of it has a fixed length
        self._file.seek(0)
        self._file.write(head)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        if not self._file.closed:
            self._file.close()
            self.path.unlink(missing_ok=True)

    def _header(self) -> bytes:
        dataset = _image(self.study, self.sizes, self.number, self.mpp, self.tile)
        dataset.NumberOfFrames = self.offsets.size
        raw, stored = 3 * self.tile**2 * self.offsets.size, max(int(self.lengths.sum()), 1)
        dataset.LossyImageCompressionRatio = f"{min(raw / stored, 9999):08.3f}"
        dataset.ExtendedOffsetTable = self.offsets.astype("<u8").tobytes()
        dataset.ExtendedOffsetTableLengths = self.lengths.astype("<u8").tobytes()
        return as_bytes(dataset, JPEG_BASELINE)


def _image(study: Study, sizes: Sequence[tuple[int, int]], number: int, mpp: float, tile: int) -> Any:
    """Everything of a level but what is known only in the end (PS3.3 A.32.8)."""
    dataset = begin(study, MICROSCOPY_IMAGE, SERIES, 1, number, modality="SM")
    kind = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"] if number == 0 else ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    dataset.ImageType, dataset.InstanceNumber = kind, number + 1
    dataset.AcquisitionDateTime = f"{NO_DATE}{NO_TIME}"
    dataset.SeriesDescription, dataset.VolumetricProperties = "Synthetic slide", "VOLUME"
    dataset.PyramidUID = study.uid("pyramid")
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = study.uid("frame of reference"), "SLIDE_CORNER"
    _add_pixels(dataset, tile)
    _add_matrix(dataset, sizes, number, mpp, study.label)
    _add_optics(dataset, mpp)
    dataset.SharedFunctionalGroupsSequence = [_shared(kind, mpp * 2**number)]
    dimensions = pydicom_or_remedy().Dataset()
    dimensions.DimensionOrganizationUID = study.uid("dimensions")
    dataset.DimensionOrganizationSequence, dataset.DimensionOrganizationType = [dimensions], "TILED_FULL"
    return dataset


def _add_pixels(dataset: Any, tile: int) -> None:
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "YBR_FULL_422"  # of chroma at half width, and here half height, too
    dataset.Rows = dataset.Columns = tile
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.BurnedInAnnotation = "NO"  # of a person
    dataset.LossyImageCompression, dataset.LossyImageCompressionMethod = "01", "ISO_10918_1"


def _add_matrix(dataset: Any, sizes: Sequence[tuple[int, int]], number: int, mpp: float, label: bool) -> None:
    dataset.TotalPixelMatrixColumns, dataset.TotalPixelMatrixRows = sizes[number]
    dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = (side * mpp * 1e-3 for side in sizes[0])
    dataset.ImagedVolumeDepth = THICK * 1e3
    origin = pydicom_or_remedy().Dataset()
    # The label's end is that of the greatest y; it lies at the left, so that y falls to the right and x downward.
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = "25.0", "75.0"
    dataset.TotalPixelMatrixOriginSequence, dataset.ImageOrientationSlide = [origin], ["0", "-1", "0", "-1", "0", "0"]
    dataset.TotalPixelMatrixFocalPlanes, dataset.SpecimenLabelInImage = 1, "YES" if label else "NO"
    dataset.FocusMethod, dataset.ExtendedDepthOfField = "AUTO", "NO"


def _add_optics(dataset: Any, mpp: float) -> None:
    path = pydicom_or_remedy().Dataset()
    path.OpticalPathIdentifier, path.ICCProfile = "0", srgb()
    path.IlluminationTypeCodeSequence = [coded(("DCM", "111744", "Brightfield illumination"))]
    path.IlluminationColorCodeSequence = [coded(("SCT", "414298005", "Full Spectrum"))]
    path.ObjectiveLensPower = str(round(10 / mpp))  # as scanners call it: 40 at 0.25 µm per pixel
    dataset.OpticalPathSequence, dataset.NumberOfOpticalPaths = [path], 1


def _shared(kind: list[str], mpp: float) -> Any:
    dataset = pydicom_or_remedy().Dataset
    measures, frame, groups = dataset(), dataset(), dataset()
    measures.SliceThickness, measures.PixelSpacing = f"{THICK:.6f}", [f"{mpp * 1e-3:.9f}"] * 2
    frame.FrameType = kind
    groups.PixelMeasuresSequence, groups.WholeSlideMicroscopyImageFrameTypeSequence = [measures], [frame]
    return groups


@cache
def srgb() -> bytes:
    """An ICC profile of sRGB without a date."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 1970, 1, 1, 0, 0, 0)
    profile[84:100] = bytes(16)  # an identifier, which would be a hash over the date, too
    return bytes(profile)


def write_dicom(
    folder: str | Path, image: Image | Rows, *, mpp: float, study: Study, tile: int = 256, quality: int = 80
) -> None:
    """Write `image` as `slides.write.write_tiff` does, in the same tiles, into a folder that must exist."""
    rows = image if isinstance(image, Rows) else Rows(image.shape[1], image.shape[0], [image])
    sizes = level_sizes(rows.width, rows.height, None)
    with DicomPyramid(folder, sizes, mpp=mpp, study=study, tile=tile) as pyramid:
        levels = UpperLevels(pyramid, 0, quality)
        for strip in rows.strips:
            levels.add(strip)
        levels.finish()
