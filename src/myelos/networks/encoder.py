"""Networks whose weights stand still: crops in, features and logits out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from myelos.networks.cells import CellNetwork
from myelos.networks.pretrained import colours, fill, input_side, timm_network


def as_pixels(crops: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> Tensor:
    """Crops, each (S, S, 3) uint8 → (N, 3, S, S) float32, 0 to 255, as `CellNetwork` takes them."""
    return torch.from_numpy(np.stack(list(crops)).transpose(0, 3, 1, 2).astype(np.float32))


class FrozenEncoder:
    """Callable: crops (S, S, 3) uint8 → ((N, C), (N, T)) float32 features and logits, in evaluation mode."""

    def __init__(self, network: CellNetwork, *, device: str = "cpu", batch: int = 64) -> None:
        self.network, self.device, self.batch = network.to(device).eval(), device, batch
        self.length, self.types = network.head.in_features, network.head.out_features

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        features = [np.zeros((0, self.length), np.float32)]
        logits = [np.zeros((0, self.types), np.float32)]
        with torch.inference_mode():
            for first in range(0, len(crops), self.batch):
                found = self.network.features(as_pixels(crops[first : first + self.batch]).to(self.device))
                features.append(found.float().cpu().numpy())
                logits.append(self.network.head(found).float().cpu().numpy())
        return np.concatenate(features), np.concatenate(logits)


def untrained(encoder: FrozenEncoder, seed: int) -> FrozenEncoder:
    """A network of the same shape with random weights."""
    torch.manual_seed(seed)
    network = CellNetwork(encoder.types, encoder.network.settings)
    return FrozenEncoder(network, device=encoder.device, batch=encoder.batch)


class TimmEncoder:
    """Callable: the same for a backbone of timm whose weights lie in a local file; it has no types, so (N, 0) logits.

    side: of its input in pixels. Raises ModelError where timm has no such backbone or the file does not fit it, and
    MissingDependencyError without timm.
    """

    def __init__(self, name: str, weights: Path, *, device: str = "cpu", batch: int = 32) -> None:
        self.network = timm_network(name)
        fill(self.network, weights)
        self.network.to(device).eval()
        length: Any = self.network.num_features
        self.device, self.batch = device, batch
        self.side, self.length = input_side(self.network), int(length)
        self._mean, self._spread = (torch.tensor(colour).view(1, 3, 1, 1) for colour in colours(self.network))

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = []
        with torch.inference_mode():
            for first in range(0, len(crops), self.batch):
                pixels = (as_pixels(crops[first : first + self.batch]) - self._mean) / self._spread
                rows.append(self.network(pixels.to(self.device)).float().cpu().numpy())
        features = np.concatenate(rows) if rows else np.zeros((0, self.length), np.float32)
        return features, np.zeros((len(crops), 0), np.float32)
