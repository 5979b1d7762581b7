"""A classifier's graph in eight-bit whole numbers: made, measured against float32 on held-out cells, written beside it.

It runs by default only where it names enough of these cells the same; the card keeps what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.classification.evaluate import Aside, crops_of
from myelos.classification.judging import as_aside, parts_of
from myelos.classification.questions import ANSWERS
from myelos.datasets.cell_sets import read_cell_sets
from myelos.detection.prepare import spread
from myelos.errors import UsageError
from myelos.imaging.crops import Image
from myelos.models.classify import GraphClassifier
from myelos.models.files import ModelCard, find, read_card, rewrite_card, sha256
from myelos.networks.eight_bit import in_eight_bits
from myelos.tables import write_bytes
from myelos.training.crops import Crop, plain

_BATCH = 64


@dataclass(frozen=True, slots=True)
class EightBitSettings:
    """learned: cells of the training that set the ranges. judged, least: held-out cells that both ways name, and how
    few of them show nothing. same: the share of equal names from which int8 runs by default."""

    learned: int = 256
    judged: int = 1500
    least: int = 200
    same: float = 0.995


def quantise_classifier(
    model: str | Path,
    data: Sequence[Path],
    *,
    mpp: float | None = None,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[ModelCard, Aside]:
    """Give a classifier that is there its graph in whole numbers; the card, and what was set aside with its reason.

    Weights and float32 graph stay as they are. data: the folders that it was trained on, split as the recipes do. mpp:
    µm/px of sets that do not say. Raises ModelError, and UsageError for a detector or where too few cells are held out.
    """
    card = read_card(find(model))
    if card.kind == "detector":
        raise UsageError(f"{card.name} is a detector", remedy="Only classifiers run in int8")
    tell = progress or (lambda _stage, _done, _total: None)
    records, faults = read_cell_sets(data)
    parts = parts_of(records, card)
    settings = EightBitSettings()
    learned = spread(parts["train"], settings.learned)
    held = spread([*parts["choose"], *parts["test"]], settings.judged)
    if len(held) < settings.least or not learned:
        raise UsageError(
            f"{len(held)} held-out cells cannot show that int8 names them the same",
            remedy=f"Pass the cells of its training: {settings.least} or more must be held out",
        )
    show = partial(crops_of, to_mpp=card.mpp, side=card.tile, mpp=mpp, progress=partial(tell, "reading"))
    shown = [show(part) for part in (learned, held)]
    card = add_eight_bits(card.path, *(crops for crops, _, _ in shown), threads=threads, progress=progress)
    return card, as_aside(faults) + [row for _, _, unread in shown for row in unread]


def add_eight_bits(
    path: Path,
    learned: Sequence[Image],
    held: Sequence[Image],
    *,
    settings: EightBitSettings | None = None,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ModelCard:
    """Write `NAME.int8.onnx` beside a classifier, and what was measured of it into its card; returns the new card.

    learned, held: crops (side, side, 3) that it was trained on, and others. Nothing is written where too few are held
    out to show that it names cells the same.
    """
    settings, card = settings or EightBitSettings(), read_card(path)
    if len(held) < settings.least or not learned:
        return card
    tell = progress or (lambda _stage, _done, _total: None)
    cells = np.stack(spread(learned, settings.learned))
    step = partial(tell, "measuring ranges for int8")
    write_bytes(card.eight_bit, in_eight_bits(card.graph.read_bytes(), cells, step=step))
    tried = replace(card, int8={"sha256": sha256(card.eight_bit), "default": True})
    both = [GraphClassifier(tried, threads=threads, precise=precise) for precise in (True, False)]
    few = spread(held, settings.judged)
    answers: list[list[NDArray[np.float32]]] = [[], []]
    for first in range(0, len(few), _BATCH):
        for rows, classifier in zip(answers, both, strict=True):
            rows.append(classifier(few[first : first + _BATCH]))
        tell("comparing int8 with float32", min(first + _BATCH, len(few)), len(few))
    found = compared(card, *(np.concatenate(rows) for rows in answers))
    card = replace(tried, int8={**tried.int8, **found, "default": found["same"] >= settings.same})
    rewrite_card(path, card)
    return card


def add_eight_bits_of(
    path: Path, crops: Mapping[str, Sequence[Crop]], *, progress: Callable[[str, int, int], None] | None = None
) -> ModelCard:
    """`add_eight_bits` with the crops of a training: `train`, and `choose` and `test`, which it did not learn from."""
    settings, side = EightBitSettings(), read_card(path).tile
    learned = [plain(crop, side) for crop in spread(crops["train"], settings.learned)]
    held = [plain(crop, side) for crop in spread([*crops["choose"], *crops["test"]], settings.judged)]
    return add_eight_bits(path, learned, held, settings=settings, progress=progress)


def compared(card: ModelCard, precise: NDArray[np.float32], quick: NDArray[np.float32]) -> dict[str, Any]:
    """How two ways name the same cells. precise, quick: (N, T) probabilities.

    cells; same: share with the same name, of a question with the same answer; difference: the largest of a probability.
    """
    names = [_said(card, shares) for shares in (precise, quick)]
    difference = float(np.abs(precise - quick).max()) if len(precise) else 0.0
    same = float((names[0] == names[1]).mean()) if len(precise) else 0.0
    return {"cells": len(precise), "same": same, "difference": round(difference, 4)}


def _said(card: ModelCard, shares: NDArray[np.float32]) -> NDArray[np.intp]:
    if card.question:
        return (shares[:, ANSWERS.index("yes")] >= card.threshold).astype(np.intp)
    return shares.argmax(axis=1)
