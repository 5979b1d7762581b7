"""A backbone of timm, whatever its kind, as the trunk of a network of cells: images in, feature maps out."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from myelos.errors import ModelError
from myelos.networks.pretrained import input_side, timm_network

TIMM = "timm:"  # before the name of a backbone


class TimmTrunk(nn.Module):
    """(N, 3, S, S) → (N, C, h, w). `pooled` makes of them the (N, channels) features that timm's own head would see.

    Networks of one size (most transformers) see images brought to it. The maps of those that think in tokens are the
    tokens of patches in their places, and their features the mean of these: a class token has no place to be shown. The
    few that give neither have one place, the whole image. Raises ModelError where timm has no such backbone.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        network: Any = timm_network(name)
        self.network = network
        self.side = input_side(network) if network.pretrained_cfg["fixed_input_size"] else None
        self.channels_last = getattr(network, "output_fmt", None) == "NHWC"
        self.gives, self.channels = _gives(name)

    def forward(self, pixels: Tensor) -> Tensor:
        if self.side and pixels.shape[-1] != self.side:
            size = (self.side, self.side)
            pixels = functional.interpolate(pixels, size, mode="bilinear", align_corners=False)
        network: Any = self.network
        found = network.forward_features(pixels)
        if self.gives == "features":
            features: Tensor = network.forward_head(found, pre_logits=True)
            return features[:, :, None, None]
        if self.gives == "tokens":
            return _in_place(found, getattr(network, "num_prefix_tokens", None))
        maps: Tensor = found.permute(0, 3, 1, 2) if self.channels_last else found
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        if self.gives != "maps":
            return maps.mean(dim=(2, 3))
        network: Any = self.network
        found: Tensor = network.forward_head(maps.permute(0, 2, 3, 1) if self.channels_last else maps, pre_logits=True)
        return found


def check_side(name: str, side: int) -> None:
    """Raise ModelError where a backbone cannot see crops of this side: some want multiples of 32, say."""
    try:
        with torch.device("meta"), torch.inference_mode():
            TimmTrunk(name).eval()(torch.zeros(2, 3, side, side))
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"{name} cannot see crops of {side} × {side} px",
            why=str(error).splitlines()[0],
            remedy="Take a side that is a multiple of 32, in a recipe: side = 160",
        ) from error


def _in_place(tokens: Tensor, first: int | None) -> Tensor:
    """(N, L, C) tokens → (N, C, h, h), without the `first` ones, which show no patch; None: what is over a square."""
    edge = math.isqrt(tokens.shape[1])
    patches = tokens[:, tokens.shape[1] - edge**2 if first is None else first :]
    edge = math.isqrt(patches.shape[1])
    return patches.transpose(1, 2).unflatten(2, (edge, edge))


def _gives(name: str) -> tuple[str, int]:
    """maps, tokens or features, and the length of the features: from a run without numbers."""
    with torch.device("meta"), torch.inference_mode():
        twin: Any = timm_network(name).eval()
        side = input_side(twin)
        found = twin.forward_features(torch.zeros(2, 3, side, side))
        length = int(twin.forward_head(found, pre_logits=True).shape[1])
    if not isinstance(found, Tensor):
        return "features", length
    return ("tokens" if found.ndim == 3 else "maps"), length
