"""The protocol of Matek 2021: its published figures, folds, models, and a small run from end to end."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cell_sets import choi
from myelos.datasets.cell_splits import cell_folds
from myelos.datasets.cells import CellRecord
from myelos.metrics.mcnemar import mcnemar
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.protocols import matek
from myelos.protocols.matek_models import as_types, training
from myelos.protocols.matek_report import mean_of, published, summary

COLOURS = {"BLA": (90, 40, 150), "EOS": (230, 120, 110), "LYT": (60, 60, 180)}


def parameters(backbone: str, outputs: int) -> int:
    network = CellNetwork(outputs, CellNetworkSettings(backbone=backbone))
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def test_sequential_network_has_the_published_number_of_parameters() -> None:
    assert parameters("sequential", 22) == matek.paper()["published"]["sequential_parameters"] == 303_694


def test_which_resnext_has_how_many_parameters() -> None:
    """torchvision's 32x4d has no convolution biases; with one for every output channel it has the published number."""
    from torch import nn

    network = CellNetwork(22, CellNetworkSettings(backbone="resnext50"))
    plain = sum(weight.numel() for weight in network.parameters())
    biases = sum(layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d))
    assert plain == 23_024_982
    assert biases == 34_112
    assert plain + biases == matek.paper()["published"]["resnext50_parameters"] == 23_059_094
    assert parameters("resnext50", 21) == plain - 2049


def test_table_1_adds_up() -> None:
    rows = published()
    assert len(rows) == 21
    assert sum(row["images"][0] for row in rows.values()) == 171_374
    for name, row in rows.items():
        assert row["tolerant_precision"][0] >= row["precision"][0], name
        assert row["tolerant_recall"][0] >= row["recall"][0], name


def test_deviation_is_that_of_the_population() -> None:
    row = published()["abnormal_eosinophil"]["recall"]
    mean, spread, folds = mean_of([1.0, 0.0, 0.0, 0.0, 0.0])
    assert (mean, spread, folds) == (pytest.approx(row[0]), pytest.approx(row[1]), 5)
    assert mean_of([None, 0.5]) == [0.5, 0.0, 1]
    assert mean_of([None]) == [None, None, 0]


def test_mean_and_deviation_are_over_folds() -> None:
    folds = [(["blast"] * 4, ["blast"] * 3 + ["promyelocyte"]), (["blast"] * 2, ["blast", "lymphocyte"])]
    own = summary(folds, ("blast", "promyelocyte", "lymphocyte"))["classes"]["blast"]
    assert own["recall"] == [pytest.approx(0.625), pytest.approx(0.125), 2]
    assert own["tolerant_recall"] == [pytest.approx(0.75), pytest.approx(0.25), 2]


def test_two_outputs_are_one_class_after_the_maximum() -> None:
    logits = np.log(np.array([[0.4, 0.3, 0.3], [0.2, 0.45, 0.35]], np.float32))
    found = as_types(logits, ("blast", "artefact", "artefact"), ("blast", "artefact"))
    assert found.argmax(axis=1).tolist() == [0, 1]  # before the maximum the first would be an artefact too


def test_classes_are_raised_to_25000_images_each() -> None:
    paper = matek.preset("paper")
    settings = training("resnext50", paper, cells=137_000, types=21)
    assert settings.steps(137_000) * settings.batch == pytest.approx(13 * 21 * 25_000, rel=1e-4)
    assert settings.balance == 1.0
    assert settings.augmentation.shift == 0.25


