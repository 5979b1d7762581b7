"""From a trained network to a model file: temperature, threshold, figures, card, weights and graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos import __version__
from myelos.classification.asking import question_figures
from myelos.classification.evaluate import figures
from myelos.classification.gate import PARTS, GateSettings, gate_from
from myelos.classification.looks import few_of_each, looks_of_crops
from myelos.classification.questions import question
from myelos.datasets.cells import CellRecord
from myelos.detection.prepare import spread
from myelos.imaging.crops import views
from myelos.metrics.binary import choose_cut
from myelos.metrics.selective import choose_threshold, fit_temperature, softmax
from myelos.models.files import ModelCard, read_card
from myelos.networks.cells import CellNetwork
from myelos.networks.export_cells import export_classifier
from myelos.training.cell_card import cell_card_text, question_card_text
from myelos.training.cell_loop import CellTrainingSettings, predict_crops
from myelos.training.cell_recipe import ClassifierRecipe
from myelos.training.crops import Crop, plain
from myelos.training.trained import in_half_precision, metadata_of, write_files


def judged(
    network: CellNetwork,
    parts: Mapping[str, Sequence[CellRecord]],
    crops: Mapping[str, Sequence[Crop]],
    recipe: ClassifierRecipe,
    *,
    begun_with: Mapping[str, str],
) -> ModelCard:
    """The card: temperature and threshold from `choose`, figures by source from `test`.

    begun_with: file and hash of the weights that the training began with; empty for chance.
    """
    in_half_precision(network)
    logits = {name: view_logits(network, crops[name], recipe) for name in ("choose", "test")}
    allowed = np.stack([crop.allowed for crop in crops["choose"]]) if crops["choose"] else np.zeros((0, 1), bool)
    temperature = fit_temperature(logits["choose"], allowed)
    chosen = softmax(logits["choose"], temperature).mean(axis=1)
    if recipe.question:
        threshold = choose_cut(chosen[:, 1], allowed[:, 1], sensitivity=recipe.sensitivity)
    else:
        right = allowed[np.arange(len(chosen)), chosen.argmax(axis=1)] if len(chosen) else np.zeros(0, bool)
        threshold = choose_threshold(chosen.max(axis=1), right, risk=recipe.risk) if len(chosen) else 0.0
    probabilities = softmax(logits["test"], temperature).mean(axis=1).astype(np.float32)
    return _card(recipe, parts, crops, temperature, threshold, probabilities, begun_with)


def _card(
    recipe: ClassifierRecipe,
    parts: Mapping[str, Sequence[CellRecord]],
    crops: Mapping[str, Sequence[Crop]],
    temperature: float,
    threshold: float,
    probabilities: NDArray[np.float32],
    begun_with: Mapping[str, str],
) -> ModelCard:
    metrics = {}
    for source in sorted({crop.source for crop in crops["test"]}):
        own = [index for index, crop in enumerate(crops["test"]) if crop.source == source]
        cells = [CellRecord(Path(crops["test"][i].name), crops["test"][i].cell_type, source) for i in own]
        metrics[source] = _figures(recipe, cells, probabilities[own], threshold) | {"set_aside": []}
    card = ModelCard(
        name=recipe.name,
        kind="question" if recipe.question else "classifier",
        specimen=recipe.specimen,
        architecture=asdict(recipe.training.network),
        types=recipe.types,
        scheme=recipe.scheme,
        mpp=recipe.mpp,
        tile=recipe.side,
        threshold=threshold,
        normalisation={"flat_field": False, "white_point": True},
        data=tuple(_sources(parts["train"], recipe)),
        training=_plain(recipe.training) | {"split_seed": recipe.split_seed, "begun_with": dict(begun_with)},
        metrics=metrics,
        text="",
        synthetic_only=recipe.synthetic,
        version=__version__,
        temperature=temperature,
        views=recipe.views,
        question=recipe.question,
        looks=_looks(crops["train"], recipe.side),
    )
    text = question_card_text if recipe.question else cell_card_text
    return replace(card, text=text(card, recipe.remarks))


def _looks(crops: Sequence[Crop], side: int) -> dict[str, dict[str, Any]]:
    few = few_of_each([crop.source for crop in crops])
    return looks_of_crops({source: [plain(crops[i], side) for i in numbers] for source, numbers in few.items()})


def _figures(
    recipe: ClassifierRecipe, cells: Sequence[CellRecord], probabilities: NDArray[np.float32], threshold: float
) -> dict[str, Any]:
    if recipe.question:
        return question_figures(cells, probabilities[:, 1], question(recipe.question), threshold=threshold)
    return figures(cells, probabilities, recipe.types, scheme=recipe.scheme, threshold=threshold)


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


def view_logits(network: CellNetwork, crops: Sequence[Crop], recipe: ClassifierRecipe) -> NDArray[np.float32]:
    """(N, V, T) logits of all poses."""
    windows = [plain(crop, recipe.side) for crop in crops]
    if not windows:
        return np.zeros((0, recipe.views, len(recipe.types)), np.float32)
    poses = [np.stack([views(image, recipe.views)[k] for image in windows]) for k in range(recipe.views)]
    return np.stack([predict_crops(network, pose) for pose in poses], axis=1)


def write_classifier(network: CellNetwork, card: ModelCard, out: Path) -> Path:
    """The network as files, the graph from the very numbers of the weights' file."""
    in_half_precision(network)
    metadata = metadata_of(card) | {"temperature": card.temperature, "views": card.views}
    metadata |= {"normalisation": dict(card.normalisation)}
    return write_files(network, export_classifier(network, card.tile, metadata), card, out)


def add_gate_of(path: Path, crops: Mapping[str, Sequence[Crop]]) -> ModelCard:
    """`classification.gate.gate_from` with the crops of a training; models of a question have no gate."""
    card, settings = read_card(path), GateSettings()
    if card.kind != "classifier":
        return card
    known = {name: [crop for crop in crops[name] if crop.cell_type in card.types] for name in PARTS}
    few = {name: spread(own, settings.learned if name == "train" else settings.judged) for name, own in known.items()}
    shown = {name: [plain(crop, card.tile) for crop in own] for name, own in few.items()}
    return gate_from(path, shown, [crop.cell_type for crop in few["train"]], settings=settings)
