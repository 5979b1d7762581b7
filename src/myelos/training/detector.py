"""The recipe of the cell detector: folders of annotated fields in, a model file with its card and graph out.

Near-duplicates, samples and patients stay on one side of the split: `train` is learned from, on `choose` the working
threshold is chosen, `test` is what the card quotes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from myelos import __version__
from myelos.datasets.layouts import read_sets
from myelos.datasets.records import Fault, FieldRecord
from myelos.detection.prepare import scale_key
from myelos.detection.run import worker_threads
from myelos.errors import LabelError
from myelos.metrics.detection import evaluate
from myelos.models.files import ModelCard, read_card, sha256
from myelos.networks.cascade import CascadeRCNN
from myelos.networks.export import export_onnx
from myelos.tables import write_json, write_run
from myelos.training.card import card_text, draw_curve, list_faults
from myelos.training.checkpoints import earlier_weights, prepare_training
from myelos.training.detector_recipe import DetectorRecipe, known_scheme
from myelos.training.fields import Field, counts_as_cell, load, scales
from myelos.training.loop import TrainingSettings, predict, train
from myelos.training.parts import parts_of, unseen
from myelos.training.trained import Progress, Trained, count_steps, in_half_precision, metadata_of, write_files


def train_detector(
    data: Sequence[Path],
    out: Path,
    *,
    recipe: DetectorRecipe | None = None,
    start: str | Path | None = None,
    pretrained: Path | None = None,
    test: Sequence[Path] = (),
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train a detector on annotated folders and write `<out>/<name>.safetensors`, `.onnx`, curves and `run.json`.

    start: an earlier detector to begin with. pretrained: ImageNet weights of the backbone, safetensors. test: folders
    kept out of everything but the quoted figures (then no test part is split off). threads: of PyTorch, for the whole
    process; all cores where None. A killed training goes on where its last checkpoint is when the same command is given
    again. overwrite: replace a finished training, or one that was killed and had other settings or data.
    Raises LabelError where nothing can be learned from the labels, ResultError for a finished `out` and for the
    checkpoint of another training.
    """
    recipe = recipe or DetectorRecipe()
    known_scheme(recipe.scheme)
    if threads is not None:
        torch.set_num_threads(worker_threads(threads))
    prepare_training(out, overwrite=overwrite)
    records, faults = read_sets(data)
    list_faults(out, faults)
    if progress:
        progress("labels", {"images": len(records), "faults": len(faults)})
    parts = unseen(parts_of(records, recipe, test), start)
    return train_parts(
        parts,
        out,
        recipe=recipe,
        start=start,
        pretrained=pretrained,
        faults=faults,
        anew=overwrite,
        progress=progress,
    )


