"""Single cells for `benchmarks.realism`: rendered ones, real ones by halves, and small networks trained on them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy
from myelos.datasets.cell_splits import split_cells
from myelos.datasets.cells import CellRecord, read_cells
from myelos.imaging.appearance import normalise
from myelos.imaging.crops import CELL_APPEARANCE, stacked, window
from myelos.metrics.classification import evaluate
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.phantom.cells import cell_rng
from myelos.phantom.fields import FieldSettings, render_field
from myelos.phantom.optics import OpticsSettings
from myelos.training.cell_loop import CellTrainingSettings, predict_crops, train_network
from myelos.training.crops import Crop, CropSettings, load_crops, plain

Images = NDArray[np.uint8]
Tell = Callable[[str, int, int, float], None]  # what, done, of how many, seconds left (below 0: unknown)

TYPES = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte")
HALVES = {"tune": 0.5, "quote": 0.5}
CELL_MPP = 0.1017  # of the real cells, as published
SCALES = (0.09, 0.11, 0.14, 0.18)  # µm/px of the rendered photographs
SURROUND = 1.2  # windows of surroundings that are kept, for turning and shifting
CELLS_A_POOL = 100  # new cells are rendered after so many pictures

# Any camera and any stain; and one like the analyser of the real cells: sharp, even, May-Grünwald-Giemsa.
ANY = FieldSettings(specimen="blood", visible=0.0, stain_variation=1.2)
ANALYSER = FieldSettings(
    specimen="blood",
    visible=0.0,
    stain="may_gruenwald_giemsa",
    stain_variation=0.4,
    haze=0.0,
    debris=0.0,
    red_cells_per_mm2=7000.0,
    optics=OpticsSettings((0.05, 0.09), (0.0, 0.03), 0.01, (0.3, 1.2), (0.5, 1.2), (88, 95)),
)


@dataclass(frozen=True, slots=True)
class CellSettings:
    """per_type: rendered cells of each type. side, mpp: what the network sees. seed: of rendering and training."""

    per_type: int = 500
    side: int = 96
    mpp: float = 0.2
    epochs: float = 6.0
    seed: int = 1
    widths: tuple[int, int, int, int] = (32, 64, 128, 192)
    depths: tuple[int, int, int, int] = (1, 1, 1, 1)

    def training(self, epochs: float) -> CellTrainingSettings:
        colours = CropSettings(
            scale=(0.85, 1.2),
            saturation=(0.5, 1.5),
            contrast=(0.6, 1.4),
            brightness=(0.85, 1.12),
            tint=0.05,
            stain=0.05,
        )
        network = CellNetworkSettings(widths=self.widths, depths=self.depths)
        return CellTrainingSettings(
            epochs=epochs, warmup=60, average=0.99, mix=0.2, early_side=72, seed=self.seed, network=network,
            augmentation=colours,
        )  # fmt: skip


def real_halves(folder: Path) -> dict[str, list[CellRecord]]:
    """The five mature types of a set of single cells in two halves; a group of near-duplicates stays on one side.

    Band and segmented neutrophils are neutrophils. The half follows from the SHA-256 of the group's images alone.
    """
    records, _ = read_cells(folder)
    five = [replace(r, cell_type=t, mpp=r.mpp or CELL_MPP) for r in records if (t := coarse(r.cell_type))]
    parts = split_cells(five, fractions=HALVES)
    return {name: [five[i] for i in indices] for name, indices in parts.items()}


def coarse(cell_type: str) -> str | None:
    """The one of the five types that a type belongs to."""
    return next((t for t in TYPES if t in taxonomy.ancestors(cell_type)), None)


def real_crops(records: Sequence[CellRecord], settings: CellSettings, tell: Tell) -> list[Crop]:
    def say(done: int, total: int) -> None:
        tell("reading real cells", done, total, -1.0)

    return load_crops(records, types=TYPES, mpp=settings.mpp, side=settings.side, scales={}, progress=say)


def rendered_crops(
    base: FieldSettings, count: int, settings: CellSettings, folder: Path, tell: Tell, *, seed: int
) -> list[Crop]:
    """`count` rendered cells of each type, kept in `folder` in pieces so that a killed run goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    crops, begun, fresh = [], time.monotonic(), 0
    pieces = [(kind, first) for first in range(0, count, CELLS_A_POOL) for kind in TYPES]
    for done, (kind, first) in enumerate(pieces, 1):
        path = folder / f"{kind}-{first:05d}.npy"
        if not path.exists():
            last = min(first + CELLS_A_POOL, count)
            write_array(path, stacked([portrait(kind, i, base, settings, seed=seed) for i in range(first, last)]))
            fresh += 1
        images = np.load(path)
        allowed = np.array([kind == name for name in TYPES])
        crops += [Crop(image, allowed, "rendered", kind, f"{kind}-{first + i}") for i, image in enumerate(images)]
        left = (time.monotonic() - begun) / fresh * (len(pieces) - done) if fresh else -1.0
        tell("rendering cells", done, len(pieces), left)
    return crops


