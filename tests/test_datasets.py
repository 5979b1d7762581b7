"""Annotated fields: published sets as their authors count them, layouts, faults, near-duplicates, splits."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from myelos.datasets import duplicates, layouts, qupath, splits
from myelos.datasets.records import FieldRecord
from myelos.errors import InputError, LabelError, UsageError
from myelos.tables import write_table

SETS = ("bccd_fields", "chula_wbc_fields", "txl_pbc_fields", "pig_wbc_fields")
BOXES = {"neutrophil": (10.0, 20.0, 30.0, 25.0), "lymphocyte": (60.0, 5.0, 20.0, 20.0)}  # in an image of 100 × 80


@pytest.fixture(scope="module")
def fields(data: Path) -> dict[str, tuple[list[FieldRecord], list]]:
    return {name: layouts.read_fields(data / name) for name in SETS}


@pytest.fixture(scope="module")
def pooled(fields: dict) -> list[FieldRecord]:
    return [record for name in SETS for record in fields[name][0]]


@pytest.fixture(scope="module")
def labels(pooled: list[FieldRecord]) -> list[int]:
    return duplicates.groups(pooled)


def _picture(path: Path, seed: int = 0, size: tuple[int, int] = (100, 80)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (8, 10, 3)).astype(np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def _yolo(folder: Path, boxes: dict = BOXES) -> None:
    _picture(folder / "images" / "a.png")
    (folder / "labels").mkdir(exist_ok=True)
    lines = [f"{i} {(x + w / 2) / 100} {(y + h / 2) / 80} {w / 100} {h / 80}"
             for i, (x, y, w, h) in enumerate(boxes.values())]  # fmt: skip
    (folder / "labels" / "a.txt").write_text("\n".join(lines))
    (folder / "classes.txt").write_text("\n".join(boxes))


def _yolo_beside(folder: Path) -> None:
    _yolo(folder)
    (folder / "images" / "a.png").rename(folder / "a.png")
    (folder / "labels" / "a.txt").rename(folder / "a.txt")
    (folder / "classes.txt").unlink()
    (folder / "data.yaml").write_text("nc: 2\nnames:\n  0: neutrophil\n  1: lymphocyte\n")


def _voc(folder: Path, boxes: dict = BOXES, head: str = "") -> None:
    _picture(folder / "JPEGImages" / "a.png")
    (folder / "Annotations").mkdir(exist_ok=True)
    objects = "".join(
        f"<object>\n<name>{name}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>"
        f"<ymax>{y + h}</ymax></bndbox></object>\n"
        for name, (x, y, w, h) in boxes.items()
    )
    (folder / "Annotations" / "a.xml").write_text(f"{head}<annotation>\n{objects}</annotation>")


def _coco(folder: Path) -> None:
    _picture(folder / "train" / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 80}],
        "categories": [{"id": 3, "name": "Neutrophil"}, {"id": 5, "name": "Lymphocyte"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": BOXES["neutrophil"]},
            {"id": 2, "image_id": 7, "category_id": 5, "bbox": BOXES["lymphocyte"], "iscrowd": 0},
            {"id": 3, "image_id": 7, "category_id": 5, "bbox": [0, 60, 100, 20], "iscrowd": 1},
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(content))


def _feature(geometry: dict, **properties: object) -> dict:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _polygon(x: float, y: float, w: float, h: float) -> dict:
    return {"type": "Polygon", "coordinates": [[[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]]}


def _qupath(folder: Path) -> None:
    _picture(folder / "a.png")
    features = [
        _feature(_polygon(*BOXES["neutrophil"]), classification={"name": "Neutrophil", "color": [200, 0, 0]}),
        _feature(_polygon(*BOXES["lymphocyte"]), classification={"name": "Marrow: Lymphocyte", "colorRGB": -1}),
        _feature(_polygon(0, 60, 100, 20), classification={"name": "Ignore*"}),
    ]
    (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def _tables(folder: Path) -> None:
    _picture(folder / "fields" / "a.png")
    write_table(folder, "slides", [{"slide_id": "s", "width": 100, "height": 80, "patient": "P1"}])
    rows = [{"slide_id": "s", "cell_id": f"s-{name}", "cell_type": name, "x": x, "y": y, "width": w, "height": h}
            for name, (x, y, w, h) in BOXES.items()]  # fmt: skip
    write_table(folder, "cells", rows)
    (folder / "names.csv").write_text("slide_id,file\ns,fields/a.png\n")


WRITERS = {"yolo": _yolo, "yolo beside": _yolo_beside, "voc": _voc, "coco": _coco, "qupath": _qupath, "myelos": _tables}


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_gives_the_same_record(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    assert layouts.find_layout(tmp_path) == name.split()[0]
    records, faults = layouts.read_fields(tmp_path)
    assert faults == []
    (record,) = records
    assert (record.path.name, record.width, record.height, record.source) == ("a.png", 100, 80, tmp_path.name)
    assert record.types == tuple(BOXES)
    assert record.boxes.dtype == np.float64
    np.testing.assert_allclose(record.boxes, list(BOXES.values()), atol=1e-9)
    assert len(record.ignored) == (name in ("coco", "qupath"))
    assert record.truth()[1] == (*record.types, *["ignore"] * len(record.ignored))
    assert record.group == ("P1" if name == "myelos" else None)


def test_published_sets_hold_what_their_authors_say(fields: dict) -> None:
    kinds = {
        name: Counter(kind for record in records for kind in record.types) for name, (records, _) in fields.items()
    }
    faults = {name: Counter(fault.kind for fault in found) for name, (_, found) in fields.items()}
    assert {name: len(records) for name, (records, _) in fields.items()} == {
        "bccd_fields": 285, "chula_wbc_fields": 163, "txl_pbc_fields": 734, "pig_wbc_fields": 76,
    }  # fmt: skip
    # Two red cells of BCCD have no area: 3167 of the 3169 can be used.
    assert kinds["bccd_fields"] == {"leukocyte": 291, "erythrocyte": 3169 - 2, "platelet": 272}
    assert faults["bccd_fields"] == {"zero area": 2}
    assert kinds["chula_wbc_fields"] == {
        "basophil": 66, "eosinophil": 43, "neutrophil": 26, "lymphocyte": 21, "monocyte": 17,
    }  # fmt: skip
    assert not faults["chula_wbc_fields"]
    # Two label files of TXL-PBC repeat 36 boxes between them: 783, 13987 and 631 lines.
    repeated = [fault for fault in fields["txl_pbc_fields"][1] if fault.kind == "duplicate box"]
    assert len(repeated) == 36
    assert len({fault.file for fault in repeated}) == 2
    assert all(fault.line for fault in repeated)
    assert sum(kinds["txl_pbc_fields"].values()) == 783 + 13987 + 631 - 36
    assert kinds["txl_pbc_fields"]["platelet"] == 631
    assert kinds["pig_wbc_fields"] == {None: 146}  # one class without a name
    assert faults["pig_wbc_fields"] == {"no class names": 1}


def test_source_and_group_come_from_the_manifest(fields: dict, data: Path, tmp_path: Path) -> None:
    sources = Counter(record.source for record in fields["txl_pbc_fields"][0])
    assert sources == {"txl_pbc_fields/PBC": 390, "txl_pbc_fields/BCCD": 173, "txl_pbc_fields/BCD": 171}
    samples = {"8", "3B", "11", "56", "30", "57", "53", "42", "13", "14", "1B", "12"}
    assert {record.group for record in fields["chula_wbc_fields"][0]} == samples
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    shutil.copy(data / "chula_wbc_fields/images/B-30_0047.jpg", tmp_path / "images")
    shutil.copy(data / "chula_wbc_fields/labels/B-30_0047.txt", tmp_path / "labels")
    assert layouts.read_fields(tmp_path, scheme="wbc5")[0][0].group == "30"  # without a manifest, from the name


def test_faults_are_named_by_file_and_line_and_mended(tmp_path: Path) -> None:
    _yolo(tmp_path)
    lines = [
        "0 0.5 0.5 0.2 0.2",
        "0 0.5 0.5 0.2 0.2",  # 2 again
        "1 0.5 0.5 0.2 0.2",  # 3 again, under another label
        "0 0.5 0.5 0.0 0.2",  # 4
        "0 1.5 0.5 0.2 0.2",  # 5
        "0 1.0 0.5 0.2 0.2",  # 6 the right half is outside
        "2 0.2 0.2 0.1 0.1",  # 7
        "",
        "0 0.5 half",  # 9
        "0 0.996 0.5 0.02 0.2",  # by 0.6 pixels: silently clipped
    ]
    (tmp_path / "labels" / "a.txt").write_text("\n".join(lines))
    (tmp_path / "classes.txt").write_text("Neurotrophil\nLymphocyte\nunicorn cell")
    _picture(tmp_path / "images" / "unlabelled.png")
    (tmp_path / "labels" / "lost.txt").write_text("0 0.5 0.5 0.2 0.2")
    whole = _picture(tmp_path / "images" / "cut.jpg", size=(400, 300)).read_bytes()
    (tmp_path / "images" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "labels" / "cut.txt").write_text("0 0.5 0.5 0.2 0.2")
    records, faults = layouts.read_fields(tmp_path)
    assert {(fault.file.name, fault.line, fault.kind) for fault in faults} == {
        ("a.txt", 2, "duplicate box"), ("a.txt", 3, "two labels on one box"), ("a.txt", 4, "zero area"),
        ("a.txt", 5, "outside the image"), ("a.txt", 6, "partly outside the image"), ("a.txt", 7, "unknown class"),
        ("a.txt", 9, "unreadable line"), ("unlabelled.txt", None, "missing label file"),
        ("lost.txt", None, "missing image"), ("cut.jpg", None, "unreadable image"),
    }  # fmt: skip
    assert "a.txt:7: unknown class ('unicorn cell', left out)" in str(next(f for f in faults if f.line == 7))
    (record,) = records
    np.testing.assert_allclose(record.boxes, [[40, 32, 20, 16], [90, 32, 10, 16], [98.6, 32, 1.4, 16]])
    assert record.types == ("neutrophil",) * 3
    kept, _ = layouts.read_fields(tmp_path, keep_untyped=True)
    assert kept[0].types.count(None) == 1


def test_class_names_of_yolo_in_all_their_forms(tmp_path: Path) -> None:
    _yolo(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(LabelError, match=r"0, 1 of .* have no names.*classes\.txt"):
        layouts.read_fields(tmp_path)
    for text in ("names: ['neutrophil', 'lymphocyte']\nnc: 2", "train: x\nnames:\n- neutrophil\n- lymphocyte\nnc: 2",
                 'names:\n  0: "neutrophil"\n  1: lymphocyte', "names: {0: neutrophil, 1: lymphocyte}"):  # fmt: skip
        (tmp_path / "data.yaml").write_text(text)
        assert layouts.read_fields(tmp_path)[0][0].types == tuple(BOXES)
    (tmp_path / "labels" / "a.txt").write_text("1 0.1 0.1 0.3 0.1 0.3 0.5 0.1 0.5\n0 0.5 0.5 0.2 0.2 0.93")
    record = layouts.read_fields(tmp_path)[0][0]  # an outline becomes its box, a confidence is passed over
    np.testing.assert_allclose(record.boxes, [[10, 8, 20, 32], [40, 32, 20, 16]])


def test_an_unclear_layout_lists_what_was_seen(tmp_path: Path) -> None:
    _picture(tmp_path / "photos" / "a.png")
    with pytest.raises(LabelError, match=r"1 \.png in photos/"):
        layouts.find_layout(tmp_path)
    _yolo(tmp_path)
    _voc(tmp_path)
    with pytest.raises(LabelError, match="yolo and voc lie side by side"):
        layouts.find_layout(tmp_path)
    assert layouts.read_fields(tmp_path, layout="voc")[0][0].types == tuple(BOXES)
    with pytest.raises(LabelError, match="is no folder"):
        layouts.find_layout(tmp_path / "nowhere")


def test_xml_with_entities_is_refused(tmp_path: Path) -> None:
    _voc(tmp_path, head='<!DOCTYPE a [<!ENTITY b "neutrophil">]>')
    with pytest.raises(LabelError, match="declares a document type"):
        layouts.read_fields(tmp_path)


def test_lines_of_voc_objects_are_named(tmp_path: Path) -> None:
    _voc(tmp_path, {"neutrophil": (1, 2, 3, 4), "gremlin": (9, 9, 9, 9)})
    _, faults = layouts.read_fields(tmp_path)
    assert [(fault.line, fault.kind) for fault in faults] == [(4, "unknown class")]


def test_geojson_of_hand_annotations(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    two = {"type": "MultiPolygon", "coordinates": [_polygon(0, 0, 2, 2)["coordinates"],
                                                   _polygon(5, 6, 1, 1)["coordinates"]]}  # fmt: skip
    features = [_feature({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}, classification={"name": "Blast"}),
                _feature(two),
                _feature({"type": "Point", "coordinates": [7, 8]}, classification="Monocyte")]  # fmt: skip
    path.write_text(json.dumps(features))  # older versions of QuPath write a list
    marks = qupath.read_geojson(path)
    assert [mark.label for mark in marks] == ["Blast", "Blast", None, "Monocyte"]
    assert (marks[1].box.x, marks[1].box.y, marks[1].box.width) == (3, 4, 0)
    assert (marks[2].box.right, marks[2].box.bottom) == (6, 7)
    for broken in ("{", '{"type": "Topology"}', '[{"type": "Feature", "geometry": {"type": "Polygon"}}]'):
        path.write_text(broken)
        with pytest.raises(InputError, match=r"a\.geojson"):
            qupath.read_geojson(path)


def test_near_duplicates_of_the_published_lists_are_all_found(
    pooled: list[FieldRecord], labels: list[int], data: Path
) -> None:
    place = {record.path.name: index for index, record in enumerate(pooled)}
    with (data / "txl_pbc_fields" / "manifest.csv").open(newline="") as file:
        listed = [(place[Path(row["file"]).name], place[name]) for row in csv.DictReader(file)
                  for name in row["near_duplicates"].split(";") if name in place]  # fmt: skip
    assert len(listed) == 360
    assert all(labels[first] == labels[second] for first, second in listed)
    # Fields cut out of BCCD fields are in no list: of 171 images called BCD, 63 are listed, 107 are copies of ours.
    bccd = {label for label, record in zip(labels, pooled, strict=True) if record.source == "bccd_fields"}
    bcd = [label for label, record in zip(labels, pooled, strict=True) if record.source == "txl_pbc_fields/BCD"]
    assert sum(label in bccd for label in bcd) >= 105
    # Strangers stay apart: single cells of PBC, all alike in build, and round fields of view on black.
    for source, most in (("txl_pbc_fields/PBC", 0), ("pig_wbc_fields", 1)):
        own = [label for label, record in zip(labels, pooled, strict=True) if record.source == source]
        assert len(own) - len(set(own)) <= most


def test_copies_are_found_however_they_were_changed(data: Path, tmp_path: Path) -> None:
    paths = sorted((data / "bccd_fields" / "JPEGImages").iterdir())[:12]
    original = Image.open(paths[3]).convert("RGB")
    darker = Image.fromarray((np.asarray(original).astype(float) * (0.55, 0.5, 0.6)).astype(np.uint8))
    copies = {
        "stretched": original.resize((416, 416)),
        "mirrored": original.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "turned": darker.transpose(Image.Transpose.ROTATE_180),
        "cut": original.crop((60, 20, 580, 430)).resize((416, 416)),
        "cut mirrored dark": darker.crop((0, 40, 540, 460)).transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    }
    for name, copy in copies.items():
        copy.save(tmp_path / f"{name}.jpg", quality=90)
    records = [FieldRecord(path, 640, 480, np.zeros((0, 4)), (), "x") for path in paths]
    records += [FieldRecord(tmp_path / f"{name}.jpg", 416, 416, np.zeros((0, 4)), (), "y") for name in copies]
    found = duplicates.groups(records)
    assert found[12:] == [found[3]] * len(copies)
    assert len(set(found[:12])) == 12
    assert duplicates.groups([]) == []
    shutil.copy(paths[0], tmp_path / "same.jpg")  # single cells come as paths
    assert duplicates.groups([paths[0], tmp_path / "same.jpg", paths[1]]) == [0, 0, 1]
    faults = duplicates.repeats(records)
    assert {(fault.file.stem, fault.kind) for fault in faults} >= {("mirrored", "near-duplicate image"),
                                                                   ("cut", "part of another image")}  # fmt: skip


@pytest.mark.parametrize("rule", ["filled", "hashed"])
def test_splits_keep_what_belongs_together_and_forget_order(
    pooled: list[FieldRecord], labels: list[int], rule: str
) -> None:
    parts = splits.split(pooled, fractions={"train": 0.7, "test": 0.3}, duplicates=labels, rule=rule)
    assert sorted(parts["train"] + parts["test"]) == list(range(len(pooled)))
    for key in (lambda i: labels[i], lambda i: pooled[i].group):
        assert not ({key(i) for i in parts["train"]} & {key(i) for i in parts["test"]}) - {None}
    for source in {record.source for record in pooled}:
        share = np.mean([pooled[i].source == source for i in parts["test"]]) * len(parts["test"])
        number = sum(record.source == source for record in pooled)
        assert 0.2 < share / number < 0.4 or (rule == "hashed" and number < 200)
    order = np.random.default_rng(0).permutation(len(pooled))
    again = splits.split([pooled[i] for i in order], fractions={"train": 0.7, "test": 0.3},
                         duplicates=[labels[i] for i in order], rule=rule)  # fmt: skip
    assert sorted(order[again["test"]]) == parts["test"]
    other = splits.split(pooled, fractions={"train": 0.7, "test": 0.3}, seed=1, duplicates=labels, rule=rule)
    assert other["test"] != parts["test"]
    with pytest.raises(UsageError, match="add up"):
        splits.split(pooled, fractions={"train": 0.7, "test": 0.1}, duplicates=labels)


def test_folds_of_whole_samples_hold_every_type_as_often_as_samples_allow(fields: dict) -> None:
    records = fields["chula_wbc_fields"][0]
    folds = splits.folds(records, 4)
    assert sorted(index for fold in folds for index in fold) == list(range(163))
    samples = [{records[index].group for index in fold} for fold in folds]
    assert sum(map(len, samples)) == len(set.union(*samples)) == 12
    for kind in ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte"):
        possible = len({record.group for record in records if kind in record.types})
        held = sum(any(kind in records[index].types for index in fold) for fold in folds)
        assert held == min(4, possible)
    with pytest.raises(UsageError, match="12 groups"):
        splits.folds(records, 13)
