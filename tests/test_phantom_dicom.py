"""Synthetic slides in the form of the public marrow slides: read by other programs, the same every time, annotated."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from myelos import tables, taxonomy
from myelos.cli import main
from myelos.datasets.bulk_annotations import Annotations, code_of, read_annotations, write_annotations
from myelos.errors import InputError, LabelError, MissingDependencyError, ResultError, UsageError
from myelos.phantom import forms
from myelos.phantom.annotating import AnnotationSettings, annotate, choose_regions, word_for
from myelos.phantom.compositions import COMPOSITIONS, draw_types
from myelos.phantom.examiners import LADDERS, LOOK_ALIKES, ExaminerSettings, agreement, consensus_of, read_cells
from myelos.phantom.glass import writing
from myelos.phantom.glass.drawing import make_layout
from myelos.phantom.glass.layout import GlassSettings
from myelos.phantom.glass.writing import write_glass
from myelos.phantom.slide import write_slide
from myelos.slides import open_slide
from myelos.slides.dicom_study import Study
from myelos.slides.dicom_write import DicomPyramid, srgb, write_dicom
from myelos.slides.info import describe
from myelos.slides.tiled import encode_tiles
from myelos.slides.write import Rows

FEW = {"lymphocyte": 3.0, "orthochromatic_erythroblast": 2.0, "smudge_cell": 0.3}
SMALL = GlassSettings(2600, 2100, mpp=0.8, seed=3, composition=FEW, pool_per_type=1)
STUDY = Study("test", "slide-1", "Synthetic marrow smear", "phantom")
SECTION = {"width": 1100, "height": 700, "mpp": 0.5, "specimen": "marrow", "seed": 5, "cells_per_mm2": 600.0}
SERIES = ("regions", "unlabelled", "session-0", "session-1", "session-2", "consensus")
LABELS = {name: label for label, name in taxonomy.SCHEMES["bmdeep49"].codes.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`glass` (DICOM, one worker), `section` (DICOM) and `section.tif`, with their truths."""
    folder = tmp_path_factory.mktemp("dicom")
    write_glass(folder / "glass", SMALL, form="dicom", threads=1)
    write_slide(folder / "section", **SECTION, form="dicom")
    write_slide(folder / "section-again.tif", **SECTION)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_workers_and_forms_change_nothing(folder: Path, tmp_path: Path) -> None:
    """Two processes write every byte as one does, and a TIFF of the same settings has the same pixels."""
    import openslide

    write_glass(tmp_path / "glass", SMALL, form="dicom", threads=2)
    assert files(tmp_path / "glass") == files(folder / "glass")
    here, there = files(tmp_path / "glass.truth"), files(folder / "glass.truth")
    assert here == there
    assert {"cells.parquet", "opinions.parquet", "regions.parquet", "run.json", "slides.parquet"} == set(here)
    write_glass(tmp_path / "glass.tif", SMALL, threads=1)
    with (
        openslide.OpenSlide(str(tmp_path / "glass" / "level-0.dcm")) as dicom,
        openslide.OpenSlide(str(tmp_path / "glass.tif")) as tiff,
    ):
        assert dicom.level_dimensions == tiff.level_dimensions
        assert dicom.level_count == 4
        for level, size in enumerate(tiff.level_dimensions):
            one, two = (np.array(slide.read_region((0, 0), level, size)) for slide in (dicom, tiff))
            assert np.array_equal(one, two)


def test_openslide_and_wsidicom_read_it(folder: Path) -> None:
    import wsidicom

    with open_slide(folder / "section-again.tif") as slide:
        pixels = [slide.read_level(n, 0, 0, level.width, level.height) for n, level in enumerate(slide.levels)]
    with open_slide(folder / "section") as slide:
        assert slide.reader == "openslide"
        assert slide.mpp == pytest.approx(0.5)
        assert slide.warnings == ()
        for number, level in enumerate(slide.levels):
            assert np.array_equal(slide.read_level(number, 0, 0, level.width, level.height), pixels[number])
    with wsidicom.WsiDicom.open(folder / "section") as slide:
        assert (slide.size.width, slide.size.height) == (1100, 700)
        assert slide.mpp.width == pytest.approx(0.5)
        for number, level in enumerate(pixels):
            height, width = level.shape[:2]
            found = np.array(slide.read_region((0, 0), number, (width, height)).convert("RGB"))
            assert np.array_equal(found, level)


