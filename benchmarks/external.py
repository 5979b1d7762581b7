"""External validation between sources of single cells: trained on some, tested on another, with and without remedies.

    python -m benchmarks.external --data ../shared/data -o runs/external [--images 16000]

DATA holds pbc_dib_cells (blood, Barcelona), mll_bone_marrow_cells (marrow, Munich) and chula_wbc_fields (blood, boxes
of fields). Small networks, trained as the paper trains (images as they are, without any common light), are asked about
the sources that they never saw, with each remedy that Matek 2021 names applied to the foreign images alone, and about
held-out cells of their own sources. One thread. A training that is killed goes on; what is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.external_table import overview, table
from myelos import taxonomy
from myelos.datasets.cell_splits import split_cells
from myelos.datasets.cells import CellRecord, cells_of_fields, read_cells
from myelos.datasets.layouts import read_fields
from myelos.detection.prepare import read_rgb, spread
from myelos.imaging.appearance import AppearanceSettings
from myelos.imaging.crops import window
from myelos.imaging.matching import Look, look_of, matched, white_of
from myelos.metrics.classification import evaluate
from myelos.metrics.external import REFUSALS, map_predictions
from myelos.metrics.selective import choose_threshold, fit_temperature, softmax
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.tables import write_json
from myelos.training.cell_loop import CellTrainingSettings, predict_crops, train_network
from myelos.training.crops import Crop, CropSettings, extended, plain, unchanged
from myelos.training.fields import allowed_types

PBC, MLL, CHULA = "pbc_dib_cells", "mll_bone_marrow_cells", "chula_wbc_fields"
SCALES = {PBC: 0.1017, MLL: 0.086, CHULA: 0.1001}  # µm per pixel
SCHEMES = {PBC: "pbc13", MLL: "mll21", CHULA: "wbc5"}
MPP, SIDE = 0.3375, 64  # 21.5 µm: the whole of a Munich image
RISK = 0.05
LEAST = 20  # training cells of a type that a network names
RAW = AppearanceSettings(flat_field=False, white_point=False)
REMEDIES = {  # patch size, background, stain
    "none": (False, False, False),
    "patch size": (True, False, False),
    "background": (False, True, False),
    "stain": (False, False, True),
    "patch size, background": (True, True, False),
    "all three": (True, True, True),
}
NETWORK = CellNetworkSettings(widths=(16, 32, 64, 96))
AUGMENTED, PLAIN = CropSettings(stain=0.1), unchanged()
ONE, TWO = ((PBC,), (MLL,)), ((PBC, MLL), (PBC, CHULA), (MLL, CHULA))
ORDER = [(sources, name) for group in (ONE, TWO) for name in ("augmented", "plain") for sources in group]
Parts = dict[str, dict[str, list[CellRecord]]]


@dataclass(frozen=True)
class Trained:
    """A network and what its own sources tell. like: their look; threshold: for "unidentified", from `choose`."""

    network: CellNetwork
    sources: tuple[str, ...]
    types: tuple[str, ...]
    temperature: float
    threshold: float
    like: Look


@dataclass(frozen=True)
class Shown:
    """The cells of one source that are asked about: windows at the scale of training, and with the whole image or box
    brought to the window's size; the image's own background; the source's look. others: cells of types not judged."""

    records: tuple[CellRecord, ...]
    scaled: tuple[NDArray[np.uint8], ...]
    fitted: tuple[NDArray[np.uint8], ...]
    whites: tuple[NDArray[np.float64] | None, ...]
    look: Look
    others: int


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    out = Path(options.out)
    parts = divided(Path(options.data), out / "parts.json")
    asked = {source: shown(parts[source], source) for source in SCALES}
    rows: list[dict[str, Any]] = []
    begun, fresh = time.monotonic(), 0
    for number, (sources, name) in enumerate(ORDER):
        path = out / f"{'+'.join(s.split('_')[0] for s in sources)}-{name}"
        tell = partial(_tell, path.name, len(ORDER) - number - 1)
        answers = path / "answers.json"
        if not answers.exists():
            model = trained(sources, name, parts, path, options.images, tell)
            write_json(answers, {"rows": [row | {"augmentation": name} for row in judged(model, asked)]})
            fresh += 1
        rows += json.loads(answers.read_text())["rows"]
        write_json(out / "external.json", {"images": options.images, "rows": rows})
        (out / "external.md").write_text(f"{overview(rows)}\n{table(rows)}")
        if fresh:
            left = (time.monotonic() - begun) / fresh * (len(ORDER) - number - 1)
            print(f"{number + 1} of {len(ORDER)} networks done, about {left / 60:.0f} min left", flush=True)
    print(overview(rows))


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", required=True)
    made.add_argument("-o", "--out", required=True)
    made.add_argument("--images", type=int, default=16000, help="how many are drawn in each training")
    return made.parse_args()


