"""Chula: boxes and types of white cells on samples that the detector never saw, over four folds of whole samples.

    python -m benchmarks.folds --chula chula_wbc_fields --data bccd_fields --data txl_pbc_fields --data pbc_boxed \
        --data synthetic_blood --start runs/blood-base/blood-base.safetensors -o runs/folds [--soft-sampling background]

Each fold trains the recipe `blood` on the samples of the other folds and on the training part of the other sources,
starting from a detector that saw no Chula field. Prints figures per fold, pooled by type and by sample, and writes
folds.json with every prediction. `--completed FILE` adds white cells that the annotation left out (see
benchmarks/chula_completed.csv) and quotes the figures on both. With `--fold N` one fold runs and its predictions are
kept, so that two processes can share the work; the call without it pools what is there.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from myelos import models
from myelos.datasets.layouts import read_fields, read_sets
from myelos.datasets.records import FieldRecord
from myelos.datasets.splits import folds, split
from myelos.metrics.detection import evaluate
from myelos.training.detector_recipe import DetectorRecipe, read_recipe
from myelos.training.fields import Field, load, scales
from myelos.training.loop import predict, train

WORKING = 0.5  # score from which a box counts as found where types are compared
Truth = tuple[np.ndarray, tuple[str | None, ...]]
Prediction = tuple[np.ndarray, np.ndarray, list[str]]


def main() -> None:
    arguments = _arguments()
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    chula, _ = read_fields(Path(arguments.chula))
    parts = folds(chula, 4)
    missing = [n for n in arguments.fold or range(4) if not (out / f"fold{n}.json").exists()]
    if missing:
        _run(missing, chula, parts, arguments, out)
    done = [n for n in range(4) if (out / f"fold{n}.json").exists()]
    found = {name: p for n in done for name, p in json.loads((out / f"fold{n}.json").read_text()).items()}
    _summarise([record for record in chula if record.path.name in found], found, parts, chula, out, arguments.completed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chula", required=True)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--start")
    parser.add_argument("-o", "--out", required=True)
    parser.add_argument("--fold", type=int, action="append", help="only this one (may be repeated)")
    parser.add_argument("--soft-sampling", choices=["off", "box", "background"])
    parser.add_argument("--canvases", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--completed", type=Path)
    return parser.parse_args()


def _recipe(arguments: argparse.Namespace) -> DetectorRecipe:
    recipe = read_recipe("blood")
    training = recipe.training
    if arguments.soft_sampling:
        training = replace(training, architecture=replace(training.architecture, soft_sampling=arguments.soft_sampling))
    if arguments.canvases:
        training = replace(training, canvases=arguments.canvases)
    return replace(recipe, training=training)


def _run(
    numbers: Sequence[int],
    chula: Sequence[FieldRecord],
    parts: Sequence[Sequence[int]],
    arguments: argparse.Namespace,
    out: Path,
) -> None:
    """Prepare all fields once, then train and test the folds of `numbers`."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    recipe = _recipe(arguments)
    others, _ = read_sets([Path(folder) for folder in arguments.data])
    base = [
        others[i] for i in split(others, fractions=recipe.parts, seed=recipe.split_seed, rule=recipe.split)["train"]
    ]
    known = scales([*base, *chula], recipe.scales)
    base_fields = load(base, types=recipe.types, mpp=recipe.mpp, known=known, appearance=recipe.appearance)
    chula_fields = load(chula, types=recipe.types, mpp=recipe.mpp, known=known, appearance=recipe.appearance)
    start = (
        {k: torch.from_numpy(v) for k, v in models.tensors(Path(arguments.start)).items()} if arguments.start else None
    )
    for number in numbers:
        test = set(parts[number])
        assert not {chula[i].group for i in test} & {r.group for i, r in enumerate(chula) if i not in test}
        learned = base_fields + [field for i, field in enumerate(chula_fields) if i not in test]
        network = train(
            learned,
            types=recipe.types,
            settings=recipe.training,
            out=out / f"fold{number}",
            weights=dict(recipe.weights),
            start=start,
            report=_tell,
        )
        found = {chula_fields[i].name: _predict(network, chula_fields[i], recipe.types) for i in sorted(test)}
        (out / f"fold{number}.json").write_text(json.dumps(found))


