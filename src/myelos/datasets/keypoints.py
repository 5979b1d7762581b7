"""Images that show the same cell, and images that overlap: local features compared, then the picture itself.

As Matek et al. 2021 (Data set selection) screen theirs, with SIFT (Lowe 2004; RootSIFT: Arandjelović and Zisserman
2012). Candidates: pairs of images whose features fall into the same cells of several random partitions, which is linear
in the number of images, and pairs whose thumbnails are alike, which also finds mirrored and featureless ones. A
candidate is kept only where, one image laid over the other, fine detail agrees: two cells in the middle of two images
look alike in a thumbnail, but never have the same grain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from myelos.datasets.duplicates import DuplicateSettings, join, pairs
from myelos.errors import InputError

Grey = NDArray[np.uint8]
_FINE, _COARSE = 1.0, 4.0  # pixels of the blurs whose difference is the detail
_MOVES = 32  # turns by 45° times scales by factors of 2
_FEW = 30  # images of which all pairs are compared


@dataclass(frozen=True, slots=True)
class OverlapSettings:
    """How overlaps are looked for.

    side: pixels of the longer side that images are reduced to. keypoints: of an image, the strongest. tables: random
    partitions. votes: features that must fall together for a candidate. matches: features that must agree on one
    movement. detail: correlation of the fine detail where both are. share: of the smaller image that both show, at
    least. alike: correlation of thumbnails for a candidate.
    """

    side: int = 256
    keypoints: int = 150
    tables: int = 12
    votes: int = 4
    matches: int = 8
    detail: float = 0.7
    share: float = 0.15
    alike: float = 0.95


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two images, first < second. kind: identical (the same pixels), whole or part.

    share: of the smaller one that both show. detail: correlation of the fine detail there.
    """

    first: int
    second: int
    kind: str
    share: float
    detail: float


@dataclass(frozen=True, slots=True)
class _Features:
    """points: (N, 2) x y in pixels of the reduced image. poses: (N, 2) angle in degrees, log2 of the size.

    descriptors: (N, 128) float32 of length 1.
    """

    points: NDArray[np.float32]
    poses: NDArray[np.float32]
    descriptors: NDArray[np.float32]


def cell_groups(paths: Sequence[Path], settings: OverlapSettings | None = None) -> list[int]:
    """A label for every image; those that overlap, and what these overlap with in turn, share one."""
    return join(len(paths), [(found.first, found.second) for found in overlaps(paths, settings=settings)])


def overlaps(
    paths: Sequence[Path],
    *,
    settings: OverlapSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Overlap]:
    """All pairs of images that show the same thing, sorted by their indices.

    Raises InputError where an image cannot be read: leave out what `damaged.find_damaged` finds first.
    """
    settings = settings or OverlapSettings()
    features = []
    for done, path in enumerate(paths, 1):
        features.append(_features(_grey(path, settings.side), settings))
        if progress:
            progress(done, len(paths))
    alike = _alike(paths, settings)
    found = (
        _verify(paths, features, pair, settings, alike=pair in alike)
        for pair in sorted(alike | _voted(features, settings))
    )
    return [overlap for overlap in found if overlap is not None]


def _verify(
    paths: Sequence[Path],
    features: Sequence[_Features],
    pair: tuple[int, int],
    settings: OverlapSettings,
    *,
    alike: bool,
) -> Overlap | None:
    """The overlap of two images, None where they show different things.

    alike: their thumbnails are, so that one is laid over the other in the eight poses of a square, too.
    """
    first, second = (_grey(paths[index], settings.side) for index in pair)
    if first.shape == second.shape and np.array_equal(first, second):
        return Overlap(*pair, "identical", 1.0, 1.0)
    movement = _movement(features[pair[0]], features[pair[1]], settings)
    movements = ([movement] if movement is not None else []) + (list(_poses(first, second)) if alike else [])
    results = [_agreement(first, second, matrix) for matrix in movements]
    fitting = [result for result in results if result[0] >= settings.share and result[1] >= settings.detail]
    if not fitting:
        return None
    share, detail = max(fitting, key=lambda result: result[1])
    return Overlap(*pair, "whole" if share > 0.95 else "part", round(share, 3), round(detail, 3))


def _movement(one: _Features, other: _Features, settings: OverlapSettings) -> NDArray[np.float64] | None:
    """(2, 3): turn, scale and shift from the first image to the second that most features agree on."""
    if min(len(one.points), len(other.points)) < settings.matches:
        return None
    likeness = one.descriptors @ other.descriptors.T
    forth, back = likeness.argmax(axis=1), likeness.argmax(axis=0)
    rows = np.flatnonzero(back[forth] == np.arange(len(forth)))  # each the other's nearest
    rows = rows[likeness[rows, forth[rows]] > 0.8]
    if len(rows) < settings.matches:
        return None
    cv2.setRNGSeed(0)  # the same images give the same answer
    matrix, inside = cv2.estimateAffinePartial2D(
        one.points[rows], other.points[forth[rows]], method=cv2.RANSAC, ransacReprojThreshold=3.0, maxIters=1000
    )
    if matrix is None or int(inside.sum()) < settings.matches:
        return None
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return matrix if 0.3 < scale < 3.3 else None


