"""Images that show the same thing: repeats, resized, stretched, recoloured, mirrored or turned by 180°, or cut out.

Grey thumbnails, stretched to a square and brought to mean 0 and length 1, are compared by their correlation; `crops`
finds fields that are parts of other fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myelos.datasets import crops, mirrors
from myelos.datasets.images import content_hash, thumbnail
from myelos.datasets.records import Fault, FieldRecord
from myelos.errors import InputError


@dataclass(frozen=True, slots=True)
class DuplicateSettings:
    """side: of the thumbnails, pixels, even. correlation: above it two images are near-duplicates.

    crops: how parts of fields are looked for, None for not at all. single_cells: whether images of one cell in their
    middle are looked for among the parts too. They are all alike, so that strangers are joined now and then, and most
    of the time goes into aligning them; a copy of a whole image is found without. unreadable: what cannot be read
    resembles nothing but its own copies, in place of an error; whoever shows the image says that it cannot be read.
    """

    side: int = 48
    correlation: float = 0.97
    crops: crops.CropSettings | None = field(default_factory=crops.CropSettings)
    single_cells: bool = False
    unreadable: bool = False


_USUAL = DuplicateSettings()
WITH_SINGLE_CELLS = DuplicateSettings(single_cells=True)  # as the splits of the shipped detectors were made
_KINDS = {"identical": "repeated image", "whole": "near-duplicate image", "part": "part of another image"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Indices of two images, first < second, and their correlation in the orientation where it is highest.

    kind: identical (the same file), whole, or part (one shows a part of the other, correlation after alignment).
    """

    first: int
    second: int
    correlation: float
    kind: str = "whole"


def groups(items: Sequence[FieldRecord | Path], settings: DuplicateSettings = _USUAL) -> list[int]:
    """A label for every image; near-duplicates, and what they are near-duplicates of in turn, share one.

    Labels count from 0 in the order of first appearance. Raises InputError where an image cannot be read, unless the
    settings let it pass.
    """
    return join(len(items), [(pair.first, pair.second) for pair in pairs(items, settings)])


def pairs(items: Sequence[FieldRecord | Path], settings: DuplicateSettings = _USUAL) -> list[Pair]:
    """All pairs of near-duplicates, sorted by their indices."""
    paths = [item if isinstance(item, Path) else item.path for item in items]
    if not paths:
        return []
    large = np.stack([_thumbnail(path, settings) for path in paths])
    found = {(pair.first, pair.second): pair for pair in _identical(paths)}
    similar = [*_similar(_normalised(large), settings.correlation)]
    if settings.crops is not None:
        similar += _crops(_fields(items, single_cells=settings.single_cells), large, settings.crops)
    for pair in similar:
        found.setdefault((pair.first, pair.second), pair)
    return [found[key] for key in sorted(found)]


def repeats(records: Sequence[FieldRecord]) -> list[Fault]:
    """Near-duplicates as faults: each image that repeats an earlier one, with the earlier one's name."""
    faults: dict[int, Fault] = {}
    for pair in pairs(records):
        first, second = records[pair.first], records[pair.second]
        detail = f"of {first.path.name} in {first.source}, correlation {pair.correlation:.3f}; kept in one split"
        faults.setdefault(pair.second, Fault(second.path, None, _KINDS[pair.kind], detail))
    return [faults[index] for index in sorted(faults)]


def join(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Labels of the connected components of `count` things, numbered in the order of first appearance."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in links:
        parent[root(first)] = root(second)
    labels: dict[int, int] = {}
    return [labels.setdefault(root(index), len(labels)) for index in range(count)]


def _thumbnail(path: Path, settings: DuplicateSettings) -> NDArray[np.float32]:
    side = 2 * settings.side
    try:
        return thumbnail(path, side)
    except InputError:
        if not settings.unreadable:
            raise
        return np.zeros((side, side), np.float32)


def _identical(paths: Sequence[Path]) -> Iterator[Pair]:
    """Pairs of equal files, which have no correlation where the image is of one grey."""
    first: dict[str, int] = {}
    for index, path in enumerate(paths):
        earlier = first.setdefault(content_hash(path), index)
        if earlier != index:
            yield Pair(earlier, index, 1.0, "identical")


def _normalised(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 2 side, 2 side) → (N, side, side) of mean 0 and length 1; images of one grey become 0."""
    count, double, _ = thumbnails.shape
    grey = thumbnails.reshape(count, double // 2, 2, double // 2, 2).mean(axis=(2, 4))
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((grey**2).sum(axis=(1, 2), keepdims=True))
    return np.where(length > 1e-3, grey / np.maximum(length, 1e-3), 0).astype(np.float32)


def _similar(images: NDArray[np.float32], threshold: float) -> Iterator[Pair]:
    halves = mirrors.parts(images)
    for start, values, _ in mirrors.combined(halves, halves):
        for row, column in np.argwhere(values > threshold):
            if start + row < column:
                yield Pair(start + int(row), int(column), min(float(values[row, column]), 0.9999))


def single_cell(record: FieldRecord) -> bool:
    """Whether the image shows one cell and little else: one box, of a twentieth of the area or more in the very middle,
    and of as much more as it lies aside (in shares of the side)."""
    if len(record.boxes) != 1:
        return False
    x, y, width, height = record.boxes[0].tolist()
    aside = max(
        abs(x + width / 2 - record.width / 2) / record.width, abs(y + height / 2 - record.height / 2) / record.height
    )
    return width * height / (record.width * record.height) > 0.05 + aside


def _fields(items: Sequence[FieldRecord | Path], *, single_cells: bool) -> list[int]:
    """Indices of what may be a part of another or have one; single cells, given as paths, are whole images."""
    return [
        index
        for index, item in enumerate(items)
        if isinstance(item, FieldRecord) and (single_cells or not single_cell(item))
    ]


def _crops(fields: Sequence[int], thumbnails: NDArray[np.float32], settings: crops.CropSettings) -> Iterator[Pair]:
    """Pairs of fields one of which is a part of the other."""
    if len(fields) > 1:
        for first, second, value in crops.find(thumbnails[list(fields)], settings):
            yield Pair(fields[first], fields[second], min(value, 0.9999), "part")
