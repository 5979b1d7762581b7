"""What a step before or in the training of a detector brings: one thing is changed at a time, the rest stays.

    python -m benchmarks.ablation appearance --chula chula_wbc_fields --bccd bccd_fields -o runs/ablation
    python -m benchmarks.ablation soft-sampling --chula chula_wbc_fields --bccd bccd_fields --hide 0.4 -o runs/x

Every variant trains the light detector from nothing on BCCD (training part) and on the Chula samples of three folds,
and is tested on the BCCD test part and on the Chula samples of the first fold. `appearance` leaves out the flat field,
the white point or the common scale, in training and in testing alike. `soft-sampling` compares the readings of
equations 14 and 15; `--hide` takes that share of the training boxes away at random, as labels that nobody drew.
Short trainings with one seed: differences of a hundredth say nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from myelos.datasets.layouts import read_fields
from myelos.datasets.records import FieldRecord
from myelos.datasets.splits import folds, split
from myelos.imaging.appearance import AppearanceSettings
from myelos.metrics.detection import evaluate
from myelos.networks.cascade import CascadeSettings
from myelos.training.fields import Field, load, scale_key, scales
from myelos.training.loop import TrainingSettings, predict, train

TYPES = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte")
MPP = 0.25


@dataclass(frozen=True)
class Variant:
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    common_scale: bool = True
    soft_sampling: str = "off"


VARIANTS: dict[str, dict[str, Variant]] = {
    "appearance": {
        "all steps": Variant(),
        "no flat field": Variant(AppearanceSettings(flat_field=False)),
        "no white point": Variant(AppearanceSettings(white_point=False)),
        "neither": Variant(AppearanceSettings(flat_field=False, white_point=False)),
        "no common scale": Variant(common_scale=False),
    },
    "soft-sampling": {name: Variant(soft_sampling=name) for name in ("off", "box", "background")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=VARIANTS)
    parser.add_argument("--chula", type=Path, required=True)
    parser.add_argument("--bccd", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--hide", type=float, default=0.0, help="share of training boxes taken away")
    parser.add_argument("--canvases", type=int, default=2000)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    learned, tested = _parts(arguments.chula, arguments.bccd)
    known = scales([*learned, *(record for part in tested.values() for record in part)])
    rows = {}
    for name, variant in VARIANTS[arguments.what].items():
        folder = arguments.out / f"{arguments.what}-{arguments.hide}-{name.replace(' ', '-')}"
        rows[name] = _run(variant, learned, tested, known, folder, arguments)
        print(
            f"{name:16}",
            "  ".join(f"{s} {f['ap50']:.3f} (AP {f['ap']:.3f})" for s, f in rows[name].items()),
            flush=True,
        )
    (arguments.out / f"{arguments.what}-{arguments.hide}.json").write_text(json.dumps(rows, indent=1))


def _parts(chula: Path, bccd: Path) -> tuple[list[FieldRecord], dict[str, list[FieldRecord]]]:
    """Records to learn from, and those to test on by source; samples and near-duplicates are on one side."""
    samples, fields = read_fields(chula)[0], read_fields(bccd)[0]
    held = set(folds(samples, 4)[0])
    parts = split(fields, fractions={"train": 0.75, "test": 0.25}, rule="filled")
    learned = [r for i, r in enumerate(samples) if i not in held] + [fields[i] for i in parts["train"]]
    return learned, {"Chula": [samples[i] for i in sorted(held)], "BCCD": [fields[i] for i in parts["test"]]}


def _run(
    variant: Variant,
    learned: Sequence[FieldRecord],
    tested: Mapping[str, Sequence[FieldRecord]],
    known: Mapping[Any, float],
    folder: Path,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    # Without a common scale every source is shrunk by the same factor, so that the images stay of a usable size.
    scale = known if variant.common_scale else {scale_key(r): 0.1 for part in (learned, *tested.values()) for r in part}
    prepare = {"types": TYPES, "mpp": MPP, "known": scale, "appearance": variant.appearance}
    rng = np.random.default_rng(0)
    fields = [_hidden(one, arguments.hide, rng) for one in load(learned, **prepare)]
    settings = TrainingSettings(
        canvases=arguments.canvases,
        step=1e9,
        architecture=replace(CascadeSettings(), soft_sampling=variant.soft_sampling),
    )
    network = train(fields, types=TYPES, settings=settings, out=folder)
    result = {}
    for source, records in tested.items():
        found = []
        for one in load(records, **prepare):
            boxes = predict(network, one.image)
            found.append((boxes.xywh / one.factor, boxes.scores, [TYPES[i] for i in boxes.types]))
        result[source] = evaluate([record.truth() for record in records], found, threshold=0.5)["any_cell"]
    return result


def _hidden(one: Field, share: float, rng: np.random.Generator) -> Field:
    """The field with each box taken away with the probability `share`: the cell stays, its label is gone."""
    kept = rng.random(len(one.boxes)) >= share
    return replace(one, boxes=one.boxes[kept], allowed=one.allowed[kept])


if __name__ == "__main__":
    main()
