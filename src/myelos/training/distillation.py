"""Teachers: earlier classifiers, larger ones or several together, whose answers a network learns beside the labels.

Knowledge distillation after Hinton et al. 2015 (arXiv:1503.02531), in the consistent form of Beyer et al. 2022 (CVPR):
a teacher answers for the very pixels that the pupil is shown, turned, recoloured and blended as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from myelos.errors import UsageError
from myelos.models.classify import build_classifier
from myelos.models.files import ModelCard, find, read_card, sha256
from myelos.networks.cells import CellNetwork

_SAME_WINDOW = 0.01  # relative: windows of 21.60 and 21.55 µm show the same


@dataclass(frozen=True, slots=True)
class Teacher:
    """One earlier classifier: side: of its window in pixels; columns: its outputs in the order of the pupil's types."""

    network: CellNetwork
    side: int
    columns: tuple[int, ...]
    temperature: float
    sha256: str

    def __call__(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) → (N, T) calibrated probabilities, at the teacher's own resolution."""
        if pixels.shape[-1] != self.side:
            size = (self.side, self.side)
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
        logits = self.network(pixels.contiguous(memory_format=torch.channels_last))
        return (logits.float()[:, list(self.columns)] / self.temperature).softmax(dim=1)


def load_teachers(models: Sequence[str | Path], *, types: Sequence[str], mpp: float, side: int) -> tuple[Teacher, ...]:
    """The classifiers of these names or files, fit to teach a network of these types and this window.

    Raises UsageError for one that cannot name all the types, or that sees a window of another width.
    """
    return tuple(_teacher(read_card(find(model)), types, mpp * side) for model in models)


def _teacher(card: ModelCard, types: Sequence[str], width: float) -> Teacher:
    missing = [name for name in types if name not in card.types]
    if card.kind != "classifier" or missing:
        raise UsageError(
            f"{card.name} cannot teach this network",
            why=f"it does not name {', '.join(missing)}" if missing else "it is no classifier of single cells",
            remedy="Choose a teacher that names every type of the recipe",
        )
    if abs(card.mpp * card.tile / width - 1) > _SAME_WINDOW:
        raise UsageError(
            f"{card.name} cannot teach this network",
            why=f"it sees windows of {card.mpp * card.tile:.1f} µm, the network of {width:.1f} µm",
            remedy="Give the recipe mpp and side whose product is the same",
        )
    columns = tuple(card.types.index(name) for name in types)
    network = build_classifier(card).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return Teacher(network, card.tile, columns, card.temperature, sha256(card.path))


def taught(teachers: Sequence[Teacher], pixels: Tensor) -> Tensor:
    """(N, 3, S, S) → (N, T): the mean of what the teachers say, where the pixels are."""
    with torch.no_grad():
        answers = [teacher(pixels) for teacher in teachers]
    return torch.stack(answers).mean(dim=0)
