"""Maps of what a network looks at, their check, and the cells it finds alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from myelos.datasets.cell_splits import split_cells
from myelos.datasets.cells import CellRecord
from myelos.errors import UsageError
from myelos.explanation.cells import ExplainSettings, Explanation, explain
from myelos.explanation.projection import project
from myelos.explanation.saliency import SmoothGradSettings, disc, focus, grad_cam, smooth_grad
from myelos.explanation.sampling import candidates, preferred
from myelos.explanation.sanity import (
    SanitySettings,
    check,
    edges_of,
    randomise,
    rank_correlation,
    similarity,
    stages_of,
)
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.networks.encoder import FrozenEncoder, as_pixels
from myelos.report import RESEARCH_USE
from myelos.report.cell_explanation import as_json, write_explanation
from myelos.report.cell_figures import as_picture
from myelos.representation.embeddings import EmbeddedCells, thumbnail

SMALL = CellNetworkSettings(widths=(8, 8, 12, 16), depths=(1, 1, 1, 1))
FEW = SmoothGradSettings(samples=4)


@pytest.fixture(scope="module")
def network() -> CellNetwork:
    torch.manual_seed(3)
    found = CellNetwork(4, SMALL)
    for part in found.modules():
        if isinstance(part, torch.nn.BatchNorm2d):  # as after a training: no block is only its shortcut
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.uniform_(-0.2, 0.2)
    found.head.weight.data[:2].abs_()  # something speaks for the first two types in any image
    return found.eval()


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(60, 255, (48, 48, 3), dtype=np.uint8) for _ in range(3)]


def test_smooth_grad_is_the_mean_gradient_of_noisy_images(network: CellNetwork, crops: list[np.ndarray]) -> None:
    """Against plain automatic differentiation: without noise it is the gradient itself."""
    pixels, targets = as_pixels(crops), torch.tensor([0, 3, 1])
    ours = smooth_grad(network, pixels, targets, SmoothGradSettings(samples=2, noise=0.0))
    free = pixels.clone().requires_grad_()
    network(free)[torch.arange(3), targets].sum().backward()
    assert free.grad is not None
    np.testing.assert_allclose(ours, free.grad.abs().sum(dim=1).numpy(), rtol=1e-3, atol=1e-9)


def test_noise_smooths(network: CellNetwork, crops: list[np.ndarray]) -> None:
    """Two maps of many noisy copies are more alike than two of a single one each."""
    pixels, targets = as_pixels(crops[:1]), torch.tensor([0])

    def alike(samples: int) -> float:
        one, other = (
            smooth_grad(network, pixels, targets, SmoothGradSettings(samples=samples, noise=0.3, seed=seed))[0]
            for seed in (1, 2)
        )
        return rank_correlation(one, other)

    assert alike(24) > alike(1) + 0.1


def test_same_seed_same_map_and_chance_is_left_alone(network: CellNetwork, crops: list[np.ndarray]) -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    pixels, targets = as_pixels(crops[:1]), torch.tensor([0])
    first = smooth_grad(network, pixels, targets, FEW)
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(first, smooth_grad(network, pixels, targets, FEW))


def test_grad_cam_follows_its_equations(network: CellNetwork, crops: list[np.ndarray]) -> None:
    """The last layer is linear on mean maps, so a map's weight is that of the layer, divided by the map's area."""
    pixels, targets = as_pixels(crops), torch.tensor([2, 0, 3])
    ours = grad_cam(network, pixels, targets)
    with torch.no_grad():
        maps = network.maps(pixels)
        area = maps.shape[-1] * maps.shape[-2]
        by_hand = torch.relu(torch.einsum("nc,nchw->nhw", network.head.weight[targets] / area, maps))
        by_hand = torch.nn.functional.interpolate(by_hand[:, None], size=(48, 48), mode="bilinear")[:, 0]
    np.testing.assert_allclose(ours, by_hand.numpy(), rtol=1e-4, atol=1e-7)
    assert ours.min() >= 0


def test_maps_lie_where_the_decision_is_made() -> None:
    """A network that only sees how red the left upper corner is looks at that corner."""

    class Corner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 1, 1, bias=False)
            self.convolution.weight.data = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
            self.register_buffer("mask", torch.zeros(32, 32))
            self.mask[:8, :8] = 1

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.convolution(pixels)) * self.mask

    network = CellNetwork(2, SMALL)
    network.trunk, network.head = Corner(), torch.nn.Linear(1, 2)
    network.head.weight.data = torch.tensor([[1.0], [-1.0]])
    pixels = torch.full((1, 3, 32, 32), 200.0)
    pixels[:, :, ::2] = 100.0
    for found in (smooth_grad(network, pixels, torch.tensor([0]), FEW), grad_cam(network, pixels, torch.tensor([0]))):
        assert found[0, :8, :8].sum() == pytest.approx(found.sum())
        assert found.sum() > 0
    assert grad_cam(network, pixels, torch.tensor([1])).sum() == 0  # nothing speaks for the other type


def test_focus_is_the_share_in_the_middle() -> None:
    flat = np.ones((40, 40), np.float32)
    assert focus(flat, 10) == pytest.approx(np.pi * 100 / 1600, rel=0.03)
    assert focus(flat, 10) == pytest.approx(disc(40, 10).mean())
    assert focus(np.zeros((40, 40), np.float32), 10) is None


def test_stages_cover_every_weight_once(network: CellNetwork) -> None:
    seen = [id(p) for _, modules in stages_of(network) for module in modules for p in module.parameters()]
    assert sorted(seen) == sorted(id(p) for p in network.parameters())
    assert stages_of(network)[0][0] == "last layer"
    assert stages_of(network)[-1][1][0] is network.trunk[0]


def test_randomised_stages_forget(network: CellNetwork, crops: list[np.ndarray]) -> None:
    """The first stage is the network itself; each further one has changed all that it should and nothing else."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = check(network, as_pixels(crops[:2]), torch.tensor([0, 1]), SanitySettings(smooth_grad=FEW))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [stage.name for stage in found.stages] == ["trained", *[name for name, _ in stages_of(network)]]
    for method in ("smooth_grad", "grad_cam"):
        assert found.stages[0].rank[method] == pytest.approx([1.0, 1.0])
        assert found.stages[0].ssim[method] == pytest.approx([1.0, 1.0])
        assert np.abs(found.stages[-1].rank[method]).max() < 0.9
    assert set(found.edges) == {"smooth_grad", "grad_cam"}
    assert len(found.summary()["stages"]) == len(found.stages)


