"""A tiny classifier of drawn cells, made in a second: random features, and a last layer by least squares."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from myelos.models.files import ModelCard
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.training.cell_model import write_classifier

TYPES = ("lymphocyte", "eosinophil", "segmented_neutrophil")
INK = ((60, 40, 140), (220, 110, 90), (150, 90, 170))
SIDE, MPP = 48, 0.3
NETWORK = CellNetworkSettings(widths=(16, 16, 24, 32), depths=(1, 1, 1, 1), dropout=0.0)
CARD = ModelCard(
    name="tiny", kind="classifier", specimen="blood", architecture={"widths": [16, 16, 24, 32], "depths": [1, 1, 1, 1]},
    types=TYPES, scheme="wbc5", mpp=MPP, tile=SIDE, threshold=0.5, normalisation={}, data=(), training={}, metrics={},
    text="a card", views=2,
)  # fmt: skip


def drawn(kind: int, rng: np.random.Generator, side: int = SIDE) -> NDArray[np.uint8]:
    image = np.full((side, side, 3), rng.integers(225, 250, 3), np.uint8)
    centre = (side // 2 + int(rng.integers(-3, 4)), side // 2 + int(rng.integers(-3, 4)))
    cv2.circle(image, centre, int(rng.integers(side // 5, side // 3)), INK[kind], -1, cv2.LINE_AA)
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def cells(number: int, seed: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    kinds = np.arange(number) % len(TYPES)
    return [drawn(kind, rng) for kind in kinds], kinds


def pixels(crops: list[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()


def written(folder: Path) -> Path:
    """The files of a network that names drawn cells."""
    torch.manual_seed(0)
    network = CellNetwork(len(TYPES), NETWORK)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    crops, kinds = cells(90, 1)
    with torch.no_grad():
        network.train()
        for _ in range(20):
            network.features(pixels(crops))  # the means of the normalisation
        features = network.eval().features(pixels(crops)).double()
        features = torch.cat([features, torch.ones(len(crops), 1, dtype=torch.float64)], dim=1)
        wanted = 8 * nn.functional.one_hot(torch.from_numpy(kinds), len(TYPES)).double()
        solved = torch.linalg.lstsq(features, wanted).solution.float()
        network.head.weight.copy_(solved[:-1].T)
        network.head.bias.copy_(solved[-1])
    return write_classifier(network, CARD, folder)
