"""Judging a classifier on folders of cells, or the answers of any program on files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from myelos import taxonomy
from myelos.classification.asking import judge_question
from myelos.classification.evaluate import Aside, figures, look_of_cells, predictions, scheme_classes, taught
from myelos.classification.questions import Question
from myelos.datasets.cell_sets import read_cell_sets
from myelos.datasets.cell_splits import PARTS, split_cells
from myelos.datasets.cells import CellRecord
from myelos.datasets.records import Fault
from myelos.errors import InputError, LabelError, UsageError
from myelos.imaging.matching import Look
from myelos.metrics.external import map_predictions, summary
from myelos.models.files import ModelCard
from myelos.models.types import Classifier


@dataclass(frozen=True, slots=True)
class JudgedCells:
    """What is judged on. part: only the cells that `split_cells` puts there, as the recipes of training do; scheme: the
    classes to judge in; mpp: µm/px of sets that do not say; stain_like: cells to whose stain these are brought;
    match_stain: they are brought to the nearest of the stains that the classifier was taught, as a count does."""

    folders: tuple[Path, ...]
    scheme: str | None = None
    part: str | None = None
    mpp: float | None = None
    stain_like: tuple[Path, ...] = ()
    match_stain: bool = False


def judge(
    cells: JudgedCells,
    classifier: Classifier,
    asked: Question | None = None,
    *,
    threshold: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The figures of a classifier on labelled cells, in the classes of a scheme (its own where None), or of its answers
    to a question. What cannot be read, and what has no class or answer, is in `set_aside`.

    asked, threshold: see `asking.judge_question`. Raises UsageError.
    """
    scheme = cells.scheme or classifier.scheme
    if asked is None:
        scheme_classes(scheme)  # an unknown scheme is said before anything is read
    records, faults = _read(cells.folders, scheme)
    records = part_of(records, cells.part)
    if asked is not None:
        result = judge_question(records, classifier, asked, threshold=threshold, mpp=cells.mpp, progress=progress)
        return result | {"set_aside": [*as_aside(faults), *result["set_aside"]]}
    like = _like(cells, classifier)
    probabilities, kept, aside = predictions(records, classifier, mpp=cells.mpp, like=like, progress=progress)
    named = [records[index] for index in kept]
    return {"model": classifier.name, "stain_matched": cells.match_stain} | figures(
        named,
        probabilities,
        classifier.types,
        scheme=scheme,
        threshold=classifier.threshold,
        aside=[*as_aside(faults), *aside],
    )


def judge_external(
    cells: JudgedCells, classifier: Classifier, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """The classifier on cells labelled in another scheme, counted as Figure 4 of Matek 2021: see `metrics.external`.

    Below its threshold for "unidentified" a cell counts as refused, too. What cannot be read is in `set_aside`.
    """
    records, faults = _read(cells.folders, cells.scheme or classifier.scheme)
    records = part_of(records, cells.part)
    like = _like(cells, classifier)
    shares, kept, aside = predictions(records, classifier, mpp=cells.mpp, like=like, progress=progress)
    said = [classifier.types[int(row.argmax())] if row.max() >= classifier.threshold else None for row in shares]
    truth = [records[index].cell_type for index in kept]
    mapped = map_predictions(truth, said, truth_types=set(truth), predicted_types=classifier.types)
    return {"model": classifier.name} | summary(mapped, truth, said) | {"set_aside": [*as_aside(faults), *aside]}


def _like(cells: JudgedCells, classifier: Classifier) -> Look | Sequence[Look] | None:
    """What the cells are brought to; raises UsageError where that is asked for and not known."""
    if not cells.match_stain:
        return look_of_folders(cells.stain_like, classifier, mpp=cells.mpp)
    looks = taught(classifier)
    if cells.stain_like or not looks:
        why = "--stain-like says another" if cells.stain_like else "its card does not say how its training cells look"
        remedy = "Pass one of both" if cells.stain_like else "Write it: myelos train looks MODEL --data TRAINED_ON"
        raise UsageError(f"cells cannot be brought to the stain of {classifier.name}", why=why, remedy=remedy)
    return looks


def look_of_folders(folders: Sequence[Path], classifier: Classifier, *, mpp: float | None = None) -> Look | None:
    """The look of the labelled cells of folders; None of none. mpp: µm/px of sets that do not say."""
    return look_of_cells(read_cell_sets(folders)[0], classifier, mpp=mpp) if folders else None


def part_of(records: Sequence[CellRecord], part: str | None) -> list[CellRecord]:
    """The records of one part of the recipes' split, all where None; raises UsageError.

    Near-duplicates decide, so that the folders must be those of the training.
    """
    if part is None:
        return list(records)
    if part not in PARTS:
        raise UsageError(f"there is no part {part!r}", remedy=f"Choose {', '.join(PARTS)}")
    return [records[index] for index in split_cells(records)[part]]


def parts_of(records: Sequence[CellRecord], card: ModelCard) -> dict[str, list[CellRecord]]:
    """Part → its records as the training of this card split them; see `part_of` for the folders.

    A source without held-out figures was learned from whole: all of its cells are in `train`.
    """
    held = set(card.metrics) or {record.source for record in records}
    divided = [record for record in records if record.source in held]
    whole = [record for record in records if record.source not in held]
    split = split_cells(divided, seed=int(card.training.get("split_seed", 0)))
    parts = {name: [divided[i] for i in indices] for name, indices in split.items()}
    return parts | {"train": parts["train"] + whole}


def _read(folders: Sequence[Path], scheme: str) -> tuple[list[CellRecord], list[Fault]]:
    """The labels as the sets mean them; in the codes of the scheme where the sets do not tell."""
    try:
        return read_cell_sets(folders)
    except LabelError:
        return read_cell_sets(folders, scheme=scheme)


def judge_files(truth: Path, said: Path, *, scheme: str | None) -> dict[str, Any]:
    """The same figures of answers that any program made: two CSV files with the columns file,label."""
    if scheme is None:
        raise UsageError("the labels of two files need a scheme", remedy="Pass --scheme, such as mll21")
    meant, answers = _labels(truth, scheme), _labels(said, scheme)
    aside: Aside = [{"file": name, "reason": "no answer was given"} for name in meant if name not in answers]
    names = [name for name in meant if name in answers]
    types = sorted(set(answers.values()))
    chosen = np.zeros((len(names), len(types)), np.float32)
    for row, name in enumerate(names):
        chosen[row, types.index(answers[name])] = 1.0
    records = [CellRecord(Path(name), meant[name], truth.stem) for name in names]
    return figures(records, chosen, types, scheme=scheme, aside=aside) | {"ece": None}


def _labels(path: Path, scheme: str) -> dict[str, str]:
    """file → type; raises InputError for a file of another form, LabelError for unknown labels."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path} cannot be read", why=str(error)) from error
    if not rows or not {"file", "label"} <= set(rows[0]):
        raise InputError(f"{path} has no columns file,label", why=f"it has {', '.join(rows[0]) if rows else 'no rows'}")
    return {row["file"]: _resolved(row["label"], scheme) for row in rows}


def _resolved(label: str, scheme: str) -> str:
    try:
        return taxonomy.resolve(label, scheme)
    except LabelError:
        return taxonomy.resolve(label)


def as_aside(faults: Sequence[Fault]) -> Aside:
    """Faults of labels as they stand among what was set aside."""
    return [{"file": fault.file.name, "reason": f"{fault.kind}: {fault.detail}".rstrip(": ")} for fault in faults]