def test_a_map_that_ignores_the_network_would_be_seen() -> None:
    """An edge detector passed off as an explanation keeps its map; the measures say 1."""
    image = np.random.default_rng(2).uniform(0, 255, (3, 32, 32)).astype(np.float32)
    edges = edges_of(image)
    assert rank_correlation(edges, edges) == pytest.approx(1)
    assert similarity(edges, edges) == pytest.approx(1)
    assert rank_correlation(edges, np.zeros_like(edges)) == 0
    noise = np.random.default_rng(3).uniform(size=(32, 32)).astype(np.float32)
    assert abs(rank_correlation(edges, noise)) < 0.15


def test_randomise_draws_new_weights() -> None:
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    layer[1].running_mean.fill_(9.0)
    old = layer[0].weight.clone()
    randomise(layer)
    assert not torch.equal(old, layer[0].weight)
    assert float(layer[1].running_mean.abs().max()) == 0


def _explained(network: CellNetwork, crops: list[np.ndarray]) -> Explanation:
    _, logits = FrozenEncoder(network)(crops)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    settings = ExplainSettings(smooth_grad=FEW, sanity=SanitySettings(smooth_grad=FEW), checked=2)
    types = ("blast", "monocyte", "lymphocyte", "eosinophil")
    return explain(network, types, crops, shares, mpp=0.3, truths=["blast", None, "monocyte"], settings=settings)


def test_explanation_has_everything(network: CellNetwork, crops: list[np.ndarray]) -> None:
    found = _explained(network, crops)
    assert len(found.cells) == 3
    assert len(found.sanity.stages[0].maps["grad_cam"]) == 2
    for cell in found.cells:
        assert cell.predicted == found.types[int(cell.probabilities.argmax())]
        assert cell.maps["smooth_grad"].shape == cell.crop.shape[:2]
        assert 0 < (cell.focus["smooth_grad"] or 0) < 1
    assert found.disc == pytest.approx(np.pi * (7 / 0.3) ** 2 / 48**2, rel=0.05)


