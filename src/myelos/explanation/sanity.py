"""Do the maps depend on what the network has learned? The test of Adebayo 2018 (section 3, cascading randomisation).

From the last layer down, one stage after the other gets new random weights, and the map of the same image for the same
type is made again. A method whose maps stay as they were draws edges of the image and explains no decision.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from myelos.explanation.saliency import METHODS, Map, SmoothGradSettings, both
from myelos.networks.cells import CellNetwork


@dataclass(frozen=True, slots=True)
class SanitySettings:
    """seed: of the random weights. smooth_grad: with how many samples; fewer than for a map that people look at."""

    seed: int = 0
    smooth_grad: SmoothGradSettings = field(default_factory=lambda: SmoothGradSettings(samples=20))


@dataclass(frozen=True, slots=True)
class Stage:
    """The maps once everything from the top down to `name` is random; the first one, "trained", is the network itself.

    maps: method → (N, S, S). rank: method → (N,) Spearman correlation with the trained network's map; ssim: the same
    for structural similarity. A map without any contrast has nothing in common with another: 0.
    """

    name: str
    maps: Mapping[str, Map]
    rank: Mapping[str, NDArray[np.float64]]
    ssim: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class SanityCheck:
    """stages: from the trained network to one of random weights. edges: method → (N,) rank correlation of the trained
    network's map with the edges of the image, which a map that ignores the network may well resemble."""

    stages: tuple[Stage, ...]
    edges: Mapping[str, NDArray[np.float64]]

    def summary(self) -> dict[str, Any]:
        """Means over the images, for JSON."""
        return {
            "stages": [
                {"name": stage.name}
                | {name: {"rank": _mean(stage.rank[name]), "ssim": _mean(stage.ssim[name])} for name in stage.maps}
                for stage in self.stages
            ],
            "edges": {name: _mean(values) for name, values in self.edges.items()},
        }


def _mean(values: NDArray[np.float64]) -> float:
    return round(float(values.mean()), 4)


def check(network: CellNetwork, pixels: Tensor, targets: Tensor, settings: SanitySettings | None = None) -> SanityCheck:
    """Randomise a copy of the network stage by stage and compare the maps of (N, 3, S, S) images for (N,) types."""
    settings = settings or SanitySettings()
    changed = copy.deepcopy(network).eval()
    trained = both(changed, pixels, targets, settings.smooth_grad)
    stages = [_stage("trained", trained, trained)]
    with torch.random.fork_rng(devices=[]):
        for number, (name, modules) in enumerate(stages_of(changed)):
            torch.manual_seed(settings.seed + number)
            for module in modules:
                randomise(module)
            stages.append(_stage(name, both(changed, pixels, targets, settings.smooth_grad), trained))
    edges = [edges_of(image) for image in pixels.cpu().numpy()]
    return SanityCheck(tuple(stages), {name: _each(rank_correlation, trained[name], edges) for name in trained})


def stages_of(network: CellNetwork) -> list[tuple[str, list[nn.Module]]]:
    """The head, then the parts of the trunk from its end to its beginning; a normalisation belongs to the convolution
    before it."""
    parts: list[tuple[str, list[nn.Module]]] = []
    for name, module in network.body.named_children():
        if not any(True for _ in module.parameters()):
            continue
        if parts and not any(isinstance(m, nn.Conv2d | nn.Linear) for m in module.modules()):
            parts[-1][1].append(module)
        else:
            parts.append((name, [module]))
    count = len(parts)
    named = [(f"stage {count - place} of {count}", modules) for place, (_, modules) in enumerate(reversed(parts))]
    return [("last layer", [network.head]), *named]


def randomise(module: nn.Module) -> None:
    """Weights as they are before any training; normalisations forget what they have seen."""
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()


def _stage(name: str, maps: Mapping[str, Map], trained: Mapping[str, Map]) -> Stage:
    return Stage(
        name,
        maps,
        {key: _each(rank_correlation, maps[key], trained[key]) for key in METHODS},
        {key: _each(similarity, maps[key], trained[key]) for key in METHODS},
    )


def _each(measure: Callable[[Map, Map], float], ours: Iterable[Map], theirs: Iterable[Map]) -> NDArray[np.float64]:
    return np.array([measure(one, other) for one, other in zip(ours, theirs, strict=True)])


def rank_correlation(one: Map, other: Map) -> float:
    """Spearman's, over all pixels; 0 where one of the maps has no contrast."""
    from scipy.stats import spearmanr

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def similarity(one: Map, other: Map) -> float:
    """Structural similarity (Wang 2004) of the maps, each brought to 0 to 1; 0 where one has no contrast."""
    from skimage.metrics import structural_similarity

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(structural_similarity(_unit(one), _unit(other), data_range=1.0))


def _unit(found: Map) -> Map:
    return (found - found.min()) / np.ptp(found)


def edges_of(pixels: NDArray[np.float32]) -> Map:
    """(3, S, S) → (S, S): the gradient's length in the grey image (Sobel), which needs no network at all."""
    import cv2

    grey = pixels.mean(axis=0).astype(np.float32)
    return np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
