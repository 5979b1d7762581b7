"""The second opinion on a detected cell: whether a classifier may speak, and whose word is adopted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy
from myelos.models.types import Classifier

RULE = (
    "the adopted type of a cell is the most probable type of the detector, or the classifier's where that is a finer "
    "word for it and its probability reaches the threshold for unidentified cells; with figures on held-out cells of "
    "the laboratory it is the classifier's"
)


@dataclass(frozen=True, slots=True)
class OpinionSettings:
    """coarsest: µm per pixel above which an image shows too little. Up to there a classifier loses a hundredth of the
    cells, whatever it was taught at (docs/classifier.md)."""

    coarsest: float = 0.3


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a cell is called, how probable that is, and whether both opinions agree as far as they say the same."""

    cell_type: str
    probability: float
    agree: bool


def unfit(classifier: Classifier, *, mpp: float | None, settings: OpinionSettings | None = None) -> str:
    """Why a classifier is not asked about an image of this scale; empty where it is."""
    settings = settings or OpinionSettings()
    if mpp is None:
        return f"{classifier.name} needs a known scale"
    if mpp > settings.coarsest:
        return f"{mpp:.2f} µm per pixel show too little for {classifier.name}, which was taught {classifier.mpp:g}"
    return ""


def adopt(
    first: str,
    first_probability: float,
    types: Sequence[str],
    probabilities: NDArray[np.float32],
    threshold: float,
    *,
    decides: bool = False,
) -> Adopted:
    """The rule over two opinions. first: the detector's type; types, probabilities: (T,) of the classifier.

    decides: the classifier was shown to be right on such cells, and its word is adopted. Otherwise it only makes the
    detector's word finer: on a camera that it was not taught it can be surely wrong, and where the two contradict each
    other a person looks. What it has no name for, it never decides.
    """
    best = int(probabilities.argmax())
    second, probability = types[best], float(probabilities[best])
    agree = taxonomy.akin(first, second)
    finer = first in taxonomy.ancestors(second) and probability >= threshold
    nameable = any(taxonomy.akin(first, name) for name in types)
    coarser = agree and second != first and second in taxonomy.ancestors(first)
    if finer or (decides and nameable and not coarser):
        return Adopted(second, probability, agree)
    return Adopted(first, first_probability, agree)
