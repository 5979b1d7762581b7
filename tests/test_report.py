"""The report's files: what they hold, what they never hold, and counting again after corrections."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

from myelos import taxonomy
from myelos.counting import from_tally
from myelos.errors import InputError, ResultError
from myelos.report import RESEARCH_USE, ModelNote, Picture, ReportInput, load, recount, write
from myelos.report.files import guarded
from myelos.report.images import ImageSettings
from myelos.report.keys import KEYS, assign
from myelos.report.page import PageSettings, render
from myelos.tables import read_run, read_table
from report_sample import HOSTILE, finished, sample

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "docs" / "report.schema.json"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    finished(folder, sample())
    return folder


def act(action: str, cell: str, before: str | None = None, after: str | None = None, **other: Any) -> dict[str, Any]:
    row = {"slide_id": cell.split("-")[0], "cell_id": cell, "action": action, "from_type": before, "to_type": after}
    row |= {"x": 1, "y": 2, "width": 50, "height": 50, "who": "A reader", "time": "2026-01-05T10:00:00Z", "why": ""}
    return row | other


def saved(folder: Path, *rows: dict[str, Any], **other: Any) -> Path:
    path = folder / "corrections.json"
    path.write_text(json.dumps({"format": "myelos-corrections-1", "corrections": list(rows), **other}))
    return path


def test_every_file_carries_the_sentence(out: Path) -> None:
    for name in ("report.html", "report.json", "counts.csv", "cells.geojson"):
        assert RESEARCH_USE in (out / name).read_text(encoding="utf-8"), name
    for path in (out / "geojson").iterdir():
        assert RESEARCH_USE in path.read_text(encoding="utf-8")


def test_json_follows_its_schema(out: Path, tmp_path: Path) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, schema)
    again = recount(out, saved(tmp_path, act("strike", "000000000000-1", "blast")))
    jsonschema.validate(json.loads((again / "report.json").read_text(encoding="utf-8")), schema)
    content["count"]["specimen"] = "urine"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)


def test_csv_has_the_numbers_and_no_formulas(out: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((out / "counts.csv").read_text())))
    stored = json.loads((out / "report.json").read_text())["count"]
    blast = next(row for row in rows if row["part"] == "type" and row["name"] == "blast")
    assert int(blast["number"]) == stored["types"][0]["number"] == 9
    assert float(blast["percent"]) == pytest.approx(stored["types"][0]["percent"], abs=1e-3)
    assert {row["part"] for row in rows} >= {"type", "lineage", "beside", "unstated", "total", "note"}
    for text in ("=1+1", "+1", "-1", "@sum", "\tx", "\rx"):
        assert guarded(text) == "'" + text
    assert guarded("blast") == "blast"


def test_geojson_opens_in_qupath(out: Path) -> None:
    content = json.loads((out / "cells.geojson").read_text())
    assert len(content["features"]) == 54
    first = content["features"][0]
    assert first["properties"]["classification"] == {"name": "blast", "color": [201, 0, 25]}
    assert first["geometry"]["coordinates"][0] == [[20, 20], [80, 20], [80, 80], [20, 80], [20, 20]]
    assert first["properties"]["objectType"] == "detection"
    single = json.loads((out / "geojson" / "000000000003.geojson").read_text())
    assert {feature["properties"]["slide_id"] for feature in single["features"]} == {"000000000003"}


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    given = sample(fields=2)
    bad = given.cells.set_column(0, "slide_id", [["../../x" if k else "y" for k in range(len(given.cells))]])
    with pytest.raises(ResultError, match="slide_id"):
        write(tmp_path / "in" / "out", replace(given, cells=bad))
    assert not list(tmp_path.glob("*.geojson"))


def test_page_is_one_file_under_a_strict_policy(out: Path) -> None:
    html = (out / "report.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    rules = policy.group(1).replace("&#39;", "'")
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content.group(1).encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in rules
    assert not re.findall(r"""(?:src|href)=["'](?!data:image/)""", html)
    assert not re.findall(r"\sstyle=|\son[a-z]+=", html), "the policy would block them"
    assert "url(" not in html
    assert "@import" not in html


def test_page_never_carries_names_of_files(out: Path) -> None:
    for path in out.iterdir():
        if path.suffix in (".html", ".json", ".csv", ".geojson"):
            assert "DOE" not in path.read_text(encoding="utf-8"), path.name


