"""Cells unlike those that a classifier was taught get no second opinion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from myelos.classification.gate import GateSettings, add_gate, gate_from, gate_of, heard
from myelos.models import load_classifier
from myelos.models.classify import ModuleClassifier
from myelos.models.files import beside, read_card, tensors
from myelos.smears.second_opinion import from_field, with_second_opinion
from tiny_classifier import MPP, SIDE, TYPES, cells, drawn, written

SETTINGS = GateSettings(kept=0.95)


def noise(number: int, seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (number, 48, 48, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = written(tmp_path_factory.mktemp("model"))
    before = tensors(path)
    shown = {"train": cells(200, 2)[0], "choose": cells(120, 3)[0], "test": cells(120, 4)[0]}
    card = gate_from(path, shown, [TYPES[kind] for kind in cells(200, 2)[1]], settings=SETTINGS)
    assert (card.unlike["fitted"], card.unlike["judged"]) == (200, 120)
    assert card.unlike["flagged"] < 0.15
    assert all(np.array_equal(before[name], value) for name, value in tensors(path).items())
    return path


def test_both_forms_see_the_same(model: Path) -> None:
    crops, card = cells(12, 5)[0], read_card(model)
    graph, module = load_classifier(model), ModuleClassifier(card)
    ours, theirs = graph.with_features(crops)[1], module.with_features(crops)[1]  # type: ignore[attr-defined]
    assert ours.shape == (12, 32)
    assert np.allclose(ours, theirs, atol=1e-3)
    assert graph.with_features([])[0].shape == (0, 3)  # type: ignore[attr-defined]


def test_the_score_is_the_distance_by_hand(model: Path) -> None:
    classifier = load_classifier(model)
    gate, crops = gate_of(classifier), cells(9, 6)[0]
    assert gate is not None
    features = classifier.with_features(crops)[1]  # type: ignore[attr-defined]
    away = [min(np.linalg.norm((row - mean) @ gate.whitening) for mean in gate.means) for row in features]
    assert np.allclose(gate.score(features), np.array(away) / np.sqrt(32), atol=1e-3)


def test_cells_are_heard_and_noise_is_not(model: Path) -> None:
    classifier = load_classifier(model)
    kept = [shares is not None for shares in heard(classifier, cells(100, 7)[0])]
    assert np.mean(kept) > 0.85
    assert [shares for shares in heard(classifier, noise(20, 8)) if shares is not None] == []
    assert heard(classifier, []) == []


def test_who_decides_is_asked_about_all(model: Path) -> None:
    classifier = load_classifier(model)
    classifier.decides = True
    assert gate_of(classifier) is None
    assert all(shares is not None for shares in heard(classifier, noise(3, 8)))


def test_a_model_without_a_gate_is_asked_about_all(tmp_path: Path) -> None:
    path = written(tmp_path)
    few = {"train": cells(99, 2)[0], "choose": cells(120, 3)[0]}
    assert gate_from(path, few, ["lymphocyte"] * 99).unlike == {}
    assert beside(path) == {}
    assert all(shares is not None for shares in heard(load_classifier(path), noise(3, 8)))


def test_an_unlike_cell_keeps_its_type(model: Path) -> None:
    drawn, strange = cells(2, 9)[0], noise(1, 1)
    field = np.hstack([*drawn, *strange])
    rows = [
        {"slide_id": "s", "cell_id": f"s-{i}", "x": 48.0 * i, "y": 0.0, "width": 48.0, "height": 48.0,
         "cell_type": "leukocyte", "probability": 0.9, "score": 0.9} for i in range(3)
    ]  # fmt: skip
    classifier = load_classifier(model)
    named, opinions = with_second_opinion(rows, [], from_field(field, MPP, classifier), classifier)
    assert [row["cell_type"] for row in named] == [TYPES[0], TYPES[1], "leukocyte"]
    assert [row["cell_id"] for row in opinions] == ["s-0", "s-1"]


def test_a_new_gate_takes_the_place_of_the_old(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    for suffix in (".safetensors", ".onnx"):
        path.with_suffix(suffix).write_bytes(model.with_suffix(suffix).read_bytes())
    old = beside(path)
    shown = {"train": cells(200, 12)[0], "choose": cells(120, 13)[0]}
    card = gate_from(path, shown, ["lymphocyte"] * 200, settings=replace(SETTINGS, kept=0.5))
    assert card.unlike["flagged"] is None
    assert beside(path)["means"].shape == (1, 32)
    assert old["means"].shape == (3, 32)
    assert beside(path)["whitening"].nbytes == 32 * 32 * 4


def test_torn_images_are_set_aside_with_their_reason(model: Path, tmp_path: Path, monkeypatch) -> None:
    path, rng = tmp_path / "tiny.safetensors", np.random.default_rng(4)
    for suffix in (".safetensors", ".onnx"):
        path.with_suffix(suffix).write_bytes(model.with_suffix(suffix).read_bytes())
    for kind, name in enumerate(TYPES):
        (tmp_path / "cells" / name).mkdir(parents=True)
        for index in range(40):
            shadows = cv2.resize(rng.uniform(0, 70, (5, 5)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            image = np.clip(drawn(kind, rng) - shadows[..., None], 0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "cells" / name / f"{index}.png"), image[..., ::-1])
    torn = {f"torn{number}.png" for number in range(10)}
    for name in torn:
        (tmp_path / "cells" / TYPES[0] / name).write_bytes(name.encode())
    monkeypatch.setattr("myelos.classification.gate.GateSettings", lambda: replace(SETTINGS, least=1))
    card, aside = add_gate(path, [tmp_path / "cells"], mpp=MPP)
    assert {row["file"] for row in aside} == torn
    assert all("cannot be read" in row["reason"] for row in aside)
    assert 0 < card.unlike["fitted"] < 120