def test_the_command_writes_the_same_and_info_reads_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--size", "1100x700", "--mpp", "0.5", "--specimen", "marrow", "--seed", "5", "--cells-per-mm2", "600"]
    command = ["myelos", "phantom", "slide", *words, "--format", "dicom", "-o", str(tmp_path / "section")]
    monkeypatch.setattr(sys, "argv", command)
    time.sleep(1.1)  # a clock that is looked at shows another second
    assert main() == 0
    assert files(tmp_path / "section") == files(folder / "section")
    assert files(tmp_path / "section.truth") == files(folder / "section.truth")
    assert main() == 1
    assert "already exists" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["myelos", "info", str(tmp_path / "section"), "--json"])
    assert main() == 0
    assert '"mpp": 0.5' in capsys.readouterr().out


def test_info_tells_what_it_is(folder: Path) -> None:
    told = describe(folder / "glass")
    assert (told["format"], told["compression"], told["objective"]) == ("dicom", "JPEG", "12")
    assert (told["width"], told["height"], told["mpp"]) == (2600, 2100, pytest.approx(0.8))
    assert told["scanner"] == "Myelos phantom area_camera"
    assert told["warnings"] == []
    truth = tables.read_table(folder / "glass.truth", "slides").to_pylist()[0]
    assert (told["slide_id"], told["fingerprint"]) == (truth["slide_id"], truth["fingerprint"])


def missing(dataset: object, lists: object) -> list[str]:
    """Attributes that the standard demands of such a file (types 1 and 2) and that are not there, or empty (1)."""
    modules = lists.get_iod_module_map()[lists.get_sop_class_iod_map()[dataset.SOPClassUID]]
    wanted = [
        m["key"] for m in modules if m["usage"] == "M" and "functional-groups" not in m["key"]
    ]  # those are macros
    found = []
    for attribute in (a for key in wanted for a in lists.get_module_attribute_map()[key] if a["type"] in ("1", "2")):
        items = [dataset]
        for step in attribute["path"]:
            items = [inner for item in items for inner in (item.get(step) or [])]
        name, empty = attribute["keyword"], (None, "", []) if attribute["type"] == "1" else ()
        found += [name for item in items if name not in item or item[name].value in empty]
    return found


@pytest.mark.parametrize("name", ["level-0", "level-3", "annotations/regions", "annotations/session-0"])
def test_nothing_that_the_standard_demands_is_missing(folder: Path, name: str) -> None:
    """By the lists of attributes that highdicom takes from the standard."""
    import pydicom
    from highdicom import _standard_utils as lists

    dataset = pydicom.dcmread(folder / "glass" / f"{name}.dcm")
    assert missing(dataset, lists) == []
    del dataset.SOPInstanceUID
    assert missing(dataset, lists) == ["SOPInstanceUID"]


def test_attributes_say_what_the_pixels_are(folder: Path) -> None:
    import pydicom

    image = pydicom.dcmread(folder / "glass" / "level-1.dcm")
    assert image.NumberOfFrames == len(image.ExtendedOffsetTable) // 8 == 3 * 3
    assert image.ImageType == ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    assert 1 < float(image.LossyImageCompressionRatio) < 60
    assert image.SpecimenLabelInImage == "YES"
    assert str(image.PatientName) == "Synthetic^Nobody"
    assert image.pixel_array.shape == (9, 512, 512, 3)


def boxes_of(truth: Path) -> dict[int, tuple[tuple[float, ...], str]]:
    rows = tables.read_table(truth, "cells").to_pylist()
    sides = ("x", "y", "width", "height")
    return {int(r["cell_id"].split("-")[1]): (tuple(r[s] for s in sides), r["cell_type"]) for r in rows}


