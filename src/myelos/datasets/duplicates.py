"""Images that show the same thing: repeats, resized, stretched, recoloured, mirrored or turned by 180°.

Grey thumbnails, stretched to a square and brought to mean 0 and length 1, are compared by their correlation. A mirrored
image needs no second comparison: every thumbnail is the sum of four parts, even or odd in x and in y, which are
orthogonal; a mirror changes the sign of two of them. Four products over a quarter of the pixels each therefore give
the correlation with all four orientations at the price of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myelos.datasets.images import content_hash, thumbnail
from myelos.datasets.records import Fault, FieldRecord

# Signs of the parts (even-even, even-odd, odd-even, odd-odd in y, x) under each orientation.
_ORIENTATIONS = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))
_BLOCK = 1024  # rows compared at a time: bounds the memory


@dataclass(frozen=True, slots=True)
class DuplicateSettings:
    """side: of the thumbnails, pixels, even. correlation: above it two images are near-duplicates."""

    side: int = 48
    correlation: float = 0.97


_USUAL = DuplicateSettings()


@dataclass(frozen=True, slots=True)
class Pair:
    """Indices of two images, first < second, and their correlation in the orientation where it is highest."""

    first: int
    second: int
    correlation: float


def groups(items: Sequence[FieldRecord | Path], settings: DuplicateSettings = _USUAL) -> list[int]:
    """A label for every image; near-duplicates, and what they are near-duplicates of in turn, share one.

    Labels count from 0 in the order of first appearance. Raises InputError where an image cannot be read.
    """
    return join(len(items), [(pair.first, pair.second) for pair in pairs(items, settings)])


def pairs(items: Sequence[FieldRecord | Path], settings: DuplicateSettings = _USUAL) -> list[Pair]:
    """All pairs of near-duplicates, sorted by their indices."""
    paths = [item if isinstance(item, Path) else item.path for item in items]
    found = {(pair.first, pair.second): pair for pair in _identical(paths)}
    parts = _parts(np.stack([_normalised(path, settings.side) for path in paths])) if paths else []
    for pair in _similar(parts, settings.correlation):
        found.setdefault((pair.first, pair.second), pair)
    return [found[key] for key in sorted(found)]


def repeats(records: Sequence[FieldRecord]) -> list[Fault]:
    """Near-duplicates as faults: each image that repeats an earlier one, with the earlier one's name."""
    faults: dict[int, Fault] = {}
    for pair in pairs(records):
        first, second = records[pair.first], records[pair.second]
        kind = "repeated image" if pair.correlation == 1 else "near-duplicate image"
        detail = f"of {first.path.name} in {first.source}, correlation {pair.correlation:.3f}; kept in one split"
        faults.setdefault(pair.second, Fault(second.path, None, kind, detail))
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


def _identical(paths: Sequence[Path]) -> Iterator[Pair]:
    """Pairs of equal files, which have no correlation where the image is of one grey."""
    first: dict[str, int] = {}
    for index, path in enumerate(paths):
        earlier = first.setdefault(content_hash(path), index)
        if earlier != index:
            yield Pair(earlier, index, 1.0)


def _normalised(path: Path, side: int) -> NDArray[np.float32]:
    grey = thumbnail(path, side)
    grey = grey - grey.mean()
    length = float(np.linalg.norm(grey))
    return grey / length if length > 1e-3 else np.zeros_like(grey)


def _parts(thumbnails: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """(N, side, side) → four (N, side² / 4): the parts even or odd in y and x, scaled so that products add up."""
    half = thumbnails.shape[1] // 2
    top, bottom = thumbnails[:, :half], thumbnails[:, ::-1][:, :half]
    parts: list[NDArray[np.float32]] = []
    for rows in (top + bottom, top - bottom):
        left, right = rows[:, :, :half], rows[:, :, ::-1][:, :, :half]
        for part in (left + right, left - right):
            parts.append((part * np.float32(0.5)).reshape(len(rows), -1).astype(np.float32))
    return parts


def _similar(parts: Sequence[NDArray[np.float32]], threshold: float) -> Iterator[Pair]:
    count = len(parts[0]) if parts else 0
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        # Only columns from the block on: each pair is met once.
        products = [part[start:stop] @ part[start:].T for part in parts]
        best = np.full(products[0].shape, -1.0, np.float32)
        for a, b, c, d in _ORIENTATIONS:
            np.maximum(best, a * products[0] + b * products[1] + c * products[2] + d * products[3], out=best)
        for row, column in np.argwhere(np.triu(best > threshold, k=1)):
            yield Pair(start + int(row), start + int(column), min(float(best[row, column]), 0.9999))
