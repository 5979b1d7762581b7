"""A cell network whose weights stand still: crops in, features and logits out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from myelos.networks.cells import CellNetwork


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