def train_parts(
    parts: Mapping[str, Sequence[FieldRecord]],
    out: Path,
    *,
    recipe: DetectorRecipe,
    start: str | Path | None = None,
    pretrained: Path | None = None,
    faults: Sequence[Fault] = (),
    anew: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """`train_detector` on a split made elsewhere: records for `train`, `choose` and `test`; anew: see `loop.train`."""
    tell = progress or (lambda _stage, _values: None)
    known = scales([record for part in parts.values() for record in part], recipe.scales)
    prepared = {}
    for name, part in parts.items():
        step = partial(count_steps, tell, f"reading {name}")
        prepared[name] = load(
            part, types=recipe.types, mpp=recipe.mpp, known=known, appearance=recipe.appearance, progress=step
        )
    if not sum(len(f.boxes) for f in prepared["train"]):
        raise LabelError(
            "nothing to learn from", why="no field has a box of a cell", remedy=f"See {out / 'faults.txt'}"
        )
    recipe = replace(recipe, training=recipe.training.over(len(prepared["train"])))
    network = train(
        prepared["train"],
        types=recipe.types,
        settings=recipe.training,
        out=out,
        weights=dict(recipe.weights),
        start=earlier_weights(start),
        pretrained=pretrained,
        anew=anew,
        report=lambda values: tell("training", values),
    )
    draw_curve(out / "curve.csv", out / "curve.png")
    return _finish(network, recipe, parts, prepared, out, tuple(faults))


def _finish(
    network: CascadeRCNN,
    recipe: DetectorRecipe,
    parts: Mapping[str, Sequence[FieldRecord]],
    prepared: Mapping[str, Sequence[Field]],
    out: Path,
    faults: tuple[Fault, ...],
) -> Trained:
    threshold = best_threshold(network, parts["choose"], prepared["choose"], recipe.types)
    metrics = {
        source: _figures(network, recipe.types, threshold, *_of(source, parts["test"], prepared["test"]))
        for source in sorted({record.source for record in parts["test"]})
    }
    card = ModelCard(
        name=recipe.name,
        kind="detector",
        specimen=recipe.specimen,
        architecture=asdict(recipe.training.architecture),
        types=recipe.types,
        scheme=recipe.scheme,
        mpp=recipe.mpp,
        tile=recipe.tile,
        threshold=threshold,
        normalisation=asdict(recipe.appearance),
        data=tuple(_sources(parts["train"], recipe)),
        training=_plain(recipe.training) | {"split": recipe.split, "split_seed": recipe.split_seed},
        metrics=metrics,
        text="",
        synthetic_only=recipe.synthetic,
        version=__version__,
    )
    card = replace(card, text=card_text(card, recipe.remarks))
    path = write_model(network, card, out)
    write_json(out / "card.json", {k: v for k, v in asdict(card).items() if k != "path"})
    write_run(
        out,
        {
            "command": "train detector",
            "version": __version__,
            "model": path.name,
            "sha256": sha256(path),
            "faults": len(faults),
            "parts": {name: [record.path.name for record in part] for name, part in parts.items()},
            "scales": {"/".join(map(str, scale_key(r))): f.factor * recipe.mpp
                       for part in parts for r, f in zip(parts[part], prepared[part], strict=True)},
        },
    )  # fmt: skip
    return Trained(path, read_card(path), faults)


def write_model(network: CascadeRCNN, card: ModelCard, out: Path) -> Path:
    """The network as files, the graph from the very numbers of the weights' file."""
    in_half_precision(network)
    metadata = metadata_of(card) | {"normalisation": dict(card.normalisation)}
    metadata |= {"mean_bgr": list(network.settings.mean_bgr)}
    return write_files(network, export_onnx(network, metadata), card, out)


def _predictions(
    network: CascadeRCNN, prepared: Sequence[Field], types: Sequence[str]
) -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Per field: boxes (N, 4) in the field's own pixels, scores and names of types."""
    result = []
    for one in prepared:
        boxes = predict(network, one.image)
        result.append((boxes.xywh / one.factor, boxes.scores, [types[i] for i in boxes.types]))
    return result


def _figures(
    network: CascadeRCNN,
    types: Sequence[str],
    threshold: float,
    records: Sequence[FieldRecord],
    prepared: Sequence[Field],
) -> dict[str, Any]:
    truth = [record.truth() for record in records]
    return evaluate(truth, _predictions(network, prepared, types), threshold=threshold)


def best_threshold(
    network: CascadeRCNN, records: Sequence[FieldRecord], prepared: Sequence[Field], types: Sequence[str]
) -> float:
    """The score threshold of the highest F1 of `any_cell`, in steps of 0.05."""
    truth, found = [record.truth() for record in records], _predictions(network, prepared, types)
    candidates = [round(0.1 + 0.05 * step, 2) for step in range(17)]
    return max(candidates, key=lambda t: evaluate(truth, found, threshold=t)["any_cell"]["f1"] or 0.0)


def _of(
    source: str, records: Sequence[FieldRecord], prepared: Sequence[Field]
) -> tuple[list[FieldRecord], list[Field]]:
    chosen = [i for i, record in enumerate(records) if record.source == source]
    return [records[i] for i in chosen], [prepared[i] for i in chosen]


def _sources(records: Sequence[FieldRecord], recipe: DetectorRecipe) -> list[dict[str, Any]]:
    """One row a source: fields, boxes of cells by label, and whom to credit."""
    rows = []
    for source in sorted({record.source for record in records}):
        own = [record for record in records if record.source == source]
        labels = Counter(kind or "cell" for record in own for kind in record.types if not kind or counts_as_cell(kind))
        credit = recipe.credits.get(source) or recipe.credits.get(source.split("/")[0], "")
        rows.append({"source": source, "fields": len(own), "boxes": dict(labels.most_common()), "credit": credit})
    return rows


def _plain(settings: TrainingSettings) -> dict[str, Any]:
    content = asdict(settings)
    content.pop("architecture")
    return content
