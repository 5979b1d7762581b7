"""The command line from outside: exit codes, one sentence instead of a traceback, JSON alone on standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import myelos.cli
from fake_detector import BlobDetector
from myelos.errors import UsageError
from myelos.models import files
from myelos.phantom.fields import FieldSettings, render_field


@pytest.fixture(autouse=True)
def blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands get a detector without weights."""
    monkeypatch.setattr("myelos.models.load", lambda *_args, **_options: BlobDetector())


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fields") / "field.png"
    image = render_field(FieldSettings(specimen="blood", width=700, height=480), np.random.default_rng(0))
    cv2.imwrite(str(path), image.rgb[..., ::-1])
    return path


@pytest.fixture
def myelos_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Call the program in this process: words → exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["myelos", *map(str, words)])
        code = myelos.cli.main()
        written = capsys.readouterr()
        return code, written.out, written.err

    return call


VERBS = ["count", "recount", "demo", "detect", "classify", "embed", "info", "models", "doctor"]
FAMILIES = [("train", "detector"), ("train", "classifier"), ("evaluate", "detector"), ("evaluate", "classifier")]
FAMILIES += [("train", kind) for kind in ("doubts", "int8", "gate", "looks")]
FAMILIES += [("datasets", kind) for kind in ("box", "check", "get")]
FAMILIES += [("phantom", kind) for kind in ("slide", "cohort", "fields", "cells")]
FAMILIES += [("explain", "cell"), ("crossval", "matek")]


@pytest.mark.parametrize("words", [*[(verb,) for verb in VERBS], *FAMILIES, *[(words[0],) for words in FAMILIES]])
def test_every_help_shows_an_example(myelos_: Any, words: tuple[str, ...]) -> None:
    code, out, _ = myelos_(*words, "--help")
    assert code == 0
    assert f"myelos {' '.join(words)}" in out.split("Example", 1)[1]


def test_help_keeps_its_brackets(myelos_: Any) -> None:
    """Rich takes [train] for markup where it is not escaped."""
    assert "myelos[train]" in myelos_("--help")[1]
    assert "myelos[train]" in myelos_("train", "--help")[1]


def test_every_verb_is_tested_for_its_help() -> None:
    assert {command.name or command.callback.__name__ for command in myelos.cli.app.registered_commands} == set(VERBS)
    groups = {group.name: group.typer_instance.registered_commands for group in myelos.cli.app.registered_groups}
    assert {(name, one.callback.__name__) for name, commands in groups.items() for one in commands} == set(FAMILIES)