def test_texts_are_escaped() -> None:
    model = ModelNote(HOSTILE, description=HOSTILE, tested_on=(HOSTILE,))
    given = sample(fields=1, title=HOSTILE, models=(model,), warnings=(HOSTILE,), run={HOSTILE: HOSTILE})
    html = render(given)
    assert "<img src=x" not in html
    assert "<script>window.hacked" not in html
    assert html.count("</script>") == 2


def test_labels_of_synthetic_and_forced_input() -> None:
    plain = render(sample(fields=1))
    assert "Synthetic:" not in plain
    assert "Provisional model" not in plain
    assert "Forced:" not in plain
    given = sample(fields=1, synthetic=True, forced=True, models=(ModelNote("marrow", synthetic=True),))
    html = render(given)
    assert all(word in html for word in ("Synthetic:", "Provisional model: marrow", "Forced:"))


def test_galleries_show_the_least_certain_first(out: Path) -> None:
    html = (out / "report.html").read_text()
    gallery = re.search(r'<div class="gallery c-blast">(.*?)</div>', html, re.DOTALL)
    assert gallery is not None
    scores = [float(score) for score in re.findall(r'class="score">([\d.]+)<', gallery.group(1))]
    assert len(scores) == 9
    assert scores == sorted(scores)


def test_size_is_kept_and_what_is_left_out_is_said() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)
    image = cv2.imencode(".png", noise)[1].tobytes()
    given = sample(fields=6, pictures={f"{n:012x}": Picture(image, 1.0) for n in range(6)})
    small = PageSettings(images=ImageSettings(most_bytes=900_000, crop_cap=4), shown=2)
    html = render(given, small)
    assert len(html) < 1_200_000
    assert re.search(r"Not shown: [1-6] of 6 images\.", html)
    assert re.search(r"cells are counted but have no picture here, of 54 in all\.", html)
    assert len(html) < len(render(given)) / 2


def test_metadata_of_images_does_not_come_along() -> None:
    given = sample(fields=1)
    slide, picture = next(iter(given.pictures.items()))
    pixels = cv2.imdecode(np.frombuffer(picture.image, np.uint8), cv2.IMREAD_COLOR)
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    tagged = jpeg[:2] + b"\xff\xfe\x00\x0aDOE^JANE" + jpeg[2:]
    html = render(replace(given, pictures={slide: Picture(tagged, 1.0)}))
    images = [base64.b64decode(code) for code in re.findall(r"base64,([A-Za-z0-9+/=]+)", html)]
    assert images
    assert not any(b"DOE" in image for image in images)


def test_damaged_crops_and_pictures_do_not_stop_a_report() -> None:
    given = sample(fields=2)
    broken = replace(
        given,
        crops=dict.fromkeys(given.crops, b"no image"),
        pictures={slide: Picture(b"", 1.0) for slide in given.pictures},
    )
    html = render(broken)
    assert "Not shown: 2 of 2 images." in html


def test_report_of_a_tally(tmp_path: Path) -> None:
    path = tmp_path / "tally.csv"
    path.write_text("cell_type,count\nneutrophil,60\nlymphocyte,30\nblast,10\nerythroblast,4\n")
    page = write(tmp_path / "out", ReportInput(title="By hand", count=from_tally(path, specimen="blood")))
    html = page.read_text()
    assert "No model took part" in html
    assert "6.2" not in re.findall(r"data-percent>([^<]+)<", html)
    assert "10.0" in re.findall(r"data-percent>([^<]+)<", html)
    assert not (tmp_path / "out" / "cells.geojson").exists()
    jsonschema.validate(json.loads((tmp_path / "out" / "report.json").read_text()), json.loads(SCHEMA.read_text()))


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        finished(tmp_path / name, sample(fields=2))
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path.name


def test_keys_are_distinct() -> None:
    keys = assign(taxonomy.TYPES)
    given = [key for key in keys.values() if key]
    assert len(given) == len(set(given))
    assert "z" not in given
    assert set(KEYS) <= set(taxonomy.TYPES)


def test_loading_gives_the_same_report_again(out: Path, tmp_path: Path) -> None:
    given = load(out)
    assert given.count.as_dict() == sample().count.as_dict()
    page = write(tmp_path, given)
    assert page.read_bytes() == (out / "report.html").read_bytes()