@pytest.mark.parametrize("name", ["glass", "section"])
def test_annotations_are_the_truth_of_the_slide(folder: Path, name: str) -> None:
    """Read back by highdicom: boxes, regions, codes and identifiers; and the tables say the same."""
    from highdicom import ann

    truth = boxes_of(folder / f"{name}.truth")
    rows = tables.read_table(folder / f"{name}.truth", "regions").to_pylist()
    regions = {row["region"]: row["polygon"] for row in rows if row["kind"] == "region_of_interest"}
    opinions = tables.read_table(folder / f"{name}.truth", "opinions").to_pylist()
    assert regions
    for series in SERIES:
        found = ann.annread(folder / name / "annotations" / f"{series}.dcm")
        told = {int(r["cell_id"].split("-")[1]): r["cell_type"] for r in opinions if r["session"] == session(found)}
        seen: dict[int, str] = {}
        for group in found.AnnotationGroupSequence:
            shapes = group.get_graphic_data(coordinate_type="2D")
            names, values, _ = group.get_measurements()
            if series == "regions":
                assert [shape.ravel().tolist() for shape in shapes] == [regions[int(v)] for v in values[:, 0]]
                continue
            numbers = values[:, 0].astype(int)
            for shape, number in zip(shapes, numbers, strict=True):
                x, y, width, height = truth[number][0]
                assert shape.dtype == np.float32
                assert shape.tolist() == [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
            if len(names) == 2:
                for number, region in zip(numbers, values[:, 1].astype(int), strict=True):
                    x, y, width, height = truth[number][0]
                    assert regions[region][0] <= x + width / 2 < regions[region][4]
                    assert regions[region][1] <= y + height / 2 < regions[region][5]
            kind = taxonomy.cell_type(taxonomy.SCHEMES["bmdeep49"].codes[group.label])
            code = group.annotated_property_type
            assert (code.scheme_designator, code.value) == kind.concept
            seen |= dict.fromkeys(numbers.tolist(), kind.name)
        assert seen == told or series == "regions"


def session(found: object) -> str:
    return str(getattr(found, "ClinicalTrialSeriesID", ""))


def test_series_are_told_apart_as_in_the_public_set(folder: Path) -> None:
    read = [read_annotations(folder / "glass" / "annotations" / f"{name}.dcm") for name in SERIES]
    assert [one.session for one in read] == ["", "detection-only", "0", "1", "2", "consensus"]
    assert [one.description for one in read] == [
        "Monolayer regions of interest for cell classification",
        "Unlabeled cell bounding boxes",
        *(f"Session {n}: Cell bounding boxes with cell type labels" for n in range(3)),
        "Consensus: cell bounding boxes with cell type labels",
    ]
    regions, bare, *_, consensus = read
    assert set(regions.labels) == {"region_of_interest"}
    assert set(bare.labels) == {"haematological_structure"}
    assert not set(bare.numbers) & set(consensus.numbers)
    assert set(consensus.numbers) == set(np.concatenate([one.numbers for one in read[2:5]]))
    assert 0 < (consensus.regions < 0).mean() < 0.15  # a few lie outside every region
    assert set(consensus.regions[consensus.regions >= 0]) <= set(regions.numbers)
    run = tables.read_run(folder / "glass.truth")
    assert list(run["annotations"]["series"].values()) == [len(one.boxes) for one in read]
    assert run["bytes"] == sum(len(data) for data in files(folder / "glass").values())


def test_the_public_form_itself_is_read(tmp_path: Path) -> None:
    """A file as highdicom writes it, in the order of attributes and with the codes of the public set."""
    import highdicom
    import pydicom
    from pydicom.sr.coding import Code

    write_dicom(tmp_path, np.full((300, 400, 3), 200, np.uint8), mpp=0.25, study=STUDY)
    image = pydicom.dcmread(tmp_path / "level-0.dcm", stop_before_pixels=True)
    unit = Code("1", "UCUM", "no units")
    names = (Code("0010197", "EFO", "single cell identifier"), Code("130489", "DCM", "Referenced Region"))
    group = highdicom.ann.AnnotationGroup(
        number=1,
        uid=highdicom.UID(),
        label="promyelocyte",
        annotated_property_category=Code("91723000", "SCT", "Anatomical structure"),
        annotated_property_type=Code("43446009", "SCT", "Promyelocyte"),
        graphic_type="RECTANGLE",
        graphic_data=[np.array([[10, 20], [40, 20], [40, 60], [10, 60]], np.float32)],
        algorithm_type="MANUAL",
        measurements=[
            highdicom.ann.Measurements(name=name, unit=unit, values=np.array([value]))
            for name, value in zip(names, (77, 4), strict=True)
        ],
    )
    made = highdicom.ann.MicroscopyBulkSimpleAnnotations(
        [image], "2D", [group], highdicom.UID(), 33, highdicom.UID(), 1, "a", "b", "c", "d"
    )
    made.add_new(0x00120071, "LO", "0")
    made.save_as(tmp_path / "ann.dcm")
    read = read_annotations(tmp_path / "ann.dcm")
    assert (read.session, read.labels, read.numbers.tolist(), read.regions.tolist()) == (
        "0",
        ("promyelocyte",),
        [77],
        [4],
    )
    assert read.boxes.tolist() == [[10, 20, 30, 40]]


def test_the_colour_profile_has_no_date() -> None:
    time.sleep(1.1)
    script = "import hashlib; from myelos.slides.dicom_write import srgb; print(hashlib.sha256(srgb()).hexdigest())"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == hashlib.sha256(srgb()).hexdigest()


def test_identifiers_are_of_the_slide_alone(folder: Path) -> None:
    import pydicom

    paths = [*(folder / "glass").rglob("*.dcm"), *(folder / "section").rglob("*.dcm")]
    read = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    assert len({one.SOPInstanceUID for one in read}) == len(paths)
    assert len({one.StudyInstanceUID for one in read}) == len({one.PatientID for one in read}) == 2
    assert len({one.SeriesInstanceUID for one in read}) == 2 * (1 + len(SERIES))
    base = {
        one.StudyInstanceUID: one.SOPInstanceUID for one in read if one.InstanceNumber == 1 and one.Modality == "SM"
    }
    for one in read:
        if one.Modality == "ANN":
            assert one.ReferencedImageSequence[0].ReferencedSOPInstanceUID == base[one.StudyInstanceUID]
    settings = {"specimen": "marrow", "stain": "liu", "seed": 1}
    few = AnnotationSettings(regions=2)
    studies = [forms.study_of(given, label=True) for given in (settings, settings | {"seed": 2})]
    studies.append(forms.study_of(settings, label=True, annotations=few))
    assert len({study.uid("study") for study in studies}) == 3
    assert forms.study_of(settings, label=True, annotations=AnnotationSettings()) == studies[0]


def test_tiles_come_in_any_order_and_repeat(tmp_path: Path) -> None:
    import openslide

    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(0, 256, (5, 9, 3), dtype=np.uint8), 150, axis=0), 150, axis=1)
    picture[:256, 512:768] = picture[:256, :256]
    tiles = encode_tiles(picture, 256, 90)
    with DicomPyramid(tmp_path, [(1350, 750)], mpp=0.25, study=STUDY, tile=256) as pyramid:
        places = [(x, y) for y in range(3) for x in range(6) if (x, y) != (2, 0)]
        for i, place in enumerate(rng.permutation(len(places))):
            x, y = places[place]
            pyramid.put(0, x, y, tiles[y][x])
            if (x, y) == (0, 0):
                pyramid.repeat(0, 2, 0, like=(0, 0))
                assert i < len(places) - 1
    with openslide.OpenSlide(str(tmp_path / "level-0.dcm")) as slide:
        found = np.array(slide.read_region((0, 0), 0, (1350, 750)).convert("RGB"))
    import imagecodecs

    expected = np.concatenate(
        [np.concatenate([imagecodecs.jpeg8_decode(tile) for tile in row], axis=1) for row in tiles]
    )[:750, :1350]
    expected[:256, 512:768] = expected[:256, :256]
    assert np.array_equal(found, expected)


