"""Why a network names a cell as it does: its maps, the check of these maps, and the cells that it finds most alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from myelos.explanation.saliency import METHODS, Map, SmoothGradSettings, both, disc, focus
from myelos.explanation.sanity import SanityCheck, SanitySettings, check
from myelos.imaging.crops import TYPICAL_CELL, Image
from myelos.networks.cells import CellNetwork
from myelos.networks.encoder import FrozenEncoder, as_pixels
from myelos.representation.embeddings import EmbeddedCells, embeddings
from myelos.representation.neighbours import NeighbourIndex


@dataclass(frozen=True, slots=True)
class ExplainSettings:
    """neighbours: cells shown beside each. checked: how many cells the maps are checked with; each costs a map of
    either method for every stage of the network."""

    smooth_grad: SmoothGradSettings = field(default_factory=SmoothGradSettings)
    sanity: SanitySettings = field(default_factory=SanitySettings)
    neighbours: int = 8
    checked: int = 6


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A cell of the index: its place there, and the cosine of the two embeddings."""

    place: int
    cosine: float


@dataclass(frozen=True, slots=True)
class ExplainedCell:
    """crop: (S, S, 3) as the network saw it. truth: its label, None where there is none. probabilities: (T,). maps:
    method → (S, S). focus: method → share of the map in the disc of a typical cell in the middle."""

    crop: Image
    truth: str | None
    predicted: str
    probabilities: NDArray[np.float32]
    maps: dict[str, Map]
    focus: dict[str, float | None]
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """types: in the order of the probabilities. disc: the share of a crop's area that the disc of `focus` has. among:
    the cells that neighbours are taken from."""

    types: tuple[str, ...]
    cells: tuple[ExplainedCell, ...]
    sanity: SanityCheck
    disc: float
    among: EmbeddedCells | None


def explain(
    network: CellNetwork,
    types: Sequence[str],
    crops: Sequence[Image],
    probabilities: NDArray[np.float32],
    *,
    mpp: float,
    truths: Sequence[str | None] | None = None,
    among: EmbeddedCells | None = None,
    poses: int = 1,
    settings: ExplainSettings | None = None,
) -> Explanation:
    """Explain N cells. crops: (S, S, 3) each, at `mpp` µm per pixel; probabilities: (N, T) as the classifier gives
    them, whose best type is the one explained. among: cells to search for neighbours, embedded with `poses`."""
    settings = settings or ExplainSettings()
    device = next(network.parameters()).device
    targets = torch.from_numpy(probabilities.argmax(axis=1)).to(device)
    pixels = as_pixels(crops).to(device)
    maps = both(network, pixels, targets, settings.smooth_grad)
    few = slice(0, settings.checked)
    sanity = check(network, pixels[few], targets[few], settings.sanity)
    alike = _alike(network, crops, among, poses, settings.neighbours, str(device))
    side = crops[0].shape[0]
    radius = TYPICAL_CELL / 2 / mpp
    cells = [
        ExplainedCell(
            crop=crop,
            truth=truths[place] if truths else None,
            predicted=types[int(targets[place])],
            probabilities=probabilities[place],
            maps={name: maps[name][place] for name in METHODS},
            focus={name: focus(maps[name][place], radius) for name in METHODS},
            neighbours=alike[place],
        )
        for place, crop in enumerate(crops)
    ]
    return Explanation(tuple(types), tuple(cells), sanity, float(disc(side, radius).mean()), among)


def _alike(
    network: CellNetwork,
    crops: Sequence[Image],
    among: EmbeddedCells | None,
    poses: int,
    count: int,
    device: str,
) -> list[tuple[Neighbour, ...]]:
    if among is None:
        return [()] * len(crops)
    queries = embeddings(FrozenEncoder(network, device=device), crops, poses=poses)
    found, cosines = NeighbourIndex(among.features).nearest(queries, count + 1)
    result = []
    for row, similar in zip(found.tolist(), cosines.tolist(), strict=True):
        pairs = [Neighbour(place, cosine) for place, cosine in zip(row, similar, strict=True) if cosine < 1 - 1e-5]
        result.append(tuple(pairs[:count]))  # the cell itself, where it is in the index, is no neighbour
    return result
