"""Cross-validation after Matek 2021 as a run: told beforehand, killed and taken up again, on blood of Munich too."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from cell_sets import cell, save
from myelos.cli import main
from myelos.datasets.images import find_images
from myelos.datasets.overlapping import OVERLAPS
from myelos.errors import UsageError
from myelos.protocols import matek, matek_models, matek_time
from myelos.protocols.matek_report import _not_run
from myelos.protocols.matek_time import expected, in_words

TINTS = {"MYO": (0, 0, 0), "NGS": (40, 0, -40), "LYT": (-50, 30, 0)}


@pytest.fixture(scope="module")
def blood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of AML-Cytomorphology_LMU: TIFF with alpha, annotations in a table; seven cells of three types."""
    folder, lines = tmp_path_factory.mktemp("lmu"), []
    for code, tint in TINTS.items():
        for index in range(1, 8):
            rgb = np.clip(cell(index + sum(map(ord, code)), 400) + np.array(tint), 0, 255).astype(np.uint8)
            alpha = np.full((400, 400, 1), 255, np.uint8)
            save(folder / "AML" / code / f"{code}_{index:04d}.tiff", np.concatenate([rgb, alpha], 2))
            lines.append(f"{code}/{code}_{index:04d}.tiff {code} nan nan")
    (folder / "annotations.dat").write_text("\n".join(lines) + "\n")
    return folder


