"""Networks that name one cell: crops in, one number per type out.

`residual` is ours: a narrow residual network (He et al., CVPR 2016) with the stem and the shortcuts of "Bag of tricks"
(He et al., CVPR 2019), small enough for two processor cores. `resnext50` is that of Matek 2021, `sequential` the plain
network that the paper compares with.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from myelos.errors import ModelError
from myelos.networks.timm_trunk import TimmTrunk

GREY = (127.5, 127.5, 127.5)  # inputs are centred on mid grey and scaled to about unit spread
SPREAD = (63.75, 63.75, 63.75)


@dataclass(frozen=True, slots=True)
class CellNetworkSettings:
    """backbone: one of `BACKBONES`, or `timm:NAME`. widths, depths: channels and blocks of the four stages of
    `residual`. dropout: before the last layer. centre, spread: of the red, green and blue that the backbone is used to,
    0 to 255."""

    backbone: str = "residual"
    widths: tuple[int, int, int, int] = (48, 96, 192, 288)
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    dropout: float = 0.2
    centre: tuple[float, float, float] = GREY
    spread: tuple[float, float, float] = SPREAD


class CellNetwork(nn.Module):
    """(N, 3, S, S) RGB, 0 to 255 → (N, types) logits. `features` gives (N, C) before the last layer."""

    centre: Tensor
    spread: Tensor

    def __init__(self, types: int, settings: CellNetworkSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or CellNetworkSettings()
        self.trunk, channels = _trunk(self.settings)
        self.dropout = nn.Dropout(self.settings.dropout)
        self.head = nn.Linear(channels, types)
        for name in ("centre", "spread"):
            colour = torch.tensor(getattr(self.settings, name)).view(1, 3, 1, 1)
            self.register_buffer(name, colour, persistent=False)  # a setting, not a weight

    def maps(self, pixels: Tensor) -> Tensor:
        """(N, C, h, w): the last feature maps, which Grad-CAM weighs."""
        return self.trunk((pixels - self.centre) / self.spread)

    def features(self, pixels: Tensor) -> Tensor:
        maps = self.maps(pixels)
        return self.trunk.pooled(maps) if isinstance(self.trunk, TimmTrunk) else maps.mean(dim=(2, 3))

    @property
    def body(self) -> nn.Module:
        """The backbone as its maker has it, with the names of the makers' files of weights."""
        return self.trunk.network if isinstance(self.trunk, TimmTrunk) else self.trunk

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(pixels)))


class _Block(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut, which averages before it narrows."""

    def __init__(self, inward: int, outward: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outward)
        self.second = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outward)
        nn.init.zeros_(self.second_norm.weight)  # a block starts as its shortcut
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inward != outward:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
                nn.Conv2d(inward, outward, 1, bias=False),
                nn.BatchNorm2d(outward),
            )

    def forward(self, maps: Tensor) -> Tensor:
        inner = torch.relu(self.first_norm(self.first(maps)))
        return torch.relu(self.second_norm(self.second(inner)) + self.shortcut(maps))


def _residual(settings: CellNetworkSettings) -> tuple[nn.Module, int]:
    width = settings.widths[0]
    layers = [*_convolution(3, width // 2, 2), *_convolution(width // 2, width, 1), nn.MaxPool2d(3, 2, 1)]
    inward = width
    for stage, (outward, depth) in enumerate(zip(settings.widths, settings.depths, strict=True)):
        for block in range(depth):
            layers.append(_Block(inward, outward, 2 if stage and not block else 1))
            inward = outward
    return nn.Sequential(*layers), inward


def _convolution(inward: int, outward: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inward, outward, 3, stride, 1, bias=False), nn.BatchNorm2d(outward), nn.ReLU(inplace=True)]


def _resnext50(_settings: CellNetworkSettings) -> tuple[nn.Module, int]:
    from torchvision.models import resnext50_32x4d

    whole = resnext50_32x4d(weights=None)
    layers = OrderedDict(list(whole.named_children())[:-2])  # the names of torchvision's files of weights
    return nn.Sequential(layers), int(whole.fc.in_features)


def _sequential(_settings: CellNetworkSettings) -> tuple[nn.Module, int]:
    from myelos.networks.sequential import sequential

    return sequential()


BACKBONES: dict[str, Callable[[CellNetworkSettings], tuple[nn.Module, int]]] = {
    "residual": _residual,
    "resnext50": _resnext50,
    "sequential": _sequential,
}


def _trunk(settings: CellNetworkSettings) -> tuple[nn.Module, int]:
    if settings.backbone in BACKBONES:
        return BACKBONES[settings.backbone](settings)
    kind, _, name = settings.backbone.partition(":")
    if kind != "timm":
        raise ModelError(
            f"there is no backbone {settings.backbone!r}", remedy=f"Choose {', '.join(BACKBONES)}, or timm:NAME"
        )
    trunk = TimmTrunk(name)
    return trunk, trunk.channels
