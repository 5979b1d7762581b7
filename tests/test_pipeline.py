"""The main path from files to report, with a detector that needs no weights."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from fake_detector import BlobDetector
from myelos import tables
from myelos.errors import InputError, NotASmearError, ResultError, UsageError
from myelos.phantom.fields import FieldSettings, render_field
from myelos.phantom.slide import write_slide
from myelos.pipeline import count, detect
from myelos.smears.inputs import anonymous, find, folder_names, grouping
from myelos.smears.results import CountResult

TABLES = ("slides", "regions", "tiles", "cells", "opinions", "crops", "set_aside")


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six synthetic blood fields whose names tell two smears apart, and carry a person's name."""
    folder = tmp_path_factory.mktemp("DOE_JANE")
    for number in range(6):
        field = render_field(FieldSettings(specimen="blood", width=700, height=480), np.random.default_rng(number))
        cv2.imwrite(str(folder / f"DOE^JANE_{'ab'[number % 2]}_{number}.png"), field.rgb[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "marrow.tif"
    write_slide(path, width=3072, height=2304, specimen="marrow", seed=1, red_cell_truth=False)
    return path


def read(folder: Path) -> dict[str, list[dict[str, object]]]:
    return {name: tables.read_table(folder, name).to_pylist() for name in TABLES}


def run(inputs: object, out: Path, **options: object) -> CountResult:
    given = {"specimen": "blood", "model": BlobDetector(), "mpp": 0.25, "threads": 1} | options
    return count(inputs, out, **given)


def test_fields_of_one_call_are_one_smear(fields: Path, tmp_path: Path) -> None:
    result = run(fields, tmp_path / "out")
    assert result.exit_code == 0
    (smear,) = result.smears
    rows = read(smear.folder)
    assert len(rows["slides"]) == 6
    assert len(rows["cells"]) == smear.count.cells > 5
    assert {row["mpp_source"] for row in rows["slides"]} == {"argument"}
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    manifest = tables.read_run(smear.folder)
    assert (manifest["status"], manifest["models"][0]["name"]) == ("done", "blobs")
    assert sum(row["cells"] for row in rows["tiles"]) == len(rows["cells"])
    for row in rows["cells"]:
        assert 0 <= row["x"] < row["x"] + row["width"] <= 700
        assert 0 <= row["y"] < row["y"] + row["height"] <= 480


def test_each_crop_is_the_cell(fields: Path, tmp_path: Path) -> None:
    rows = read(run(fields, tmp_path / "out").out)
    names = {row["slide_id"]: row["file"] for row in csv.DictReader((tmp_path / "out" / "names.csv").open())}
    crops = {row["cell_id"]: row["png"] for row in rows["crops"]}
    for row in rows["cells"][:5]:
        crop = cv2.imdecode(np.frombuffer(crops[row["cell_id"]], np.uint8), cv2.IMREAD_COLOR)
        whole = cv2.imread(names[row["slide_id"]])
        side = max(row["width"], row["height"]) * 1.3
        x, y = row["x"] + row["width"] / 2 - side / 2, row["y"] + row["height"] / 2 - side / 2
        if min(x, y, 700 - x - side, 480 - y - side) > 2:
            assert abs(crop.shape[0] - side) <= 1
            near = [(int(x) + dx, int(y) + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
            size = crop.shape[0]
            assert any(np.array_equal(whole[v : v + size, u : u + size], crop) for u, v in near)


@pytest.mark.parametrize("options", [{"threads": 4}, {"model": BlobDetector(batch=5)}, {"stitch": "overlap"}])
def test_order_threads_and_batch_change_no_table(fields: Path, tmp_path: Path, options: dict[str, object]) -> None:
    files = sorted(fields.iterdir())
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:700])
    one = run([*files, broken], tmp_path / "one")
    other = run([broken, *reversed(files), files[2]], tmp_path / "other", **options)
    assert one.exit_code == other.exit_code == 3
    for name in TABLES:
        assert (one.out / f"{name}.parquet").read_bytes() == (other.out / f"{name}.parquet").read_bytes(), name
    for name in ("counts.csv", "cells.geojson", "names.csv"):
        assert (one.out / name).read_bytes() == (other.out / name).read_bytes(), name


def test_smears_are_told_apart_by_name(fields: Path, tmp_path: Path) -> None:
    result = run(str(fields / "*.png"), tmp_path / "out", smear_by=r"_([ab])_")
    assert [smear.name for smear in result.smears] == ["a", "b"]
    assert {len(read(smear.folder)["slides"]) for smear in result.smears} == {3}
    lines = list(csv.DictReader((tmp_path / "out" / "counts.csv").open()))
    assert [line["smear"] for line in lines] == ["a", "b"]
    assert [int(line["cells"]) for line in lines] == [smear.count.cells for smear in result.smears]
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'href="a/report.html"' in page
    assert result.report == tmp_path / "out" / "index.html"


def test_smears_are_told_apart_by_table(fields: Path, tmp_path: Path) -> None:
    files = sorted(fields.iterdir())
    table = tmp_path / "smears.csv"
    table.write_text("file,smear\n" + "".join(f"{path.name},{path.name[-5]}\n" for path in files[:3]))
    result = run(files, tmp_path / "out", smear_by=table)
    assert len(result.smears) == 3
    assert [item.reason for item in result.set_aside] == ["not grouped"] * 3
    assert result.exit_code == 3


def test_an_earlier_result_is_refused_then_replaced_with_all_its_smears(fields: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(fields, out, smear_by=r"_([ab])_")
    with pytest.raises(ResultError, match="overwrite"):
        run(fields, out)
    run(fields, out, overwrite=True)
    assert tables.read_run(out)["smear"] == "smear"
    with pytest.raises(ResultError):
        tables.read_run(out / "a")


def test_bad_inputs_never_stop_the_others(fields: Path, tmp_path: Path) -> None:
    good = sorted(fields.iterdir())[0]
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("DOE^JANE is no image")
    (tmp_path / "short.png").write_bytes(good.read_bytes()[:4000])
    shutil.copy(good, tmp_path / "copy.png")
    cv2.imwrite(str(tmp_path / "white.png"), np.full((400, 400, 3), 250, np.uint8))
    inputs = [good, tmp_path, tmp_path / "missing.png"]
    result = run(inputs, tmp_path / "out")
    assert result.exit_code == 3
    reasons = {Path(item.name).name: item.reason for item in result.set_aside}
    assert reasons.pop("copy.png", None) == "duplicate" or reasons.pop(good.name) == "duplicate"
    assert reasons == {
        "empty.png": "unreadable",
        "text.png": "unreadable",
        "short.png": "unreadable",
        "white.png": "no smear",
        "missing.png": "missing",
    }
    for item in result.set_aside:
        assert Path(item.name).name in item.message
    assert read(tmp_path / "out")["set_aside"][0].keys() == {"input", "slide_id", "reason", "detail"}


def test_where_nothing_is_left_the_error_says_why(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "white.png"), np.full((400, 400, 3), 250, np.uint8))
    with pytest.raises(NotASmearError, match=r"white\.png"):
        run(tmp_path / "white.png", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    forced = run(tmp_path / "white.png", tmp_path / "out", force=True)
    assert forced.smears[0].count.cells == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["forced"] is True


def test_nothing_named_is_an_error(tmp_path: Path) -> None:
    for inputs in ([], [tmp_path], str(tmp_path / "*.png")):
        with pytest.raises(InputError, match="no image was found"):
            run(inputs, tmp_path / "out")


def test_wrong_options_are_usage_errors(fields: Path, tmp_path: Path) -> None:
    wrong = [{"specimen": None}, {"specimen": "urine"}, {"cells": "many"}, {"cells": 0}, {"stitch": "glue"}]
    wrong += [{"smear_by": "no group"}, {"smear_by": "("}, {"smear_by": tmp_path / "none.csv"}, {"threads": 0}]
    for options in wrong:
        with pytest.raises(UsageError):
            run(fields, tmp_path / "out", **options)


def test_names_of_people_stay_in_one_file(fields: Path, tmp_path: Path) -> None:
    (tmp_path / "DOE^JANE_short.png").write_bytes(sorted(fields.iterdir())[0].read_bytes()[:4000])
    result = run([fields, tmp_path / "DOE^JANE_short.png"], tmp_path / "out")
    assert result.exit_code == 3
    carriers = [path for path in result.out.rglob("*") if path.is_file() and b"JANE" in path.read_bytes()]
    assert [path.name for path in carriers] == ["names.csv"]
    for name in TABLES:
        assert "JANE" not in str(tables.read_table(result.out, name).to_pylist()), name


def test_without_a_scale_fields_are_counted_and_lengths_are_unknown(tmp_path: Path) -> None:
    blank = np.full((300, 300, 3), 235, np.uint8)
    cv2.circle(blank, (150, 150), 22, (120, 60, 150), -1)
    cv2.imwrite(str(tmp_path / "one.png"), blank[..., ::-1])
    result = run(tmp_path / "one.png", tmp_path / "out", mpp=None, force=True)
    assert read(result.out)["slides"][0]["mpp"] is None
    assert result.smears[0].count.cells == 1
    assert result.smears[0].count.evidence.area_mm2 is None
    assert any("scale" in warning and "--mpp" in warning for warning in result.smears[0].warnings)


def test_a_slide_is_read_until_enough_cells_were_found(slide: Path, tmp_path: Path) -> None:
    detector = BlobDetector(("blast", "segmented_neutrophil", "lymphocyte"))
    few = run(slide, tmp_path / "few", specimen="marrow", model=detector, mpp=None, cells=20, force=True)
    again = run(slide, tmp_path / "again", specimen="marrow", model=detector, mpp=None, cells=20, force=True, threads=3)
    every = run(slide, tmp_path / "all", specimen="marrow", model=detector, mpp=None, cells="all", force=True)
    numbers = [result.smears[0].count for result in (few, again, every)]
    assert 20 <= numbers[0].cells <= numbers[2].cells
    assert numbers[0].unit == "tile"
    rows, repeated, full = (read(result.out) for result in (few, again, every))
    assert rows == repeated
    assert len(rows["tiles"]) < len(full["tiles"])
    assert rows["slides"][0]["mpp_source"] == "file"
    area = sum(row["width"] * row["height"] for row in full["tiles"])
    assert 0 < numbers[2].evidence.area_mm2 <= area * 0.25**2 / 1e6
    ids = {row["cell_id"] for row in full["cells"]}
    assert len(ids) == len(full["cells"])
    assert full["regions"], "the readable area has an outline"


def test_bad_tiles_make_a_result_partial(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from myelos.slides.tiff import TiffSlide

    original = TiffSlide.read_level

    def damaged(self: TiffSlide, level: int, x: int, y: int, width: int, height: int) -> object:
        if level == 0 and x + width > 2200 and width > 100:
            raise InputError("a tile of the slide is damaged")
        return original(self, level, x, y, width, height)

    monkeypatch.setattr(TiffSlide, "read_level", damaged)
    result = run(slide, tmp_path / "out", specimen="marrow", mpp=None, cells="all", force=True)
    assert result.exit_code == 3
    assert tables.read_run(result.out)["status"] == "partial"
    rows = read(result.out)["tiles"]
    assert {row["set_aside"] for row in rows} == {None, "unreadable"}
    assert result.smears[0].count.evidence.set_aside["tile unreadable"] > 0


def test_a_slide_counts_by_itself(slide: Path, fields: Path, tmp_path: Path) -> None:
    result = run([slide, fields], tmp_path / "out", mpp=None, cells=10, force=True)
    assert len(result.smears) == 2
    assert "smear" in {smear.name for smear in result.smears}


def test_detect_writes_tables_and_no_report(fields: Path, tmp_path: Path) -> None:
    result = detect(fields, tmp_path / "out", model=BlobDetector(), mpp=0.25, threads=1)
    assert read(result.out)["cells"] == read(run(fields, tmp_path / "counted").out)["cells"]
    assert not (tmp_path / "out" / "report.html").exists()
    assert tables.read_run(result.out)["verb"] == "detect"
    with pytest.raises(UsageError):
        detect(fields, tmp_path / "other")


def test_a_tally_gets_the_same_report(tmp_path: Path) -> None:
    (tmp_path / "tally.csv").write_text("cell_type,count\nblast,31\nsegmented neutrophil,249\nerythroblast,220\n")
    result = count(tmp_path / "tally.csv", tmp_path / "out", specimen="marrow")
    assert result.smears[0].count.counted == 500
    assert (tmp_path / "out" / "report.html").exists()
    assert tables.read_run(tmp_path / "out")["status"] == "done"


def test_cells_of_a_result_can_be_counted_again_as_geojson(fields: Path, tmp_path: Path) -> None:
    first = run(fields, tmp_path / "first")
    second = count(first.out / "cells.geojson", tmp_path / "second", specimen="blood")
    assert second.smears[0].count.cells == first.smears[0].count.cells
    numbers = [{share.name: share.number for share in r.smears[0].count.types if share.number} for r in (first, second)]
    assert numbers[0] == numbers[1]


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from fake_detector import BlobDetector
from myelos.pipeline import count
count({fields!r}, {out!r}, specimen="blood", model=BlobDetector(), mpp=0.25, threads=1, overwrite=True)
"""


@pytest.mark.parametrize("wait", [0.0, 0.08, 0.16])
def test_a_killed_run_calls_nothing_done(fields: Path, tmp_path: Path, wait: float) -> None:
    """A run that replaces a result is killed at several moments after it has withdrawn the old one."""
    out = tmp_path / "out"
    run(fields, out)
    expected = {name: (out / f"{name}.parquet").read_bytes() for name in TABLES}
    code = KILLED.format(tests=str(Path(__file__).parent), fields=str(fields), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"})
    while (out / "run.json").exists() and process.poll() is None:
        time.sleep(0.001)
    time.sleep(wait)
    process.kill()
    process.wait()
    if (out / "run.json").exists():  # it was quicker than the signal: then it must be whole
        assert {name: (out / f"{name}.parquet").read_bytes() for name in TABLES} == expected
        return
    with pytest.raises(ResultError, match="no finished result"):
        tables.read_run(out)
    run(fields, out)  # without --overwrite: what is there is no result
    assert {name: (out / f"{name}.parquet").read_bytes() for name in TABLES} == expected
    assert not list(out.glob(".*.tmp")), "what the killed run had begun to write is cleared away"


# --- inputs ---------------------------------------------------------------------------------------------------------


def test_inputs_are_found_once_and_sorted(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    files = [path.name for path in find([tmp_path / "b.png", tmp_path, str(tmp_path / "*.png")])]
    assert files == [".hidden.png", "a.JPG", "b.png"] or files == ["a.JPG", "b.png"]


def test_a_folder_of_dicom_files_is_one_slide(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.dcm").touch()
    assert find([tmp_path]) == [tmp_path]


def test_rules_for_smears() -> None:
    assert grouping(None)(Path("x.png")) == "smear"
    assert grouping(r"^(\w)-")(Path("/some/where/M-8.png")) == "M"
    assert grouping(r"^(\w)-")(Path("other.png")) is None


def test_folder_names_are_safe_and_different() -> None:
    names = folder_names(["../../etc", "a/b", "a_b", "A_B", "..", "ü"])
    assert len({name.lower() for name in names.values()}) == 6
    assert all("/" not in name and not name.startswith(".") for name in names.values())


def test_texts_lose_names() -> None:
    text = anonymous("/data/Doe/DOE.png cannot be read: DOE is no PNG", Path("/data/Doe/DOE.png"))
    assert "DOE" not in text
    assert "Doe" not in text
