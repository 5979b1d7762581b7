"""The optimisation of classifiers: the same weights however its batches are drawn, and devices that are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from myelos.errors import MissingDependencyError, ModelError
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.training import cell_loop
from myelos.training.cell_loop import CellTrainingSettings, drawers, predict_crops, rate_at, spread_over, train_network
from myelos.training.crops import Crop

NETWORK = CellNetworkSettings(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1))
SETTINGS = CellTrainingSettings(epochs=12, batch=4, early_side=24, warmup=2, network=NETWORK)


def crops(number: int = 5) -> list[Crop]:
    rng = np.random.default_rng(0)
    return [
        Crop(rng.integers(0, 255, (40, 40, 3), np.uint8), np.eye(2, dtype=bool)[i % 2], "made", "ab"[i % 2], f"{i}.png")
        for i in range(number)
    ]


def trained(out: Path) -> dict[str, torch.Tensor]:
    return train_network(crops(), types=2, side=32, settings=SETTINGS, out=out).state_dict()


def test_batches_drawn_ahead_by_several_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five cells in batches of four: the threads are in several epochs at a time."""
    alone = trained(tmp_path / "alone")
    monkeypatch.setattr(cell_loop, "drawers", lambda _device: 6)
    together = trained(tmp_path / "together")
    assert all(torch.equal(value, together[name]) for name, value in alone.items())


def test_a_short_training_reaches_its_rate() -> None:
    """With a warm-up longer than itself it would hardly learn; a long one keeps its warm-up as it is stated."""
    settings = CellTrainingSettings(rate=1.0, warmup=150)
    assert max(rate_at(step, 12, settings) for step in range(12)) > 0.5
    long = [rate_at(step, 3000, settings) for step in range(160)]
    assert long[74] == pytest.approx(0.5, rel=0.01)
    assert long.index(max(long)) == 149


def test_a_start_of_another_backbone_is_refused(tmp_path: Path) -> None:
    other = CellNetwork(2, CellNetworkSettings(backbone="timm:test_resnet")).state_dict()
    with pytest.raises(ModelError, match="fit no layer"):
        train_network(crops(), types=2, side=32, settings=SETTINGS, out=tmp_path, start=other)


def test_a_gpu_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingDependencyError, match="no CUDA GPU"):
        train_network(crops(), types=2, side=32, settings=SETTINGS, out=tmp_path, device="cuda")


def test_one_processor_draws_one_batch_and_keeps_the_network_whole() -> None:
    network = CellNetwork(2, NETWORK)
    assert drawers(torch.device("cpu")) == 1
    assert drawers(torch.device("cuda")) >= 1
    assert spread_over(network) is network


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_trains_and_names(tmp_path: Path) -> None:
    network = train_network(crops(), types=2, side=32, settings=SETTINGS, out=tmp_path, device="cuda")
    images = np.stack([crop.image[:32, :32] for crop in crops()])
    here = predict_crops(network, images)
    assert np.allclose(here, predict_crops(network.to("cuda"), images), atol=1e-2)