def test_recount_applies_and_keeps_both(out: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    rows = [
        act("reclassify", "000000000000-1", "blast", "myelocyte", why="granules"),
        act("reclassify", "000000000000-1", "myelocyte", "metamyelocyte"),
        act("strike", "000000000001-6", "blast"),
        act("add", "new-1", None, "lymphocyte", slide_id="000000000002", x=300, y=300),
    ]
    folder = recount(out, saved(tmp_path, *rows))
    numbers = {share.name: share.number for share in load(folder).count.types}
    assert numbers["blast"] == 7
    assert numbers["metamyelocyte"] == 1
    assert numbers["lymphocyte"] == 10
    kept = read_table(folder, "corrections").to_pylist()
    assert [row["action"] for row in kept] == ["reclassify", "reclassify", "strike", "add"]
    assert kept[0]["why"] == "granules"
    assert kept[3]["cell_id"] is None
    added = [row for row in read_table(folder, "cells").to_pylist() if "added" in row["cell_id"]]
    assert [(row["cell_type"], row["tile"], row["probability"]) for row in added] == [("lymphocyte", 0, None)]
    html = (folder / "report.html").read_text()
    assert "Corrected" in html
    assert "granules" in html
    stored = json.loads((folder / "report.json").read_text())
    assert stored["first_count"] == json.loads((out / "report.json").read_text())["count"]
    assert read_run(folder)["corrections"]["number"] == 4
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert recount(out, saved(tmp_path, rows[2])) != folder, "a new version, never an overwritten one"
    second = recount(folder, saved(tmp_path, act("strike", added[0]["cell_id"], "lymphocyte")))
    assert load(second).count.counted == load(folder).count.counted - 1


def test_added_cells_of_later_recounts_replace_none(out: Path, tmp_path: Path) -> None:
    new = act("add", "new-1", None, "lymphocyte", slide_id="000000000002", x=300, y=300)
    first = recount(out, saved(tmp_path, act("strike", "000000000002-1", "segmented_neutrophil"), new))
    second = recount(first, saved(tmp_path, new))
    assert load(second).count.cells == load(first).count.cells + 1 == load(out).count.cells + 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (act("strike", "000000000000-99", "blast"), "no cell"),
        (act("reclassify", "000000000000-1", "lymphocyte", "blast"), "is blast, not lymphocyte"),
        (act("reclassify", "000000000000-1", "blast", "blastt"), "blastt"),
        (act("explode", "000000000000-1", "blast"), "no action"),
        (act("strike", "000000000000-1", "blast", who=" "), "who made it"),
        (act("strike", "000000000000-1", "blast", time="yesterday"), "no date"),
        (act("strike", "000000000000-1", "blast", slide_id="000000000003"), "not on the image"),
        (act("add", "new-1", None, "blast", slide_id="ffff"), "no image"),
        (act("add", "new-1", None, "blast", slide_id="000000000000", x=380), "inside the image"),
        (act("add", "new-1", None, "blast", slide_id="000000000000", width=float("nan")), "inside the image"),
        (act("add", "new-1", None, "blast", slide_id="000000000000", width="wide"), "four numbers"),
    ],
)
def test_corrections_that_do_not_fit_are_listed(out: Path, tmp_path: Path, row: dict[str, Any], words: str) -> None:
    folders = sorted(out.iterdir())
    good = act("strike", "000000000000-2", "myelocyte")
    with pytest.raises(ResultError) as caught:
        recount(out, saved(tmp_path, good, row))
    assert "1 of 2 corrections" in str(caught.value)
    assert "correction 2" in str(caught.value)
    assert words in str(caught.value)
    assert sorted(out.iterdir()) == folders, "nothing is left behind"


def test_acts_that_contradict_each_other(out: Path, tmp_path: Path) -> None:
    strike = act("strike", "000000000000-1", "blast")
    with pytest.raises(ResultError, match="struck out already"):
        recount(out, saved(tmp_path, strike, strike))


def test_files_that_are_no_corrections(out: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        recount(out, tmp_path / "none.json")
    for content in ("", "[]", "{}", '{"format": "myelos-corrections-1"}', "[3]", "[" * 100_000):
        (tmp_path / "c.json").write_text(content)
        with pytest.raises(InputError):
            recount(out, tmp_path / "c.json")
    with pytest.raises(ResultError, match="does not belong"):
        recount(out, saved(tmp_path, act("strike", "000000000000-1", "blast"), base="0123456789abcdef"))
    with pytest.raises(ResultError, match="no finished result"):
        recount(tmp_path, saved(tmp_path, act("strike", "000000000000-1", "blast")))
