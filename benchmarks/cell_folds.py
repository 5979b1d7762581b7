"""Chula: the five types of white cells on samples that the classifier never saw, over four folds of whole samples.

    python -m benchmarks.cell_folds --pbc pbc_dib_cells --chula chula_wbc_fields -o runs/cell-folds [--threads 1]

Trains `cells-blood` on PBC alone ("without"), and from there once for each fold with the boxes of the other samples
("with"). Prints, pooled over the folds, macro F1, recall, precision and support by type and by sample, and writes
cell_folds.json with every probability. What is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from myelos import taxonomy
from myelos.classification.evaluate import figures, predictions
from myelos.classification.opinion import adopt
from myelos.datasets.cell_splits import split_cells
from myelos.datasets.cells import CellRecord, cells_of_fields, read_cells
from myelos.datasets.layouts import read_fields
from myelos.datasets.records import FieldRecord
from myelos.datasets.splits import folds
from myelos.metrics.matching import match
from myelos.models import load_classifier
from myelos.training.cell_recipe import ClassifierRecipe, read_classifier_recipe
from myelos.training.classifier import train_cells

WORKING = 0.5  # score from which a box of the detector counts as found
Parts = dict[str, list[CellRecord]]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    fields, _ = read_fields(Path(arguments.chula))
    cells, _ = read_cells(Path(arguments.pbc), scheme="pbc13")
    recipe = read_classifier_recipe("cells-blood")
    chosen = split_cells(cells, fractions=recipe.parts, seed=recipe.split_seed)
    base: Parts = {name: [cells[i] for i in indices] for name, indices in chosen.items()}
    recipe = replace(recipe, whole=(), training=replace(recipe.training, epochs=arguments.epochs))
    without = _trained("without", base, recipe, out, start=arguments.start)
    answers: dict[str, dict[str, list[list[float]]]] = {"without": {}, "with": {}}
    records: list[CellRecord] = []
    tuned = replace(recipe, training=replace(recipe.training, epochs=arguments.tune, rate=1e-3, early=0.0))
    for number, part in enumerate(folds(fields, 4)):
        test = [fields[i] for i in part]
        rest = [field for i, field in enumerate(fields) if i not in set(part)]
        assert not {field.group for field in test} & {field.group for field in rest}
        learned = base | {"train": base["train"] + cells_of_fields(rest)}
        model = _trained(f"fold{number}", learned, tuned, out, start=without)
        boxes = cells_of_fields(test)
        records += boxes
        for name, path in (("without", without), ("with", model)):
            found, kept, _ = predictions(boxes, load_classifier(path), mpp=recipe.scales["chula_wbc_fields"])
            assert len(kept) == len(boxes)
            answers[name][str(number)] = found.tolist()
    _report(records, answers, recipe.types, out)
    if arguments.detected:
        _in_the_count(fields, arguments.detected, out, recipe)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pbc", required=True)
    parser.add_argument("--chula", required=True)
    parser.add_argument("-o", "--out", required=True)
    parser.add_argument("--detected", type=Path, help="folder of benchmarks/folds.py: the same samples, as detected")
    parser.add_argument("--start", type=Path, help="a classifier that saw no field of Chula, to begin with")
    parser.add_argument("--epochs", type=float, default=30)
    parser.add_argument("--tune", type=float, default=8)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def _trained(name: str, parts: Parts, recipe: ClassifierRecipe, out: Path, *, start: Path | None) -> Path:
    path = out / name / f"{name}.safetensors"
    if not (out / name / "run.json").exists():
        train_cells(parts, out / name, recipe=replace(recipe, name=name), start=start, progress=_tell)
    return path


def _tell(stage: str, values: Mapping[str, Any]) -> None:
    if values.get("step", 0) % 100 == 0:
        print(stage, dict(values), flush=True)


def _report(
    records: Sequence[CellRecord],
    answers: Mapping[str, Mapping[str, list[list[float]]]],
    types: Sequence[str],
    out: Path,
) -> None:
    content: dict[str, Any] = {"types": list(types), "cells": [
        {"file": r.path.name, "sample": r.group, "type": r.cell_type, "box": r.box} for r in records
    ]}  # fmt: skip
    for name, by_fold in answers.items():
        found = np.concatenate([np.array(rows, np.float32).reshape(-1, len(types)) for rows in by_fold.values()])
        result = figures(records, found, types, scheme="wbc5")
        content[name] = {"figures": result, "probabilities": found.tolist()}
        print(f"\n{name} the boxes of Chula: {result['images']} cells, accuracy {result['accuracy']:.3f}, "
              f"macro F1 {result['macro_f1']:.3f}")  # fmt: skip
        for kind, row in result["classes"].items():
            print(f"  {kind:12} {row['support']:4} recall {row['recall']} precision {row['precision']}")
        said = [row[:-1] for row in result["confusion"]["matrix"]]
        print("  " + " | ".join(map(str, said)))
        _by_sample(records, found, types)
    (out / "cell_folds.json").write_text(json.dumps(content))


def _in_the_count(fields: Sequence[FieldRecord], detected: Path, out: Path, recipe: ClassifierRecipe) -> None:
    """What the rule of the count makes of the boxes that detectors found on samples that neither model saw."""
    mpp = recipe.scales["chula_wbc_fields"]
    rows: list[tuple[str, str, str, float, str]] = []
    for number, part in enumerate(folds(fields, 4)):
        found = json.loads((detected / f"fold{number}.json").read_text())
        classifier = load_classifier(out / f"fold{number}" / f"fold{number}.safetensors")
        for record in (fields[i] for i in part):
            boxes, scores, types = (np.array(column) for column in found[record.path.name])
            kept = scores >= WORKING if len(scores) else np.zeros(0, bool)
            boxes, scores, types = boxes.reshape(-1, 4)[kept], scores[kept], types[kept]
            truth = match(record.boxes, boxes, scores).truth
            pairs = [(record.types[t], p) for p, t in enumerate(truth) if t >= 0 and record.types[t]]
            cells = [CellRecord(record.path, str(k), record.source, box=tuple(map(float, boxes[p]))) for k, p in pairs]
            shares, _, _ = predictions(cells, classifier, mpp=mpp)
            for (kind, p), row in zip(pairs, shares, strict=True):
                sure = bool(row.max() >= classifier.threshold)
                chosen = adopt(str(types[p]), 1.0, classifier.types, row, classifier.threshold, decides=sure)
                rows.append(
                    (str(kind), str(types[p]), classifier.types[int(row.argmax())], float(row.max()), chosen.cell_type)
                )
    for name, column in (("detector", 1), ("classifier", 2), ("a sure classifier overrules", 4)):
        right = sum(row[0] in taxonomy.ancestors(str(row[column])) for row in rows)
        print(f"{name}: {right} of {len(rows)} detected cells right ({right / len(rows):.3f})")
    (out / "in_the_count.json").write_text(json.dumps(rows))


def _by_sample(records: Sequence[CellRecord], found: np.ndarray, types: Sequence[str]) -> None:
    right, every = Counter[str](), Counter[str]()
    for record, shares in zip(records, found, strict=True):
        every[str(record.group)] += 1
        right[str(record.group)] += record.cell_type in taxonomy.ancestors(types[int(shares.argmax())])
    print("  by sample: " + ", ".join(f"{s} {right[s]}/{n}" for s, n in sorted(every.items())))


if __name__ == "__main__":
    main()