def _poses(first: Grey, second: Grey) -> Iterator[NDArray[np.float64]]:
    """(2, 3) each: the first image stretched over the second in its four turns, mirrored or not."""
    height, width = first.shape
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32) - 0.5
    goal = np.array(
        [(0, 0), (second.shape[1], 0), (second.shape[1], second.shape[0]), (0, second.shape[0])], np.float32
    )
    for turned in range(4):
        for order in (1, -1):
            ends = np.roll(goal - 0.5, turned, axis=0)[::order]
            yield cv2.getAffineTransform(np.ascontiguousarray(corners[:3]), np.ascontiguousarray(ends[:3]))


def _agreement(first: Grey, second: Grey, matrix: NDArray[np.float64]) -> tuple[float, float]:
    """(share, detail) with the first image moved onto the second."""
    height, width = second.shape
    moved = cv2.warpAffine(first, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(np.full(first.shape, 255, np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST)
    inside = cv2.erode(cover, np.ones((9, 9), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=255) > 0
    area = abs(float(np.linalg.det(matrix[:, :2]))) * first.size
    share = min(1.0, float((cover > 0).sum()) / max(1.0, min(area, second.size)))
    return share, _correlation(_detail(moved)[inside], _detail(second)[inside])


def _detail(image: Grey) -> NDArray[np.float32]:
    values = image.astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(values, (0, 0), blur) for blur in (_FINE, _COARSE))
    return np.asarray(fine - coarse)


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    if one.size < 400:
        return 0.0
    one, other = one - one.mean(), other - other.mean()
    length = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / length if length > 1e-3 else 0.0


def _voted(features: Sequence[_Features], settings: OverlapSettings) -> set[tuple[int, int]]:
    """Pairs of images enough of whose features fall together by one turn and one scale; all pairs of a few images.

    Measured on 300 single cells and 31 overlaps made of others: 30 of these and 4 of 68,000 strangers are candidates.
    """
    number = len(features)
    if number <= _FEW:
        return {(first, second) for second in range(number) for first in range(second)}
    owners = np.repeat(np.arange(number), [len(entry.poses) for entry in features])
    poses = np.concatenate([entry.poses for entry in features])
    values = _whitened(np.concatenate([entry.descriptors for entry in features]))
    bits = int(np.clip(np.log2(max(2, len(owners))) + 10, 16, 30))
    rng = np.random.default_rng(0)
    votes: Counter[int] = Counter()
    for _ in range(settings.tables):
        signs = values @ rng.standard_normal((values.shape[1], bits), dtype=np.float32) > 0
        votes.update(_together(signs @ (1 << np.arange(bits)), owners, poses, number).tolist())
    return {divmod(vote // _MOVES, number) for vote, count in votes.items() if count >= settings.votes}


def _whitened(descriptors: NDArray[np.float32], dimensions: int = 64) -> NDArray[np.float32]:
    """(N, 64): the descriptors' main directions, all of one variance: strangers share no more than by chance."""
    values = descriptors - descriptors.mean(axis=0)
    variances, directions = np.linalg.eigh(values.T @ values / max(1, len(values)))
    scale = np.sqrt(np.maximum(variances[-dimensions:], 1e-6))
    return np.asarray(values @ directions[:, -dimensions:] / scale, np.float32)


def _together(
    keys: NDArray[np.int64], owners: NDArray[np.int64], poses: NDArray[np.float32], number: int, most: int = 8
) -> NDArray[np.int64]:
    """Votes ((first * number + second) * moves + move) of features that share a key, `most` neighbours of each."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    found = []
    for lag in range(1, most + 1):
        place = np.flatnonzero(keys[lag:] == keys[:-lag])
        one, other = order[place], order[place + lag]
        later = owners[one] > owners[other]
        one, other = np.where(later, other, one), np.where(later, one, other)
        turn = (poses[other, 0] - poses[one, 0]) % 360 // 45
        scale = np.round(poses[other, 1] - poses[one, 1]) + 1
        fits = (owners[one] != owners[other]) & (scale >= 0) & (scale <= 2)
        pair = owners[one] * number + owners[other]
        found.append((pair * _MOVES + (turn * 4 + scale).astype(np.int64))[fits])
    return np.concatenate(found)


def _alike(paths: Sequence[Path], settings: OverlapSettings) -> set[tuple[int, int]]:
    found = pairs(list(paths), DuplicateSettings(correlation=settings.alike, crops=None))
    return {(pair.first, pair.second) for pair in found}


def _features(grey: Grey, settings: OverlapSettings) -> _Features:
    points, descriptors = cv2.SIFT.create(nfeatures=settings.keypoints, contrastThreshold=0.005).detectAndCompute(
        grey, None
    )
    if descriptors is None:
        return _Features(*(np.zeros((0, columns), np.float32) for columns in (2, 2, 128)))
    roots = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)).astype(np.float32)
    places = np.array([point.pt for point in points], np.float32)
    poses = np.array([(point.angle, np.log2(point.size)) for point in points], np.float32)
    most = settings.keypoints
    return _Features(places[:most], poses[:most], roots[:most])


def _grey(path: Path, side: int) -> Grey:
    """The image in grey, its longer side no more than `side` pixels."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read", why=str(error)) from error
    upright.thumbnail((side, side), Image.Resampling.BOX)
    return np.asarray(upright, np.uint8)
