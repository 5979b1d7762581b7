"""Teachers: whose answers a network learns beside the labels, and who may teach it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from myelos.errors import UsageError
from myelos.models.files import ModelCard, save
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.training.cell_loop import CellTrainingSettings, predict_crops, train_network
from myelos.training.crops import Crop, unchanged
from myelos.training.distillation import Teacher, load_teachers, taught

NETWORK = CellNetworkSettings(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), dropout=0.0)
TYPES = ("blast", "lymphocyte", "monocyte")
CARD = ModelCard(
    name="teacher", kind="classifier", specimen="blood", architecture=asdict(NETWORK), types=TYPES, scheme="wbc5",
    mpp=0.2, tile=32, threshold=0.0, normalisation={}, data=(), training={}, metrics={}, text="",
)  # fmt: skip


def saved(folder: Path, card: ModelCard = CARD, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    network = CellNetwork(len(card.types), NETWORK)
    path = folder / f"{card.name}{seed}.safetensors"
    save(path, {name: value.numpy() for name, value in network.state_dict().items()}, card)
    return path


def test_answers_come_in_the_pupil_s_order(tmp_path: Path) -> None:
    path = saved(tmp_path)
    turned = ("monocyte", "blast", "lymphocyte")
    (own,), (other,) = (load_teachers([path], types=types, mpp=0.2, side=32) for types in (TYPES, turned))
    pixels = 255 * torch.rand(4, 3, 32, 32)
    answers = taught([own], pixels)
    assert answers.shape == (4, 3)
    assert torch.allclose(answers.sum(dim=1), torch.ones(4))
    assert torch.allclose(taught([other], pixels), answers[:, [2, 0, 1]])


def test_several_teachers_agree_on_their_mean_at_their_own_resolution(tmp_path: Path) -> None:
    fine = replace(CARD, mpp=0.1, tile=64)
    teachers = load_teachers([saved(tmp_path), saved(tmp_path, fine, seed=1)], types=TYPES, mpp=0.2, side=32)
    assert [teacher.side for teacher in teachers] == [32, 64]
    pixels = 255 * torch.rand(2, 3, 32, 32)
    each = torch.stack([teacher(pixels) for teacher in teachers])
    assert not torch.allclose(each[0], each[1])
    assert torch.allclose(taught(teachers, pixels), each.mean(dim=0))


def test_who_cannot_teach_is_told_why(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(UsageError, match="does not name basophil"):
        load_teachers([path], types=(*TYPES, "basophil"), mpp=0.2, side=32)
    with pytest.raises(UsageError, match=r"windows of 6\.4 µm"):
        load_teachers([path], types=TYPES, mpp=0.2, side=40)


def test_a_pupil_follows_its_teacher_against_the_labels(tmp_path: Path) -> None:
    """Labels say the left half is a blast throughout; the teacher, sure of itself, says lymphocyte of dark crops."""
    rng = np.random.default_rng(0)
    images = [
        np.full((32, 32, 3), 40 + 160 * (i % 2), np.uint8) + rng.integers(0, 20, (32, 32, 3), np.uint8)
        for i in range(8)
    ]
    crops = [Crop(image, np.eye(3, dtype=bool)[0], "made", "blast", f"{i}.png") for i, image in enumerate(images)]

    class Dark(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            dark = (pixels.mean(dim=(1, 2, 3)) < 100).float()[:, None]
            return 20 * torch.cat([1 - dark, dark, torch.zeros_like(dark)], dim=1)

    teacher = Teacher(Dark(), 32, (0, 1, 2), 1.0, "dark")
    settings = CellTrainingSettings(
        epochs=120, batch=8, warmup=4, mix=0.0, smoothing=0.0, early=0.0, average=0.9, teaching=0.9, network=NETWORK,
        augmentation=unchanged(),
    )  # fmt: skip
    alone = train_network(crops, types=3, side=32, settings=settings, out=tmp_path / "alone")
    pupil = train_network(crops, types=3, side=32, settings=settings, out=tmp_path / "pupil", teachers=[teacher])
    assert predict_crops(alone, np.stack(images)).argmax(axis=1).tolist() == [0] * 8
    assert predict_crops(pupil, np.stack(images)).argmax(axis=1).tolist() == [1, 0] * 4
