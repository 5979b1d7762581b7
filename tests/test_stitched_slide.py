"""A slide stitched from real fields, from pixels to report, and the same slide as DICOM: the counts must agree.

Fields of one scale and an even light lie side by side on glass. Their seams cut cells, as the rim of a field does; the
annotated cells are therefore those of the fields. The fields took part in the training of the shipped model: this is
a test of the path, not of the model.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from myelos import tables
from myelos.datasets.layouts import read_fields
from myelos.datasets.records import FieldRecord
from myelos.detection.prepare import pooled_scales, prepare, spread
from myelos.geometry import iou_matrix
from myelos.metrics.matching import match
from myelos.pipeline import count
from myelos.slides import open_slide
from myelos.slides.write import write_tiff
from myelos.smears.results import SmearResult

pytestmark = pytest.mark.data

COLUMNS, ROWS = 10, 10  # fields; about one white cell each, so that 1 % is one cell
MPP = 0.125  # of the slide; half the pixel of the shipped models, so that they read the second level
GLASS = 40  # µm of empty glass around the fields
WHITE = 240  # grey value of glass, the target of the even light


@dataclass(frozen=True)
class Stitched:
    """A slide on disk and the boxes (N, 4) of its annotated white cells, level-0 pixels."""

    path: Path
    cells: NDArray[np.float64]


@pytest.fixture(scope="module")
def stitched(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Stitched:
    records = [record for record in read_fields(data / "bccd_fields")[0] if "leukocyte" in record.types]
    image, cells = stitch(spread(records, COLUMNS * ROWS))
    path = tmp_path_factory.mktemp("stitched") / "blood.tif"
    write_tiff(path, image, mpp=MPP, quality=90)
    return Stitched(path, cells)


@pytest.fixture(scope="module")
def counted(stitched: Stitched) -> SmearResult:
    return counted_slide(stitched.path, stitched.path.parent / "out")


def read(record: FieldRecord) -> NDArray[np.uint8]:
    return cv2.cvtColor(cv2.imread(str(record.path)), cv2.COLOR_BGR2RGB)


def stitch(records: list[FieldRecord]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The slide's level 0 and the boxes of its white cells; all fields have one size and one scale."""
    assert len({(record.width, record.height) for record in records}) == 1
    scale = pooled_scales({"all": records}, read, most=12)["all"]
    assert scale is not None
    factor = scale.mpp / MPP
    fields = [prepare(read(record), factor=factor) for record in records]
    height, width = fields[0].shape[:2]
    margin = round(GLASS / MPP)
    image = np.full((ROWS * height + 2 * margin, COLUMNS * width + 2 * margin, 3), WHITE, np.uint8)
    boxes = []
    for number, (field, record) in enumerate(zip(fields, records, strict=True)):
        x, y = margin + number % COLUMNS * width, margin + number // COLUMNS * height
        image[y : y + height, x : x + width] = field
        white = np.array([name == "leukocyte" for name in record.types])
        boxes.append(record.boxes[white] * factor + [x, y, 0, 0])
    return image, np.concatenate(boxes)


def counted_slide(path: Path, out: Path) -> SmearResult:
    result = count(path, out, specimen="blood", cells="all")
    assert result.exit_code == 0
    return result.smears[0]


def cell_table(smear: SmearResult) -> tuple[NDArray[np.float64], list[str], list[float]]:
    rows = tables.read_table(smear.folder, "cells").to_pylist()
    boxes = np.array([[row["x"], row["y"], row["width"], row["height"]] for row in rows]).reshape(-1, 4)
    return boxes, [row["cell_type"] for row in rows], [row["score"] for row in rows]


def test_the_slide_is_read_as_one(stitched: Stitched, counted: SmearResult) -> None:
    (slide,) = tables.read_table(counted.folder, "slides").to_pylist()
    with open_slide(stitched.path) as image:
        assert (slide["width"], slide["height"]) == (image.width, image.height)
        assert len(image.levels) >= 3
    assert (slide["mpp_source"], slide["mpp"]) == ("file", pytest.approx(MPP, rel=1e-3))
    assert tables.read_run(counted.folder)["status"] == "done"
    assert counted.report.stat().st_size > 10_000
    assert sum(row["cells"] for row in tables.read_table(counted.folder, "tiles").to_pylist()) == counted.count.cells