def test_options_of_a_training_become_its_settings(
    myelos_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from myelos.training import detector

    seen: dict[str, Any] = {}

    def train_detector(*_args: object, **options: Any) -> None:
        seen.update(options)
        raise UsageError("seen")

    monkeypatch.setattr(detector, "train_detector", train_detector)
    words = ("train", "detector", "--data", tmp_path, "-o", tmp_path / "model")
    myelos_(*words, "--epochs", 2.5, "--val-fraction", 0.25, "--threads", 3)
    assert seen["threads"] == 3
    assert seen["recipe"].parts == pytest.approx({"train": 0.65, "choose": 0.1, "test": 0.25})
    assert seen["recipe"].training.over(11).canvases == 28
    myelos_(*words, "--canvases", 40)
    assert seen["recipe"].training.over(11).canvases == 40
    for wrong in (
        ("--epochs", 2, "--canvases", 40),
        ("--canvases", 0),
        ("--val-fraction", 0.95),
        ("--val-fraction", 0.2, "--test", tmp_path),
    ):
        seen.clear()
        code, _, err = myelos_(*words, *wrong)
        assert (code, seen) == (2, {})
        assert wrong[0] in err


def test_count_ends_with_the_path_of_the_report(myelos_: Any, field: Path, tmp_path: Path) -> None:
    code, out, err = myelos_("count", field, "--specimen", "blood", "-o", tmp_path / "out", "--mpp", "0.25")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == str(tmp_path / "out" / "report.html")
    assert (tmp_path / "out" / "run.json").exists()


def test_count_says_what_was_set_aside(myelos_: Any, field: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ("count", field, tmp_path / "broken.png", "--specimen", "blood", "-o", tmp_path / "out", "--mpp", "0.25")
    code, out, err = myelos_(*words, "--json")
    assert (code, err) == (3, "")
    content = json.loads(out)
    assert [Path(item["file"]).name for item in content["set_aside"]] == ["broken.png"]
    assert content["smears"][0]["cells"] > 0
    code, _, err = myelos_(*words, "--overwrite")
    assert code == 3
    assert err.count("broken.png") == 1


def test_without_specimen_it_is_said_why_it_matters(myelos_: Any, field: Path, tmp_path: Path) -> None:
    code, out, err = myelos_("count", field, "-o", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "different rules" in err
    assert "--specimen" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("count",), 2),
        (("nonsense",), 2),
        (("count", "x.png", "--specimen", "blood", "-o", "o", "--mpp", "352.8"), 2),
        (("count", "x.png", "--specimen", "blood", "-o", "o", "--cells", "-3"), 2),
        (("count", "missing.png", "--specimen", "blood", "-o", "o"), 1),
        (("count", "*.nothing", "--specimen", "blood", "-o", "o"), 1),
        (("info", "missing.svs"), 1),
        (("evaluate", "detector", "--model", "blood"), 2),
        (("detect", "x.png", "-o", "o"), 2),
        (("recount", "nothing", "--corrections", "none.json"), 1),
    ],
)
def test_exit_codes(
    myelos_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: int
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = myelos_(*words)
    assert code == expected, err
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err
    assert not (tmp_path / "o").exists()


def test_a_fault_of_the_program_is_not_hidden(myelos_: Any, field: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("myelos.slides.info.describe", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        myelos_("info", field)


def test_info_names_what_it_cannot_read(myelos_: Any, field: Path, tmp_path: Path) -> None:
    code, out, err = myelos_("info", field, tmp_path / "missing.svs", "--json")
    assert code == 3
    assert json.loads(out)[0]["width"] == 700
    assert "missing.svs" in err


def test_detect_writes_cells(myelos_: Any, field: Path, tmp_path: Path) -> None:
    words = ("detect", field, "--model", "blood", "-o", tmp_path / "out", "--mpp", "0.25")
    assert myelos_(*words)[:2] == (0, f"{tmp_path / 'out' / 'cells.parquet'}\n")
    code, _, err = myelos_(*words)
    assert code == 1
    assert "--overwrite" in err


def test_models_and_doctor(myelos_: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, out, _ = myelos_("doctor", "--json")
    states = {check["name"]: check["state"] for check in json.loads(out)}
    assert states["OpenSlide"] == states["numpy"] == "ok"
    assert code == (1 if "missing" in states.values() else 0)
    monkeypatch.setattr(files, "WEIGHTS", tmp_path)
    code, out, _ = myelos_("doctor")
    assert code == 1
    assert "train" in out
    assert myelos_("models", "--json")[1].strip() == "[]"


def test_models_are_listed_and_one_is_shown_whole(myelos_: Any) -> None:
    code, out, _ = myelos_("models")
    assert code == 0
    assert "marrow: detector for marrow" in out
    assert "synthetic_marrow (synthetic images only)" in out
    assert "myelos models NAME" in out
    code, card, _ = myelos_("models", "blood")
    assert code == 0
    assert card.startswith("# blood")
    assert "What it cannot name" in card
    assert [one["name"] for one in json.loads(myelos_("models", "blood", "--json")[1])] == ["blood"]
    code, _, err = myelos_("models", "bloood")
    assert code == 1
    assert "shipped are: blood" in err


def test_phantom_fields_are_a_set_that_evaluate_reads(myelos_: Any, tmp_path: Path) -> None:
    folder = tmp_path / "fields"
    assert myelos_("phantom", "fields", "--specimen", "blood", "--count", 2, "--size", 480, "-o", folder)[0] == 0
    code, out, _ = myelos_("evaluate", "detector", "--data", folder, "--model", "blood", "--mpp", 0.25, "--json")
    assert code == 0
    result = json.loads(out)
    assert result["images"] == 2
    assert {"ap50", "ap", "precision", "recall", "f1"} <= set(result["any_cell"])
    assert result["any_cell"]["recall"] > 0.3


def test_what_detect_writes_can_be_evaluated(myelos_: Any, tmp_path: Path) -> None:
    """By the tables, and the same cells as COCO results: both give what the model gives at its threshold."""
    folder, out = tmp_path / "fields", tmp_path / "out"
    myelos_("phantom", "fields", "--specimen", "blood", "--count", 3, "--size", 480, "-o", folder)
    code, _, err = myelos_("detect", folder / "images", "--model", "blood", "--mpp", 0.25, "--force", "-o", out)
    assert code == 0, err
    options = ("--truth", folder, "--threshold", 0.5, "--json")
    result = json.loads(myelos_("evaluate", "detector", *options, "--predictions", out)[1])
    model = json.loads(
        myelos_("evaluate", "detector", "--data", folder, "--model", "blood", "--mpp", 0.25, "--json")[1]
    )
    for figure in ("precision", "recall", "f1"):
        assert result["any_cell"][figure] == pytest.approx(model["any_cell"][figure])
    from myelos.datasets.tables import read_names
    from myelos.tables import read_table

    names = read_names(out)
    entries = [
        {
            "image_id": Path(names[row["slide_id"]]).name,
            "category_id": row["cell_type"],
            "bbox": [row["x"], row["y"], row["width"], row["height"]],
            "score": row["score"],
        }
        for row in read_table(out, "cells").to_pylist()
    ]
    (tmp_path / "results.json").write_text(json.dumps(entries))
    again = json.loads(myelos_("evaluate", "detector", *options, "--predictions", tmp_path / "results.json")[1])
    assert again == result


def test_predictions_of_other_images_are_an_error(myelos_: Any, tmp_path: Path) -> None:
    folder = tmp_path / "fields"
    myelos_("phantom", "fields", "--specimen", "blood", "--count", 1, "--size", 320, "-o", folder)
    entry = {"image_id": "other.jpg", "category_id": "lymphocyte", "bbox": [1, 2, 30, 30], "score": 0.9}
    (tmp_path / "results.json").write_text(json.dumps([entry]))
    code, _, err = myelos_("evaluate", "detector", "--truth", folder, "--predictions", tmp_path / "results.json")
    assert code == 1
    assert "other" in err


def test_the_module_is_the_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "myelos", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ))
    assert result.stdout.strip() == f"myelos {myelos.__version__}"