def _tell(name: str, later: int, values: Mapping[str, Any]) -> None:
    if values["step"] % 100 == 0:
        print(f"{name}: step {values['step']} of {values['steps']}, loss {values['loss']:.3f}, "
              f"{values['left'] / 60:.1f} min left, then {later} more", flush=True)  # fmt: skip


def divided(data: Path, kept: Path) -> Parts:
    """Source → part → cells whose type is stated as finely as the source can. kept: where the split lies when made."""
    cells = {name: read_cells(data / name, scheme=SCHEMES[name])[0] for name in (PBC, MLL)}
    cells[CHULA] = cells_of_fields(read_fields(data / CHULA)[0])
    if not kept.exists():
        write_json(kept, {name: split_cells(own) for name, own in cells.items()})
    split = json.loads(kept.read_text())
    return {name: {part: [own[i] for i in split[name][part]] for part in split[name]} for name, own in cells.items()}


def judged_types(source: str) -> tuple[str, ...]:
    """What is judged on a source: the five types of the boxes, or those that blood and marrow both have in number."""
    if source == CHULA:
        return ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte")
    return ("promyelocyte", "segmented_neutrophil", "eosinophil", "monocyte", "lymphocyte")


def types_of(records: Sequence[CellRecord]) -> tuple[str, ...]:
    """The types of the labels that are there in number, without coarser words for another of them."""
    counts = Counter(record.cell_type for record in records)
    present = {name for name, number in counts.items() if number >= LEAST}
    coarse = {name for name in present if taxonomy.narrower(name) & (present - {name})}
    return tuple(name for name in taxonomy.TYPES if name in present - coarse)


def labelled(records: Sequence[CellRecord], types: Sequence[str]) -> list[Crop]:
    """The crops of those cells that a network of these types can learn from."""
    found = [(record, allowed_types(record.cell_type, types)) for record in records]
    return [
        Crop(_pixels(record), allowed, record.source, record.cell_type, record.path.name)
        for record, allowed in found
        if allowed is not None and allowed.any()
    ]


@cache
def _pixels(record: CellRecord) -> NDArray[np.uint8]:
    return extended(record, mpp=MPP, side=SIDE, scales=SCALES, appearance=RAW)


def trained(
    sources: Sequence[str], name: str, parts: Parts, out: Path, images: int, tell: Callable[[dict[str, Any]], None]
) -> Trained:
    """Train, or load what was trained; temperature and threshold from the part `choose`."""
    learned = [record for source in sources for record in parts[source]["train"]]
    types = types_of(learned)
    crops = labelled(learned, types)
    settings = CellTrainingSettings(
        epochs=images / len(crops), batch=64, rate=2e-3, warmup=60, average=0.99, smoothing=0.05, balance=0.5,
        mix=0.3 if name == "augmented" else 0.0, early=0.0, network=NETWORK, checkpoint_every=100,
        augmentation=AUGMENTED if name == "augmented" else PLAIN,
    )  # fmt: skip
    network = train_network(crops, types=len(types), side=SIDE, settings=settings, out=out, report=tell)
    choose = labelled([record for source in sources for record in parts[source]["choose"]], types)
    allowed = np.stack([crop.allowed for crop in choose])
    logits = predict_crops(network, np.stack([plain(crop, SIDE) for crop in choose]))
    temperature = fit_temperature(logits[:, None], allowed)
    shares = softmax(logits, temperature)
    right = allowed[np.arange(len(shares)), shares.argmax(axis=1)]
    threshold = choose_threshold(shares.max(axis=1), right, risk=RISK)
    like = look_of([plain(crop, SIDE) for crop in spread(crops, 200)])
    return Trained(network, tuple(sources), types, temperature, threshold, like)


