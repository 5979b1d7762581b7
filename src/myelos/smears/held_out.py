"""What the count may know of a classifier's errors: the laboratory's own held-out cells, or a word on why nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from myelos.errors import InputError, UsageError
from myelos.metrics.confusion import Confusion
from myelos.models.types import Classifier

REMEDY = "Make it with: myelos evaluate classifier --data YOUR_CELLS --model NAME --json > held-out.json"


def confusion_for(classifier: Classifier | None, held_out: Path | None, specimen: str) -> Confusion | None:
    """The matrix that the deciding interval draws from.

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
        confusion = _from_file(classifier, held_out, specimen)
        classifier.decides = True
        return confusion
    card = getattr(classifier, "card", None)
    if card is None or not card.metrics:
        return None
    source, figures = next(iter(card.metrics.items()))
    why = f"the classifier's held-out cells are of {source}, another stain and camera; --held-out takes your own"
    return _matrix(figures, source, card.specimen, fits=False, why=why)


def _from_file(classifier: Classifier, path: Path, specimen: str) -> Confusion:
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        given = figures["model"]
        confusion = _matrix(figures, path.stem, specimen)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no figures of held-out cells", why=str(error), remedy=REMEDY) from error
    if given != classifier.name:
        raise UsageError(
            f"{path} is of the model {given}", why=f"the cells are named by {classifier.name}", remedy=REMEDY
        )
    return confusion


def _matrix(figures: dict[str, Any], source: str, specimen: str, **word: Any) -> Confusion:
    stored = figures["confusion"]
    return Confusion.of(stored["classes"], stored["matrix"], source=source, specimen=specimen, **word)
