"""Does the source of a cut-out cell give its type away? Who tells sources, what strays, one learned and the other read.

    python -m benchmarks.sources --cell-images mll_bone_marrow_cells --cell-images pbc_dib_cells -o runs/sources

Two sets of single cells: as their images are, and as cut-out cells among rendered red cells, alike in their mean only,
matched, and matched and scattered (`phantom.matching`, `phantom.scatter`).

- told: a small network learns to tell the source of cells of the types that both have (types weighted alike); AUROC on
  held-out cells within each type, and their mean. 0.5: nothing tells. `--cues` repeats it in grey, blurred and with
  fine detail alone.
- strays: a network learns all types of both. Of the cells of shared types, how many does it take for a type that only
  the other source has, and how many for one that only their own has? Were sources alike, both shares would agree. And
  how much more does it lean towards the types of one source alone in cells from there (AUROC within shared types)?
- across: the shared types learned from one source, tested on held-out cells of it and on the other.

Short trainings with few cells: read the differences, not the levels. `--half` takes the cells with an even or odd part
of their hash alone: settings were chosen on 0, 1 is quoted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from myelos.datasets.cells import read_cells
from myelos.datasets.images import content_hash
from myelos.detection.prepare import read_rgb
from myelos.imaging.crops import CELL_APPEARANCE, Image, cell_window
from myelos.metrics.classification import evaluate
from myelos.networks.cells import CellNetworkSettings
from myelos.phantom.cell_images import CellImagesSettings, cut_sets, finished
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
AS_THEY_ARE = "as they are"
STEPS = {  # whether sources are matched, and scattered
    "means alike": (False, False),
    "matched": (True, False),
    "matched and scattered": (True, True),
}
CUES = ("colour", "grey", "blurred", "fine detail")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell, shown both ways. test: by the hash of its image."""

    source: str
    cell_type: str
    shown: Mapping[str, Image]
    test: bool


def cells_of(
    folders: Sequence[Path], per_type: int, ways: Sequence[str], half: int | None, most: int | None
) -> list[Cell]:
    """Cells that could be cut out cleanly, as in their image and as in a field."""
    settings = CellImagesSettings(per_type=per_type, rendered=0.0)
    sets = cut_sets(folders, settings=settings)
    mine = {
        source: {kind: [c for c in own if in_half(c[1], half)][:most] for kind, own in by.items() if kind not in COARSE}
        for source, by in sets.cells.items()
    }
    few = {s: {k: own for k, own in by.items() if len(own) >= settings.fewest} for s, by in mine.items()}
    sets = replace(sets, cells=few)
    shown: dict[tuple[str, str, str], dict[str, Image]] = {}
    for way in ways:
        if way != AS_THEY_ARE:
            match, scatter = STEPS[way]
            cut_outs = finished(sets, mpp=MPP, settings=replace(settings, matched=match, scatter=scatter))
            for kind in cut_outs.drawable:
                for kept in (kept for own in cut_outs.cells[kind].values() for kept in own):
                    shown.setdefault((kept.source, kind, kept.cut_from), {})[way] = composed(kept, kind)
    if AS_THEY_ARE in ways:
        add_plain(shown, folders)
    return [Cell(s, kind, own, int(name, 16) % 3 == 0) for (s, kind, name), own in sorted(shown.items())]


def in_half(name: str, half: int | None) -> bool:
    return half is None or int(name, 16) // 7 % 2 == half


def add_plain(shown: Mapping[tuple[str, str, str], dict[str, Image]], folders: Sequence[Path]) -> None:
    paths = {content_hash(r.path)[:12]: r for folder in folders for r in read_cells(folder)[0]}
    for (_, _, name), own in shown.items():
        record = paths[name]
        own[AS_THEY_ARE] = cell_window(
            read_rgb(record.path), mpp=record.mpp or MPP, to_mpp=MPP, side=SIDE, appearance=CELL_APPEARANCE
        )


def composed(kept: Kept, kind: str) -> Image:
    """The cut-out cell in the middle of a field without other nucleated cells."""
    settings = FieldSettings(
        SIDE, SIDE, MPP, "blood", cells_per_mm2=0.0, visible=0.0, pool_per_type=10,
        optics=OpticsSettings(blur=SOFTER, jpeg_quality=None), stain_variation=0.5,
    )  # fmt: skip
    alone = CutOuts({kind: {kept.source: (kept,)}}, MPP, rendered=0.0)
    return render_field(settings, cell_rng(0, kept.cut_from), centre=kind, cut_outs=alone).rgb


def trained(
    cells: Sequence[Cell], types: Sequence[str], way: str, steps: int, out: Path, *, balance: float = 0.7
) -> Any:
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
        balance=balance,
        early=0.0,
        network=NETWORK,
    )
    return train_network(crops, types=len(types), side=SIDE, settings=settings, out=out, anew=True)


def named(network: Any, cells: Sequence[Cell], types: Sequence[str], way: str) -> list[str]:
    logits = predict_crops(network, np.stack([cell.shown[way] for cell in cells]))
    return [types[i] for i in logits.argmax(axis=1)]


def told(cells: Sequence[Cell], shared: Sequence[str], way: str, steps: int, out: Path, cue: str) -> dict[str, Any]:
    """How well a network tells the source of held-out cells whose type says nothing of it."""
    chosen = [replace(c, shown={way: seen_as(c.shown[way], cue)}) for c in cells if c.cell_type in shared]
    sources = sorted({c.source for c in chosen})
    as_types = [replace(c, cell_type=c.source, source=c.cell_type) for c in chosen]  # drawn evenly over both
    network = trained([c for c in as_types if not c.test], sources, way, steps, out / f"told-{way}-{cue}", balance=1.0)
    test = [c for c in chosen if c.test]
    logits = predict_crops(network, np.stack([c.shown[way] for c in test]))
    score, truth = logits[:, 1] - logits[:, 0], np.array([c.source == sources[1] for c in test])
    by_type = {}
    for name in shared:
        own = np.array([c.cell_type == name for c in test])
        by_type[name] = float(roc_auc_score(truth[own], score[own]))
    row = {"way": way, "cue": cue, "cells": len(test), "auroc": float(np.mean(list(by_type.values()))), **by_type}
    print(row, flush=True)
    return row


