"""Annotations of any format → records, with every fault named by file and line and what was done about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from myelos import taxonomy
from myelos.datasets.images import probe
from myelos.datasets.records import Annotation, Fault, FieldRecord, Mark
from myelos.errors import InputError, LabelError
from myelos.geometry import Box

TOLERANCE = 1.0  # pixels by which a box may leave the image in silence: annotation programs round
_SAME = 0.01  # pixels below which two boxes are one box written twice


@dataclass
class Assembler:
    """Turns annotations into records and collects the faults.

    scheme: label scheme whose codes the files use, None for names. keep_untyped: boxes of unknown classes stay, with
    type None, instead of being left out. size: gives width and height of an image.
    """

    scheme: str | None = None
    keep_untyped: bool = False
    size: Callable[[Path], tuple[int, int]] = probe
    faults: list[Fault] = field(default_factory=list)

    def record(self, annotation: Annotation, source: str, group: str | None) -> FieldRecord | None:
        """The record of one image, None where the image is missing or unreadable."""
        if not annotation.image.is_file():
            self._fault(annotation.file, None, "missing image", f"{annotation.image.name}, left out")
            return None
        try:
            width, height = self.size(annotation.image)
        except InputError as error:
            self._fault(annotation.image, None, "unreadable image", f"{error.why or error.what}; left out")
            return None
        if annotation.size not in (None, (0, 0), (width, height)):
            self._fault(annotation.file, None, "image size differs", f"{annotation.size} stated, {width, height} found")
        boxes, types, ignored = self._boxes(annotation, width, height)
        return FieldRecord(
            annotation.image, width, height, _array(boxes), tuple(types), source, group, ignored=_array(ignored)
        )

    def _boxes(self, annotation: Annotation, width: int, height: int) -> tuple[list[Box], list[str | None], list[Box]]:
        boxes: list[Box] = []
        types: list[str | None] = []
        ignored: list[Box] = []
        for mark in annotation.marks:
            box = self._box(annotation, mark, width, height)
            if box is None:
                continue
            if mark.ignore:
                ignored.append(box)
                continue
            known, cell_type = self._type(annotation, mark)
            if known and not self._repeats(annotation, mark, (box, cell_type), (boxes, types)):
                boxes.append(box)
                types.append(cell_type)
        return boxes, types, ignored

    def _box(self, annotation: Annotation, mark: Mark, width: int, height: int) -> Box | None:
        """The part of a mark inside the image, in pixels; None where nothing usable is left."""
        box = Box(mark.x, mark.y, mark.width, mark.height)
        if annotation.relative:
            box = Box(box.x * width, box.y * height, box.width * width, box.height * height)
        if not np.isfinite([box.x, box.y, box.width, box.height]).all():
            self._drop(annotation, mark, "not a number", "left out")
            return None
        if box.width <= 0 or box.height <= 0:
            self._drop(annotation, mark, "zero area", f"{box.width:g} × {box.height:g}, left out")
            return None
        inside = box.clipped(width, height)
        if inside.area <= 0:
            self._drop(annotation, mark, "outside the image", "left out")
            return None
        beyond = max(-box.x, -box.y, box.right - width, box.bottom - height)
        if beyond > TOLERANCE:
            self._drop(annotation, mark, "partly outside the image", f"by {beyond:.1f} px, clipped")
        return inside

    def _type(self, annotation: Annotation, mark: Mark) -> tuple[bool, str | None]:
        """Whether the mark is to be kept, and its type."""
        if mark.label is None:
            return True, None
        for label in dict.fromkeys((mark.label, *reversed(mark.label.split(": ")))):  # QuPath derives "Parent: Child"
            try:
                return True, taxonomy.resolve(label, self.scheme)
            except LabelError:
                continue
        done = "kept without a type" if self.keep_untyped else "left out"
        self._drop(annotation, mark, "unknown class", f"{mark.label!r}, {done}")
        return self.keep_untyped, None

    def _repeats(
        self,
        annotation: Annotation,
        mark: Mark,
        new: tuple[Box, str | None],
        so_far: tuple[list[Box], list[str | None]],
    ) -> bool:
        box, cell_type = new
        for other, other_type in zip(*so_far, strict=True):
            apart = max(abs(box.x - other.x), abs(box.y - other.y), abs(box.right - other.right))
            if max(apart, abs(box.bottom - other.bottom)) < _SAME:
                if cell_type == other_type:
                    self._drop(annotation, mark, "duplicate box", "left out")
                else:
                    self._drop(annotation, mark, "two labels on one box", f"{cell_type} left out for {other_type}")
                return True
        return False

    def _drop(self, annotation: Annotation, mark: Mark, kind: str, detail: str) -> None:
        self._fault(annotation.file, mark.line, kind, f"{mark.name}: {detail}" if mark.name else detail)

    def _fault(self, file: Path, line: int | None, kind: str, detail: str) -> None:
        self.faults.append(Fault(file, line, kind, detail))


def _array(boxes: list[Box]) -> np.ndarray:
    return np.array([[box.x, box.y, box.width, box.height] for box in boxes], dtype=np.float64).reshape(-1, 4)