def write_array(path: Path, array: Images) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)


def portrait(cell_type: str, number: int, base: FieldSettings, settings: CellSettings, *, seed: int) -> Images:
    """(S, S, 3): one rendered cell among others, photographed, then prepared as a real one is."""
    rng = cell_rng(seed, "portrait", cell_type, number)
    mpp, room = float(rng.choice(SCALES)), round(SURROUND * settings.side)
    side = int(np.ceil(room * settings.mpp / mpp)) + 2
    pool = (seed * 7919 + number // CELLS_A_POOL) % (1 << 31)
    given = replace(base, width=side, height=side, mpp=mpp, pool_seed=pool, pool_per_type=30)
    rgb = render_field(given, rng, centre=cell_type).rgb
    return window(normalise(rgb, CELL_APPEARANCE), (side / 2, side / 2), mpp / settings.mpp, room)


def trained(
    crops: Sequence[Crop], types: int, epochs: float, settings: CellSettings, out: Path, tell: Tell, *, what: str
) -> CellNetwork:
    """A small network; one that is trained already is read from its checkpoint."""

    def say(values: dict[str, Any]) -> None:
        tell(what, values["step"], values["steps"], values["left"])

    given = settings.training(epochs)
    return train_network(crops, types=types, side=settings.side, settings=given, out=out, report=say)


def named(network: CellNetwork, crops: Sequence[Crop], side: int) -> NDArray[np.float32]:
    """(N, types) logits, the mean over two poses."""
    images = stacked([plain(crop, side) for crop in crops])
    turned = np.ascontiguousarray(images[:, ::-1, ::-1])
    return (predict_crops(network, images) + predict_crops(network, turned)) / np.float32(2)


def type_figures(truth: Sequence[str], logits: NDArray[np.float32]) -> dict[str, Any]:
    """Macro F1, F1 by type, and who was taken for whom."""
    said = [TYPES[i] for i in logits.argmax(axis=1)]
    result = evaluate(list(truth), said, labels=TYPES)
    pairs = list(zip(truth, said, strict=True))
    return {
        "cells": len(pairs),
        "macro_f1": result["macro"]["f1"],
        "f1": {name: row["f1"] for name, row in result["classes"].items()},
        "confusion": [[pairs.count((t, s)) for s in TYPES] for t in TYPES],
    }


def key(*settings: Any) -> str:
    """Short hash of the settings and of what the phantom draws now: what an earlier phantom drew is not used."""
    found = hashlib.sha256(drawn())
    for one in settings:
        found.update(repr(asdict(one) if is_dataclass(one) and not isinstance(one, type) else one).encode())
    return found.hexdigest()[:10]


@lru_cache
def drawn() -> bytes:
    """A hash of the pixels of a few cells and fields."""
    found = hashlib.sha256()
    for base in (ANY, ANALYSER):
        given = replace(base, width=240, height=240, mpp=0.12, pool_per_type=2)
        for kind in (*TYPES, None):
            found.update(render_field(given, cell_rng(0, "probe", str(kind)), centre=kind).rgb.tobytes())
    return found.digest()
