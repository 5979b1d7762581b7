"""What every model takes and gives: arrays in, a small result out. No paths, slides or label files in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Boxes:
    """Objects found in one tile, in the pixels of that tile, sorted by falling score.

    xywh: (N, 4) float32, x y width height. scores: (N,) float32, that this is a cell of any type.
    probabilities: (N, T) float32 over the detector's types, each row sums to 1.
    """

    xywh: NDArray[np.float32]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def types(self) -> NDArray[np.intp]:
        """(N,) index of the most probable type."""
        return self.probabilities.argmax(axis=1) if len(self) else np.zeros(0, np.intp)


class Detector(Protocol):
    """Finds and names cells in tiles of one common scale.

    `types`: names of the taxonomy, in the order of the columns of `Boxes.probabilities`.
    `mpp`: µm per pixel that tiles must have. `tile`: side of a tile in pixels. `batch`: tiles per call
    (shorter lists are padded by the model, so that results depend on no batch). `threshold`: the working threshold
    of the score. `name`, `sha256`: what run.json stores.
    """

    name: str
    sha256: str
    types: tuple[str, ...]
    mpp: float
    tile: int
    batch: int
    threshold: float

    def __call__(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Boxes]:
        """tiles: RGB, each (height, width, 3) with sides up to `tile` → one `Boxes` a tile, in the same order."""
        ...


class Classifier(Protocol):
    """Names single cells shown in the middle of square crops of one common scale.

    `types`: names of the taxonomy, in the order of the columns. `mpp`: µm per pixel that crops must have. `side`: of a
    crop in pixels. `views`: poses of each crop that are averaged. `threshold`: the probability below which a cell is
    unidentified. `decides`: whether its word is adopted against the detector's. `scheme`: the label scheme it was
    taught. `name`, `sha256`: what run.json stores.
    """

    name: str
    sha256: str
    types: tuple[str, ...]
    scheme: str
    mpp: float
    side: int
    views: int
    threshold: float
    decides: bool

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """crops: RGB, each (side, side, 3), their white point set → (N, T) probabilities; each row sums to 1."""
        ...


class FeaturedClassifier(Classifier, Protocol):
    """A classifier that also tells the features from which it names a cell."""

    def with_features(self, crops: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """crops as above → (N, T) probabilities and (N, C) features before the last layer."""
        ...
