"""How well cells are found: average precision after COCO, and precision, recall and F1 at a working threshold.

`evaluate` takes what any program made: boxes, scores and names of types. Labels differ in how much they say, and that
is respected. Annotated coarsely (`leukocyte`, `neutrophil`), a finer prediction is right. In the row of a type, objects
that may be of it, because their annotation is coarser, are neither hit nor miss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myelos import taxonomy
from myelos.datasets.records import IGNORE
from myelos.errors import UsageError
from myelos.metrics.matching import Matches, Overlap, match
from myelos.wording import number_of

__all__ = ["ANY_CELL", "IGNORE", "Matches", "average_precision", "evaluate", "match", "types_of_matched"]

ANY_CELL = "nucleated_cell"  # this type and all below it are cells, whatever their class
COARSE = frozenset({"haematological_structure", "no_consensus", "nucleated_cell", "leukocyte"})  # no row of their own
# A nucleus that is no cell to be counted: finding it is no error, missing it neither.
UNDECIDED = frozenset({"damaged_cell", "naked_nucleus", "no_consensus", "haematological_structure", "not_identifiable",
                       "smudge_cell", "technically_unfit"})  # fmt: skip
IOUS = tuple(np.arange(0.5, 0.96, 0.05).round(2).tolist())  # 0.5, 0.55, …, 0.95
_RECALLS = np.linspace(0, 1, 101)

Truth = Sequence[tuple[ArrayLike, Sequence[str | None]]]
Predictions = Sequence[tuple[ArrayLike, ArrayLike, Sequence[str | None]]]


@dataclass(frozen=True, slots=True)
class _Image:
    """One image of one row: overlaps of its predictions with its objects, and the scores."""

    overlap: Overlap
    scores: NDArray[np.float64]
    objects: NDArray[np.intp]  # which of the image's annotations the objects are
    predictions: NDArray[np.intp]

    @property
    def positives(self) -> int:
        return int((~self.overlap.ignored).sum())


def average_precision(hits: ArrayLike, scores: ArrayLike, positives: int) -> float | None:
    """COCO's average precision: the mean over recalls 0, 0.01, …, 1 of the highest precision at that recall or more.

    hits: (M,) whether each prediction is a hit, ignored ones left out; scores: (M,), equal ones keep their order;
    positives: number of objects. None where there is no object.
    """
    if positives == 0:
        return None
    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")
    found = np.cumsum(np.asarray(hits, dtype=bool)[order])
    precision = found / np.arange(1, len(found) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(found / positives, _RECALLS, side="left")].mean())


def evaluate(truth: Truth, predictions: Predictions, *, threshold: float) -> dict[str, Any]:
    """The figures of a detector over a set of images.

    truth: one (boxes, types) an image, (N, 4) x y width height with names of the taxonomy, None for a cell of unstated
    type, "ignore" for an area that is neither cell nor background. predictions: one (boxes, scores, types) an image, in
    the same order. threshold: the working threshold of the score.

    Returns {"images", "boxes", "threshold", "any_cell": {"boxes", "ap50", "ap", "precision", "recall", "f1"},
    "classes": {NAME: the same}, "types": see `types_of_matched`}; undefined figures are None. `boxes` counts annotated
    objects. Types have a row if an annotation says them; red cells, platelets and artefacts are none of `any_cell`.
    """
    _check(truth, predictions)
    named = {kind for _, types in truth for kind in types if kind is not None} - {IGNORE}
    rows = [name for name in taxonomy.TYPES if name in named - COARSE]
    cells = _select(truth, predictions, ANY_CELL)
    return {
        "images": len(truth),
        "boxes": sum(kind != IGNORE for _, types in truth for kind in types),
        "threshold": threshold,
        "any_cell": _figures(cells, threshold),
        "classes": {name: _figures(_select(truth, predictions, name), threshold) for name in rows},
        "types": types_of_matched(truth, predictions, threshold=threshold),
    }


def types_of_matched(truth: Truth, predictions: Predictions, *, threshold: float, iou: float = 0.5) -> dict[str, Any]:
    """Right types among the cells that were found (score at least `threshold`) and whose annotation says a type.

    {"matched", "accuracy", "tolerant_accuracy", "confusion": {annotated: {predicted: n}}, "by_type": {NAME: {"support",
    "precision", "recall"}}}. Tolerant: pairs of the taxonomy's `TOLERATED` are right too. Support, recall and precision
    are of matched cells; what was missed or found without annotation is in `any_cell`.
    """
    pairs: list[tuple[str, str]] = []
    for image, (_, kinds), (_, _, said) in zip(_select(truth, predictions, ANY_CELL), truth, predictions, strict=True):
        found = image.overlap.match(iou)
        for prediction in np.flatnonzero(found.hits & (image.scores >= threshold)):
            annotated = kinds[image.objects[found.truth[prediction]]]
            if annotated is not None and annotated not in COARSE:
                pairs.append((annotated, said[image.predictions[prediction]] or ANY_CELL))
    return _type_figures(pairs)


def _select(truth: Truth, predictions: Predictions, name: str) -> list[_Image]:
    """What counts in the row of a type: its objects, its predictions, and objects that may be of it as ignored."""
    wanted = taxonomy.narrower(name)
    ignored = UNDECIDED if name == ANY_CELL else frozenset(taxonomy.ancestors(name)) - {name} | {"no_consensus"}
    unstated = name == ANY_CELL

    def is_object(kind: str | None) -> bool:
        return unstated if kind is None else kind in wanted

    def is_ignored(kind: str | None) -> bool:
        if kind is None:
            return not unstated and name in taxonomy.narrower(ANY_CELL)
        return kind == IGNORE or kind in ignored

    return [_image(t, p, is_object, is_ignored) for t, p in zip(truth, predictions, strict=True)]


def _image(
    truth: tuple[ArrayLike, Sequence[str | None]],
    predictions: tuple[ArrayLike, ArrayLike, Sequence[str | None]],
    is_object: Callable[[str | None], bool],
    is_ignored: Callable[[str | None], bool],
) -> _Image:
    boxes, kinds = truth
    found, scores, said = predictions
    objects = np.array([i for i, kind in enumerate(kinds) if is_object(kind) or is_ignored(kind)], np.intp)
    chosen = np.array([i for i, kind in enumerate(said) if is_object(kind)], np.intp)
    own_scores = np.asarray(scores, dtype=float).reshape(-1)[chosen]
    overlap = Overlap.of(
        np.asarray(boxes, dtype=float).reshape(-1, 4)[objects],
        np.asarray(found, dtype=float).reshape(-1, 4)[chosen],
        own_scores,
        ignored=np.array([not is_object(kinds[i]) for i in objects], bool),
        areas=np.array([kinds[i] == IGNORE for i in objects], bool),
    )
    return _Image(overlap, own_scores, objects, chosen)


def _figures(images: Sequence[_Image], threshold: float) -> dict[str, float | int | None]:
    positives = sum(image.positives for image in images)
    by_iou = [_curve(images, iou) for iou in IOUS]
    precisions = [average_precision(hits, scores, positives) for hits, scores in by_iou]
    hits, scores = by_iou[0]
    found, made = int(hits[scores >= threshold].sum()), int((scores >= threshold).sum())
    defined = [value for value in precisions if value is not None]
    return {
        "boxes": positives,
        "ap50": precisions[0],
        "ap": float(np.mean(defined)) if defined else None,
        "precision": found / made if made else None,
        "recall": found / positives if positives else None,
        "f1": 2 * found / (made + positives) if made + positives else None,
    }


def _curve(images: Sequence[_Image], iou: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Hits and scores of all predictions that count, images one after the other, each by falling score."""
    hits, scores = [np.zeros(0, bool)], [np.zeros(0)]
    for image in images:
        found = image.overlap.match(iou)
        kept = image.overlap.order[~found.ignored[image.overlap.order]]
        hits.append(found.hits[kept])
        scores.append(image.scores[kept])
    return np.concatenate(hits), np.concatenate(scores)