def seen_as(image: Image, cue: str) -> Image:
    """With one kind of cue alone."""
    if cue == "grey":
        return np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    if cue == "blurred":
        return np.asarray(cv2.GaussianBlur(image, (0, 0), 3.0), np.uint8)
    if cue == "fine detail":
        smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 2.0)
        detail = 128 + 2 * (image - smooth).mean(axis=-1, keepdims=True)
        return np.repeat(np.clip(detail, 0, 255), 3, axis=-1).astype(np.uint8)
    return image


def across(cells: Sequence[Cell], shared: Sequence[str], way: str, steps: int, out: Path) -> list[dict[str, Any]]:
    """Trained on one source, tested on held-out cells of it and on those of the other."""
    sources = sorted({cell.source for cell in cells})
    chosen = [cell for cell in cells if cell.cell_type in shared]
    rows = []
    for learned in sources:
        own = [c for c in chosen if c.source == learned and not c.test]
        network = trained(own, shared, way, steps, out / f"{way}-{learned}")
        for tested in sources:
            test = [c for c in chosen if c.source == tested and (c.test or tested != learned)]
            said = named(network, test, shared, way)
            found = evaluate([c.cell_type for c in test], said, labels=list(shared))
            row = {"way": way, "learned": learned, "learned_cells": len(own), "tested": tested, "cells": len(test)}
            rows.append(row | {"macro_f1": found["macro"]["f1"], "accuracy": found["accuracy"]})
            print(rows[-1], flush=True)
    return rows


def strays(cells: Sequence[Cell], types: Sequence[str], way: str, steps: int, out: Path) -> list[dict[str, Any]]:
    """How often cells of one source are said to be of a type that only the other has, or only their own."""
    having = {name: {c.source for c in cells if c.cell_type == name} for name in types}
    network = trained([c for c in cells if not c.test], types, way, steps, out / f"{way}-all")
    test = [c for c in cells if c.test]
    logits = predict_crops(network, np.stack([cell.shown[way] for cell in test]))
    said = [types[i] for i in logits.argmax(axis=1)]
    rows: list[dict[str, Any]] = []
    for source in sorted({c.source for c in cells}):
        for kind, wanted in (("shared types", 2), ("its own types", 1)):
            mine = [s for c, s in zip(test, said, strict=True)
                    if c.source == source and len(having[c.cell_type]) == wanted]  # fmt: skip
            row = {"way": way, "source": source, "of": kind, "cells": len(mine)}
            others = sum(source not in having[s] for s in mine)
            rows.append(row | {"strayed": others, "to_own_alone": sum(having[s] == {source} for s in mine)})
            print(rows[-1], flush=True)
    right = float(np.mean([c.cell_type == s for c, s in zip(test, said, strict=True)]))
    rows.append({"way": way, "right": right, "cells": len(test), "leans": leaning(test, logits, types, having)})
    print(rows[-1], flush=True)
    return rows


def leaning(
    test: Sequence[Cell], logits: Any, types: Sequence[str], having: Mapping[str, set[str]]
) -> dict[str, float]:
    """Source → AUROC, within shared types, of the probability of the types that it alone has: does a cell from there
    lean towards them more than one of the same type from elsewhere? 0.5: it does not."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    result = {}
    for source in sorted({cell.source for cell in test}):
        lonely = odds[:, [having[name] == {source} for name in types]].sum(axis=1)
        found = []
        for name in (name for name in types if len(having[name]) > 1):
            own = [i for i, cell in enumerate(test) if cell.cell_type == name]
            found.append(roc_auc_score([test[i].source == source for i in own], lonely[own]))
        result[source] = float(np.mean(found))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell-images", type=Path, action="append", required=True)
    parser.add_argument("--per-type", type=int, default=120)
    parser.add_argument("--steps", type=int, default=240, help="of each training")
    parser.add_argument("--way", action="append", choices=(AS_THEY_ARE, *STEPS), help="only this one; may be repeated")
    parser.add_argument("--only", action="append", choices=("told", "strays", "across"), help="may be repeated")
    parser.add_argument("--cues", action="store_true", help="tell sources by each cue alone, too")
    parser.add_argument("--half", type=int, choices=(0, 1), help="only these cells")
    parser.add_argument("--most", type=int, help="at most so many cells of each type and source")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    ways, only = given.way or (AS_THEY_ARE, *STEPS), given.only or ("told", "strays", "across")
    cells = cells_of(given.cell_images, given.per_type, ways, given.half, given.most)
    types = sorted({cell.cell_type for cell in cells})
    shared = [name for name in types if len({c.source for c in cells if c.cell_type == name}) > 1]
    print(f"{len(cells)} cells of {len(types)} types, shared: {', '.join(shared)}", flush=True)
    result: dict[str, list[dict[str, Any]]] = {name: [] for name in only}
    for way in ways:
        if "told" in only:
            cues = CUES if given.cues else CUES[:1]
            result["told"] += [told(cells, shared, way, given.steps // 2, given.out, cue) for cue in cues]
        if "strays" in only:
            result["strays"] += strays(cells, types, way, given.steps, given.out)
        if "across" in only:
            result["across"] += across(cells, shared, way, given.steps, given.out)
        (given.out / "sources.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
