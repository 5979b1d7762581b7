"""What the count may know of a classifier's errors: the laboratory's own held-out cells, or a word on why nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from myelos import taxonomy
from myelos.errors import InputError, UsageError
from myelos.metrics.confusion import Confusion
from myelos.models.types import Classifier

REMEDY = "Make it with: myelos evaluate classifier --data YOUR_CELLS --model NAME --match-stain --json > held-out.json"


def confusion_for(
    classifier: Classifier | None, held_out: Path | None, specimen: str, detected: Sequence[str] = ()
) -> Confusion | None:
    """The matrix that the deciding interval draws from. detected: the types of the detector.

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
        confusion = _from_file(classifier, held_out, specimen, detected)
        classifier.decides = True
        return confusion
    card = getattr(classifier, "card", None)
    if card is None or not card.metrics:
        return None
    source, figures = next(iter(card.metrics.items()))
    why = f"the classifier's held-out cells are of {source}, another stain and camera; --held-out takes your own"
    return _matrix(figures, classifier, source, card.specimen, detected, fits=False, why=why)


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


def _from_file(classifier: Classifier, path: Path, specimen: str, detected: Sequence[str]) -> Confusion:
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
    out: no answer of its tells how many such cells there are.
    """
    classes, stored = figures["confusion"]["classes"], np.array(figures["confusion"]["matrix"])
    known = [_said(name, classifier.types) for name in classes]
    types = list(dict.fromkeys(name for name in known if name))
    onto = np.array([[name == own for own in types] for name in known], dtype=int).reshape(len(classes), -1)
    matrix = onto.T @ stored[:, :-1] @ onto
    rest = onto.T @ stored.sum(axis=1) - matrix.sum(axis=1)
    alone = only_detected(detected, classifier.types)
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
