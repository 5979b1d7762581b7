"""Which prediction is which annotated object: the rule of COCO, for one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myelos.geometry import overlaps


@dataclass(frozen=True, slots=True)
class Matches:
    """truth: (M,) index of the object that each prediction is matched with, −1 for none. ignored: (M,) predictions that
    are neither hit nor miss. iou: (M,) with the matched object, 0 for none. All in the order of the predictions."""

    truth: NDArray[np.intp]
    ignored: NDArray[np.bool_]
    iou: NDArray[np.float64]

    @property
    def hits(self) -> NDArray[np.bool_]:
        return (self.truth >= 0) & ~self.ignored


@dataclass(frozen=True, slots=True)
class Overlap:
    """Overlaps of one image's predictions with its objects, computed once for every threshold.

    iou: (M, N). order: (M,) indices of predictions by falling score, equal scores in the order given.
    ignored: (N,) objects that are neither hit nor miss. areas: (N,) those of them that any number of predictions may
    fall in, for which `iou` is the share of the prediction that lies inside.
    """

    iou: NDArray[np.float64]
    order: NDArray[np.intp]
    ignored: NDArray[np.bool_]
    areas: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        truth: ArrayLike,
        predicted: ArrayLike,
        scores: ArrayLike,
        *,
        ignored: ArrayLike | None = None,
        areas: ArrayLike | None = None,
    ) -> Overlap:
        objects = np.asarray(truth, dtype=float).reshape(-1, 4)
        boxes = np.asarray(predicted, dtype=float).reshape(-1, 4)
        inside = np.zeros(len(objects), bool) if areas is None else np.asarray(areas, bool)
        left_out = np.zeros(len(objects), bool) if ignored is None else np.asarray(ignored, bool)
        intersection, union = overlaps(boxes, objects)
        own = np.clip(boxes[:, 2], 0, None) * np.clip(boxes[:, 3], 0, None)
        whole = np.where(inside[None, :], own[:, None], union)
        iou = np.divide(intersection, whole, out=np.zeros_like(intersection), where=whole > 0)
        order = np.argsort(-np.asarray(scores, dtype=float).reshape(-1), kind="stable")
        return cls(iou, order, left_out | inside, inside)

    def match(self, iou: float) -> Matches:
        """Greedy: the surest prediction first takes the free object that it overlaps most, if at least `iou`.

        Objects to be found come before ignored ones, however much these overlap. Of equal overlaps the later object
        is taken, as COCO's own program does.
        """
        count, objects = self.iou.shape
        truth, overlap = np.full(count, -1, np.intp), np.zeros(count)
        free = np.ones(objects, bool)
        # Most predictions overlap nothing enough, and most of the others one object only.
        near = self.iou >= min(iou, 1 - 1e-10)
        reaching = np.asarray(near.any(axis=1))
        for prediction in self.order[reaching[self.order]]:
            candidates = np.flatnonzero(near[prediction] & free)
            wanted = candidates[~self.ignored[candidates]]
            pool = wanted if len(wanted) else candidates
            if len(pool):
                values = self.iou[prediction, pool]
                best = pool[len(values) - 1 - np.argmax(values[::-1])]
                truth[prediction], overlap[prediction] = best, self.iou[prediction, best]
                free[best] = self.areas[best]
        ignored = np.zeros(count, bool)
        ignored[truth >= 0] = self.ignored[truth[truth >= 0]]
        return Matches(truth, ignored, overlap)


def match(
    truth: ArrayLike,
    predicted: ArrayLike,
    scores: ArrayLike,
    iou: float = 0.5,
    *,
    ignored: ArrayLike | None = None,
    areas: ArrayLike | None = None,
) -> Matches:
    """Match (M, 4) predictions with (N, 4) objects of one image, x y width height; see `Overlap.match`.

    ignored: (N,) objects that are neither hit nor miss, each taken once. areas: (N,) areas to ignore, in which any
    number of predictions may lie ("crowd" in COCO).
    """
    return Overlap.of(truth, predicted, scores, ignored=ignored, areas=areas).match(iou)