def _type_figures(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    right = [said in taxonomy.narrower(annotated) for annotated, said in pairs]
    tolerant = [ok or taxonomy.tolerated(*pair) for ok, pair in zip(right, pairs, strict=True)]
    rows = [name for name in taxonomy.TYPES if any(name == annotated for annotated, _ in pairs)]
    confusion: dict[str, dict[str, int]] = {name: {} for name in rows}
    for annotated, said in pairs:
        confusion[annotated][said] = confusion[annotated].get(said, 0) + 1
    by_type = {}
    for name in rows:
        support = sum(annotated == name for annotated, _ in pairs)
        covered = taxonomy.narrower(name)
        called = sum(said in covered for _, said in pairs)
        hits = sum(said in covered for annotated, said in pairs if annotated == name)
        by_type[name] = {
            "support": support, "precision": hits / called if called else None, "recall": hits / support,
        }  # fmt: skip
    return {
        "matched": len(pairs),
        "accuracy": sum(right) / len(pairs) if pairs else None,
        "tolerant_accuracy": sum(tolerant) / len(pairs) if pairs else None,
        "confusion": confusion,
        "by_type": by_type,
    }


def _check(truth: Truth, predictions: Predictions) -> None:
    if len(truth) != len(predictions):
        raise UsageError(f"{number_of(len(predictions), 'list')} of predictions for {number_of(len(truth), 'image')}")
    for number, ((boxes, kinds), (found, scores, said)) in enumerate(zip(truth, predictions, strict=True)):
        sizes = (np.size(boxes) / 4, np.size(found) / 4, np.size(scores))
        if sizes != (len(kinds), len(said), len(said)):
            raise UsageError(f"image {number} has lists of different lengths", why="boxes, scores and types must agree")
        if not np.isfinite(np.asarray(scores, dtype=float)).all():
            raise UsageError(f"image {number} has scores that are no numbers")
        for kind in {*kinds, *said} - {None, IGNORE}:
            taxonomy.cell_type(str(kind))  # raises with near names
