"""Single-cell sets become annotated fields: which box is taken, what is left out, what is ignored."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from myelos.datasets.cells import read_cells
from myelos.datasets.layouts import read_fields
from myelos.detection.boxing import box_cells
from myelos.errors import LabelError
from myelos.models.types import Boxes


class Scripted:
    """A detector that says of every image what it was told to, in the pixels of an image at its own scale."""

    name, sha256, types, mpp, tile, batch, threshold = "scripted", "0", ("neutrophil",), 0.2, 640, 1, 0.5

    def __init__(self, *answers: list[tuple[float, float, float, float, float]]) -> None:
        self.answers = list(answers)

    def __call__(self, tiles: list) -> list[Boxes]:
        assert len(tiles) == 1
        rows = np.array(self.answers.pop(0), np.float32).reshape(-1, 5)
        return [Boxes(rows[:, :4], rows[:, 4], np.ones((len(rows), 1), np.float32))]


def cell_folder(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((100, 100, 3), 240, np.uint8))
    return folder


def test_class_is_the_folder_and_code_follows_the_scheme(tmp_path: Path) -> None:
    folder = cell_folder(tmp_path, "EOS/EOS_1.png", "NGS/NGS_1.png", "XYZ/XYZ_1.png")
    cells, faults = read_cells(folder, scheme="mll21")
    assert [cell.cell_type for cell in cells] == ["eosinophil", "segmented_neutrophil"]
    assert [fault.kind for fault in faults] == ["unknown class"]


def test_manifest_names_the_finer_class(tmp_path: Path) -> None:
    folder = cell_folder(tmp_path, "neutrophil/BNE_1.png")
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["file", "label", "fine_code"], ["images/neutrophil/BNE_1.png", "neutrophil", "BNE"]]
        )
    cells, _ = read_cells(folder, scheme="pbc13")
    assert cells[0].cell_type == "band_neutrophil"


def test_no_known_class_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no image of a cell"):
        read_cells(cell_folder(tmp_path, "XYZ/a.png"), scheme="mll21")


def test_the_whole_cell_in_the_middle_is_boxed_and_others_are_ignored(tmp_path: Path) -> None:
    folder = cell_folder(tmp_path / "in", "EOS/a.png", "EOS/b.png", "EOS/c.png", "EOS/d.png")
    cells, _ = read_cells(folder, scheme="mll21")
    detector = Scripted(
        [(15, 15, 20, 20, 0.9), (0, 0, 10, 10, 0.3), (40, 40, 5, 5, 0.01)],  # a cell, a doubtful one, noise
        [(0, 10, 30, 30, 0.9)],  # cut by the border
        [(30, 30, 15, 15, 0.9)],  # not in the middle
        [(15, 15, 20, 20, 0.4)],  # not sure
    )
    boxed, left_out = box_cells(cells, detector, tmp_path / "out", mpp=0.1)
    assert boxed == 1
    assert [path.name for path in left_out] == ["b.png", "c.png", "d.png"]
    (record,), faults = read_fields(tmp_path / "out")
    assert not faults
    assert record.types == ("eosinophil",)
    assert record.boxes.tolist() == [[30, 30, 40, 40]]  # at the scale of the image
    assert record.ignored.tolist() == [[0, 0, 20, 20]]
