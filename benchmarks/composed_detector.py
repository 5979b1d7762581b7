"""Detectors that saw no annotated field beside one that did, on the same real fields: the table of docs/composed.md.

    python -m benchmarks.composed_detector --data ../shared/data --real runs/blood --folds runs/folds \
        --model composed=runs/composed/composed.safetensors --model rendered=runs/rendered/rendered.safetensors

White cells of BCCD, of TXL-PBC without its PBC images, and of Chula with its five classes. The fields of the first two
are those that `--real`, the training of the shipped `blood`, kept for testing; it learned from all of Chula, so its
figures there come from the predictions of four folds of whole samples (`benchmarks/folds.py`). Prints the table and
writes composed_detector.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from myelos import models
from myelos.datasets.layouts import read_fields
from myelos.datasets.records import FieldRecord
from myelos.detection.evaluate import evaluate_records
from myelos.metrics.detection import evaluate
from myelos.tables import read_run

REAL = "real fields"
SETS = ("bccd_fields", "txl_pbc_fields", "chula_wbc_fields")
KINDS = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte")
WORKING = 0.5  # score from which types are compared in the folds


def fields_of(data: Path, real: Path) -> dict[str, list[FieldRecord]]:
    """The fields of each set that every detector is tested on."""
    kept = set(read_run(real)["parts"]["test"])
    found = {name: read_fields(data / name)[0] for name in SETS}
    bccd = [record for record in found[SETS[0]] if record.path.name in kept]
    txl = [r for r in found[SETS[1]] if r.path.name in kept and not r.source.endswith("/PBC")]
    return {SETS[0]: bccd, SETS[1]: txl, SETS[2]: found[SETS[2]]}


def of_folds(records: Sequence[FieldRecord], folds: Path) -> dict[str, Any]:
    """Figures of predictions that were made on samples not trained on."""
    found: dict[str, Any] = {}
    for number in range(4):
        found |= json.loads((folds / f"fold{number}.json").read_text())
    rows = [found[record.path.name] for record in records]
    predictions = [(np.array(b, float).reshape(-1, 4), np.array(s), t) for b, s, t in rows]
    return evaluate([record.truth() for record in records], predictions, threshold=WORKING)


def of_model(name: str, fields: Mapping[str, Sequence[FieldRecord]], threads: int) -> dict[str, Any]:
    detector = models.load(name, threads=threads)
    result = {}
    for source, records in fields.items():
        result[source] = evaluate_records(records, detector, threads=threads)
        print(f"{name}: {source}, AP50 {result[source]['any_cell']['ap50']:.3f}", flush=True)
    return result


def lines(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table, a column for each detector."""
    names = list(results)
    rows = [["AP50 of white cells", *names], ["---"] + ["---:"] * len(names)]
    for source in SETS:
        first = results[names[0]][source]
        cells = [f"{results[name][source]['any_cell']['ap50']:.3f}" for name in names]
        rows.append([f"{source}, {first['images']} fields, {first['any_cell']['boxes']} white cells", *cells])
    chula = [results[name][SETS[2]] for name in names]
    for kind in KINDS:
        boxes, found = chula[0]["classes"][kind]["boxes"], [one["classes"].get(kind) for one in chula]
        rows.append([f"– of these {kind}, {boxes}", *("–" if f is None else f"{f['ap50']:.3f}" for f in found)])
    types = [one["types"] for one in chula]
    rows.append(["Chula, right type of the matched", *(f"{t['accuracy']:.3f} of {t['matched']}" for t in types)])
    for kind in KINDS:
        found = [t["by_type"].get(kind, {}) for t in types]
        rows.append(
            [f"– {kind}, recall (precision)", *(f"{_said(f, 'recall')} ({_said(f, 'precision')})" for f in found)]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def _said(figures: Mapping[str, Any], name: str) -> str:
    value = figures.get(name)
    return "–" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--folds", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("-o", "--out", type=Path, default=Path("composed_detector.json"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    fields = fields_of(given.data, given.real)
    results: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    for pair in given.model:
        name, _, file = pair.partition("=")
        if name not in results:
            results[name] = of_model(file, fields, given.threads)
            given.out.write_text(json.dumps(results))
    if REAL not in results:
        seen = {name: fields[name] for name in SETS[:2]}
        results[REAL] = of_model("blood", seen, given.threads) | {SETS[2]: of_folds(fields[SETS[2]], given.folds)}
        given.out.write_text(json.dumps(results))
    print("\n".join(lines(results)))


if __name__ == "__main__":
    main()