def test_the_annotated_cells_are_found(
    stitched: Stitched, counted: SmearResult, record_property: pytest.RecordProperty
) -> None:
    boxes, _, scores = cell_table(counted)
    hits = int(match(stitched.cells, boxes, scores).hits.sum())
    recall, precision = hits / len(stitched.cells), hits / max(1, len(boxes))
    record_property("recall", recall)
    print(f"{len(stitched.cells)} annotated, {len(boxes)} counted, recall {recall:.3f}, precision {precision:.3f}")
    assert recall >= 0.95
    assert precision >= 0.9


def as_dicom(stitched: Stitched, name: str, encoding: object = None) -> Path:
    from wsidicomizer import WsiDicomizer

    folder = stitched.path.parent / name
    WsiDicomizer.convert(str(stitched.path), str(folder), tile_size=256, include_thumbnail=False, encoding=encoding)
    return folder


def as_ome(source: Path, target: Path) -> Path:
    """The same encoded tiles as an OME-TIFF, a container whose JPEG tiles the converter takes over as they are."""
    with tifffile.TiffFile(source) as old, tifffile.TiffWriter(target, ome=True, bigtiff=True) as new:
        for number, page in enumerate(old.pages):
            mpp = MPP * 2**number
            new.write(
                encoded_tiles(old, page),
                shape=page.shape,
                dtype=page.dtype,
                tile=(page.tilelength, page.tilewidth),
                compression="jpeg",
                photometric=page.photometric,
                subsampling=page.subsampling,
                subifds=None if number else len(old.pages) - 1,
                subfiletype=1 if number else 0,
                metadata=None if number else {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP},
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
            )
    return target


def encoded_tiles(file: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[bytes]:
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.filehandle.seek(offset)
        yield file.filehandle.read(size)


def test_dicom_of_the_same_tiles_gives_every_count(stitched: Stitched, counted: SmearResult) -> None:
    """Converted with the converter's defaults: every count is the same, where 1 % were allowed."""
    if not find_library("turbojpeg"):
        reason = "the converter takes tiles over with libturbojpeg (Debian: libturbojpeg0), which is not installed"
        assert not os.environ.get("MYELOS_REQUIRE_BROWSER"), reason
        pytest.skip(reason)
    ome = as_ome(stitched.path, stitched.path.parent / "blood.ome.tif")
    folder = as_dicom(Stitched(ome, stitched.cells), "same-tiles")
    with open_slide(stitched.path) as one, open_slide(ome) as two, open_slide(folder) as three:
        pixels = one.read(one.bounds)
        assert np.array_equal(pixels, two.read(two.bounds))
        assert np.array_equal(pixels, three.read(three.bounds))
    again = counted_slide(folder, stitched.path.parent / "out-same-tiles")
    assert {row.name: row.number for row in again.count.types} == {row.name: row.number for row in counted.count.types}
    assert cell_table(again)[1] == cell_table(counted)[1]


def test_lossless_dicom_gives_the_same_cells(stitched: Stitched, counted: SmearResult) -> None:
    """The same pixels in another format, through another reader: every count is the same, not only within 1 %."""
    from wsidicom.codec.settings import Jpeg2kSettings

    folder = as_dicom(stitched, "lossless", Jpeg2kSettings(levels=0))
    with open_slide(stitched.path) as one, open_slide(folder) as other:
        assert np.array_equal(one.read(one.bounds), other.read(other.bounds))
    boxes, types, scores = cell_table(counted)
    others, other_types, other_scores = cell_table(counted_slide(folder, stitched.path.parent / "out-lossless"))
    assert types == other_types
    assert np.allclose(boxes, others)
    assert np.allclose(scores, other_scores, atol=1e-5)


def test_dicom_of_the_converter_gives_the_same_cells(stitched: Stitched, counted: SmearResult) -> None:
    """As many cells within 1 %, in the same places, and few change their type.

    The converter encodes the tiles of a plain TIFF anew, at its own quality: a grey level in the mean is lost, and
    cells between two types may fall to the other side. That is the model's doubt and no fault of a reader; how many
    do is held here (4 of 104 with one model, three of them with a probability of at most 0.5).
    """
    folder = as_dicom(stitched, "dicom")
    boxes, types, _ = cell_table(counted)
    others, other_types, _ = cell_table(counted_slide(folder, stitched.path.parent / "out-dicom"))
    print(f"TIFF {dict(Counter(types))}, DICOM {dict(Counter(other_types))}")
    assert abs(len(types) - len(other_types)) <= max(1, 0.01 * len(types))
    overlap = iou_matrix(boxes, others)
    assert (overlap.max(axis=1) > 0.8).mean() >= 0.98
    named = [(one, other_types[found]) for one, found in zip(types, overlap.argmax(axis=1), strict=True)]
    assert sum(one != other for one, other in named) <= 0.08 * len(named)
