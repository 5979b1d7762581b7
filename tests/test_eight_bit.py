"""Classifiers in eight-bit whole numbers: rounding, the graph, which form runs, and what the card says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from myelos.cli import main
from myelos.errors import ModelError
from myelos.models import load_classifier
from myelos.models.files import read_card, rewrite_card, sha256, tensors
from myelos.networks.rounding import Shape, rounded, shape_of
from myelos.training.eight_bit import EightBitSettings, add_eight_bits, compared
from tiny_classifier import CARD, SIDE, TYPES, cells, drawn, written


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = written(tmp_path_factory.mktemp("model"))
    add_eight_bits(path, cells(60, 2)[0], cells(240, 3)[0])
    return path


def test_inputs_are_those_of_the_convolution() -> None:
    rng = np.random.default_rng(0)
    tensor, weights = rng.normal(size=(1, 5, 17, 14)).astype(np.float32), rng.normal(size=(4, 5, 3, 3))
    shape = shape_of(weights, {"strides": [2, 2], "pads": [1, 1, 1, 1]})
    assert shape == Shape(3, 2, 1)
    rows = shape.inputs(tensor, 10**6, np.random.default_rng(1))
    ours = rows @ weights.reshape(4, -1).T
    true = nn.functional.conv2d(torch.from_numpy(tensor).double(), torch.from_numpy(weights), stride=2, padding=1)
    true = true[0].reshape(4, -1).T.numpy()
    assert np.allclose(np.sort(ours, axis=0), np.sort(true, axis=0), atol=1e-5)
    assert len(shape.inputs(tensor, 7, rng)) == 7


@pytest.mark.parametrize("attributes", [{"group": 5}, {"dilations": [2, 2]}, {"strides": [1, 2]}])
def test_other_convolutions_are_rounded_plainly(attributes: dict) -> None:
    assert shape_of(np.zeros((5, 1, 3, 3)), attributes) is None


def test_rounding_keeps_the_answers_rather_than_the_weights() -> None:
    rng = np.random.default_rng(0)
    seen = np.maximum(rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 40)) + rng.normal(size=(4000, 40)) / 3, 0)
    weights = rng.normal(size=(12, 40))
    products = seen.T @ seen / len(seen)

    def error(whole: NDArray[np.int8], steps: NDArray[np.float32]) -> float:
        return float((((whole * steps[:, None] - weights) @ seen.T) ** 2).mean())

    nearest, careful = rounded(weights, 15), rounded(weights, 15, products)
    assert np.array_equal(nearest[0], np.round(weights / nearest[1][:, None]))
    assert error(*careful) < 0.5 * error(*nearest)
    assert np.abs(careful[0]).max() <= 15


def test_what_is_whole_stays() -> None:
    whole = np.random.default_rng(0).integers(-63, 64, (6, 3, 3, 3))
    whole[:, 0, 0, 0] = 63
    steps = np.linspace(0.01, 0.5, 6)
    found, own = rounded(whole * steps[:, None, None, None], 63, np.eye(27) + 0.5)
    assert np.array_equal(found, whole)
    assert np.allclose(own, steps)


def test_weights_are_whole_and_leave_room_for_sums(model: Path) -> None:
    graph = onnx.load(str(read_card(model).eight_bit)).graph
    whole = [numpy_helper.to_array(t) for t in graph.initializer if t.name.endswith(".whole")]
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(whole) == len(convolutions) > 5
    assert all(tensor.dtype == np.int8 and np.abs(tensor.astype(int)).max() <= 63 for tensor in whole)
    assert 2 * 255 * 63 < 2**15  # a pair of products in sixteen bits
    made = {name: node.op_type for node in graph.node for name in node.output}
    assert {made[name] for node in convolutions for name in node.input[:2]} == {"DequantizeLinear"}
    assert [output.name for output in graph.output] == ["logits", "features"]


def test_both_forms_name_cells_nearly_the_same(model: Path) -> None:
    crops, kinds = cells(120, 4)
    precise, quick = load_classifier(model, precise=True), load_classifier(model)
    assert (precise.precision, quick.precision) == ("f32", "int8")  # type: ignore[attr-defined]
    assert precise.sha256 == quick.sha256
    exact, near = precise(crops), quick(crops)
    assert (exact.argmax(axis=1) == kinds).mean() > 0.95
    assert (exact.argmax(axis=1) == near.argmax(axis=1)).mean() >= 0.99
    assert 0 < np.abs(exact - near).max() < 0.25  # three types that differ in colour alone: extremes are far apart
    assert np.array_equal(quick(crops[5:6])[0], near[5])  # the batch changes nothing


def test_the_card_keeps_what_was_measured(model: Path) -> None:
    card = read_card(model)
    assert card.int8["sha256"] == sha256(card.eight_bit)
    assert card.int8["cells"] == 240
    assert card.int8["same"] >= 0.995
    assert card.int8["default"] is True
    assert card.onnx_sha256 == sha256(card.graph)


def test_a_new_card_leaves_the_weights(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(model.read_bytes())
    rewrite_card(path, replace(read_card(path), text="µ " * 301))
    assert read_card(path).text == "µ " * 301
    before, after = tensors(model), tensors(path)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def copied(model: Path, folder: Path) -> Path:
    for suffix in (".safetensors", ".onnx", ".int8.onnx"):
        (folder / f"tiny{suffix}").write_bytes(model.with_suffix(suffix).read_bytes())
    return folder / "tiny.safetensors"


def test_a_graph_that_is_gone_or_another_is_not_run(model: Path, tmp_path: Path) -> None:
    path = copied(model, tmp_path)
    graph = read_card(path).eight_bit
    graph.write_bytes(graph.read_bytes() + b" ")
    with pytest.raises(ModelError, match=r"tiny\.int8\.onnx does not belong"):
        load_classifier(path)
    load_classifier(path, precise=True)
    graph.unlink()
    assert load_classifier(path).precision == "f32"  # type: ignore[attr-defined]


def test_where_names_change_the_precise_form_runs(model: Path, tmp_path: Path) -> None:
    path = copied(model, tmp_path)
    card = add_eight_bits(path, cells(20, 5)[0], cells(200, 6)[0], settings=EightBitSettings(same=1.01))
    assert card.int8["default"] is False
    assert load_classifier(path).precision == "f32"  # type: ignore[attr-defined]


def test_few_cells_show_nothing(model: Path, tmp_path: Path) -> None:
    path = copied(model, tmp_path)
    rewrite_card(path, replace(read_card(path), int8={}))
    path.with_suffix(".int8.onnx").unlink()
    assert add_eight_bits(path, cells(20, 5)[0], cells(199, 6)[0]).int8 == {}
    assert not path.with_suffix(".int8.onnx").exists()
    assert load_classifier(path).precision == "f32"  # type: ignore[attr-defined]


def test_comparison_by_hand() -> None:
    precise, quick = np.array([[0.6, 0.4], [0.1, 0.9]], np.float32), np.array([[0.45, 0.55], [0.1, 0.9]], np.float32)
    two = replace(CARD, types=("no", "yes"))
    assert compared(two, precise, quick) == {"cells": 2, "same": 0.5, "difference": pytest.approx(0.15)}
    asked = replace(two, kind="question", question="blast-character", threshold=0.3)
    assert compared(asked, precise, quick)["same"] == 1.0  # both say yes to both


def images(folder: Path, number: int) -> Path:
    """Drawn cells among shadows of their own, so that none is a near-duplicate of another."""
    rng = np.random.default_rng(8)
    for kind, name in enumerate(TYPES):
        (folder / name).mkdir(parents=True)
        for index in range(number):
            shadows = cv2.resize(rng.uniform(0, 70, (5, 5)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            image = np.clip(drawn(kind, rng) - shadows[..., None], 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{index}.png"), image[..., ::-1])
    return folder


def test_the_command(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    path = copied(model, tmp_path)
    rewrite_card(path, replace(read_card(path), int8={}))
    weights, data = tensors(path), str(images(tmp_path / "cells", 40))

    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["myelos", *words])
        return main()

    assert run("train", "int8", str(path), "--data", data, "--mpp", "0.3") == 2
    assert "200 or more must be held out" in capsys.readouterr().err
    monkeypatch.setattr("myelos.training.eight_bit.EightBitSettings", partial(EightBitSettings, least=5))
    for number in range(40):  # so many that some of them would be judged
        (Path(data) / TYPES[0] / f"torn{number}.png").write_bytes(b"no image %d" % number)
    assert run("train", "int8", str(path), "--data", data, "--mpp", "0.3", "--json") == 3
    card = read_card(path)
    said = json.loads(capsys.readouterr().out)
    assert said["int8"] == card.int8
    assert said["set_aside"]
    assert all(row["file"].startswith("torn") and row["reason"] for row in said["set_aside"])
    assert card.int8["cells"] >= 5
    assert all(np.array_equal(weights[name], value) for name, value in tensors(path).items())
    assert run("models", str(path)) == 0
    assert "held-out cells as float32 does" in capsys.readouterr().out
    assert run("train", "int8", "blood", "--data", data) == 2
    assert "blood is a detector" in capsys.readouterr().err
