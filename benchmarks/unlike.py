"""How many cells a classifier is not asked about, because they are unlike those that it was taught.

    python -m benchmarks.unlike --data DATA --model cells-marrow [--cells 400]

DATA holds pbc_dib_cells, mll_bone_marrow_cells, chula_wbc_fields, bccd_fields, lmu_aml_cells, pig_wbc_fields and
wbc_masks_tecom. Of the first two only cells of the part "test" are taken. Each source as it is, and brought to the
nearest stain of the training cells, as a count does it (where the model's card holds their looks).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.outliers import pigs, rapid
from myelos.classification.evaluate import crops_of, taught
from myelos.classification.gate import gate_of
from myelos.classification.judging import part_of
from myelos.datasets.cell_sets import read_cell_sets
from myelos.datasets.layouts import read_fields
from myelos.detection.prepare import read_rgb, spread
from myelos.errors import UsageError
from myelos.imaging.appearance import AppearanceSettings, normalise
from myelos.imaging.crops import window
from myelos.imaging.matching import Look, goal_of, look_of, matched
from myelos.models import load_classifier
from myelos.models.classify import GraphClassifier
from myelos.models.types import Classifier

Image = NDArray[np.uint8]
MPP = {"lmu_aml_cells": 0.0786, "chula_wbc_fields": 0.1001, "bccd_fields": 0.077}  # where images do not say
LEARNED = ("pbc_dib_cells", "mll_bone_marrow_cells")


def cells_of(folder: Path, classifier: Classifier, number: int) -> list[Image]:
    """Labelled cells; those of the training's sources are of the part that it did not see."""
    records, _ = read_cell_sets([folder])
    records = spread(part_of(records, "test" if folder.name in LEARNED else None), number)
    return crops_of(records, to_mpp=classifier.mpp, side=classifier.side, mpp=MPP.get(folder.name))[0]


def white_cells(folder: Path, classifier: Classifier, number: int) -> list[Image]:
    """White cells of annotated fields, their light evened out as a count does it."""
    crops = []
    for field in spread(read_fields(folder)[0], number):
        even = normalise(read_rgb(field.path), AppearanceSettings())
        for (x, y, width, height), kind in zip(field.boxes, field.types, strict=True):
            if kind not in ("erythrocyte", "platelet"):
                centre = (x + width / 2, y + height / 2)
                crops.append(window(even, centre, MPP[folder.name] / classifier.mpp, classifier.side))
    return crops


def flagged(classifier: GraphClassifier, crops: Sequence[Image]) -> str:
    gate = gate_of(classifier)
    if gate is None:
        raise SystemExit(f"{classifier.name} has no gate: myelos train gate makes it")
    return f"{100 * float((gate.score(classifier.with_features(crops)[1]) > gate.threshold).mean()):.1f} %"


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--model", default="cells-marrow")
    made.add_argument("--cells", type=int, default=400, help="at most so many of a source")
    made.add_argument("--threads", type=int)
    given = made.parse_args()
    classifier = load_classifier(given.model, threads=given.threads)
    sources = {
        name: lambda name=name: cells_of(given.data / name, classifier, given.cells)
        for name in (*LEARNED, "chula_wbc_fields", "lmu_aml_cells")
    }
    sources["bccd_fields"] = lambda: white_cells(given.data / "bccd_fields", classifier, given.cells)
    sources["pig_wbc_fields"] = lambda: pigs(given.data / "pig_wbc_fields", classifier.mpp, classifier.side)
    sources["wbc_masks_tecom"] = lambda: rapid(given.data / "wbc_masks_tecom", classifier.mpp, classifier.side)
    looks = taught(classifier)
    print("| source | cells | unlike as they are | in the training's stain |\n| --- | --: | --: | --: |")
    for name, cut in sources.items():
        crops = spread(cut(), given.cells)
        shares = flagged(classifier, crops), _restained(classifier, crops, looks)
        print(f"| {name} | {len(crops)} | {' | '.join(shares)} |", flush=True)


def _restained(classifier: GraphClassifier, crops: Sequence[Image], looks: Sequence[Look]) -> str:
    """A dash where a count would not match the stain: too few cells, no looks, or near enough."""
    try:
        own = look_of(crops)
    except UsageError:
        return "–"
    like = goal_of(own, looks) if looks else None
    return flagged(classifier, [matched(crop, own, like, background=False) for crop in crops]) if like else "–"


if __name__ == "__main__":
    main()
