"""Labels in doubt: who names whom, and what is written."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from myelos.cli import main
from myelos.datasets.cell_sets import read_cell_sets
from myelos.errors import UsageError
from myelos.networks.cells import CellNetworkSettings
from myelos.training import doubts
from myelos.training.cell_loop import CellTrainingSettings, train_network
from myelos.training.cell_recipe import ClassifierRecipe
from myelos.training.classifier import divided
from myelos.training.crops import Crop, unchanged
from myelos.training.doubts import DoubtSettings, find_doubts

TYPES = ("eosinophil", "lymphocyte")
NETWORK = CellNetworkSettings(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), dropout=0.0)
TRAINING = CellTrainingSettings(
    epochs=60, batch=8, warmup=4, mix=0.0, early=0.0, average=0.9, network=NETWORK, augmentation=unchanged()
)
RECIPE = ClassifierRecipe(types=TYPES, mpp=0.3, side=32, views=1, unstated_mpp=0.3, training=TRAINING)


def folder(at: Path, number: int = 12) -> Path:
    """Red and blue discs among shadows of their own."""
    rng = np.random.default_rng(len(at.name))
    for name, ink in zip(TYPES, ((220, 110, 90), (60, 40, 140)), strict=True):
        (at / name).mkdir(parents=True)
        for index in range(number):
            shadows = cv2.resize(rng.uniform(150, 245, (6, 6)), (48, 48), interpolation=cv2.INTER_CUBIC)
            image = np.repeat(np.clip(shadows, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
            cv2.circle(image, (24, 24), 12, ink, -1)
            cv2.imwrite(str(at / name / f"{name}{index}.png"), image[..., ::-1])
    return at


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_training_cell_is_named_by_a_network_that_never_saw_it(tmp_path: Path, monkeypatch) -> None:
    data = [folder(tmp_path / "cells"), folder(tmp_path / "others")]
    learned: list[set[tuple[str, str]]] = []
    named: list[set[tuple[str, str]]] = []

    def names(crops: list[Crop]) -> set[tuple[str, str]]:
        return {(crop.source, crop.name) for crop in crops}

    def trained(crops, **settings):
        learned.append(names(crops))
        return train_network(crops, **settings)

    def asked(network, crops, recipe):
        named.append(names(crops))
        return view_logits(network, crops, recipe)

    view_logits = doubts.view_logits
    monkeypatch.setattr(doubts, "train_network", trained)
    monkeypatch.setattr(doubts, "view_logits", asked)
    found = find_doubts(data, tmp_path / "out", recipe=RECIPE, settings=DoubtSettings(folds=3), check=False)
    train = {(r.source, r.path.name) for r in divided(read_cell_sets(data)[0], RECIPE)["train"]}
    assert len(learned) == len(named) == 3
    assert all(not seen & own for seen, own in zip(learned, named, strict=True))
    assert all(seen | own == train for seen, own in zip(learned, named, strict=True))
    table = rows(found.table)
    assert {(row["source"], row["file"]) for row in table} == train
    assert len(table) == found.cells
    for row in table:
        shares = [float(row[name]) for name in TYPES]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert row["named"] == TYPES[int(np.argmax(shares))]
        assert float(row["label_probability"]) == pytest.approx(float(row[row["label"]]), abs=2e-5)
    assert found.agreed == np.mean([row["named"] == row["label"] for row in table])
    assert found.agreed > 0.9  # red and blue are easy
    assert cv2.imread(str(found.picture)).shape[1] == 1600


def test_a_source_that_the_start_has_learned_is_left_out(tmp_path: Path) -> None:
    data = [folder(tmp_path / "cells"), folder(tmp_path / "others")]
    settings = DoubtSettings(folds=2, sources=("cells",))
    quick = replace(RECIPE, training=replace(TRAINING, epochs=1))
    table = rows(find_doubts(data, tmp_path / "out", recipe=quick, settings=settings, check=False).table)
    assert {row["source"] for row in table} == {"cells"}
    with pytest.raises(UsageError, match="asks blast-character"):
        find_doubts(data, tmp_path / "none", recipe=ClassifierRecipe(question="blast-character"))
    with pytest.raises(UsageError, match="no cell of nowhere"):
        find_doubts(data, tmp_path / "none", recipe=quick, settings=DoubtSettings(sources=("nowhere",)), check=False)


def test_the_command(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        'name = "tiny"\nscheme = "pbc8"\ntypes = ["eosinophil", "lymphocyte"]\nmpp = 0.3\nside = 32\nviews = 1\n'
        "unstated_mpp = 0.3\n[training]\nepochs = 2\nbatch = 8\nwarmup = 4\nearly = 0.0\n"
        "[training.network]\nwidths = [8, 8, 16, 16]\ndepths = [1, 1, 1, 1]\n"
    )
    data = ["--recipe", str(recipe), "--data", str(folder(tmp_path / "cells", 20)), "--no-check-images"]

    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["myelos", "train", *words, *data])
        return main()

    monkeypatch.setattr("myelos.cli.train_doubts._KNOWS", 0.0)
    assert run("doubts", "--folds", "2", "-o", str(tmp_path / "doubts")) == 0
    first, out = (tmp_path / "doubts" / "doubts.csv").read_bytes(), capsys.readouterr()
    assert "named as their label" in out.out
    assert "train longer" not in out.err
    probabilities = [float(row["label_probability"]) for row in rows(tmp_path / "doubts" / "doubts.csv")]
    assert probabilities == sorted(probabilities)
    (tmp_path / "doubts" / "run.json").unlink()  # as if killed before its end
    checkpoints = [tmp_path / "doubts" / fold / "checkpoint.json" for fold in ("fold-1", "fold-2")]
    written = [path.stat().st_mtime_ns for path in checkpoints]
    monkeypatch.setattr("myelos.cli.train_doubts._KNOWS", 1.1)  # more than any network reaches
    assert run("doubts", "--folds", "2", "-o", str(tmp_path / "doubts")) == 0
    assert "train longer" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in checkpoints] == written  # what was trained is not trained again
    assert (tmp_path / "doubts" / "doubts.csv").read_bytes() == first
    assert run("doubts", "--folds", "2", "-o", str(tmp_path / "doubts")) == 1
    capsys.readouterr()
    assert run("doubts", "--folds", "2", "--everything", "--json", "-o", str(tmp_path / "all")) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == 40 > len(probabilities)
