"""Asking a model a question about cells, and judging its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.classification.evaluate import Aside, predictions
from myelos.classification.questions import ANSWERS, Question, question
from myelos.datasets.cells import CellRecord
from myelos.errors import UsageError
from myelos.metrics.binary import binary_figures
from myelos.models.files import ModelCard
from myelos.models.types import Classifier

UNDECIDED = 0.5  # the threshold of a classifier of types, whose probabilities are summed; that of a question is chosen


def own_question(card: ModelCard, asked: Question | None) -> Question | None:
    """What a model is asked: a model of a question its own, any other what the call says. Raises UsageError."""
    if not card.question:
        return asked
    if asked is not None and asked.name != card.question:
        raise UsageError(f"{card.name} answers {card.question}, not {asked.name}", remedy="Leave --question out")
    return question(card.question)


def ask(
    records: Sequence[CellRecord],
    classifier: Classifier,
    asked: Question,
    *,
    mpp: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float64], list[int], Aside]:
    """(N,) probability of yes of the cells that can be read, their indices, and the others with their reasons.

    classifier: one of the question, or of types: then what its types answer is summed.
    """
    if classifier.types != ANSWERS:
        asked.scores(np.zeros((1, len(classifier.types))), classifier.types)  # said before anything is read
    found, kept, aside = predictions(records, classifier, mpp=mpp, progress=progress)
    if classifier.types == ANSWERS:
        return found[:, 1].astype(np.float64), kept, aside
    return asked.scores(found, classifier.types), kept, aside


def judge_question(
    records: Sequence[CellRecord],
    classifier: Classifier,
    asked: Question,
    *,
    threshold: float | None = None,
    mpp: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The figures of a classifier's answers on labelled cells: see `question_figures`.

    threshold: from which the answer is yes; the model's own where None, 0.5 of a classifier of types.
    """
    if threshold is None:
        threshold = classifier.threshold if classifier.types == ANSWERS else UNDECIDED
    if not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold:g} is no probability", remedy="Pass a number from 0 to 1")
    scores, kept, aside = ask(records, classifier, asked, mpp=mpp, progress=progress)
    named = [records[index] for index in kept]
    result = question_figures(named, scores, asked, threshold=threshold)
    return {"model": classifier.name} | result | {"set_aside": [*aside, *result["set_aside"]]}


def question_figures(
    records: Sequence[CellRecord], scores: NDArray[np.floating], asked: Question, *, threshold: float
) -> dict[str, Any]:
    """`metrics.binary.binary_figures` of the cells whose label answers, and how many of each type were said yes.

    {"question", "text", "images", …, "types": {NAME: {"cells", "truth", "yes"}}, "set_aside"}; cells whose label says
    neither are set aside.
    """
    said = [asked.answer(record.cell_type) for record in records]
    chosen = [index for index, one in enumerate(said) if one is not None]
    truth = np.array([said[index] for index in chosen], bool)
    own = np.asarray(scores, float)[chosen]
    result = binary_figures(own, truth, threshold)
    cells = Counter(records[index].cell_type for index in chosen)
    yes = Counter(records[index].cell_type for index, score in zip(chosen, own, strict=True) if score >= threshold)
    types = {name: {"cells": number, "truth": asked.answer(name), "yes": yes[name]} for name, number in cells.items()}
    aside = [
        {"file": record.path.name, "reason": f"{record.cell_type} leaves {asked.name} open"}
        for record, one in zip(records, said, strict=True)
        if one is None
    ]
    head = {"question": asked.name, "text": asked.text, "images": result.pop("cells")}
    return head | result | {"types": dict(sorted(types.items())), "set_aside": aside}
