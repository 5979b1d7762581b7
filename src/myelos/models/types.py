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
