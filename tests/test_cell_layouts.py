"""Single-cell sets are found by their layout and read with class, scale, patient and second opinions."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import cv2
import pytest
from openpyxl import Workbook

from cell_sets import AML, LMU, MLL, cell, choi, parquet, pbc, save, tcia_aml, tcia_lmu, tcia_mll
from myelos.datasets.cell_layouts import CELL_LAYOUTS, find_cell_layout
from myelos.datasets.cells import read_cells
from myelos.errors import LabelError


@pytest.mark.parametrize(
    ("layout", "write"),
    [
        ("tcia-mll", tcia_mll),
        ("tcia-lmu", tcia_lmu),
        ("tcia-aml", tcia_aml),
        ("choi", choi),
        ("parquet", parquet),
        ("class-folders", lambda folder: pbc(folder, manifest=True)),
        ("class-folders", lambda folder: pbc(folder, manifest=False)),
    ],
)
def test_every_layout_is_found(tmp_path: Path, layout: str, write) -> None:
    folder = write(tmp_path / "set")
    assert find_cell_layout(folder) == layout
    cells, faults = read_cells(folder)
    assert cells
    assert faults == []
    assert [c.path for c in cells] == sorted(c.path for c in cells)
    assert read_cells(folder, layout=layout)[0] == cells  # a second time, and named


def test_munich_marrow(tmp_path: Path) -> None:
    cells, _ = read_cells(tcia_mll(tmp_path / "anything"))
    assert Counter(c.code for c in cells) == MLL
    assert {c.cell_type for c in cells if c.code == "PMO"} == {"promyelocyte"}
    assert {(c.mpp, c.source, c.group) for c in cells} == {(0.086, "mll_bone_marrow", None)}


def test_resized_copies_have_no_scale(tmp_path: Path) -> None:
    save(tmp_path / "BLA" / "0001-1000" / "BLA_00001.jpg", cell(1, 224))
    assert [c.mpp for c in read_cells(tmp_path)[0]] == [None]


def test_file_that_says_another_class_than_its_folder(tmp_path: Path) -> None:
    folder = tcia_mll(tmp_path)
    (folder / "EOS" / "0001-1000" / "EOS_00001.jpg").rename(folder / "EOS" / "0001-1000" / "BLA_00009.jpg")
    cells, faults = read_cells(folder)
    assert Counter(c.code for c in cells)["EOS"] == MLL["EOS"] - 1
    assert [fault.kind for fault in faults] == ["two classes"]


def test_munich_blood_has_second_annotations(tmp_path: Path) -> None:
    cells, _ = read_cells(tcia_lmu(tmp_path))
    assert Counter(c.code for c in cells) == LMU
    assert {c.mpp for c in cells} == {0.07072}
    seconds = {c.path.stem: c.second for c in cells}
    assert seconds["MYO_0001"] == ("monoblast",)  # MOB, and UNC is no type
    assert seconds["MYO_0002"] == ()


def test_munich_blood_faults(tmp_path: Path) -> None:
    folder = tcia_lmu(tmp_path)
    (folder / "AML-Cytomorphology_LMU" / "MYO" / "MYO_0001.tiff").unlink()
    save(folder / "AML-Cytomorphology_LMU" / "MYO" / "MYO_0099.tiff", cell(5, 400))
    _, faults = read_cells(folder)
    assert [(fault.kind, fault.line) for fault in faults] == [("missing image", 1), ("image without a row", None)]


def test_patients_of_aml(tmp_path: Path) -> None:
    folder = tcia_aml(tmp_path)
    cells, _ = read_cells(folder)
    assert Counter((c.code, c.group) for c in cells) == {
        (entity, patient): number for entity, patients in AML.items() for patient, number in patients.items()
    }
    assert {(c.cell_type, c.mpp) for c in cells} == {("leukocyte", 0.1725)}
    table = folder / "metadata.csv"
    table.write_text(table.read_text().replace("AAB,control,3", "AAB,control,4").replace("BBA,PML", "BBX,PML"))
    _, faults = read_cells(folder)
    assert [fault.kind for fault in faults] == [
        "other number of images",
        "patient without images",
        "patient without a row",
    ]


def test_the_workbook_of_aml_patients(tmp_path: Path) -> None:
    """As published it is `metadata_with_data_dictionary.xlsx`, with more than the sheet of patients in it."""
    folder = tcia_aml(tmp_path)
    book = Workbook()
    book.active.append(["column", "meaning"])
    sheet = book.create_sheet("patients")
    for line in csv.reader((folder / "metadata.csv").read_text().splitlines()):
        sheet.append([int(word) if word.isdigit() else word for word in line])
    sheet.insert_rows(2)  # an empty one
    (folder / "metadata.csv").unlink()
    book.save(folder / "metadata_with_data_dictionary.xlsx")
    cells, faults = read_cells(folder)
    assert (len(cells), faults) == (7, [])
    sheet["C3"] = 99
    path = folder / "metadata_with_data_dictionary.xlsx"
    book.save(path)
    assert [(fault.kind, fault.line) for fault in read_cells(folder)[1]] == [("other number of images", 3)]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert [fault.kind for fault in read_cells(folder)[1]] == ["unreadable table"]
    found = set()
    for first in range(0, len(whole) - 99, 250):
        path.write_bytes(whole[:first] + bytes(99) + whole[first + 99 :])
        found |= {fault.kind for fault in read_cells(folder)[1]}
    assert found == {"unreadable table", "other number of images"}  # some bytes are of no account


@pytest.mark.parametrize("content", [b"", b"no workbook", b"a,b\n1,2\n"])
def test_a_damaged_table_of_aml_patients_is_a_fault(tmp_path: Path, content: bytes) -> None:
    folder = tcia_aml(tmp_path)
    for name in ("metadata.csv", "metadata.xlsx"):
        (folder / "metadata.csv").unlink(missing_ok=True)
        (folder / name).write_bytes(content)
        cells, faults = read_cells(folder)
        assert (len(cells), [fault.kind for fault in faults]) == (7, ["unreadable table"])
    (folder / "metadata.xlsx").unlink()
    assert [fault.kind for fault in read_cells(folder)[1]] == ["missing table"]


def test_barcelona_has_fine_and_coarse_codes(tmp_path: Path) -> None:
    for manifest in (True, False):
        folder = pbc(tmp_path / str(manifest), manifest=manifest)
        fine, _ = read_cells(folder)
        assert [c.cell_type for c in fine] == ["metamyelocyte", "neutrophil", "segmented_neutrophil"]
        assert [c.code for c in fine] == ["MMY", "NEUTROPHIL", "SNE"]
        coarse, faults = read_cells(folder, scheme="pbc8")
        assert [c.cell_type for c in coarse] == ["immature_granulocyte", "neutrophil", "neutrophil"]
        assert faults == []


def test_names_of_types_need_no_scheme(tmp_path: Path) -> None:
    for number, name in enumerate(["Band neutrophils", "plasma_cell", "whatever"]):
        save(tmp_path / name / "1.png", cell(number, 64))
    cells, faults = read_cells(tmp_path)
    assert [c.cell_type for c in cells] == ["band_neutrophil", "plasma_cell"]
    assert [fault.kind for fault in faults] == ["unknown class"]


def test_damaged_images_are_set_aside(tmp_path: Path) -> None:
    folder = pbc(tmp_path, manifest=True)
    save(folder / "corrupt" / "SNE_1.jpg", cell(1, 360))
    text = (folder / "manifest.csv").read_text().splitlines()
    text = [text[0] + ",intact", *(row + ",yes" for row in text[1:3]), text[3] + ",no", "corrupt/SNE_1.jpg,x,SNE,no"]
    (folder / "manifest.csv").write_text("\n".join([*text, "images/ig/MMY_5.jpg,ig,MMY,yes"]))
    cells, faults = read_cells(folder)
    assert len(cells) == 2
    assert sorted(fault.kind for fault in faults) == ["damaged image", "damaged image", "missing image"]


@pytest.mark.parametrize("options", [{}, {"struct": False}, {"words": True}])
def test_parquet_bytes_are_unchanged(tmp_path: Path, options: dict[str, bool]) -> None:
    folder = parquet(tmp_path / "hub", **options)
    cells, _ = read_cells(folder, cache=tmp_path / "cache")
    assert Counter(c.code for c in cells) == dict.fromkeys(list(MLL)[:3], 2)
    assert {(c.mpp, c.source) for c in cells} == {(0.086, "hub")}
    encoded = {cv2.imencode(".jpg", cell(300 + 10 * p + i)[..., ::-1])[1].tobytes() for p in (0, 1) for i in range(3)}
    assert {c.path.read_bytes() for c in cells} == encoded
    assert all(c.path.is_relative_to(tmp_path / "cache") for c in cells)


def test_parquet_is_written_again_when_it_changes(tmp_path: Path) -> None:
    folder = parquet(tmp_path)
    first = read_cells(folder)[0]
    stamp = first[0].path.parent.parent / "unpacked.json"
    before = stamp.stat().st_mtime_ns
    assert read_cells(folder)[0] == first
    assert stamp.stat().st_mtime_ns == before
    (folder / "test-00000-of-00001.parquet").unlink()
    assert len(read_cells(folder)[0]) == 3


def test_parquet_numbers_without_names(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="has no name"):
        read_cells(parquet(tmp_path, named=False))


def test_unclear_layouts_say_what_was_seen(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(LabelError, match=r"1 \.txt in") as error:
        find_cell_layout(tmp_path)
    assert all(name in str(error.value) for name in CELL_LAYOUTS)
    with pytest.raises(LabelError, match="no folder"):
        find_cell_layout(tmp_path / "absent")


def test_schemes_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no label scheme 'pbc99'"):
        read_cells(pbc(tmp_path, manifest=False), scheme="pbc99")


def test_real_sets(data: Path) -> None:
    marrow, faults = read_cells(data / "mll_bone_marrow_cells")
    assert len(marrow) == 5040
    assert [fault.kind for fault in faults] == ["damaged image"] * 6
    blood, _ = read_cells(data / "pbc_dib_cells")
    assert Counter(c.cell_type for c in blood)["immature_granulocyte"] == 118
    few, _ = read_cells(data / "lmu_aml_cells")
    assert Counter(c.mpp for c in few) == {0.07072: 33, None: 17}  # the resampled ones have lost their scale
    for fields in ("bccd_fields", "chula_wbc_fields", "wsi_samples"):
        with pytest.raises(LabelError, match="unclear"):
            find_cell_layout(data / fields)
