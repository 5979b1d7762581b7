"""The recipe of a classifier of single cells: labelled images in, a model file with its card and graph out.

`train` is learned from; on `choose` the temperature and the threshold for "unidentified" are chosen; `test` is what the
card quotes. Where a cell goes depends on its content alone (`datasets.cell_splits`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from myelos import __version__, taxonomy
from myelos.classification.evaluate import figures
from myelos.datasets.cell_sets import read_cell_sets
from myelos.datasets.cell_splits import PARTS, split_cells
from myelos.datasets.cells import CellRecord
from myelos.datasets.records import Fault
from myelos.detection.run import worker_threads
from myelos.errors import LabelError
from myelos.imaging.crops import views
from myelos.metrics.selective import choose_threshold, fit_temperature, softmax
from myelos.models.files import ModelCard, read_card, save, sha256
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.networks.export_cells import export_classifier
from myelos.tables import write_bytes, write_json, write_run
from myelos.training.card import draw_curve
from myelos.training.cell_card import cell_card_text
from myelos.training.cell_loop import CellTrainingSettings, predict_crops, train_network
from myelos.training.checkpoints import earlier_weights, prepare_training
from myelos.training.crops import Crop, CropSettings, load_crops, plain
from myelos.training.recipe_files import filled, recipe_content

Progress = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class ClassifierRecipe:
    """What is trained, from what, and how. A TOML file in `recipes/` states one completely.

    types: what the classifier names, in the order of its outputs; those of the labels where empty. scheme: the scheme
    whose classes the card quotes. mpp, side: of its crops. views: poses that are averaged. risk: the share of wrong
    answers that the threshold for "unidentified" allows on `choose`. scales: source → µm/px; unstated_mpp: of sources
    that neither say it nor stand there. credits: source → licence and attribution. whole: sources of which everything
    is trained on, because their figures come from folds. thinned: source → types of which only every third cell is
    learned from.
    """

    name: str = "classifier"
    specimen: str = "blood"
    scheme: str = "pbc13"
    types: tuple[str, ...] = ()
    mpp: float = 0.15
    side: int = 144
    views: int = 4
    risk: float = 0.02
    parts: Mapping[str, float] = field(default_factory=lambda: dict(PARTS))
    split_seed: int = 0
    scales: Mapping[str, float] = field(default_factory=dict)
    unstated_mpp: float | None = None
    credits: Mapping[str, str] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    thinned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: str = ""
    synthetic: bool = False
    training: CellTrainingSettings = field(default_factory=CellTrainingSettings)


@dataclass(frozen=True, slots=True)
class TrainedClassifier:
    """path: the model file; card: its card; faults: what was wrong with the images and labels."""

    path: Path
    card: ModelCard
    faults: tuple[Fault, ...]


def read_classifier_recipe(name: str | Path) -> ClassifierRecipe:
    """A recipe by the name of a shipped one or the path of a TOML file; raises UsageError for unknown settings."""
    content, path = recipe_content(name)
    training = content.pop("training", {})
    training["network"] = filled(CellNetworkSettings, training.pop("network", {}), path)
    training["augmentation"] = filled(CropSettings, training.pop("augmentation", {}), path)
    content["training"] = filled(CellTrainingSettings, training, path)
    recipe: ClassifierRecipe = filled(ClassifierRecipe, content, path)
    return recipe


def train_classifier(
    data: Sequence[Path],
    out: Path,
    *,
    recipe: ClassifierRecipe | None = None,
    start: str | Path | None = None,
    test: Sequence[Path] = (),
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> TrainedClassifier:
    """Train a classifier and write `<out>/<name>.safetensors`, `.onnx`, curves and `run.json`.

    start: an earlier classifier to begin with. test: folders kept out of everything but the quoted figures.
    A killed training goes on when the same command is given again. Raises LabelError where nothing can be learned,
    ResultError for a finished `out`.
    """
    recipe = recipe or ClassifierRecipe()
    if threads is not None:
        torch.set_num_threads(worker_threads(threads))
    prepare_training(out, overwrite=overwrite)
    records, faults = read_cell_sets(data)
    if progress:
        progress("labels", {"images": len(records), "faults": len(faults)})
    parts = _parts(records, recipe, test)
    return train_cells(parts, out, recipe=recipe, start=start, faults=faults, anew=overwrite, progress=progress)


def train_cells(
    parts: Mapping[str, Sequence[CellRecord]],
    out: Path,
    *,
    recipe: ClassifierRecipe,
    start: str | Path | None = None,
    faults: Sequence[Fault] = (),
    anew: bool = False,
    progress: Progress | None = None,
) -> TrainedClassifier:
    """`train_classifier` on a split made elsewhere: records for `train`, `choose` and `test`; anew: see `cell_loop`."""
    tell = progress or (lambda _stage, _values: None)
    recipe = replace(recipe, types=recipe.types or _types_of(parts["train"]))
    crops = {name: _crops(part, recipe, partial(_count_steps, tell, f"reading {name}")) for name, part in parts.items()}
    if not crops["train"]:
        raise LabelError("nothing to learn from", why="no cell has one of the types", remedy="See --types")
    network = train_network(
        crops["train"],
        types=len(recipe.types),
        side=recipe.side,
        settings=recipe.training,
        out=out,
        start=earlier_weights(start),
        anew=anew,
        report=lambda values: tell("training", values),
    )
    draw_curve(out / "curve.csv", out / "curve.png")
    card = judged(network, parts, crops, recipe)
    path = write_classifier(network, card, out)
    write_json(out / "card.json", {k: v for k, v in asdict(card).items() if k != "path"})
    names = {name: [record.path.name for record in part] for name, part in parts.items()}
    write_run(
        out,
        {
            "command": "train classifier",
            "version": __version__,
            "model": path.name,
            "sha256": sha256(path),
            "faults": [str(fault) for fault in faults],
            "parts": names,
        },
    )
    return TrainedClassifier(path, read_card(path), tuple(faults))


def _types_of(records: Sequence[CellRecord]) -> tuple[str, ...]:
    """The types of the labels, without coarser words of theirs for several of them."""
    present = {record.cell_type for record in records}
    coarse = {scheme.codes[code] for scheme in taxonomy.SCHEMES.values() for code in scheme.coarse}
    vague = {name for name in coarse & present if len(taxonomy.narrower(name) & present) > 1}
    return tuple(name for name in taxonomy.TYPES if name in present - vague)


def _parts(
    records: Sequence[CellRecord], recipe: ClassifierRecipe, test: Sequence[Path]
) -> dict[str, list[CellRecord]]:
    """The split; sources that are learned from whole go to `train`, and cells given for testing stay out of it."""
    split_off = [record for record in records if record.source not in recipe.whole]
    whole = [record for record in records if record.source in recipe.whole]
    if test:
        held, _ = read_cell_sets(test)
        shares = {"train": 1 - recipe.parts["choose"], "choose": recipe.parts["choose"]}
        chosen = split_cells(split_off, fractions=shares, seed=recipe.split_seed)
        parts = {name: [split_off[i] for i in indices] for name, indices in chosen.items()} | {"test": held}
    else:
        chosen = split_cells(split_off, fractions=recipe.parts, seed=recipe.split_seed)
        parts = {name: [split_off[i] for i in indices] for name, indices in chosen.items()}
    return parts | {"train": list(_thinned(parts["train"] + whole, recipe.thinned))}


def _thinned(records: Sequence[CellRecord], thinned: Mapping[str, Sequence[str]]) -> Iterator[CellRecord]:
    seen: Counter[tuple[str, str]] = Counter()
    for record in records:
        key = (record.source, record.cell_type)
        if record.cell_type not in thinned.get(record.source, ()):
            yield record
            continue
        seen[key] += 1
        if seen[key] % 3 == 0:
            yield record


def _crops(records: Sequence[CellRecord], recipe: ClassifierRecipe, step: Callable[[int, int], None]) -> list[Crop]:
    scales = {record.source: recipe.unstated_mpp for record in records if recipe.unstated_mpp} | dict(recipe.scales)
    return load_crops(records, types=recipe.types, mpp=recipe.mpp, side=recipe.side, scales=scales, progress=step)


def _count_steps(tell: Progress, stage: str, done: int, total: int) -> None:
    tell(stage, {"step": done, "steps": total})


def judged(
    network: CellNetwork,
    parts: Mapping[str, Sequence[CellRecord]],
    crops: Mapping[str, Sequence[Crop]],
    recipe: ClassifierRecipe,
) -> ModelCard:
    """The card: temperature and threshold from `choose`, figures by source from `test`."""
    in_half_precision(network)
    logits = {name: view_logits(network, crops[name], recipe) for name in ("choose", "test")}
    allowed = np.stack([crop.allowed for crop in crops["choose"]]) if crops["choose"] else np.zeros((0, 1), bool)
    temperature = fit_temperature(logits["choose"], allowed)
    chosen = softmax(logits["choose"], temperature).mean(axis=1)
    right = allowed[np.arange(len(chosen)), chosen.argmax(axis=1)] if len(chosen) else np.zeros(0, bool)
    threshold = choose_threshold(chosen.max(axis=1), right, risk=recipe.risk) if len(chosen) else 0.0
    probabilities = softmax(logits["test"], temperature).mean(axis=1).astype(np.float32)
    return _card(recipe, parts, crops, temperature, threshold, probabilities)


def _card(
    recipe: ClassifierRecipe,
    parts: Mapping[str, Sequence[CellRecord]],
    crops: Mapping[str, Sequence[Crop]],
    temperature: float,
    threshold: float,
    probabilities: NDArray[np.float32],
) -> ModelCard:
    metrics = {}
    for source in sorted({crop.source for crop in crops["test"]}):
        own = [index for index, crop in enumerate(crops["test"]) if crop.source == source]
        cells = [CellRecord(Path(crops["test"][i].name), crops["test"][i].cell_type, source) for i in own]
        metrics[source] = figures(
            cells, probabilities[own], recipe.types, scheme=recipe.scheme, threshold=threshold
        ) | {"set_aside": []}
    card = ModelCard(
        name=recipe.name,
        kind="classifier",
        specimen=recipe.specimen,
        architecture=asdict(recipe.training.network),
        types=recipe.types,
        scheme=recipe.scheme,
        mpp=recipe.mpp,
        tile=recipe.side,
        threshold=threshold,
        normalisation={"flat_field": False, "white_point": True},
        data=tuple(_sources(parts["train"], recipe)),
        training=_plain(recipe.training) | {"split_seed": recipe.split_seed},
        metrics=metrics,
        text="",
        synthetic_only=recipe.synthetic,
        version=__version__,
        temperature=temperature,
        views=recipe.views,
    )
    return replace(card, text=cell_card_text(card, recipe.remarks))


def _sources(records: Sequence[CellRecord], recipe: ClassifierRecipe) -> list[dict[str, Any]]:
    counts: dict[str, Counter[str]] = {}
    for record in records:
        counts.setdefault(record.source, Counter())[record.cell_type] += 1
    return [
        {"source": source, "cells": dict(sorted(types.items())), "credit": recipe.credits.get(source, "")}
        for source, types in sorted(counts.items())
    ]


def _plain(settings: CellTrainingSettings) -> dict[str, Any]:
    return {key: value for key, value in asdict(settings).items() if key != "network"}


def in_half_precision(network: CellNetwork) -> None:
    """Round the weights to what the file stores, so that figures and graph come from the very numbers of the file."""
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half().float())


def view_logits(network: CellNetwork, crops: Sequence[Crop], recipe: ClassifierRecipe) -> NDArray[np.float32]:
    """(N, V, T) logits of all poses."""
    windows = [plain(crop, recipe.side) for crop in crops]
    if not windows:
        return np.zeros((0, recipe.views, len(recipe.types)), np.float32)
    poses = [np.stack([views(image, recipe.views)[k] for image in windows]) for k in range(recipe.views)]
    return np.stack([predict_crops(network, pose) for pose in poses], axis=1)


def write_classifier(network: CellNetwork, card: ModelCard, out: Path) -> Path:
    """Write `<name>.onnx` and then `<name>.safetensors`, whose card knows the graph's hash."""
    in_half_precision(network)
    path = out / f"{card.name}.safetensors"
    metadata = {"types": list(card.types), "mpp": card.mpp, "scheme": card.scheme, "threshold": card.threshold}
    metadata |= {"temperature": card.temperature, "views": card.views, "normalisation": dict(card.normalisation)}
    write_bytes(path.with_suffix(".onnx"), export_classifier(network, card.tile, metadata))
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    save(path, weights, replace(card, onnx_sha256=sha256(path.with_suffix(".onnx"))))
    return path
