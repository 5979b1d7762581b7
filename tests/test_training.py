"""The detector's recipe: labels to masks, canvases, the rate, resuming after a kill, and that it learns at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from myelos import models
from myelos.datasets.records import FieldRecord
from myelos.errors import LabelError, UsageError
from myelos.geometry import from_corners, iou_matrix
from myelos.networks.backbones import BACKBONES, light
from myelos.networks.cascade import CascadeSettings
from myelos.training.canvases import CanvasSettings, CanvasSource, cut_out
from myelos.training.detector import train_detector
from myelos.training.detector_recipe import DetectorRecipe, read_recipe
from myelos.training.fields import Field, allowed_types, load
from myelos.training.loop import TrainingSettings, learning_rate, train
from myelos.training.parts import unseen
from myelos.training.recipe_files import RECIPES

WBC5 = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte")
PLAIN = CanvasSettings(
    side=128,
    rotation=False,
    contrast=(1, 1),
    saturation=(1, 1),
    brightness=(1, 1),
    tint=0,
    scale=(1, 1),
    blur=0,
    noise=0,
)
TINY = TrainingSettings(
    canvases=24,
    batch=2,
    warmup=2,
    checkpoint_every=4,
    precision="f32",
    architecture=CascadeSettings(channels=16, head_width=32, regions=16),
    augmentation=CanvasSettings(side=128),
)


def discs(seed: int, *, side: int = 120, number: int = 2) -> Field:
    """Dark discs on white: type 0 is blue, type 1 is red."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side, 3), 240, np.uint8)
    boxes, allowed = [], []
    for index in range(number):
        x, y, radius = 30 + 60 * index, int(rng.integers(30, side - 30)), int(rng.integers(14, 20))
        kind = int(rng.integers(2))
        cv2.circle(image, (x, y), radius, (70, 60, 180) if kind == 0 else (180, 60, 70), -1)
        boxes.append([x - radius, y - radius, x + radius, y + radius])
        allowed.append([kind == 0, kind == 1])
    return Field(
        image, np.array(boxes, np.float32), np.array(allowed), np.zeros((0, 4), np.float32), "discs", f"{seed}.png", 1.0
    )


def test_labels_leave_types_open() -> None:
    assert allowed_types("neutrophil", WBC5).tolist() == [True, False, False, False, False]
    assert allowed_types("segmented_neutrophil", WBC5).tolist() == [True, False, False, False, False]
    assert allowed_types("leukocyte", WBC5).all()
    assert allowed_types(None, WBC5).all()
    assert allowed_types("neutrophil", ("band_neutrophil", "segmented_neutrophil", "lymphocyte")).tolist() == [
        True,
        True,
        False,
    ]


def test_what_is_no_white_cell_trains_nothing_and_what_has_no_type_is_ignored() -> None:
    assert allowed_types("erythrocyte", WBC5) is None
    assert allowed_types("platelet", WBC5) is None
    assert not allowed_types("plasma_cell", WBC5).any()


def test_fields_are_brought_to_scale_with_their_boxes(tmp_path: Path) -> None:
    image = np.full((100, 200, 3), 240, np.uint8)
    cv2.circle(image, (60, 50), 20, (120, 40, 90), -1)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    boxes = np.array([[40.0, 30, 40, 40], [150, 10, 20, 20], [100, 60, 10, 10]])
    record = FieldRecord(tmp_path / "a.png", 200, 100, boxes, ("lymphocyte", "erythrocyte", "plasma_cell"), "s")
    (field,) = load([record], types=WBC5, mpp=0.25, known={("s", 200, 100): 0.125})
    assert field.image.shape == (50, 100, 3)
    assert field.boxes.tolist() == [[20, 15, 40, 35]]
    assert field.ignored.tolist() == [[50, 30, 55, 35]]
    assert field.allowed.tolist() == [[False, False, False, True, False]]


def test_rate_is_lowered_after_ten_passes() -> None:
    settings = TrainingSettings(batch=4, warmup=10, step=10, factor=0.1, rate=5e-4)
    assert learning_rate(0, 100, settings) == pytest.approx(5e-5)  # warm-up
    assert learning_rate(249, 100, settings) == pytest.approx(5e-4)
    assert learning_rate(250, 100, settings) == pytest.approx(5e-5)
    assert learning_rate(500, 100, settings) == pytest.approx(5e-6)


