"""Chula: types and boxes of white cells on samples that the detector never saw, over four folds of whole samples.

    python benchmarks/folds.py --chula chula_wbc_fields --data bccd_fields --data txl_pbc_fields --data pbc_boxed \
        --data synthetic_blood --start runs/blood-base/blood-base.safetensors -o runs/folds [--soft-sampling background]

Each fold trains the recipe `blood` on the samples of the other folds and on the other sources' training part, starting
from a detector that saw no Chula field. Prints figures per fold, pooled by type and by sample, and writes folds.json.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from myelos import models
from myelos.datasets.layouts import read_fields, read_sets
from myelos.datasets.records import FieldRecord
from myelos.datasets.splits import folds, split
from myelos.detection.prepare import prepare
from myelos.metrics.detection import evaluate
from myelos.training.detector import DetectorRecipe, read_recipe, train_parts
from myelos.training.fields import read_rgb, scale_key, scales

Prediction = tuple[np.ndarray, np.ndarray, list[str]]


def main() -> None:
    arguments = _arguments()
    out = Path(arguments.out)
    chula, _ = read_fields(Path(arguments.chula))
    others, _ = read_sets([Path(folder) for folder in arguments.data])
    recipe = _recipe(arguments)
    base = {name: [others[i] for i in part] for name, part in split(others, fractions=recipe.parts).items()}
    pooled: list[tuple[FieldRecord, Prediction]] = []
    for number, test in enumerate(folds(chula, 4)):
        if arguments.fold is not None and number != arguments.fold:
            continue
        pooled += _fold(number, [chula[i] for i in test], chula, base, recipe, arguments.start, out)
        _print(f"fold {number}", pooled[-len(test) :])
    result = _summary(pooled)
    (out / "folds.json").write_text(json.dumps(result, indent=2))
    _print("pooled", pooled)
    for sample, figures in result["samples"].items():
        print(f"sample {sample}: {figures['fields']} fields, right type {figures['right']} of {figures['matched']}")
    print(json.dumps(result["pooled"]["types"]["confusion"], indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chula", required=True)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--start")
    parser.add_argument("-o", "--out", required=True)
    parser.add_argument("--fold", type=int, help="only this one")
    parser.add_argument("--soft-sampling", choices=["off", "box", "background"])
    parser.add_argument("--canvases", type=int)
    return parser.parse_args()


def _recipe(arguments: argparse.Namespace) -> DetectorRecipe:
    recipe = read_recipe("blood")
    training = recipe.training
    if arguments.soft_sampling:
        training = replace(training, architecture=replace(training.architecture, soft_sampling=arguments.soft_sampling))
    if arguments.canvases:
        training = replace(training, canvases=arguments.canvases)
    return replace(recipe, training=training)


def _fold(
    number: int,
    test: list[FieldRecord],
    chula: Sequence[FieldRecord],
    base: dict[str, list[FieldRecord]],
    recipe: DetectorRecipe,
    start: str | None,
    out: Path,
) -> list[tuple[FieldRecord, Prediction]]:
    held = {record.path for record in test}
    assert not {r.group for r in test} & {r.group for r in chula if r.path not in held}
    parts = base | {"train": base["train"] + [r for r in chula if r.path not in held], "test": test}
    folder = out / f"fold{number}"
    path = folder / f"{recipe.name}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        train_parts(parts, folder, recipe=recipe, start=start, progress=_tell)
    return list(zip(test, predictions(models.load(path), test), strict=True))


def predictions(detector: models.Detector, records: Sequence[FieldRecord]) -> list[Prediction]:
    """What a model file says of annotated fields, in their own pixels."""
    known = scales(records)
    result = []
    for record in records:
        factor = known.get(scale_key(record), detector.mpp) / detector.mpp
        (boxes,) = detector([prepare(read_rgb(record.path), factor=factor)])
        result.append((boxes.xywh / factor, boxes.scores, [detector.types[i] for i in boxes.types]))
    return result


def _tell(stage: str, values: dict[str, Any]) -> None:
    if stage == "training" and values["step"] % 100 == 0:
        print(f"  step {values['step']} of {values['steps']}, loss {values['loss']:.3f}", flush=True)


def _evaluate(pooled: Sequence[tuple[FieldRecord, Prediction]], threshold: float = 0.3) -> dict[str, Any]:
    return evaluate([r.truth() for r, _ in pooled], [p for _, p in pooled], threshold=threshold)


def _summary(pooled: Sequence[tuple[FieldRecord, Prediction]]) -> dict[str, Any]:
    samples = defaultdict(list)
    for record, prediction in pooled:
        samples[record.group].append((record, prediction))
    rows = {}
    for name, own in sorted(samples.items(), key=lambda item: str(item[0])):
        types = _evaluate(own)["types"]
        right = round((types["accuracy"] or 0) * types["matched"])
        rows[name] = {"fields": len(own), "matched": types["matched"], "right": right, "confusion": types["confusion"]}
    return {"pooled": _evaluate(pooled), "samples": rows}


def _print(title: str, pooled: Sequence[tuple[FieldRecord, Prediction]]) -> None:
    result = _evaluate(pooled)
    cells, types = result["any_cell"], result["types"]
    print(
        f"{title}: {result['images']} fields, {result['boxes']} boxes, AP50 {cells['ap50']:.3f}, "
        f"AP {cells['ap']:.3f}; right type {types['accuracy']:.3f} of {types['matched']} matched",
        flush=True,
    )
    for name, figures in types["by_type"].items():
        print(f"   {name}: support {figures['support']}, recall {figures['recall']}, precision {figures['precision']}")


if __name__ == "__main__":
    main()