def small(**changes: Any) -> matek.Preset:
    preset = replace(matek.preset("glance"), side=32, mpp=0.672, images=400, batch=16, folds=3, least=3, selected=20)
    return replace(preset, **changes)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command that is refused says, in one line."""

    def ask(*command: str) -> str:
        monkeypatch.setattr(sys, "argv", ["myelos", *command])
        assert main() in (1, 2)
        return " ".join(capsys.readouterr().err.split())

    return ask


def silent(_stage: str, _done: int, _total: int) -> None:
    pass


def test_it_runs_on_the_blood_of_munich(blood: Path, tmp_path: Path) -> None:
    result = matek.crossval([blood], tmp_path / "out", settings=small(models=("handcrafted",)))
    assert result["types"] == {"segmented_neutrophil": 7, "lymphocyte": 7, "myeloblast": 7}
    assert result["models"]["handcrafted"]["accuracy"][0] > 0.5
    assert "| myeloblast | 7 |" in (tmp_path / "out" / "crossval.md").read_text()


def test_networks_begin_with_weights_of_others(blood: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = "timm:test_resnet", tmp_path / "given.safetensors"
    given = timm.create_model("test_resnet", pretrained=False).state_dict()
    save_file(given, path)
    settings = small(models=(model,), images=16, pretrained={model: str(path)})
    train, begun = matek_models.train_network, []

    def watched(*crops: Any, **options: Any) -> Any:
        begun.append(options["start"])
        return train(*crops, **options)

    monkeypatch.setattr(matek_models, "train_network", watched)
    matek.crossval([blood], tmp_path / "out", settings=settings)
    assert len(begun) == settings.folds
    assert all(torch.equal(start["trunk.network.conv1.0.weight"], given["conv1.0.weight"]) for start in begun)
    assert f"{model} began with weights of given.safetensors." in (tmp_path / "out" / "crossval.md").read_text()


def test_what_does_not_fit_is_refused_before_anything_is_read(
    blood: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    command = ["crossval", "matek", "--data", str(blood), "-o", str(tmp_path / "out"), "--models", "sequential"]
    (tmp_path / "given.safetensors").write_bytes(b"")
    given = tmp_path / "given.safetensors"
    assert "no network of this run" in refused(*command, "--pretrained", f"timm:resnet18={given}")
    assert "it names no file" in refused(*command, "--pretrained", str(given))
    assert "does not exist" in refused(*command, "--pretrained", f"sequential={given}x")
    hrnet = ["crossval", "matek", "--data", str(blood), "-o", str(tmp_path / "out"), "--models", "timm:hrnet_w18_small"]
    assert "cannot see crops of 144 × 144 px" in refused(*hrnet, "--side", "144")
    assert "our own network" in refused(*command, "--pretrained", f"sequential={given}")


def test_it_is_told_beforehand_and_goes_on_in_the_middle_of_a_training(
    blood: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the 14th step of the second network: the run that goes on ends as one that ran through."""
    from myelos.training.cell_loop import CellTrainingSettings

    monkeypatch.setattr(
        "myelos.protocols.matek_models.CellTrainingSettings", lambda: CellTrainingSettings(checkpoint_every=5)
    )
    settings = small(models=("sequential",))

    class KilledError(Exception):
        pass

    def kill(stage: str, done: int, _total: int) -> None:
        if stage == "sequential, fold-2" and done == 14:
            raise KilledError

    told: list[str] = []
    whole = matek.crossval([blood], tmp_path / "whole", settings=settings, announce=told.append)
    assert len(told) == 1  # how many minutes, hangs on what else the machine does
    assert told[0].startswith("21 cells of 3 types; 3 of 3 models to go: about ")
    with pytest.raises(KilledError):
        matek.crossval([blood], tmp_path / "killed", settings=settings, progress=kill)
    seen: list[int] = []

    def note(stage: str, done: int, _total: int) -> None:
        if stage == "sequential, fold-2":
            seen.append(done)

    again = matek.crossval([blood], tmp_path / "killed", settings=settings, progress=note, announce=told.append)
    assert "2 of 3 models to go" in told[1]
    assert seen[0] == 11  # ten steps were kept
    assert json.dumps(again) == json.dumps(whole)
    for fold in range(3):
        name = f"answers/sequential.fold-{fold + 1}.csv"
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_has_answers_takes_no_time_and_longer_trainings_take_longer(
    blood: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step is measured once for both: a busy machine could slow one measurement and not the other."""
    measured, rates = matek_time._seconds, []

    def once(*arguments: Any) -> tuple[float, float]:
        if not rates:
            rates.append(measured(*arguments))
        return rates[0]

    monkeypatch.setattr(matek_time, "_seconds", once)
    settings = small(models=("sequential",))
    study = matek.divided([blood], settings)
    jobs = [("sequential", one) for one in matek.rounds(study, settings)]
    longer = replace(settings, images=400 * settings.images)
    short, long = (expected(study, one, jobs, tmp_path, silent) for one in (settings, longer))
    assert 0 < 20 * short < long
    for model, one in jobs:
        path = matek.answers_file(tmp_path, model, one)
        path.parent.mkdir(exist_ok=True)
        path.write_text("file,truth,answer\n")
    assert expected(study, settings, jobs, tmp_path, silent) == 0


def test_minutes_and_hours() -> None:
    assert in_words(5) == "about 1 minute"
    assert in_words(3480) == "about 58 minutes"
    assert in_words(40_000) == "about 11 hours"


def test_a_changed_paper_preset_is_not_the_paper_s() -> None:
    paper = matek.preset("paper")
    assert _not_run(paper) == []
    assert "**not run**" in _not_run(replace(paper, epochs=1))[0]
    assert "**not run**" in _not_run(matek.preset("two-cores"))[0]


def test_images_of_the_same_cells_are_in_one_fold_or_discarded(data: Path, tmp_path: Path) -> None:
    """Two neighbours in one field, each in the middle of its image: other labels, and half of the picture in common."""
    fields = find_images(data / "chula_wbc_fields")[::12]
    for number, path in enumerate(fields[:9]):
        field = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        save(tmp_path / "cells" / "BLA" / f"BLA_{number:05d}.png", field[200:450, 200:450])
        if number < 3:
            save(tmp_path / "cells" / "MON" / f"MON_{number:05d}.png", field[220:470, 300:550])
        else:
            save(tmp_path / "cells" / "MON" / f"MON_{number:05d}.png", field[550:800, 900:1150])
    counts = {}
    for how in OVERLAPS:
        study = matek.divided([tmp_path / "cells"], small(overlaps=how), "mll21")
        counts[how] = (len(study.records), len(set(study.units)))
        if how == "together":
            fold = {record.path.stem: one for record, one in zip(study.records, study.folds, strict=True)}
    assert counts == {"together": (18, 15), "discard": (15, 15), "off": (18, 18)}
    assert all(fold[f"BLA_{n:05d}"] == fold[f"MON_{n:05d}"] for n in range(3))
    with pytest.raises(UsageError, match="means nothing"):
        matek.divided([tmp_path / "cells"], small(overlaps="apart"), "mll21")


def test_an_image_under_two_labels_is_reported_and_stays(blood: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(blood, tmp_path / "lmu")
    shutil.copy(folder / "AML" / "MYO" / "MYO_0001.tiff", folder / "AML" / "LYT" / "LYT_0099.tiff")
    with (folder / "annotations.dat").open("a") as file:
        file.write("LYT/LYT_0099.tiff LYT nan nan\n")
    result = matek.crossval([folder], tmp_path / "out", settings=small(models=("handcrafted",)), check=True)
    assert (result["cells"], result["set_aside"]) == (22, [])
    assert {row["reason"] for row in result["two_labels"]} == {"two labels"}
    assert "MYO_0001.tiff" in {row["file"] for row in result["two_labels"]}  # of the same bytes as LYT_0099
    assert "under another label" in (tmp_path / "out" / "crossval.md").read_text()
