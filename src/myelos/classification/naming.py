"""Naming images of single cells that nobody labelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myelos.classification.evaluate import Aside, predictions
from myelos.classification.judging import look_of_folders
from myelos.classification.questions import ANSWERS
from myelos.datasets.cells import CellRecord
from myelos.models.types import Classifier


@dataclass(frozen=True)
class Named:
    """paths: N images that could be read. probabilities: (N, T) over `types`. aside: the others, with their reasons."""

    paths: tuple[Path, ...]
    types: tuple[str, ...]
    probabilities: NDArray[np.float32]
    threshold: float
    aside: Aside

    def rows(self) -> list[dict[str, object]]:
        """One row an image: file, cell_type (not_identifiable below the threshold), probability, and the runner-up."""
        found = []
        for path, shares in zip(self.paths, self.probabilities, strict=True):
            second, best = np.argsort(shares)[-2:] if len(shares) > 1 else (0, 0)
            kind = self.types[best] if shares[best] >= self.threshold else "not_identifiable"
            row: dict[str, object] = {"file": path.name, "cell_type": kind, "most_probable": self.types[best]}
            row |= {"probability": round(float(shares[best]), 4)}
            found.append(row | {"second": self.types[second], "second_probability": round(float(shares[second]), 4)})
        return found

    def answers(self) -> list[dict[str, object]]:
        """One row an image, of a model that answers a question: file, answer, and the probability of yes."""
        shares = self.probabilities[:, ANSWERS.index("yes")].tolist()
        return [
            {"file": path.name, "answer": ANSWERS[int(share >= self.threshold)], "probability": round(share, 4)}
            for path, share in zip(self.paths, shares, strict=True)
        ]


def name_cells(
    paths: Sequence[Path],
    classifier: Classifier,
    *,
    mpp: float | None = None,
    stain_like: Sequence[Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Named:
    """Name the cell in the middle of each image. mpp: µm/px; from the red cells in sight where None.

    stain_like: folders of labelled cells to whose stain these are brought. Raises UsageError where no scale is known.
    """
    records = [CellRecord(path, "nucleated_cell", source=str(path.parent)) for path in paths]
    like = look_of_folders(stain_like, classifier, mpp=mpp)
    given, kept, aside = predictions(records, classifier, mpp=mpp, like=like, progress=progress)
    read = tuple(paths[index] for index in kept)
    return Named(read, classifier.types, given, classifier.threshold, aside)