def test_what_is_not_finished_looks_finished_to_nobody(tmp_path: Path) -> None:
    """While it is written, and after a kill, no file of it is DICOM; after an error nothing is left."""
    import openslide

    tiles = encode_tiles(np.zeros((256, 512, 3), np.uint8), 256, 90)
    pyramid = DicomPyramid(tmp_path, [(512, 256)], mpp=0.25, study=STUDY, tile=256)
    for column in (0, 1):
        pyramid.put(0, column, 0, tiles[0][column])
    assert openslide.OpenSlide.detect_format(str(tmp_path / "level-0.dcm")) is None
    with pytest.raises(InputError):
        open_slide(tmp_path)
    pyramid.close()
    assert openslide.OpenSlide.detect_format(str(tmp_path / "level-0.dcm")) == "dicom"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    with (
        pytest.raises(ValueError, match="missing"),
        DicomPyramid(tmp_path, [(512, 256)], mpp=1, study=STUDY) as pyramid,
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_failed_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("half way")

    monkeypatch.setattr("myelos.phantom.forms.annotate", broken)
    with pytest.raises(RuntimeError, match="half way"):
        write_slide(tmp_path / "slide", **SECTION | {"width": 300, "height": 300}, form="dicom")
    assert not list(tmp_path.rglob("*.dcm"))
    assert not (tmp_path / "slide").exists()
    assert not (tmp_path / "slide.truth" / "run.json").exists()


KILLED = """
import os, sys
from pathlib import Path
from myelos.phantom.forms import begun
from myelos.slides.dicom_study import Study
from myelos.slides.dicom_write import DicomPyramid
with begun(Path(sys.argv[1]), "dicom") as place:
    with DicomPyramid(place, [(512, 256)], mpp=0.25, study=Study("k", "n", "w", "s"), tile=256) as pyramid:
        pyramid.put(0, 0, 0, b"a tile")
        os._exit(9)
"""


def test_a_killed_run_looks_unfinished_and_the_next_one_clears_it_away(tmp_path: Path) -> None:
    path = tmp_path / "slide"
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == 9
    assert [entry.name for entry in tmp_path.iterdir()] == [".slide.partial"]
    with pytest.raises(InputError):
        open_slide(tmp_path / ".slide.partial")
    with forms.begun(path, "dicom") as place:
        assert not list(place.iterdir())
        (place / "level-0.dcm").write_bytes(b"whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["slide"]
    with forms.begun(path, "dicom") as place:
        (place / "level-1.dcm").write_bytes(b"another")
        assert (path / "level-0.dcm").exists()  # until the new one is whole
    assert [entry.name for entry in path.iterdir()] == ["level-1.dcm"]


def test_nothing_else_is_replaced(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="already exists"):
        write_slide(folder / "section", **SECTION, form="dicom")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("years of work")
    (tmp_path / "patient").mkdir()
    (tmp_path / "patient" / "1.2.826.dcm").write_bytes(b"a slide of a person")
    for form, name in (
        ("dicom", "papers"),
        ("dicom", "patient"),
        ("tiff", "papers"),
        ("dicom", "papers/thesis.txt"),
    ):
        with pytest.raises(ResultError, match="not replaced"):
            forms.check(tmp_path / name, form, overwrite=True)
    with pytest.raises(UsageError, match="unknown"):
        forms.check(tmp_path / "new", "jpeg", overwrite=False)
    forms.check(folder / "section", "dicom", overwrite=True)


def test_room_is_asked_for_bare_glass_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = GlassSettings(60_000, 40_000)
    layout = make_layout(large)
    assert writing.estimated_bytes(large, layout, "dicom") > writing.estimated_bytes(large, layout)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ResultError, match="not room enough"):
        write_glass(tmp_path / "slide", SMALL, form="dicom", threads=1)
    assert not list(tmp_path.iterdir())


def test_without_pydicom_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingDependencyError, match=r"myelos\[dicom\]"):
        write_slide(tmp_path / "section", **SECTION, form="dicom")
    assert not list(tmp_path.iterdir())


