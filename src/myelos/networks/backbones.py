"""Backbones by name, and the feature pyramid above them.

`light` is ours: a narrow residual network of about two million weights that trains from nothing on two cores.
`resnet101` is the backbone of Wang 2022 (section 3.2), `resnet50` its smaller sister; both are torchvision's, and take
ImageNet weights from a local safetensors file where there is one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet50, resnet101
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d

from myelos.errors import ModelError
from myelos.networks.pretrained import read_weights

LIGHT_WIDTHS = (32, 64, 128, 192)
Body = tuple[nn.Module, Sequence[int]]  # (B, 3, H, W) → maps of strides 8, 16 and 32; and their widths


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with a shortcut (He 2016, the basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class LightBackbone(nn.Module):
    """(B, 3, H, W) → maps of strides 8, 16 and 32 with the widths `LIGHT_WIDTHS[1:]`."""

    def __init__(self, widths: Sequence[int] = LIGHT_WIDTHS) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.stem = nn.Sequential(nn.Conv2d(3, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        self.stage1 = nn.Sequential(nn.MaxPool2d(3, 2, 1), ResidualBlock(first, first, 1))
        self.stage2 = nn.Sequential(ResidualBlock(first, second, 2), ResidualBlock(second, second, 1))
        self.stage3 = nn.Sequential(ResidualBlock(second, third, 2), ResidualBlock(third, third, 1))
        self.stage4 = nn.Sequential(ResidualBlock(third, fourth, 2), ResidualBlock(fourth, fourth, 1))

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        stride8 = self.stage2(self.stage1(self.stem(x)))
        stride16 = self.stage3(stride8)
        return OrderedDict([("8", stride8), ("16", stride16), ("32", self.stage4(stride16))])


def light(widths: Sequence[int] = LIGHT_WIDTHS) -> Body:
    return LightBackbone(widths), widths[1:]


def _resnet(build: Callable[..., nn.Module]) -> Body:
    # Frozen statistics: detection batches are too small to re-estimate those of ImageNet.
    network = build(weights=None, norm_layer=FrozenBatchNorm2d)
    return IntermediateLayerGetter(network, {"layer2": "8", "layer3": "16", "layer4": "32"}), (512, 1024, 2048)


BACKBONES: dict[str, Callable[[], Body]] = {
    "light": light,
    "resnet50": lambda: _resnet(resnet50),
    "resnet101": lambda: _resnet(resnet101),
}


class Backbone(nn.Module):
    """A named body, with a feature pyramid (ours) or without (the plain map of stride 16, as Ren 2017).

    (B, 3, H, W) → ordered maps of `width` channels; `strides` names their strides.
    """

    def __init__(self, name: str, *, pyramid: bool, width: int) -> None:
        super().__init__()
        if name not in BACKBONES:
            raise ModelError(f"there is no backbone {name!r}", remedy=f"Choose one of {', '.join(BACKBONES)}")
        self.body, widths = BACKBONES[name]()
        self.strides: tuple[int, ...] = (8, 16, 32) if pyramid else (16,)
        self.neck: nn.Module = FeaturePyramidNetwork(list(widths), width) if pyramid else nn.Conv2d(widths[1], width, 1)
        self.pyramid = pyramid

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.body(x)
        return self.neck(maps) if self.pyramid else OrderedDict([("16", self.neck(maps["16"]))])


def load_pretrained(backbone: Backbone, path: Path) -> int:
    """Fill the body with ImageNet weights of a local safetensors file (torchvision's or timm's names).

    Returns the number of tensors taken; raises ModelError where none or only part of the convolutions fit.
    """
    own = backbone.body.state_dict()
    found = {key: value for key, value in read_weights(path).items() if key in own and own[key].shape == value.shape}
    missing = [key for key in own if key not in found and key.endswith("weight")]
    if missing:
        raise ModelError(
            f"{path.name} does not fit this backbone", why=f"{len(missing)} weights are missing, {missing[0]} first"
        )
    backbone.body.load_state_dict(found, strict=False)
    return len(found)