def _predict(network: Any, field: Field, types: Sequence[str]) -> list[Any]:
    boxes = predict(network, field.image)
    return [(boxes.xywh / field.factor).tolist(), boxes.scores.tolist(), [types[i] for i in boxes.types]]


def _tell(values: dict[str, Any]) -> None:
    if values["step"] % 100 == 0:
        print(f"  step {values['step']} of {values['steps']}, loss {values['loss']:.3f}", flush=True)


def _summarise(
    records: Sequence[FieldRecord],
    found: dict[str, Any],
    parts: Sequence[Sequence[int]],
    chula: Sequence[FieldRecord],
    out: Path,
    completed: Path | None,
) -> None:
    extra = _completed(completed)
    for number, part in enumerate(parts):
        own = [chula[i] for i in part if chula[i].path.name in found]
        if own:
            _print(f"fold {number}, samples {', '.join(sorted({str(r.group) for r in own}))}", _figures(own, found, {}))
    pooled = _figures(records, found, {})
    _print("pooled", pooled)
    result: dict[str, Any] = {"pooled": pooled, "samples": _by_sample(records, found)}
    if extra:
        result["completed"] = _figures(records, found, extra)
        _print(
            f"pooled, with {sum(map(len, extra.values()))} white cells added that nobody had boxed", result["completed"]
        )
    for sample, row in result["samples"].items():
        print(f"sample {sample}: {row['fields']} fields, {row['right']} of {row['matched']} right, {row['confusion']}")
    (out / "folds.json").write_text(json.dumps(result, indent=2))


def _completed(path: Path | None) -> dict[str, list[list[float]]]:
    """Image → boxes x y width height of white cells without annotation."""
    boxes: dict[str, list[list[float]]] = defaultdict(list)
    if path:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                boxes[row["file"]].append([float(row[key]) for key in ("x", "y", "width", "height")])
    return boxes


def _figures(
    records: Sequence[FieldRecord], found: dict[str, Any], extra: dict[str, list[list[float]]]
) -> dict[str, Any]:
    truth: list[Truth] = []
    for record in records:
        boxes, types = record.truth()
        more = np.array(extra.get(record.path.name, []), float).reshape(-1, 4)
        truth.append((np.concatenate([boxes, more]), types + ("leukocyte",) * len(more)))
    predictions = [
        (np.array(b, float).reshape(-1, 4), np.array(s), t) for b, s, t in (found[r.path.name] for r in records)
    ]
    return evaluate(truth, predictions, threshold=WORKING)


def _by_sample(records: Sequence[FieldRecord], found: dict[str, Any]) -> dict[str, Any]:
    rows = {}
    for sample in sorted({str(record.group) for record in records}):
        own = [record for record in records if str(record.group) == sample]
        types = _figures(own, found, {})["types"]
        right = round((types["accuracy"] or 0) * types["matched"])
        rows[sample] = {
            "fields": len(own), "matched": types["matched"], "right": right, "confusion": types["confusion"]
        }  # fmt: skip
    return rows


def _print(title: str, result: dict[str, Any]) -> None:
    cells, types = result["any_cell"], result["types"]
    print(
        f"{title}: {result['images']} fields, {result['boxes']} boxes, AP50 {cells['ap50']:.3f}, AP {cells['ap']:.3f}, "
        f"precision {cells['precision']:.3f}, recall {cells['recall']:.3f}; right type "
        f"{types['accuracy']:.3f} of {types['matched']} matched",
        flush=True,
    )
    for name, figures in types["by_type"].items():
        recall, precision = (figures[key] for key in ("recall", "precision"))
        shown = [f"{value:.2f}" if value is not None else "–" for value in (recall, precision)]
        print(f"   {name}: support {figures['support']}, recall {shown[0]}, precision {shown[1]}")


if __name__ == "__main__":
    main()