def test_mcnemar_by_hand() -> None:
    first = [True] * 12 + [False] * 3 + [True] * 5
    second = [False] * 10 + [True] * 2 + [True] * 3 + [True] * 5
    found = mcnemar(first, second)
    assert (found.both, found.first, found.second, found.neither) == (7, 10, 3, 0)
    tail = sum([1, 13, 78, 286])  # 13 over 0, 1, 2, 3
    assert found.p == pytest.approx(2 * tail / 2**13)
    assert mcnemar([True, False], [True, False]).p == 1.0


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images of each of three types, which a colour tells apart, and three of a fourth."""
    folder = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(0)
    for code, colour in (*COLOURS.items(), ("MON", (150, 150, 190))):
        (folder / code).mkdir()
        for number in range(3 if code == "MON" else 30):
            image = np.full((72, 72, 3), 240, np.uint8)
            centre = tuple(int(value) for value in rng.integers(28, 44, 2))
            axes = tuple(int(value) for value in rng.integers(12, 24, 2))
            cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour[::-1], -1)
            cv2.circle(image, (centre[0] + 3, centre[1]), int(rng.integers(5, 10)), (130, 20, 60), -1)
            noise = cv2.resize(rng.normal(0, 12, (9, 9, 3)), (72, 72))
            cv2.imwrite(
                str(folder / code / f"{code}_{number:05d}.png"), np.clip(image + noise, 0, 255).astype(np.uint8)
            )
    return folder


def records_of(folder: Path) -> list[CellRecord]:
    from myelos.datasets.cells import read_cells

    return read_cells(folder, scheme="mll21")[0]


def test_folds_are_stratified_and_keep_units_whole(cells: Path) -> None:
    records = records_of(cells)
    units = [index // 2 for index in range(len(records))]
    folds = cell_folds(records, folds=5, duplicates=units)
    by_unit: dict[int, set[int]] = {}
    for unit, fold in zip(units, folds, strict=True):
        by_unit.setdefault(unit, set()).add(fold)
    assert all(len(found) == 1 for found in by_unit.values())
    for kind in ("blast", "eosinophil", "lymphocyte"):
        held = Counter(fold for fold, record in zip(folds, records, strict=True) if record.cell_type == kind)
        assert set(held) == set(range(5))
        assert max(held.values()) - min(held.values()) <= 4


def test_folds_hang_on_content_alone(cells: Path) -> None:
    records = records_of(cells)
    units = list(range(len(records)))
    folds = dict(zip([record.path for record in records], cell_folds(records, duplicates=units), strict=True))
    turned = list(reversed(records))
    again = dict(zip([record.path for record in turned], cell_folds(turned, duplicates=units), strict=True))
    assert folds == again
    assert cell_folds(records, duplicates=units, seed=1) != list(folds.values())


@pytest.fixture(scope="module")
def run(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, matek.Preset]:
    out = tmp_path_factory.mktemp("crossval") / "out"
    settings = replace(matek.preset("glance"), side=32, mpp=0.1935, images=720, batch=24, folds=3, selected=30)
    others = choi(out.parent / "choi")
    matek.crossval([cells], out, settings=settings, scheme="mll21", external=[others])
    return out, settings


def test_a_run_writes_tables_matrices_and_answers(run: tuple[Path, matek.Preset]) -> None:
    out, _ = run
    result = json.loads((out / "crossval.json").read_text())
    assert result["left_out"] == {"monocyte": 3}
    assert result["types"] == {"lymphocyte": 30, "eosinophil": 30, "blast": 30}
    text = (out / "crossval.md").read_text()
    assert "**not run**" in text
    assert "| lymphocyte | 30 |" in text
    assert "0.90 ± 0.03" in text  # published
    assert "For research use only" in text
    matrix = list(csv.reader((out / "figures" / "confusion-sequential-all-folds.csv").open()))
    assert sum(int(value) for row in matrix[1:] for value in row[1:]) == 90
    for name in ("confusion-sequential-fold-1.png", "confusion-sequential-all-folds.png", "figure-3b.png"):
        assert cv2.imread(str(out / "figures" / name)) is not None
    assert result["models"]["handcrafted"]["accuracy"][0] > 0.7  # the network has too few steps to be judged


def test_handcrafted_features_have_their_control_on_the_same_split(run: tuple[Path, matek.Preset]) -> None:
    out, _ = run
    result = json.loads((out / "crossval.json").read_text())
    split = result["split_70_30"]
    assert set(split["models"]) == {"sequential", "handcrafted"}
    (tested,) = {figures["cells"] for figures in split["models"].values()}
    assert 18 <= tested <= 36
    for rows, cells in ((result["mcnemar"], 90), (split["mcnemar"], tested)):
        assert [row["evaluation"] for row in rows] == ["strict", "tolerant"]
        assert all(
            row["both_right"] + row["first_right"] + row["second_right"] + row["neither"] == cells for row in rows
        )
    assert (out / "models" / "handcrafted.split-70-30.safetensors").is_file()


def test_external_validation_counts_as_figure_4(run: tuple[Path, matek.Preset]) -> None:
    """Choi's layout, five images of five types: only the myeloblast has a class among those that were learned."""
    out, settings = run
    own = json.loads((out / "crossval.json").read_text())["external"]
    assert set(own) == {"sequential"}
    found = own["sequential"]
    assert (found["images"], found["refused"], found["not_mapped"], found["shown"]) == (5, 0, 4, 1)
    assert found["mapping"]["myeloblast"]["class"] == "blast"
    assert found["mapping"]["promyelocyte"] == {
        "class": None, "cells": 1, "refused": 0, "shown": 0, "right": 0, "tolerated": 0,
    }  # fmt: skip
    text = (out / "crossval.md").read_text()
    assert "| ResNeXt-50 as published, Choi et al. | 627 | 247 | 0 | 380 |" in text
    assert "| promyelocyte | not mapped | 1 | 0 | 0 | 0 | 0 |" in text
    assert cv2.imread(str(out / "figures" / "figure-4-sequential.png")) is not None
    for fold in range(settings.folds):
        assert len(matek.read_answers(out / "answers" / f"sequential.external-fold-{fold + 1}.csv")[0]) == 5


