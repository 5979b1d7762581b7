"""Held-out cells as a count meets them: found or missed by the detector, kept apart, or named by the classifier.

`evaluate classifier` shows every annotated cell to the classifier, and its matrix knows no missed ones. On annotated
fields the whole way can be measured: how often cells of each type reach the count, and as what. Nothing else tells
how many cells of a type a detector passes over, or takes for something that the classifier cannot name.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from myelos import pipeline, taxonomy
from myelos.classification.evaluate import figures_of_words, scheme_classes
from myelos.datasets.layouts import read_fields
from myelos.datasets.records import FieldRecord
from myelos.errors import UsageError
from myelos.metrics.matching import match
from myelos.models.types import Classifier, Detector
from myelos.smears.job import Progress
from myelos.tables import read_table

Found = dict[Path, list[dict[str, Any]]]  # rows of `cells` by the file that they lie in


def judge_found(
    folders: Sequence[Path],
    detector: Detector,
    classifier: Classifier,
    *,
    scheme: str | None = None,
    mpp: float | None = None,
    match_stain: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The figures of annotated fields read as `count` reads them with the classifier deciding.

    All fields are one smear. A cell counts as missed where no box of the detector fits it (half of the union), and
    where what it is called is no class of the scheme, such as a mitosis. Raises UsageError where no box has a type.
    """
    fields = [field for folder in folders for field in read_fields(folder)[0]]
    classes = scheme_classes(scheme or classifier.scheme)
    found = _found(fields, detector, classifier, mpp=mpp, match_stain=match_stain, threads=threads, progress=progress)
    pairs = [pair for field in fields for pair in _pairs(field, found.get(field.path.resolve(), []))]
    named = [
        (taxonomy.coarsen(kind, classes), word and taxonomy.coarsen(word, classes)) for kind, word in pairs if kind
    ]
    labelled = [(kind, word) for kind, word in named if kind]
    if not labelled:
        raise UsageError(
            f"no box is of a class of {scheme or classifier.scheme}", remedy="Pass fields with typed boxes"
        )
    meant, said = [kind for kind, _ in labelled], [word for _, word in labelled]
    return {
        "model": classifier.name,
        "detector": detector.name,
        "stain_matched": match_stain,
        "scheme": scheme or classifier.scheme,
        "fields": len(fields),
        "images": len(labelled),
        "missed": said.count(None),
        "false": dict(Counter(word for kind, word in pairs if kind is None)),
        "ece": None,
        "set_aside": [],
    } | figures_of_words(meant, said, classes)


def _found(fields: Sequence[FieldRecord], detector: Detector, classifier: Classifier, **options: Any) -> Found:
    decides, classifier.decides = classifier.decides, True
    try:
        with TemporaryDirectory() as place:
            paths = [field.path for field in fields]
            pipeline.detect(paths, place, model=detector, classifier=classifier, overwrite=True, **options)
            with (Path(place) / "names.csv").open(encoding="utf-8") as file:
                names = {row["slide_id"]: Path(row["file"]) for row in csv.DictReader(file)}
            rows = read_table(Path(place), "cells").to_pylist()
    finally:
        classifier.decides = decides
    found: Found = {}
    for row in rows:
        found.setdefault(names[row["slide_id"]], []).append(row)
    return found


def _pairs(field: FieldRecord, rows: Sequence[dict[str, Any]]) -> list[tuple[str | None, str | None]]:
    """Type and word of each annotated cell, None for a missed one; then (None, word) of what nobody annotated."""
    boxes = np.array([[row[key] for key in ("x", "y", "width", "height")] for row in rows], float).reshape(-1, 4)
    owner = match(field.boxes, boxes, np.array([row["score"] for row in rows])).truth.tolist()
    words = {truth: str(row["cell_type"]) for truth, row in zip(owner, rows, strict=True) if truth >= 0}
    cells = [(kind or "nucleated_cell", words.get(number)) for number, kind in enumerate(field.types)]
    return cells + [(None, str(row["cell_type"])) for truth, row in zip(owner, rows, strict=True) if truth < 0]
