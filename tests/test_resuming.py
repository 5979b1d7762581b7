"""A training that was killed goes on with the settings and data that it was begun with, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from myelos.errors import ResultError
from myelos.networks.cells import CellNetworkSettings
from myelos.tables import write_run
from myelos.training.cell_loop import CellTrainingSettings, train_network
from myelos.training.checkpoints import prepare_training
from myelos.training.crops import Crop
from myelos.training.fields import Field
from myelos.training.loop import TrainingSettings, train
from test_training import TINY, discs

SHORT = replace(TINY, canvases=8, checkpoint_every=2)


def begun(out: Path, fields: list[Field] | None = None, settings: TrainingSettings = SHORT, **options: Any) -> None:
    """The short training of six fields of discs, or another that is given."""
    train(fields or [discs(seed) for seed in range(6)], types=("a", "b"), settings=settings, out=out, **options)


def test_a_checkpoint_goes_on_with_the_same_settings_and_data_or_not_at_all(tmp_path: Path) -> None:
    begun(tmp_path)
    begun(tmp_path, settings=replace(SHORT, checkpoint_every=3))  # changes no weight
    same = [discs(seed) for seed in range(6)]
    moved = [replace(same[0], boxes=same[0].boxes + 1), *same[1:]]
    retyped = [replace(same[0], allowed=~same[0].allowed), *same[1:]]
    renamed = [replace(same[0], name="other.png"), *same[1:]]
    with pytest.raises(ResultError, match=r"rate was 0\.0005 and is 0\.001.*--overwrite"):
        begun(tmp_path, settings=replace(SHORT, rate=1e-3))
    with pytest.raises(ResultError, match=r"architecture\.channels was 16 and is 32"):
        begun(tmp_path, settings=replace(SHORT, architecture=replace(SHORT.architecture, channels=32)))
    with pytest.raises(ResultError, match="begun with 6 training images, now there are 7"):
        begun(tmp_path, [*same, discs(6)])
    for fields, what in (
        (moved, "the boxes differ"),
        (retyped, "the types of the boxes"),
        (renamed, "the names of the"),
    ):
        with pytest.raises(ResultError, match=what):
            begun(tmp_path, fields)
    with pytest.raises(ResultError, match=r"weights\.discs was not stated and is 2"):
        begun(tmp_path, weights={"discs": 2.0})
    with pytest.raises(ResultError, match="start was"):
        begun(tmp_path, start={"nothing": torch.zeros(1)})


def test_overwriting_starts_anew_and_a_checkpoint_without_fingerprint_goes_on(tmp_path: Path) -> None:
    begun(tmp_path)
    state = json.loads((tmp_path / "checkpoint.json").read_text())
    begun(tmp_path, settings=replace(SHORT, canvases=4), anew=True)
    assert json.loads((tmp_path / "checkpoint.json").read_text())["step"] == 2
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == 3
    begun(tmp_path, anew=True)
    del state["fingerprint"]  # as earlier versions wrote it
    (tmp_path / "checkpoint.json").write_text(json.dumps(state))
    steps: list[int] = []
    begun(tmp_path, settings=replace(SHORT, canvases=12), report=lambda values: steps.append(values["step"]))
    assert steps == [5, 6]


def test_a_finished_training_is_overwritten_with_its_checkpoint(tmp_path: Path) -> None:
    begun(tmp_path)
    prepare_training(tmp_path, overwrite=False)  # killed: the checkpoint stays
    assert (tmp_path / "checkpoint.json").exists()
    write_run(tmp_path, {})
    with pytest.raises(ResultError, match="finished"):
        prepare_training(tmp_path, overwrite=False)
    prepare_training(tmp_path, overwrite=True)
    assert not list(tmp_path.iterdir())


def test_classifiers_refuse_the_checkpoint_of_another_training_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    crops = [
        Crop(rng.integers(0, 255, (40, 40, 3), np.uint8), np.eye(2, dtype=bool)[i % 2], "s", "ab"[i % 2], f"{i}.png")
        for i in range(4)
    ]
    settings = CellTrainingSettings(
        epochs=1,
        batch=4,
        early=0,
        precision="f32",
        network=CellNetworkSettings(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1)),
    )
    train_network(crops, types=2, side=32, settings=settings, out=tmp_path)
    train_network(crops, types=2, side=32, settings=settings, out=tmp_path)
    with pytest.raises(ResultError, match="mix was"):
        train_network(crops, types=2, side=32, settings=replace(settings, mix=0.1), out=tmp_path)
    inverted = [replace(crops[0], image=255 - crops[0].image), *crops[1:]]
    retyped = [replace(crops[0], cell_type="b"), *crops[1:]]
    for others, what in ((inverted, "the contents of the images differ"), (retyped, "the types differ")):
        with pytest.raises(ResultError, match=what):
            train_network(others, types=2, side=32, settings=settings, out=tmp_path)
    train_network(crops, types=2, side=32, settings=replace(settings, mix=0.1), out=tmp_path, anew=True)