def test_faulty_annotations_are_refused(folder: Path, tmp_path: Path) -> None:
    none = np.zeros(1, np.int64)
    with pytest.raises(LabelError, match="no label 'unicorn'"):
        write_annotations(tmp_path / "a.dcm", Annotations("0", np.ones((1, 4)), ("unicorn",), none, none), STUDY)
    with pytest.raises(UsageError, match="the form ends"):
        Annotations("0", np.ones((1, 4)), ("artifact",), none + 2**24, none)
    (tmp_path / "b.dcm").write_bytes(b"no DICOM")
    with pytest.raises(InputError, match="no DICOM file"):
        read_annotations(tmp_path / "b.dcm")
    with pytest.raises(InputError, match="no annotations in pixels"):
        read_annotations(folder / "section" / "level-0.dcm")
    assert code_of("neutrophilic_band")[:2] == ("SCT", "702697008")


# --- The examiners


@pytest.fixture(scope="module")
def marrow() -> list[str]:
    finer = {"eosinophil": "segmented_eosinophil", "basophil": "segmented_basophil"}
    drawn = draw_types(COMPOSITIONS["marrow_normal"], 4000, np.random.default_rng(1))
    return [finer.get(name, name) for name in drawn]


def test_examiners_agree_as_published(marrow: list[str]) -> None:
    """Wang 2022, table 6: 0.794 between two examiners, 0.897 within the more experienced one (their own: 0.745)."""
    within, between = [], []
    for seed in range(8):
        one, same, other = agreement(read_cells(marrow, ExaminerSettings(), seed), "ABA")
        assert [one["sessions"], same["sessions"], other["sessions"]] == [[0, 1], [0, 2], [1, 2]]
        assert same["kappa"] > max(one["kappa"], other["kappa"])
        within.append(same["kappa"])
        between += [one["kappa"], other["kappa"]]
    assert np.mean(between) == pytest.approx(0.794, abs=0.025)
    assert np.mean(within) == pytest.approx(0.897, abs=0.02)


