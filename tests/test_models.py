"""Model files: what is shipped, what is refused, and that both ways of running one give the same boxes."""

from __future__ import annotations

import json
import pickle
import struct
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from myelos import models, taxonomy
from myelos.detection.prepare import prepare
from myelos.errors import ModelError
from myelos.geometry import iou_matrix
from myelos.models.files import WEIGHTS, ModelCard, read_card, save, sha256
from myelos.models.suppress import padded, suppress, to_boxes

CARD = ModelCard(
    name="m", kind="detector", specimen="blood", architecture={}, types=("neutrophil",), scheme="wbc5", mpp=0.25,
    tile=640, threshold=0.5, normalisation={}, data=(), training={}, metrics={}, text="a card",
)  # fmt: skip
SHIPPED = {path.stem: read_card(path).kind for path in sorted(WEIGHTS.glob("*.safetensors"))}
DETECTORS = [name for name, kind in SHIPPED.items() if kind == "detector"]
CLASSIFIERS = [name for name, kind in SHIPPED.items() if kind == "classifier"]


def test_models_are_shipped() -> None:
    assert {"blood", "marrow"} <= set(DETECTORS)
    assert "cells-blood" in CLASSIFIERS


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_model_is_small_and_says_what_it_is(name: str) -> None:
    card = read_card(models.find(name))
    assert card.path.stat().st_size < 10e6
    assert card.graph.stat().st_size < 10e6
    assert card.onnx_sha256 == sha256(card.graph)
    if card.int8:
        assert card.eight_bit.stat().st_size < 10e6
        assert card.int8["sha256"] == sha256(card.eight_bit)
        assert card.int8["default"] == (card.int8["same"] >= 0.995)
    assert all(kind in taxonomy.TYPES for kind in card.types)
    assert all(row["credit"] for row in card.data)
    assert "research use only" in card.text.lower()
    assert card.synthetic_only == ("synthetic smears alone" in card.text)
    assert card.metrics


def test_card_travels_in_the_header(tmp_path: Path) -> None:
    save(tmp_path / "m.safetensors", {"w": np.ones((2, 3), np.float32)}, CARD)
    assert replace(read_card(tmp_path / "m.safetensors"), path=Path()) == CARD
    assert models.tensors(tmp_path / "m.safetensors")["w"].dtype == np.float32


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".safetensors", ".onnx"])
def test_a_pickle_does_not_run(tmp_path: Path, suffix: str) -> None:
    sung = tmp_path / "sung"
    (tmp_path / f"m{suffix}").write_bytes(pickle.dumps(Canary(sung)))
    with pytest.raises(ModelError):
        models.load(tmp_path / f"m{suffix}")
    assert not sung.exists()


@pytest.mark.parametrize("content", [b"", b"\x01", struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 2) + b"{}"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.safetensors"):
        models.load(tmp_path / "m.safetensors")


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(ModelError, match="no model 'bloood'"):
        models.load("bloood")


def test_a_graph_of_other_weights_is_not_run(tmp_path: Path) -> None:
    save(tmp_path / "m.safetensors", {"w": np.ones(3, np.float32)}, replace(CARD, onnx_sha256="0" * 64))
    (tmp_path / "m.onnx").write_bytes(b"something else")
    with pytest.raises(ModelError, match="does not belong"):
        models.load(tmp_path / "m.safetensors")
    (tmp_path / "m.onnx").unlink()
    with pytest.raises(ModelError, match="missing"):
        models.load(tmp_path / "m.safetensors")


def test_suppression_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [30, 0, 10, 10], [2, 0, 10, 10]], float)
    assert suppress(boxes).tolist() == [0, 2]


def test_boxes_are_cut_to_the_tile_and_sorted() -> None:
    corners = np.array([[-5.0, -5, 10, 10], [50, 50, 200, 200], [20, 20, 21, 40]])
    found = to_boxes(corners, np.array([0.4, 0.9, 0.8]), np.ones((3, 1)), width=100, height=90)
    assert found.xywh.tolist() == [[50, 50, 50, 40], [0, 0, 10, 10]]  # the third is 1 px wide
    assert found.scores.tolist() == pytest.approx([0.9, 0.4])


def test_padding_keeps_the_pixels() -> None:
    tile = np.random.default_rng(0).integers(0, 255, (33, 64, 3), dtype=np.uint8)
    assert padded(tile).shape == (64, 64, 3)
    assert np.array_equal(padded(tile)[:33], tile)


def real_tiles(data: Path, number: int = 6) -> list[np.ndarray]:
    paths = sorted((data / "bccd_fields" / "JPEGImages").glob("*.jpg"))[:: 285 // number][:number]
    return [prepare(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), factor=0.077 / 0.25) for path in paths]


@pytest.mark.data
@pytest.mark.parametrize("name", DETECTORS)
def test_graph_and_module_give_the_same_boxes(name: str, data: Path) -> None:
    """For all boxes above the working threshold: IoU at least 0.99, score within 0.01, the same type."""
    from myelos.models.module import ModuleDetector

    card = read_card(models.find(name))
    tiles = real_tiles(data)
    boxes = 0
    for graph, module in zip(models.load(name)(tiles), ModuleDetector(card)(tiles), strict=True):
        for one, other in ((graph, module), (module, graph)):
            sure = one.scores >= card.threshold
            overlap = iou_matrix(one.xywh[sure], other.xywh)
            boxes += int(sure.sum())
            if not sure.any():
                continue
            best = overlap.argmax(axis=1)
            assert (overlap.max(axis=1) >= 0.99).all()
            assert np.abs(one.scores[sure] - other.scores[best]).max() <= 0.01
            assert (one.types[sure] == other.types[best]).all()
    assert boxes > 0


@pytest.mark.data
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_graph_and_module_name_cells_the_same(name: str, data: Path) -> None:
    """The same type, and probabilities within 0.005, on cells of two sources."""
    from myelos.classification.evaluate import crop_of
    from myelos.datasets.cells import read_cells
    from myelos.models.classify import ModuleClassifier

    card = read_card(models.find(name))
    records = [r for s in ("pbc_dib_cells", "mll_bone_marrow_cells") for r in read_cells(data / s)[0][::450]]
    crops = [crop_of(r, mpp=float(r.mpp or 0), to_mpp=card.mpp, side=card.tile) for r in records]
    graph, module = models.load_classifier(name, precise=True)(crops), ModuleClassifier(card)(crops)
    assert np.abs(graph - module).max() < 0.005
    assert (graph.argmax(axis=1) == module.argmax(axis=1)).all()
    if card.runs_in == "int8":
        quick = models.load_classifier(name)(crops)
        assert np.abs(quick - graph).max() < 0.2
        assert (quick.argmax(axis=1) != graph.argmax(axis=1)).sum() <= 1


@pytest.mark.data
def test_results_depend_neither_on_batch_nor_on_order(data: Path) -> None:
    tiles = real_tiles(data)
    detector = models.load("blood")
    together = detector(tiles)
    alone = [detector([tile])[0] for tile in reversed(tiles)][::-1]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.xywh, other.xywh)
        assert np.array_equal(one.scores, other.scores)


def test_card_is_json() -> None:
    assert set(json.loads(CARD.to_json())) == set(asdict(CARD)) - {"path"}
