"""External validation: predictions in the types of one scheme judged on cells labelled in another.

Matek 2021, Figure 4, counts first what the network refused ("artefact" or "not identifiable": 247 of 627 images)
and shows a confusion matrix of the rest (380). Refusals are no errors there, so the share shown belongs beside every
figure of the shown cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from myelos import taxonomy
from myelos.errors import UsageError
from myelos.metrics.classification import evaluate

REFUSALS = frozenset({"artefact", "not_identifiable"})
OTHER = "other"


@dataclass(frozen=True, slots=True)
class External:
    """What came of mapping N cells.

    classes: types that both schemes can say, in the order of the taxonomy. shown: indices of the cells that were
    neither refused nor unmapped; truth, predicted: of these, in `classes`; a prediction that says none of them is
    `OTHER`. refused: how many, with their truth. unmapped_truth: labels that no class covers → cells, which are judged
    no further. unmapped_predictions: predictions that say no class → cells shown as `OTHER`.
    """

    images: int
    classes: tuple[str, ...]
    shown: tuple[int, ...]
    truth: tuple[str, ...]
    predicted: tuple[str, ...]
    refused: Counter[str]
    unmapped_truth: Counter[str]
    unmapped_predictions: Counter[str]

    @property
    def refused_cells(self) -> int:
        return self.refused.total()


def common_classes(first: Collection[str], second: Collection[str]) -> tuple[str, ...]:
    """The types that both lists can say: one side's own, or what finer ones of the other have in common.

    Erythroblasts of one scheme and their stages of another meet in "erythroblast". The labels of a scheme exclude each
    other: where it has proerythroblasts beside erythroblasts, the latter are the rest, and both are classes.
    """
    met = {taxonomy.coarsen(name, second) for name in first} | {taxonomy.coarsen(name, first) for name in second}
    return tuple(name for name in taxonomy.TYPES if name in met)


def map_predictions(
    truth: Sequence[str],
    predicted: Sequence[str | None],
    *,
    truth_types: Collection[str],
    predicted_types: Collection[str],
    refusals: Collection[str] = REFUSALS,
) -> External:
    """Bring truth and predictions of N cells to the classes that both schemes have, and count what falls out.

    truth_types, predicted_types: what labels and model can say. A prediction of None, or of a type in `refusals` that
    the truth does not have, is a refusal. Raises UsageError where the lengths differ or nothing is common.
    """
    if len(truth) != len(predicted):
        raise UsageError(f"{len(predicted)} predictions do not fit {len(truth)} cells")
    refusing = set(refusals) - set(truth_types)
    classes = common_classes(truth_types, set(predicted_types) - refusing)
    if not classes:
        raise UsageError("the two schemes have no type in common")
    refused, bare_truth, bare_predicted = Counter[str](), Counter[str](), Counter[str]()
    shown: list[tuple[int, str, str]] = []
    for index, (label, said) in enumerate(zip(truth, predicted, strict=True)):
        if said is None or said in refusing:
            refused[label] += 1
            continue
        goal, found = taxonomy.coarsen(label, classes), taxonomy.coarsen(said, classes)
        if goal is None:
            bare_truth[label] += 1
            continue
        if found is None:
            bare_predicted[said] += 1
        shown.append((index, goal, found or OTHER))
    indices, goals, answers = zip(*shown, strict=True) if shown else ((), (), ())
    return External(len(truth), classes, indices, goals, answers, refused, bare_truth, bare_predicted)


def summary(found: External, truth: Sequence[str], said: Sequence[str | None]) -> dict[str, Any]:
    """What Figure 4 shows, as `evaluate classifier` and `crossval` store it. truth, said: what was mapped.

    {"images", "refused", "shown", "not_mapped", "classes", "mapping": {label: {"class", "cells", "refused", "shown",
    "right", "tolerated"}}, "other": predictions that say no class, "figures": of the shown, see `metrics.classification
    .evaluate`, "confusion": {"truth", "answers", "matrix"} of the shown in both schemes' own words}. A prediction is
    tolerated by its own type, so that a blast may stand for a promyelocyte where the other scheme has no blast.
    """
    answers = [str(taxonomy.coarsen(str(said[i]), found.classes) or said[i]) for i in found.shown]
    figures = evaluate(found.truth, answers, labels=found.classes)
    labels, words = _ordered(truth), _ordered([str(said[i]) for i in found.shown])
    matrix = [[0] * len(words) for _ in labels]
    mapping = {label: _mapped(label, found, truth) for label in labels}
    for place, index in enumerate(found.shown):
        label = truth[index]
        matrix[labels.index(label)][words.index(str(said[index]))] += 1
        mapping[label]["shown"] += 1
        mapping[label]["right"] += found.truth[place] == answers[place]
        mapping[label]["tolerated"] += taxonomy.tolerated(found.truth[place], answers[place])
    return {
        "images": found.images,
        "refused": found.refused_cells,
        "shown": len(found.shown),
        "not_mapped": found.unmapped_truth.total(),
        "classes": list(found.classes),
        "mapping": mapping,
        "other": dict(found.unmapped_predictions),
        "figures": figures,
        "confusion": {"truth": labels, "answers": words, "matrix": matrix},
    }


def _mapped(label: str, found: External, truth: Sequence[str]) -> dict[str, Any]:
    target = taxonomy.coarsen(label, found.classes)
    numbers = {"cells": sum(name == label for name in truth), "refused": found.refused[label]}
    return {"class": target, **numbers, "shown": 0, "right": 0, "tolerated": 0}


def _ordered(names: Sequence[str]) -> list[str]:
    present = set(names)
    return [name for name in taxonomy.TYPES if name in present]
