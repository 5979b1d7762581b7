"""Features of colour: what a histogram of each channel and region tells, how channels go together, and profiles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from myelos.classification.view import CHANNELS, REGIONS, CellView
from myelos.imaging.segmentation import Mask, depth_in

STATISTICS = (
    "mean", "deviation", "skewness", "kurtosis", "p1", "p10", "p25", "median", "p75", "p90", "p99", "entropy", "energy",
)  # fmt: skip
QUANTILES = (0.01, 0.10, 0.25, 0.50, 0.75, 0.90, 0.99)
BINS, RINGS = 16, 8
TOGETHER = ("cell", "nucleus", "cytoplasm", "surroundings")


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """Names of `measure`'s features, in its order."""
    parts = [*STATISTICS, *(f"histogram_{index}" for index in range(BINS))]
    found = [f"colour.{region}.{channel}.{part}" for region in REGIONS for channel in CHANNELS for part in parts]
    pairs = list(combinations(CHANNELS, 2))
    found += [f"colour.{region}.correlation.{a}.{b}" for region in TOGETHER for a, b in pairs]
    found += [f"colour.{kind}.{channel}" for kind in ("contrast", "ratio") for channel in CHANNELS]
    for body in ("nucleus", "cell"):
        found += [f"colour.{body}.profile_{ring}.{channel}" for ring in range(RINGS) for channel in CHANNELS]
    return tuple(found)


def measure(view: CellView) -> NDArray[np.float32]:
    """(F,) features in the order of `names`; a region without pixels gives 0."""
    counts = {region: histograms(view, region) for region in REGIONS}
    parts = [np.concatenate([_statistics(own), _coarse(own)], axis=1).ravel() for own in counts.values()]
    parts += [_correlations(view, region) for region in TOGETHER]
    means = {region: _statistics(counts[region])[:, 0] for region in ("nucleus", "cytoplasm")}
    parts += [means["nucleus"] - means["cytoplasm"], means["nucleus"] / (means["cytoplasm"] + 1)]
    parts += [_profile(view, body).ravel() for body in ("nucleus", "cell")]
    return np.concatenate(parts).astype(np.float32)


def histograms(view: CellView, region: str) -> NDArray[np.float64]:
    """(12, 256) numbers of pixels of a region by value, for every channel at once."""
    values = _values(view, view.regions[region]).astype(np.int32)  # (12, pixels)
    values += 256 * np.arange(len(values), dtype=np.int32)[:, None]
    return np.bincount(values.ravel(), minlength=256 * len(values)).reshape(len(values), 256).astype(float)


def _values(view: CellView, mask: Mask) -> NDArray[np.uint8]:
    """(12, pixels) of a region: places are quicker than a mask."""
    return view.channels.reshape(len(CHANNELS), -1).take(np.flatnonzero(mask), axis=1)


def _statistics(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C, 256) → (C, 13), of values from 0 to 255."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    grey = np.arange(256.0)
    mean = shares @ grey
    centred = grey[None, :] - mean[:, None]
    spread = np.sqrt((shares * centred**2).sum(axis=1))
    scaled = centred / np.maximum(spread, 1)[:, None]
    below = np.cumsum(shares, axis=1)
    quantiles = [(below < level).sum(axis=1) for level in QUANTILES]
    logs = np.log2(shares, where=shares > 0, out=np.zeros_like(shares))
    moments = [mean, spread, (shares * scaled**3).sum(axis=1), (shares * scaled**4).sum(axis=1)]
    return np.stack([*moments, *quantiles, -(shares * logs).sum(axis=1), (shares**2).sum(axis=1)], axis=1)


def _coarse(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C, 16) shares."""
    sums = counts.reshape(len(counts), BINS, -1).sum(axis=2)
    return sums / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _correlations(view: CellView, region: str) -> NDArray[np.float64]:
    """(66,) Pearson's correlation of every two channels over a region; 0 where a channel does not vary."""
    values = _values(view, view.regions[region]).astype(np.float32)
    if values.shape[1] < 3:
        return np.zeros(len(CHANNELS) * (len(CHANNELS) - 1) // 2)
    values -= values.mean(axis=1, keepdims=True)
    length = np.sqrt((values**2).sum(axis=1))
    matrix = (values @ values.T) / np.maximum(np.outer(length, length), 1e-3)
    return matrix[np.triu_indices(len(CHANNELS), 1)].astype(float)


def _profile(view: CellView, body: str) -> NDArray[np.float64]:
    """(8, 12) mean of every channel in rings of equal depth, from the border to the middle; a ring without pixels
    repeats the one before."""
    mask = view.regions[body]
    depth = depth_in(mask)[mask]
    ring = np.minimum((RINGS * depth / max(float(depth.max(initial=1.0)), 1.0)).astype(int), RINGS - 1)
    number = np.bincount(ring, minlength=RINGS)
    sums = np.stack([np.bincount(ring, values, minlength=RINGS) for values in _values(view, mask)], axis=1)
    return np.stack(list(_carried(sums / np.maximum(number, 1)[:, None], number)))


def _carried(rings: NDArray[np.float64], number: NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
    last = rings[int(np.argmax(number > 0))]
    for values, count in zip(rings, number, strict=True):
        last = values if count else last
        yield last
