"""What every annotated image becomes, whatever format it came in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IGNORE = "ignore"  # the type that `FieldRecord.truth` gives to boxes that are neither hit nor miss


def _no_boxes() -> NDArray[np.float64]:
    return np.zeros((0, 4))


@dataclass(frozen=True, eq=False, slots=True)
class FieldRecord:
    """One image with its boxes.

    boxes: (N, 4) float64 x y width height, level-0 pixels, inside the image. types: N names of the taxonomy, None for
    a cell whose type is not stated. source: the set it came from. group: the unit that splits keep together (a
    patient, a sample), None where unknown. ignored: (M, 4) areas that are neither cell nor background.
    """

    path: Path
    width: int
    height: int
    boxes: NDArray[np.float64]
    types: tuple[str | None, ...]
    source: str
    group: str | None = None
    ignored: NDArray[np.float64] = field(default_factory=_no_boxes)

    def truth(self) -> tuple[NDArray[np.float64], tuple[str | None, ...]]:
        """Boxes and types as `metrics.detection.evaluate` takes them, ignored areas included."""
        return np.concatenate([self.boxes, self.ignored]), self.types + (IGNORE,) * len(self.ignored)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the labels: where (line from 1, None where the format has none), what, and what was done."""

    file: Path
    line: int | None
    kind: str
    detail: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line is not None else str(self.file)
        return f"{place}: {self.kind}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Mark:
    """One annotation as it stands in a label file: a box, its label in the file's own words, and its line."""

    x: float
    y: float
    width: float
    height: float
    label: str | None
    line: int | None = None
    name: str = ""  # what the file calls this annotation, where it has no lines
    ignore: bool = False


@dataclass(frozen=True, slots=True)
class Annotation:
    """The marks of one image. relative: they are fractions of the image's size. size: what the label file states."""

    image: Path
    file: Path
    marks: tuple[Mark, ...]
    relative: bool = False
    size: tuple[int, int] | None = None  # width, height