def test_the_paper_s_settings_are_the_defaults() -> None:
    training, network = TrainingSettings(), CascadeSettings()
    assert (training.rate, training.decay, training.step, training.factor) == (5e-4, 1e-4, 10, 0.1)
    assert network.overlaps == (0.5, 0.6, 0.7)
    assert network.mean_bgr == (104, 117, 124)
    assert (network.soft_floor, network.soft_steepness, network.soft_rate, network.box_weight) == (0.25, 50, 20, 1)


def test_canvas_follows_from_seed_and_number_alone() -> None:
    fields = [discs(seed) for seed in range(6)]
    one, two = (CanvasSource(fields, CanvasSettings(side=160), seed=3) for _ in range(2))
    for number in (5, 0, 9):
        assert np.array_equal(one[number].image, two[number].image)
        assert np.array_equal(one[number].boxes, two[number].boxes)
    assert not np.array_equal(one[0].image, CanvasSource(fields, CanvasSettings(side=160), seed=4)[0].image)


@pytest.mark.parametrize("seed", range(8))
def test_boxes_stay_on_their_cells(seed: int) -> None:
    """After turning, mirroring and scaling, the dark pixels of a canvas fill the boxes and lie in no other place."""
    settings = replace(PLAIN, rotation=True, scale=(0.8, 1.2), side=160)
    part = cut_out(discs(seed), 160, settings, np.random.default_rng(seed))
    dark = part.image.min(axis=2) < 200
    inside = np.zeros_like(dark)
    for x1, y1, x2, y2 in np.concatenate([part.boxes, part.ignored]):
        inside[int(y1) : int(np.ceil(y2)) + 1, int(x1) : int(np.ceil(x2)) + 1] = True
    assert dark.sum() == 0 or (dark & inside).sum() / dark.sum() > 0.97
    for x1, y1, x2, y2 in part.boxes:
        _, xs = np.nonzero(dark[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))])
        assert len(xs) / ((x2 - x1) * (y2 - y1)) > 0.55  # a disc fills 0.785 of its square


def test_cut_cells_are_neither_cell_nor_background() -> None:
    field = discs(0, number=1)
    seen = [cut_out(field, 64, replace(PLAIN, near_cell=0.0), np.random.default_rng(seed)) for seed in range(60)]
    assert any(len(part.ignored) for part in seen)
    assert all(len(part.boxes) + len(part.ignored) <= 1 for part in seen)


