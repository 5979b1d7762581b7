"""Matching of proposals with cells, sampling, and the soft weights of uncertain background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou


@dataclass(frozen=True, slots=True)
class Match:
    """What each of P proposals is: `cell` (P,) index of the best cell, `overlap` (P,) its IoU, `positive` (P,)."""

    cell: Tensor
    overlap: Tensor
    positive: Tensor


def match(proposals: Tensor, cells: Tensor, threshold: float) -> Match:
    """proposals (P, 4) and cells (G, 4) as x1 y1 x2 y2; positive from an IoU of `threshold` on."""
    if len(cells) == 0:
        nothing = torch.zeros(len(proposals), device=proposals.device)
        return Match(nothing.long(), nothing, nothing.bool())
    overlap, cell = box_iou(proposals, cells).max(dim=1)
    return Match(cell, overlap, overlap >= threshold)


def sample(positive: Tensor, ignored: Tensor, number: int, share: float) -> Tensor:
    """Indices of up to `number` proposals, at most `share` of them positive, none ignored; drawn at random."""
    positives = torch.nonzero(positive & ~ignored).flatten()
    negatives = torch.nonzero(~positive & ~ignored).flatten()
    wanted = min(len(positives), int(number * share))
    chosen = positives[torch.randperm(len(positives), device=positives.device)[:wanted]]
    rest = negatives[torch.randperm(len(negatives), device=negatives.device)[: number - wanted]]
    return torch.cat([chosen, rest])


def soft_weights(overlap: Tensor, *, floor: float = 0.25, steepness: float = 50.0, rate: float = 20.0) -> Tensor:
    """Weights of Wang 2022, equation 15: ς + (1 − ς) exp(−s exp(−v IoU)), from ς without overlap to nearly 1."""
    return floor + (1 - floor) * torch.exp(-steepness * torch.exp(-rate * overlap))
