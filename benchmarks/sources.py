"""Does the source of a cut-out cell give its type away? Trained on one source, tested on the other, before and after.

    python -m benchmarks.sources --cell-images mll_bone_marrow_cells --cell-images pbc_dib_cells -o runs/sources

Two sets of single cells, as their images are and as cut-out cells among rendered red cells. A small network learns the
types that both sets have from one of them and is tested on held-out cells of it and on the other. Another learns all
types of both: how often are cells of one set said to be of a type that only the other has? Short trainings with few
cells: read the differences, not the levels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from myelos.datasets.cells import read_cells
from myelos.datasets.images import content_hash
from myelos.detection.prepare import read_rgb
from myelos.imaging.crops import CELL_APPEARANCE, Image, cell_window
from myelos.metrics.classification import evaluate
from myelos.networks.cells import CellNetworkSettings
from myelos.phantom.cell_images import CellImagesSettings, read_cut_outs
from myelos.phantom.cells import cell_rng
from myelos.phantom.cut_outs import CutOuts, Kept
from myelos.phantom.dataset import SOFTER
from myelos.phantom.fields import FieldSettings, render_field
from myelos.phantom.optics import OpticsSettings
from myelos.training.cell_loop import CellTrainingSettings, predict_crops, train_network
from myelos.training.crops import Crop

SIDE, MPP = 112, 0.2
BATCH = 32
COARSE = frozenset({"neutrophil", "immature_granulocyte"})
NETWORK = CellNetworkSettings(widths=(24, 48, 96, 144), depths=(1, 1, 1, 1))
WAYS = ("as they are", "cut out")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell, shown both ways. test: by the hash of its image."""

    source: str
    cell_type: str
    shown: Mapping[str, Image]
    test: bool


def cells_of(folders: Sequence[Path], per_type: int) -> list[Cell]:
    """Cells that could be cut out cleanly, as in their image and as in a field."""
    cut_outs = read_cut_outs(folders, mpp=MPP, settings=CellImagesSettings(per_type=per_type, rendered=0.0))
    paths = {content_hash(r.path)[:12]: r for folder in folders for r in read_cells(folder)[0]}
    result = []
    for kind in cut_outs.drawable:
        for source, own in cut_outs.cells[kind].items():
            for kept in own if kind not in COARSE else ():
                record = paths[kept.cut_from]
                plain = cell_window(
                    read_rgb(record.path), mpp=record.mpp or MPP, to_mpp=MPP, side=SIDE, appearance=CELL_APPEARANCE
                )
                shown = {WAYS[0]: plain, WAYS[1]: composed(kept, kind)}
                result.append(Cell(source, kind, shown, int(kept.cut_from, 16) % 3 == 0))
    return result


def composed(kept: Kept, kind: str) -> Image:
    """The cut-out cell in the middle of a field without other nucleated cells."""
    settings = FieldSettings(
        SIDE, SIDE, MPP, "blood", cells_per_mm2=0.0, visible=0.0, pool_per_type=10,
        optics=OpticsSettings(blur=SOFTER, jpeg_quality=None), stain_variation=0.5,
    )  # fmt: skip
    alone = CutOuts({kind: {kept.source: (kept,)}}, MPP, rendered=0.0)
    return render_field(settings, cell_rng(0, kept.cut_from), centre=kind, cut_outs=alone).rgb


def trained(cells: Sequence[Cell], types: Sequence[str], way: str, steps: int, out: Path) -> Any:
    crops = [
        Crop(c.shown[way], np.array([name == c.cell_type for name in types]), c.source, c.cell_type, f"{i}")
        for i, c in enumerate(cells)
    ]
    settings = CellTrainingSettings(
        epochs=steps * BATCH / len(crops),
        batch=BATCH,
        warmup=20,
        average=0.98,
        mix=0.0,
        balance=0.7,
        early=0.0,
        network=NETWORK,
    )
    return train_network(crops, types=len(types), side=SIDE, settings=settings, out=out, anew=True)


def named(network: Any, cells: Sequence[Cell], types: Sequence[str], way: str) -> list[str]:
    logits = predict_crops(network, np.stack([cell.shown[way] for cell in cells]))
    return [types[i] for i in logits.argmax(axis=1)]


def across(cells: Sequence[Cell], shared: Sequence[str], steps: int, out: Path) -> list[dict[str, Any]]:
    """Trained on one source, tested on held-out cells of it and on those of the other."""
    sources = sorted({cell.source for cell in cells})
    chosen = [cell for cell in cells if cell.cell_type in shared]
    rows = []
    for way in WAYS:
        for learned in sources:
            own = [c for c in chosen if c.source == learned and not c.test]
            network = trained(own, shared, way, steps, out / f"{way.replace(' ', '-')}-{learned}")
            for tested in sources:
                test = [c for c in chosen if c.source == tested and (c.test or tested != learned)]
                said = named(network, test, shared, way)
                found = evaluate([c.cell_type for c in test], said, labels=list(shared))
                row = {"way": way, "learned": learned, "learned_cells": len(own), "tested": tested, "cells": len(test)}
                rows.append(row | {"macro_f1": found["macro"]["f1"], "accuracy": found["accuracy"]})
                print(rows[-1], flush=True)
    return rows


def strays(cells: Sequence[Cell], types: Sequence[str], steps: int, out: Path) -> list[dict[str, Any]]:
    """How often cells of one source are said to be of a type that only the other has."""
    having = {name: {c.source for c in cells if c.cell_type == name} for name in types}
    rows = []
    for way in WAYS:
        network = trained([c for c in cells if not c.test], types, way, steps, out / f"{way.replace(' ', '-')}-all")
        test = [c for c in cells if c.test]
        said = named(network, test, types, way)
        for source in sorted({c.source for c in cells}):
            for kind, wanted in (("shared types", 2), ("its own types", 1)):
                mine = [s for c, s in zip(test, said, strict=True)
                        if c.source == source and len(having[c.cell_type]) == wanted]  # fmt: skip
                strayed = sum(source not in having[s] for s in mine)
                rows.append({"way": way, "source": source, "of": kind, "cells": len(mine), "strayed": strayed})
                print(rows[-1], flush=True)
        right = np.mean([c.cell_type == s for c, s in zip(test, said, strict=True)])
        print(f"{way}: accuracy over all types {right:.3f} of {len(test)}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell-images", type=Path, action="append", required=True)
    parser.add_argument("--per-type", type=int, default=120)
    parser.add_argument("--steps", type=int, default=240, help="of each training")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    cells = cells_of(given.cell_images, given.per_type)
    types = sorted({cell.cell_type for cell in cells})
    shared = [name for name in types if len({c.source for c in cells if c.cell_type == name}) > 1]
    print(f"{len(cells)} cells of {len(types)} types, shared: {', '.join(shared)}", flush=True)
    result = {"across": across(cells, shared, given.steps, given.out)}
    result["strays"] = strays(cells, types, given.steps, given.out)
    (given.out / "sources.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