def shown(parts: Mapping[str, Sequence[CellRecord]], source: str) -> Shown:
    """The cells that are asked about: the part `test`; of the boxes all, where no training saw them."""
    every = [r for part, own in parts.items() for r in own if part == "test" or source == CHULA]
    records = [record for record in every if taxonomy.coarsen(record.cell_type, judged_types(source))]
    scaled, fitted, whites = [], [], []
    for record in records:
        rgb = read_rgb(record.path)
        height, width = rgb.shape[:2]
        x, y, w, h = record.box or (0.0, 0.0, float(width), float(height))
        middle = (x + w / 2, y + h / 2)
        scaled.append(window(rgb, middle, SCALES[source] / MPP, SIDE))
        fitted.append(window(rgb, middle, SIDE / (max(w, h) if record.box else min(w, h)), SIDE))
        whites.append(white_of(rgb if record.box else fitted[-1]))
    look = look_of(spread(scaled, 200))
    return Shown(tuple(records), tuple(scaled), tuple(fitted), tuple(whites), look, len(every) - len(records))


def judged(model: Trained, asked: Mapping[str, Shown]) -> list[dict[str, Any]]:
    """Rows of the table: foreign sources with each remedy, own ones (held-out cells) as they are."""
    rows = []
    for source, cells in asked.items():
        foreign = source not in model.sources
        for remedy, switches in REMEDIES.items() if foreign else [("held-out cells", (True, False, False))]:
            if source == CHULA and not foreign:
                continue  # few boxes of one or two samples: docs/classifier.md has four folds
            said = answers(model, cells, *switches)
            found = row(model, source, cells.records, said, others=cells.others)
            rows.append(found | {"remedies": remedy, "foreign": foreign})
    return rows


def answers(model: Trained, cells: Shown, scale: bool, background: bool, stain: bool) -> NDArray[np.float64]:
    """(N, T) probabilities of the cells with the remedies applied to them."""
    images = [
        matched(image, cells.look, model.like, background=background, stain=stain, white=white)
        for image, white in zip(cells.scaled if scale else cells.fitted, cells.whites, strict=True)
    ]
    return softmax(predict_crops(model.network, np.stack(images)), model.temperature)


def row(
    model: Trained, source: str, records: Sequence[CellRecord], shares: NDArray[np.float64], *, others: int = 0
) -> dict[str, Any]:
    """The figures as the paper counts: not mapped, refused, shown; and with an answer forced from every cell.

    others: cells that nobody asked about. What the model has no word for is not mapped, whether it was refused or not.
    """
    naming = np.array([name not in REFUSALS for name in model.types])
    forced = [model.types[i] for i in np.where(naming, shares, -1).argmax(axis=1)]
    sure = shares.max(axis=1) >= model.threshold
    said = [model.types[i] if ok else None for i, ok in zip(shares.argmax(axis=1), sure, strict=True)]
    goals = judged_types(source)
    truth = [taxonomy.coarsen(record.cell_type, goals) for record in records]
    can = {goal for goal in goals if any(goal in taxonomy.ancestors(name) for name in model.types)}
    kept = [i for i, goal in enumerate(truth) if goal in can]
    mapped = map_predictions(
        [str(truth[i]) for i in kept], [said[i] for i in kept],
        truth_types=set(taxonomy.SCHEMES[SCHEMES[source]].types) - REFUSALS, predicted_types=model.types,
    )  # fmt: skip
    places = [kept[i] for i in mapped.shown]
    of_shown = _figures([str(truth[i]) for i in places], [str(said[i]) for i in places], goals)
    of_all = _figures([str(truth[i]) for i in kept], [forced[i] for i in kept], goals)
    return {
        "trained": list(model.sources), "tested": source, "cells": len(records) + others,
        "not_mapped": len(records) - len(kept) + others, "refused": mapped.refused_cells, "shown": len(mapped.shown),
        "threshold": model.threshold, "of_shown": of_shown, "of_all": of_all,
        "unmapped_predictions": dict(mapped.unmapped_predictions),
    }  # fmt: skip


def _figures(truth: Sequence[str], said: Sequence[str], goals: Sequence[str]) -> dict[str, Any]:
    """Strict and tolerant; an answer in finer words than the goals counts as its goal."""
    names = [taxonomy.coarsen(name, goals) or name for name in said]
    found = evaluate(truth, names, labels=goals)
    return {
        "accuracy": found["accuracy"], "tolerant_accuracy": found["tolerant_accuracy"],
        "macro_f1": found["macro"]["f1"], "tolerant_macro_f1": found["macro"]["tolerant_f1"],
        "recall": {name: one["recall"] for name, one in found["classes"].items() if one["support"]},
        "support": {name: one["support"] for name, one in found["classes"].items()},
    }  # fmt: skip


if __name__ == "__main__":
    main()