def test_training_learns_two_kinds_of_discs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrow trunk and a small weight of the boxes, whose noisy gradients of the first steps drown the types."""
    from myelos.training.loop import predict

    monkeypatch.setitem(BACKBONES, "light", lambda: light((8, 16, 24, 32)))
    quick = {"canvases": 640, "batch": 4, "warmup": 20, "rate": 1e-3, "step": 1e9, "average": 0.9}
    architecture = CascadeSettings(channels=16, head_width=256, regions=16, box_weight=0.1)
    settings = replace(TINY, **quick, architecture=architecture, augmentation=replace(PLAIN, side=64))
    fields = [discs(seed, side=64, number=1) for seed in range(30)]
    network = train(fields, types=("a", "b"), settings=replace(settings, checkpoint_every=1000), out=tmp_path)
    right = 0
    for seed in range(100, 120):
        field = discs(seed, side=64, number=1)
        found = predict(network, field.image)
        sure = np.flatnonzero(found.scores > 0.5)
        near = iou_matrix(found.xywh[sure], from_corners(field.boxes))[:, 0] > 0.5
        right += bool(near.any() and field.allowed[0, found.types[sure[near][0]]])
    assert right >= 18, f"{right} of 20 discs found and named"


def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """A process is killed in the middle; taken up again, it ends with the bytes of one that ran through."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        import torch
        torch.set_num_threads(1)
        from test_training import TINY, discs
        from myelos.training.loop import train
        train([discs(s) for s in range(6)], types=("a", "b"), settings=TINY, out=Path(sys.argv[1]))
        """
    )
    command = [sys.executable, "-c", script]
    here = str(Path(__file__).parent)
    killed = subprocess.Popen([*command, str(tmp_path / "killed"), here])
    while True:  # however slow the machine is
        if (tmp_path / "killed" / "checkpoint.json").exists() or killed.poll() is not None:
            break
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    for name in ("killed", "whole"):
        subprocess.run([*command, str(tmp_path / name), here], check=True)
    one, two = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("killed", "whole"))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[key], two[key]) for key in one)
    curves = [(tmp_path / name / "curve.csv").read_text().splitlines() for name in ("killed", "whole")]
    assert curves[0] == curves[1]
    assert len(curves[0]) == TINY.steps + 1


def yolo_folder(folder: Path, number: int = 14, label: str = "0") -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "classes.txt").write_text("neutrophil\neosinophil\n")
    for seed in range(number):
        field = discs(seed)
        noise = np.random.default_rng(seed).integers(0, 12, field.image.shape, dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / f"{seed}.png"), cv2.cvtColor(field.image - noise, cv2.COLOR_RGB2BGR))
        lines = []
        for (x1, y1, x2, y2), allowed in zip(field.boxes / 120, field.allowed, strict=True):
            kind = label if label != "0" else str(int(allowed[1]))
            lines.append(f"{kind} {(x1 + x2) / 2:.5f} {(y1 + y2) / 2:.5f} {x2 - x1:.5f} {y2 - y1:.5f}")
        (folder / "labels" / f"{seed}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_recipe_writes_a_model_that_runs(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data")
    recipe = DetectorRecipe(name="tiny", scales={"data": 0.25}, training=TINY)
    trained = train_detector([data], tmp_path / "run", recipe=recipe)
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {
        "tiny.safetensors", "tiny.onnx", "card.json", "curve.csv", "curve.png", "faults.txt", "run.json",
    }  # fmt: skip
    assert trained.card.types == WBC5
    assert trained.card.data[0]["source"] == "data"
    detector = models.load(trained.path)
    assert detector.mpp == 0.25
    assert len(detector([np.full((100, 120, 3), 240, np.uint8)])) == 1


def test_faults_are_listed_before_training(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data")
    with (data / "labels" / "3.txt").open("a") as file:
        file.write("0 0.5 0.5 0 0.1\n9 0.5 0.5 0.1 0.1\n")
    stages = []
    recipe = DetectorRecipe(name="tiny", scales={"data": 0.25}, training=replace(TINY, canvases=4))
    train_detector([data], tmp_path / "run", recipe=recipe, progress=lambda stage, _values: stages.append(stage))
    faults = (tmp_path / "run" / "faults.txt").read_text()
    assert "3.txt:3" in faults
    assert "3.txt:4" in faults
    assert stages.index("labels") < stages.index("training")


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data")
    (data / "classes.txt").write_text("erythrocyte\nplatelet\n")
    with pytest.raises(LabelError, match="nothing to learn"):
        train_detector([data], tmp_path / "run", recipe=DetectorRecipe(scales={"data": 0.25}, training=TINY))


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in RECIPES.glob("*.toml") if not path.stem.startswith("cells-"))
)
def test_shipped_recipes_are_read(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.name == name
    assert recipe.types


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[training]\nepochz = 3\n")
    with pytest.raises(UsageError, match="epochz"):
        read_recipe(tmp_path / "r.toml")


def test_fields_that_the_start_has_learned_from_are_not_quoted(tmp_path: Path) -> None:
    from myelos.tables import write_run

    (tmp_path / "start.safetensors").write_bytes(b"")
    write_run(tmp_path, {"parts": {"train": ["1.png", "2.png"]}})
    records = {
        number: FieldRecord(tmp_path / f"{number}.png", 10, 10, np.zeros((0, 4)), (), "s") for number in range(1, 6)
    }
    parts = {"train": [records[1], records[3]], "choose": [records[2]], "test": [records[4], records[5]]}
    kept = unseen(parts, tmp_path / "start.safetensors")
    assert kept == {"train": [records[1], records[3]], "choose": [], "test": [records[4], records[5]]}
    assert unseen(parts, None) == parts
