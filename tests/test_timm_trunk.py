"""Backbones of timm of every kind as trunks: convolutions, tokens with and without a class, channels at the end."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
import torch
from torch import Tensor

from myelos.errors import ModelError
from myelos.explanation.saliency import grad_cam
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.networks.export_cells import export_classifier
from myelos.networks.timm_trunk import TimmTrunk, _in_place, check_side

CONVOLUTIONS = ("test_resnet", "mobilenetv3_small_050", "vgg11", "ghostnet_050", "mambaout_femto", "swin_s3_tiny_224")
TOKENS = ("test_vit", "vit_tiny_patch16_224", "mixer_s32_224", "levit_128s", "xcit_nano_12_p16_224")


def images(side: int, number: int = 2) -> Tensor:
    return torch.rand(number, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_features_are_those_before_timm_s_own_head(name: str) -> None:
    """Heads with layers of their own and channels at the end of the maps included."""
    torch.manual_seed(0)
    trunk = TimmTrunk(name).eval()
    seen = images(trunk.side or 96)
    with torch.inference_mode():
        maps = trunk(seen)
        features = trunk.pooled(maps)
        torch.testing.assert_close(features, trunk.network(seen))
    assert maps.ndim == 4
    assert maps.shape[2] == maps.shape[3] < maps.shape[1]
    assert features.shape == (2, trunk.channels)


def test_one_that_gives_neither_maps_nor_tokens_has_one_place() -> None:
    torch.manual_seed(0)
    trunk = TimmTrunk("crossvit_tiny_240").eval()
    seen = images(240)
    with torch.inference_mode():
        maps = trunk(seen)
        torch.testing.assert_close(trunk.pooled(maps), trunk.network(seen))
    assert maps.shape == (2, trunk.channels, 1, 1)


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_lie_where_their_patches_are(name: str) -> None:
    with torch.device("meta"), torch.inference_mode():
        trunk = TimmTrunk(name).eval()
        maps = trunk(images(144).to("meta"))
        assert trunk.pooled(maps).shape == (2, trunk.channels)
    assert maps.shape[:2] == (2, trunk.channels)
    assert maps.shape[2] == maps.shape[3]


def test_rows_of_patches_are_rows_of_maps() -> None:
    patches = torch.arange(9.0).view(1, 9, 1)
    expected = torch.arange(9.0).view(1, 1, 3, 3)
    for first, before in ((0, 0), (2, 2), (None, 0), (None, 1)):
        tokens = torch.cat([torch.full((1, before, 1), -1.0), patches], dim=1)
        torch.testing.assert_close(_in_place(tokens, first), expected)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_they_learn_are_explained_and_become_graphs(name: str) -> None:
    torch.manual_seed(0)
    network = CellNetwork(3, CellNetworkSettings(backbone=f"timm:{name}", dropout=0.0))
    crops = images(48) * 255
    torch.nn.functional.cross_entropy(network(crops), torch.tensor([0, 2])).backward()
    learned = {name for name, value in network.named_parameters() if value.grad is not None}
    assert len(learned) >= 0.9 * len(list(network.parameters()))  # a class token and its norm may be left out
    shown = grad_cam(network, crops, torch.tensor([0, 2]))
    assert shown.shape == (2, 48, 48)
    assert shown.max() > 0
    core = openvino.Core()
    model = core.read_model(export_classifier(network, 48, {}))
    graph = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    raw = crops.round().byte().permute(0, 2, 3, 1)
    logits = graph(raw.numpy())["logits"]
    with torch.inference_mode():
        np.testing.assert_allclose(logits, network.eval()(raw.permute(0, 3, 1, 2).float()).numpy(), atol=5e-3)


def test_what_cannot_be_a_trunk_is_said() -> None:
    with pytest.raises(ModelError, match="no backbone"):
        TimmTrunk("no_such_net")
    with pytest.raises(ModelError, match=r"cannot see crops of 144 × 144 px"):
        check_side("hrnet_w18_small", 144)
    check_side("hrnet_w18_small", 160)