def test_kappa_is_that_of_scikit_learn(marrow: list[str]) -> None:
    from sklearn import metrics

    readings = read_cells(marrow, ExaminerSettings(), 3)
    both = [(a, b) for a, b in zip(readings[0], readings[1], strict=True) if a is not None and b is not None]
    row = agreement(readings, "ABA")[0]
    assert row["cells"] == len(both)
    assert row["kappa"] == pytest.approx(metrics.cohen_kappa_score(*zip(*both, strict=True)))


def test_confusions_are_with_neighbours_in_maturation(marrow: list[str]) -> None:
    (reading,) = read_cells(marrow, ExaminerSettings(readings=("A",), lapses=0), 1)
    wrong = Counter((t, said) for t, said in zip(marrow, reading, strict=True) if said not in (None, t))
    places = {name: (ladder, step) for ladder, names in enumerate(LADDERS) for step, name in enumerate(names)}
    steps = Counter({pair: abs(places[pair[0]][1] - places[pair[1]][1]) for pair in wrong})
    assert all(places[one][0] == places[other][0] for one, other in wrong)
    assert sum(wrong[pair] for pair in wrong if steps[pair] == 1) > 0.99 * wrong.total()
    assert 0.02 < np.mean([said is None for said in reading]) < 0.06


def test_without_any_spread_all_agree(marrow: list[str]) -> None:
    still = ExaminerSettings(cell=0, own=0, habit=0, mood=0, lapses=0, skipped=0)
    assert read_cells(marrow, still, 1) == [marrow] * 3
    blurred = read_cells(marrow, ExaminerSettings(), 1, sharpness=np.full(len(marrow), 0.3))
    sharp = read_cells(marrow, ExaminerSettings(), 1)
    assert agreement(blurred, "ABA")[0]["kappa"] < agreement(sharp, "ABA")[0]["kappa"] - 0.1
    torn = read_cells(["monocyte"] * 500, ExaminerSettings(), 1, ragged=np.ones(500, bool))[0]
    assert 0.05 < Counter(torn)["damaged_cell"] / 500 < 0.4