def test_explanation_becomes_one_page(network: CellNetwork, crops: list[np.ndarray], tmp_path: Path) -> None:
    found = _explained(network, crops)
    facts = write_explanation(tmp_path, found, model="a <model>", settings=ExplainSettings(smooth_grad=FEW))
    text = (tmp_path / "explanation.html").read_text(encoding="utf-8")
    assert RESEARCH_USE in text
    assert "a &lt;model&gt;" in text
    assert re.findall(r"(?:src|href)=\"(?!data:)", text) == []
    assert text.count("<img") == 3 * 3 + 2
    assert facts == json.loads((tmp_path / "explanation.json").read_text())
    assert [cell["labelled"] for cell in facts["cells"]] == ["blast", None, "monocyte"]
    assert sum(facts["cells"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert facts["sanity"]["stages"][0]["grad_cam"]["rank"] <= 1
    for name in ("figure_5.png", "sanity_maps.png", "sanity_curves.png", "cells/001_grad_cam.png"):
        assert cv2.imread(str(tmp_path / name)) is not None


def test_pictures_of_maps() -> None:
    """SmoothGrad: the lighter the more. Grad-CAM: red the most, blue nothing, the cell seen through."""
    found = np.zeros((20, 20), np.float32)
    found[:, 10:] = 3.0
    crop = np.full((20, 20, 3), 128, np.uint8)
    grey = as_picture("smooth_grad", found, crop)
    assert (grey[0, 0].tolist(), grey[0, 15].tolist()) == ([0, 0, 0], [255, 255, 255])
    heat = as_picture("grad_cam", found, crop).astype(int)
    assert heat[0, 15, 0] > heat[0, 15, 2] + 50
    assert heat[0, 0, 2] > heat[0, 0, 0] + 50
    assert not as_picture("smooth_grad", np.zeros((20, 20), np.float32), crop).any()


def test_neighbours_leave_the_cell_itself_out(network: CellNetwork, crops: list[np.ndarray]) -> None:
    features, _ = FrozenEncoder(network)(crops)
    features[1:] += np.random.default_rng(0).normal(0, np.abs(features).max(), features[1:].shape)  # no doubles
    among = EmbeddedCells(
        ids=("a-1", "b-1", "c-1"),
        files=(Path("a"), Path("b"), Path("c")),
        types=("blast", "monocyte", "blast"),
        sources=("s",) * 3,
        groups=(None,) * 3,
        predicted=("",) * 3,
        features=features,
        thumbnails=tuple(thumbnail(crop) for crop in crops),
    )
    found = explain(
        network,
        ("blast", "monocyte", "lymphocyte", "eosinophil"),
        crops[:1],
        np.array([[0.7, 0.1, 0.1, 0.1]], np.float32),
        mpp=0.3,
        among=among,
        settings=ExplainSettings(smooth_grad=FEW, sanity=SanitySettings(smooth_grad=FEW), checked=1),
    )
    assert sorted(one.place for one in found.cells[0].neighbours) == [1, 2]
    assert as_json(found, model="m", settings=ExplainSettings())["cells"][0]["neighbours"][0]["cell_id"] in {
        "b-1",
        "c-1",
    }


def test_samples_come_from_every_type_and_right_ones_first(tmp_path: Path) -> None:
    records = []
    rng = np.random.default_rng(0)
    for kind in ("blast", "monocyte"):
        (tmp_path / kind).mkdir()
        for number in range(9):
            path = tmp_path / kind / f"{number}.png"
            cv2.imwrite(str(path), rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
            records.append(CellRecord(path, kind))
    chosen = candidates(records, 2)
    assert [records[index].cell_type for index in chosen] == ["blast"] * 6 + ["monocyte"] * 6
    held_out = set(split_cells(records)["test"])
    for kind in ("blast", "monocyte"):
        own = [index for index in held_out if records[index].cell_type == kind]
        assert set(own) <= set(chosen) or len(own) > 6
    assert preferred(["blast", "blast", "blast", "monocyte"], ["monocyte", "blast", "blast", "blast"], 2) == [1, 2, 3]


@pytest.mark.long
def test_map_keeps_clusters_together() -> None:
    """Needs some seconds of compilation; three clouds stay three."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 6, (3, 12))
    features = np.repeat(centres, 25, axis=0) + rng.normal(0, 0.6, (75, 12))
    places = project(features.astype(np.float32))
    assert places.shape == (75, 2)
    means = places.reshape(3, 25, 2).mean(axis=1)
    inner = np.linalg.norm(places.reshape(3, 25, 2) - means[:, None], axis=2).max()
    assert min(np.linalg.norm(means[a] - means[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > inner
    with pytest.raises(UsageError, match="no map"):
        project(np.zeros((3, 12), np.float32))
