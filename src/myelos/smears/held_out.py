"""What the count may know of a classifier's errors: the laboratory's own held-out cells, or a word on why nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from myelos import taxonomy
from myelos.classification.gate import gate_of
from myelos.errors import InputError, UsageError
from myelos.imaging.matching import ALIKE
from myelos.metrics.confusion import Confusion
from myelos.models.types import Classifier
from myelos.smears.job import Job
from myelos.smears.rows import Reading
from myelos.smears.second_opinion import scale_for
from myelos.wording import number_of

OWN = "--held-out takes your own"
MOST_UNLIKE = 0.05  # share of cells that do not pass the gate; of the sources' own it is 0.01
REMEDY = "Make it with: myelos evaluate classifier --data YOUR_CELLS --model NAME --match-stain --json > held-out.json"


def confusion_for(
    classifier: Classifier | None,
    held_out: str | Path | None,
    specimen: str,
    detected: Sequence[str] = (),
    *,
    detector: str = "",
) -> Confusion | None:
    """The matrix that the deciding interval draws from. detected: the types of the detector, whose name is `detector`.

    held_out: JSON of `evaluate classifier` with the same model on cells of the laboratory's own stain and camera, never
    trained on. Without it the matrix of the model's card is shown not to fit: it was measured on another source.
    With it the classifier decides on every cell that it is asked about, however unsure: a matrix of its answers says
    nothing of cells that keep the detector's. Raises UsageError where the file is of another model, InputError where it
    is none.
    """
    if classifier is None:
        if held_out is not None:
            raise UsageError("--held-out needs a classifier", remedy="Leave out --classifier none")
        return None
    if held_out is not None:
        confusion = _from_file(classifier, Path(held_out), specimen, detected, detector)
        classifier.decides = True
        return confusion
    card = getattr(classifier, "card", None)
    if card is None or not card.metrics:
        return None
    why = f"its held-out cells are of {' and '.join(card.metrics)}, another stain and camera; {OWN}"
    return _of_card(card.metrics, classifier, card.specimen, detected, fits=False, why=why, adopted=False)


def for_smear(job: Job, readings: Sequence[Reading]) -> Confusion | None:
    """The matrix of a call as it holds for one smear.

    Held-out cells of the laboratory hold; those of the model's card where the smear is stained as its sources are and
    nearly all cells pass the classifier's gate: more cannot be told of it. Neither holds where the classifier was not
    asked about every image.
    """
    confusion = job.confusion
    if confusion is None or job.classifier is None:
        return confusion
    if any(scale_for(job.classifier, one.look, job.settings) is None for one in readings):
        return replace(confusion, fits=False, why="the classifier was not asked about every image")
    if confusion.adopted:
        return confusion
    why = _unlike(readings, job.classifier)
    return replace(confusion, fits=not why, why=why and f"its held-out cells are of {confusion.source}, {why}; {OWN}")


def _unlike(readings: Sequence[Reading], classifier: Classifier) -> str:
    """Why a smear is not, or may not be, like the training cells; empty where it is as far as can be told."""
    distances = [one.stain_apart for one in readings]
    if any(apart is None for apart in distances):
        return "and whether this smear is stained as they are is not known"
    if max((apart or 0.0 for apart in distances), default=0.0) > ALIKE:
        return "another stain and camera"
    if gate_of(classifier) is None:
        return f"and {classifier.name} cannot tell whether these cells are like them"
    cells = sum(len(one.cells) for one in readings)
    heard = sum(row["source"] == classifier.name for one in readings for row in one.opinions)
    if heard < (1 - MOST_UNLIKE) * cells:
        return f"and {cells - heard} of these {number_of(cells, 'cell')} are unlike them"
    return ""


def deciding(job: Job, readings: Sequence[Reading], stored: Mapping[str, pa.Table]) -> dict[str, Any]:
    """What `counting.count` takes of it: `confusion` and, by the tables of the smear, `said`."""
    confusion = for_smear(job, readings)
    return {"confusion": confusion, "said": as_classified(stored["cells"], stored["opinions"], confusion)}


def as_classified(cells: pa.Table, opinions: pa.Table, confusion: Confusion | None) -> pa.Table | None:
    """The table `cells` by the words that the classifier would decide for; None where they are adopted anyway."""
    if confusion is None or confusion.adopted or not confusion.fits:
        return None
    said: dict[str, list[str]] = {}
    for cell, kind in zip(opinions["cell_id"].to_pylist(), opinions["cell_type"].to_pylist(), strict=True):
        said.setdefault(cell, []).append(kind)  # the detector's first
    words = [confusion.word(said[cell][0], (*said[cell][1:], None)[0]) for cell in cells["cell_id"].to_pylist()]
    column = cells.schema.get_field_index("cell_type")
    return cells.set_column(column, cells.schema.field(column), pa.array(words, cells.schema.field(column).type))


def _of_card(
    metrics: Mapping[str, Any], classifier: Classifier, specimen: str, detected: Sequence[str], **word: Any
) -> Confusion | None:
    """All sources of a card in one matrix; None where it holds none."""
    kept = {source: row["confusion"] for source, row in metrics.items() if row.get("confusion")}
    if len({tuple(row["classes"]) for row in kept.values()}) != 1:
        return None
    summed = np.sum([np.array(row["matrix"]) for row in kept.values()], axis=0)
    figures = {"confusion": {"classes": next(iter(kept.values()))["classes"], "matrix": summed}}
    return _matrix(figures, classifier, " and ".join(kept), specimen, detected, **word)


def matched_as_measured(match: bool, held_out: str | Path | None) -> bool:
    """Whether cells are brought to the classifier's stain: as they were when its errors were measured, where they were.

    What is no such file is left to `confusion_for` to say.
    """
    if held_out is None:
        return match
    try:
        return bool(json.loads(Path(held_out).read_text(encoding="utf-8"))["stain_matched"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # of a version that did not match


def _from_file(classifier: Classifier, path: Path, specimen: str, detected: Sequence[str], detector: str) -> Confusion:
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        given = figures["model"]
        confusion = _matrix(figures, classifier, path.stem, specimen, detected)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no figures of held-out cells", why=str(error), remedy=REMEDY) from error
    if given != classifier.name:
        raise UsageError(
            f"{path} is of the model {given}", why=f"the cells are named by {classifier.name}", remedy=REMEDY
        )
    found_by = figures.get("detector", detector)
    if found_by != detector:
        raise UsageError(f"the cells of {path} were found by {found_by}", why=f"these are found by {detector}")
    return confusion


def _matrix(
    figures: dict[str, Any],
    classifier: Classifier,
    source: str,
    specimen: str,
    detected: Sequence[str],
    **word: Any,
) -> Confusion:
    """The stored matrix over what the classifier can say.

    A class finer than one of its types belongs to that. Held-out cells of a class that it cannot name at all are left
    out, because no answer of its tells how many such cells there are; not where a detector found and named them, too.
    """
    classes, stored = figures["confusion"]["classes"], np.array(figures["confusion"]["matrix"])
    measured = stored.sum(axis=1) * ("detector" in figures)
    known = [
        _said(name, classifier.types) or (name if cells else None)
        for name, cells in zip(classes, measured, strict=True)
    ]
    types = list(dict.fromkeys(name for name in known if name))
    onto = np.array([[name == own for own in types] for name in known], dtype=int).reshape(len(classes), -1)
    matrix = onto.T @ stored[:, :-1] @ onto
    rest = onto.T @ stored.sum(axis=1) - matrix.sum(axis=1)
    alone = tuple(name for name in only_detected(detected, classifier.types) if name not in types)
    return Confusion.of(types, np.column_stack([matrix, rest]), source=source, specimen=specimen, alone=alone, **word)


def _said(name: str, types: Sequence[str]) -> str | None:
    """A class as the classifier names its cells; None where it has no word for them."""
    coarser = any(name in taxonomy.ancestors(own) for own in types)
    return taxonomy.coarsen(name, types) or (name if coarser else None)


def only_detected(detected: Sequence[str], types: Sequence[str]) -> tuple[str, ...]:
    """Types of the detector that stay its own where the classifier decides: unknown to it, or finer than its words."""
    return tuple(
        name for name in detected if name not in types and not any(name in taxonomy.ancestors(t) for t in types)
    )
