"""The Cascade R-CNN: matching by hand-counted tensors, soft weights by the equation, ablations, the graph."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from myelos.errors import ModelError
from myelos.networks.backbones import Backbone, load_pretrained
from myelos.networks.cascade import CascadeRCNN, CascadeSettings, Truth
from myelos.networks.matching import match, sample, soft_weights

SMALL = CascadeSettings(channels=16, head_width=32, regions=16)


def truth(types: int = 5) -> Truth:
    allowed = torch.zeros(2, types, dtype=torch.bool)
    allowed[0, 1] = True  # a known type
    allowed[1] = True  # any type
    return Truth(torch.tensor([[20.0, 20, 70, 70], [100, 60, 140, 110]]), allowed, torch.zeros(0, 4))


def test_match_by_hand() -> None:
    cells = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    proposals = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [19, 0, 29, 10], [50, 50, 60, 60]])
    found = match(proposals, cells, 0.5)
    assert found.positive.tolist() == [True, True, True, False]
    assert found.cell[:3].tolist() == [0, 0, 1]
    assert found.overlap.tolist() == pytest.approx([1.0, 0.5, 90 / 110, 0.0])
    assert match(proposals, cells, 0.6).positive.tolist() == [True, False, True, False]


def test_match_without_cells_is_all_background() -> None:
    found = match(torch.rand(5, 4), torch.zeros(0, 4), 0.5)
    assert not found.positive.any()
    assert found.overlap.sum() == 0


def test_sample_keeps_share_and_leaves_ignored_out() -> None:
    positive = torch.tensor([True] * 20 + [False] * 80)
    ignored = torch.zeros(100, dtype=torch.bool)
    ignored[50:] = True
    chosen = sample(positive, ignored, 40, 0.25)
    assert len(chosen) == 40
    assert positive[chosen].sum() == 10
    assert (chosen < 50).all()


@pytest.mark.parametrize(("overlap", "weight"), [(0.0, 0.25), (1.0, 1.0)])
def test_soft_weights_reach_their_ends(overlap: float, weight: float) -> None:
    assert float(soft_weights(torch.tensor(overlap))) == pytest.approx(weight, abs=1e-3)


def test_soft_weights_are_equation_15() -> None:
    for overlap in (0.05, 0.1, 0.2, 0.3, 0.5):
        expected = 0.25 + 0.75 * math.exp(-50 * math.exp(-20 * overlap))
        assert float(soft_weights(torch.tensor(overlap))) == pytest.approx(expected, rel=1e-5)


def test_soft_weights_of_matched_boxes_are_nearly_one() -> None:
    """Why the reading of the equation that weights the box loss changes nothing: positives overlap by 0.5 or more."""
    assert float(soft_weights(torch.tensor(0.5))) > 0.99


@pytest.mark.parametrize("kind", ["off", "box", "background"])
def test_soft_sampling_changes_the_term_that_it_names(kind: str) -> None:
    torch.manual_seed(0)
    network = CascadeRCNN(5, replace(SMALL, soft_sampling=kind))
    logits = torch.zeros(4, 6)
    allowed = torch.zeros(4, 6, dtype=torch.bool)
    allowed[0, 2], allowed[1:, -1] = True, True
    positive = torch.tensor([True, False, False, False])
    loss = network._type_loss(logits, allowed, positive, torch.tensor([0.8, 0.0, 0.0, 0.0]))
    plain = math.log(6)
    expected = plain * (1 + 3 * 0.25) / 4 if kind == "background" else plain
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_coarse_label_trains_the_sum_of_its_types() -> None:
    network = CascadeRCNN(5, SMALL)
    logits = torch.tensor([[2.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    allowed = torch.tensor([[True, True, True, True, True, False]])
    probability = torch.softmax(logits, 1)[0, :5].sum()
    loss = network._type_loss(logits, allowed, torch.tensor([True]), torch.tensor([0.9]))
    assert float(loss) == pytest.approx(-math.log(float(probability)), rel=1e-5)


@pytest.mark.parametrize(
    "change",
    [{}, {"pyramid": False}, {"class_agnostic": False}, {"overlaps": (0.5,)}, {"soft_sampling": "box"}],
    ids=lambda change: next(iter(change), "default"),
)
def test_every_modification_can_be_switched_off(change: dict) -> None:
    torch.manual_seed(0)
    network = CascadeRCNN(5, replace(SMALL, **change))
    terms = network.losses(torch.rand(2, 3, 160, 192) * 255, [truth(), truth()])
    sum(terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    stages = len(network.settings.overlaps)
    assert len([name for name in terms if name.startswith("types")]) == stages
    boxes, scores, types = network.eval()(torch.rand(1, 3, 160, 192) * 255)
    assert boxes.shape == (len(scores), 4)
    assert types.shape == (len(scores), 5)
    assert torch.allclose(types.sum(1), torch.ones(len(scores)), atol=1e-4)


def test_boxes_without_area_leave_the_loss_finite() -> None:
    """A stage may push a background box out of the image, where clipping leaves it no width."""
    torch.manual_seed(0)
    network = CascadeRCNN(5, SMALL)
    boxes = torch.tensor([[22.0, 20, 70, 70], [192, 30, 192, 60], [0, 0, 0, 0]])
    maps = network.features(torch.rand(1, 3, 160, 192) * 255)
    improved, loss_types, loss_box = network._train_stage(1, maps, [boxes], [truth()], [(160, 192)])
    (loss_types + loss_box).backward()
    assert torch.isfinite(loss_box)
    assert bool(loss_box > 0)
    assert torch.isfinite(improved[0]).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())


def test_field_without_cells_trains_background_only() -> None:
    torch.manual_seed(0)
    empty = Truth(torch.zeros(0, 4), torch.zeros(0, 5, dtype=torch.bool), torch.zeros(0, 4))
    terms = CascadeRCNN(5, SMALL).losses(torch.rand(1, 3, 128, 128) * 255, [empty])
    assert all(torch.isfinite(term) for term in terms.values())
    assert terms["box1"].item() == 0


def test_mean_is_taken_off_in_the_stated_order() -> None:
    """(104, 117, 124) is blue, green, red: an image of that colour becomes zero, in red, green, blue."""
    network = CascadeRCNN(5, SMALL)
    seen = []
    network.backbone.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    network.features(torch.tensor([124.0, 117.0, 104.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64))
    assert float(seen[0].abs().max()) == 0


def test_the_paper_s_backbone_has_its_101_layers() -> None:
    """On the meta device, which costs nothing: 100 convolutions on the longest path and the classifier that is gone."""
    with torch.device("meta"):
        body = Backbone("resnet101", pyramid=True, width=16).body
        maps = body(torch.zeros(1, 3, 128, 160))
    names = [name for name, module in body.named_modules() if isinstance(module, torch.nn.Conv2d)]
    assert len([name for name in names if "downsample" not in name]) == 100
    assert [tuple(one.shape[1:]) for one in maps.values()] == [(512, 16, 20), (1024, 8, 10), (2048, 4, 5)]


def test_pretrained_weights_come_from_a_local_file(tmp_path) -> None:
    donor, taker = (Backbone("resnet50", pyramid=True, width=16) for _ in range(2))
    save_file(donor.body.state_dict(), tmp_path / "w.safetensors")
    assert load_pretrained(taker, tmp_path / "w.safetensors") > 100
    first = next(iter(donor.body.state_dict()))
    assert torch.equal(taker.body.state_dict()[first], donor.body.state_dict()[first])


def test_pretrained_weights_are_refused_where_they_do_not_fit(tmp_path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="does not fit"):
        load_pretrained(Backbone("resnet50", pyramid=True, width=16), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="not opened"):
        load_pretrained(Backbone("resnet50", pyramid=True, width=16), tmp_path / "w.pth")


def test_graph_equals_module_before_suppression(tmp_path) -> None:
    """Proposals and pooling inside the graph give what they give in torch, at sizes it was not traced at."""
    import openvino

    from myelos.networks.export import export_onnx

    torch.manual_seed(0)
    network = CascadeRCNN(5, SMALL)
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    (tmp_path / "m.onnx").write_bytes(export_onnx(network, {"types": ["a"]}))
    graph = openvino.Core().compile_model(tmp_path / "m.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for height, width in ((160, 224), (320, 96)):
        tile = np.random.default_rng(height).integers(0, 255, (1, height, width, 3), dtype=np.uint8)
        with torch.inference_mode():
            reference = network(torch.from_numpy(tile).permute(0, 3, 1, 2).float())
        for mine, theirs in zip(graph([tile]).values(), reference, strict=True):
            assert mine.shape == tuple(theirs.shape)
            np.testing.assert_allclose(mine, theirs.numpy(), atol=0.05)