def test_another_set_added_later_is_refused(cells: Path, tmp_path: Path) -> None:
    """The networks are gone when they have answered; a run without the other set cannot be asked about it."""
    from myelos.errors import ResultError

    study = replace(matek.divided([cells], matek.preset("glance"), "mll21"), external=tuple(records_of(cells)[:3]))
    (tmp_path / "answers").mkdir()
    with pytest.raises(ResultError, match="no answers on"):
        matek.check_same(study, matek.preset("glance"), tmp_path)


def test_every_cell_is_named_once_by_a_network_that_did_not_see_it(run: tuple[Path, matek.Preset]) -> None:
    out, settings = run
    folds = {row["file"]: row["fold"] for row in csv.DictReader((out / "folds.csv").open())}
    named = []
    for fold in range(settings.folds):
        rows = list(csv.DictReader((out / "answers" / f"sequential.fold-{fold + 1}.csv").open()))
        assert {folds[row["file"]] for row in rows} == {str(fold + 1)}
        named += [row["file"] for row in rows]
    assert sorted(named) == sorted(folds)


def test_a_killed_run_goes_on_with_what_it_has(cells: Path, run: tuple[Path, matek.Preset]) -> None:
    out, settings = run
    kept = (out / "answers" / "sequential.fold-1.csv").stat().st_mtime_ns
    before = (out / "crossval.json").read_bytes()
    (out / "run.json").unlink()
    (out / "answers" / "sequential.fold-3.csv").unlink()
    matek.crossval([cells], out, settings=settings, scheme="mll21", external=[out.parent / "choi"])
    assert (out / "answers" / "sequential.fold-1.csv").stat().st_mtime_ns == kept
    assert (out / "crossval.json").read_bytes() == before


def test_other_settings_are_refused(cells: Path, run: tuple[Path, matek.Preset]) -> None:
    from myelos.errors import ResultError

    out, settings = run
    (out / "run.json").unlink()
    with pytest.raises(ResultError, match="other settings"):
        matek.crossval([cells], out, settings=replace(settings, rate=1.0), scheme="mll21")