def test_ladders_rise_and_every_word_has_a_label() -> None:
    for ladder in LADDERS:
        stages = [taxonomy.cell_type(name).maturation for name in ladder]
        assert stages == sorted(stages)
        assert set(ladder) <= set(LABELS)
    assert set(LOOK_ALIKES) | set(LOOK_ALIKES.values()) <= set(LABELS)


def test_every_type_has_a_word_in_the_public_set() -> None:
    words = {name: word_for(name) for name in taxonomy.TYPES}
    assert set(words.values()) <= set(LABELS)
    assert (words["faggot_cell"], words["hairy_cell"]) == ("promyelocyte", "lymphocyte")
    assert (words["abnormal_eosinophil"], words["neutrophil"]) == ("segmented_eosinophil", "segmented_neutrophil")
    assert (words["other_cell"], words["no_consensus"]) == ("technically_unfit", "technically_unfit")
    technical = taxonomy.SCHEMES["bmdeep49"].technical
    assert all(words[name] == name for name, label in LABELS.items() if label not in technical)


@pytest.mark.parametrize(
    ("labels", "agreed"),
    [
        (("a", "a", "b"), "a"),
        (("a", "a"), "a"),
        (("a", "b", None), "no_consensus"),
        (("a", "b", "c"), "no_consensus"),
        (("a", None, None), "no_consensus"),
        ((None, None, None), None),
        (("a", "a", "b", "c"), "a"),
        (("a", "a", "b", "b"), "no_consensus"),
    ],
)
def test_consensus_by_the_rule(labels: tuple[str | None, ...], agreed: str | None) -> None:
    assert consensus_of(labels) == agreed


def test_regions_lie_where_cells_can_be_read() -> None:
    rng = np.random.default_rng(0)
    clear, blurred = rng.uniform(0, 1000, (300, 2)), rng.uniform([1200, 0], [2200, 1000], (900, 2))
    centres, good = np.concatenate([clear, blurred]), np.arange(1200) < 300
    slide = {"width": 2300, "height": 1100, "mpp": 1.0}
    found = choose_regions(centres, good, slide, rng, AnnotationSettings(regions=4))
    assert len(found) == 4
    assert (found[:, 2:] == 300).all()
    assert (found[:, 0] < 1000).all()
    assert len(choose_regions(centres[:0], good[:0], slide, rng, AnnotationSettings())) == 0


def test_two_readings_and_no_cells_will_do(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "section.truth", tmp_path / "truth")
    rows = tables.read_table(tmp_path / "truth", "regions").to_pylist()
    tables.write_table(tmp_path / "truth", "regions", [r for r in rows if r["kind"] != "region_of_interest"])
    two = AnnotationSettings(regions=1, unlabelled=0, examiners=ExaminerSettings(readings=("A", "A"), skipped=0))
    told = annotate(tmp_path / "slide", tmp_path / "truth", STUDY, seed=1, settings=two)
    names = sorted(path.name for path in (tmp_path / "slide" / "annotations").iterdir())
    assert names == ["consensus.dcm", "regions.dcm", "session-0.dcm", "session-1.dcm"]
    assert [row["examiners"] for row in told["agreement"]] == [["A", "A"]]
    tables.write_table(tmp_path / "truth", "cells", [])
    told = annotate(tmp_path / "empty", tmp_path / "truth", STUDY, seed=1)
    assert (told["regions"], told["boxes"]) == (0, 0)


def test_strips_that_do_not_fill_the_picture_are_refused(tmp_path: Path) -> None:
    rows = Rows(600, 600, [np.zeros((300, 600, 3), np.uint8)])
    with pytest.raises(ValueError, match="missing"):
        write_dicom(tmp_path, rows, mpp=0.25, study=STUDY)
    assert not list(tmp_path.iterdir())
