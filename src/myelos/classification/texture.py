"""Features of texture, by compartment: co-occurrence, local binary patterns, wavelets, Gabor filters, granulometry.

Co-occurrence after Haralick et al. (IEEE Trans. SMC 3:610, 1973), local binary patterns after Ojala et al. (IEEE PAMI
24:971, 2002), the wavelets those of Haar without decimation.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.classification.view import CHANNELS, CellView

Array = NDArray[np.float64]
Places = NDArray[np.intp]  # of the pixels of a body in the flat image

BODIES = ("cell", "nucleus", "cytoplasm")
COOCCURRENCE = ("grey", "green", "saturation", "blue_yellow", "violet_stain", "pink_stain")
PATTERNS = ("grey", "red", "green", "saturation", "violet_stain", "pink_stain")
BANDS = ("grey", "green", "violet_stain", "pink_stain")
GRAINS = ("red", "green", "saturation", "pink_stain")
FILTERED = ("green", "violet_stain")
LEVELS, DISTANCES, RADII = 16, (1, 2, 4), (1, 2, 4)
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
HARALICK = (
    "energy", "contrast", "correlation", "variance", "homogeneity", "sum_mean", "sum_variance", "sum_entropy",
    "entropy", "difference_variance", "difference_entropy", "information_1", "information_2",
)  # fmt: skip
SPREAD = ("mean_size", "deviation", "energy")
OPENINGS = (1, 2, 3, 4, 6, 8)
SCALES, ANGLES = 3, 4
STEEPNESS = 12


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """Names of `measure`'s features, in its order."""
    found = [
        f"texture.{body}.cooccurrence_{distance}.{channel}.{feature}_{kind}"
        for body in BODIES
        for distance in DISTANCES
        for kind in ("mean", "range")
        for channel in COOCCURRENCE
        for feature in HARALICK
    ]
    found += [f"texture.{body}.pattern_{radius}.{channel}.{bin_}"
              for radius in RADII for body in BODIES for channel in PATTERNS for bin_ in range(10)]  # fmt: skip
    found += [f"texture.{body}.wavelet_{level}_{band}.{channel}.{kind}"
              for level in range(3) for band in ("across", "down", "diagonal")
              for body in BODIES for channel in BANDS for kind in SPREAD]  # fmt: skip
    found += [f"texture.{body}.gabor_{scale}_{angle}.{channel}.{kind}"
              for scale in range(SCALES) for angle in range(ANGLES)
              for body in BODIES for channel in FILTERED for kind in SPREAD]  # fmt: skip
    found += [f"texture.{body}.{kind}_{size}.{channel}" for kind in ("opening", "closing") for size in OPENINGS
              for body in BODIES for channel in GRAINS]  # fmt: skip
    found += [f"texture.{body}.gradient.{channel}.{part}" for body in BODIES for channel in GRAINS
              for part in (*SPREAD, *(f"steepness_{index}" for index in range(STEEPNESS)))]  # fmt: skip
    return tuple(found)


def measure(view: CellView) -> NDArray[np.float32]:
    """(F,) features in the order of `names`; a region without pixels gives 0."""
    masks = [view.regions[body] for body in BODIES]
    places = [np.flatnonzero(mask) for mask in masks]
    parts = [_cooccurrence(_of(view, COOCCURRENCE), masks), *_patterns(_of(view, PATTERNS), places)]
    parts += [*_wavelets(_of(view, BANDS), places), *_gabor(_of(view, FILTERED), masks)]
    grains = _of(view, GRAINS)
    parts += [*_granulometry(grains, places), _gradients(grains, places)]
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def _of(view: CellView, channels: tuple[str, ...]) -> NDArray[np.uint8]:
    return view.channels[[CHANNELS.index(name) for name in channels]]


def _cooccurrence(channels: NDArray[np.uint8], masks: list[NDArray[np.bool_]]) -> Array:
    """Mean and range over four directions of Haralick's features: (bodies, distances, 2, channels, 13)."""
    levels = (channels // (256 // LEVELS)).astype(np.int32)
    tables = [
        _table(levels, mask, distance * down, distance * across)
        for mask in masks
        for distance in DISTANCES
        for down, across in DIRECTIONS
    ]
    features = haralick(np.concatenate(tables))
    shape = (len(masks), len(DISTANCES), len(DIRECTIONS), len(channels), len(HARALICK))
    features = features.reshape(shape)
    return np.stack([features.mean(axis=2), np.ptp(features, axis=2)], axis=2)


def _table(levels: NDArray[np.int32], mask: NDArray[np.bool_], down: int, across: int) -> Array:
    """(C, 16, 16) symmetric shares of pairs of pixels that both lie in the mask, for one offset."""
    height, width = mask.shape
    left, right = max(0, -across), max(0, across)
    both = np.zeros_like(mask)
    inner = np.s_[: height - down, left : width - right]
    both[inner] = mask[inner] & mask[down:, left + across : width - right + across]
    places, flat = np.flatnonzero(both), levels.reshape(len(levels), -1)
    pairs = flat.take(places, axis=1) * LEVELS + flat.take(places + down * width + across, axis=1)
    pairs += (LEVELS * LEVELS) * np.arange(len(levels), dtype=np.int32)[:, None]
    counts = np.bincount(pairs.ravel(), minlength=len(levels) * LEVELS * LEVELS).reshape(-1, LEVELS, LEVELS)
    symmetric = counts + counts.transpose(0, 2, 1)
    return symmetric / np.maximum(symmetric.sum(axis=(1, 2), keepdims=True), 1)


def haralick(tables: Array) -> Array:
    """(M, L, L) symmetric co-occurrence tables that add up to 1 → (M, 13) in the order of `HARALICK`."""
    levels = tables.shape[1]
    i, j = np.mgrid[:levels, :levels].astype(float)
    sums, differences = _diagonals(tables)
    marginal = tables.sum(axis=2)
    grey = np.arange(levels)
    mean = marginal @ grey
    variance = (marginal * (grey[None, :] - mean[:, None]) ** 2).sum(axis=1)
    correlation = ((tables * i * j).sum(axis=(1, 2)) - mean**2) / np.maximum(variance, 1e-9)
    sum_grey = np.arange(2 * levels - 1)
    sum_mean = sums @ sum_grey
    sum_variance = (sums * (sum_grey[None, :] - sum_mean[:, None]) ** 2).sum(axis=1)
    difference_mean = differences @ grey
    difference_variance = (differences * (grey[None, :] - difference_mean[:, None]) ** 2).sum(axis=1)
    whole, single = _entropy(tables.reshape(len(tables), -1)), _entropy(marginal)
    first = (whole - 2 * single) / np.maximum(single, 1e-9)
    second = np.sqrt(np.maximum(0, 1 - np.exp(-2 * (2 * single - whole))))
    return np.stack(
        [
            (tables**2).sum(axis=(1, 2)),
            (tables * (i - j) ** 2).sum(axis=(1, 2)),
            np.where(variance > 1e-9, correlation, 1.0),
            variance,
            (tables / (1 + (i - j) ** 2)).sum(axis=(1, 2)),
            sum_mean,
            sum_variance,
            _entropy(sums),
            whole,
            difference_variance,
            _entropy(differences),
            first,
            second,
        ],
        axis=1,
    )


def _diagonals(tables: Array) -> tuple[Array, Array]:
    """(M, 2L - 1) shares by i + j, and (M, L) by |i - j|."""
    levels = tables.shape[1]
    flat = tables.reshape(len(tables), -1)
    i, j = np.mgrid[:levels, :levels].reshape(2, -1)
    return flat @ np.eye(2 * levels - 1)[i + j], flat @ np.eye(levels)[np.abs(i - j)]


def _entropy(shares: Array) -> Array:
    return -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(axis=1)


@lru_cache(maxsize=1)
def _pattern_of_code() -> NDArray[np.int32]:
    """(256,) number of set bits for codes of at most two changes around the ring, 9 for all others."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    return np.where(changes <= 2, bits.sum(axis=1), 9).astype(np.int32)


def _patterns(channels: NDArray[np.uint8], bodies: list[Places]) -> list[Array]:
    """For every radius (bodies, channels, 10) shares of uniform patterns, whatever their turn."""
    around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    height, width = channels.shape[1:]
    found = []
    for radius in RADII:
        wide = np.pad(channels, ((0, 0), (radius, radius), (radius, radius)), mode="edge")
        code = np.zeros(channels.shape, np.uint8)
        for bit, (down, across) in enumerate(around):
            top, left = radius * (1 + down), radius * (1 + across)
            code |= (wide[:, top : top + height, left : left + width] >= channels).astype(np.uint8) << np.uint8(bit)
        patterns = _pattern_of_code()[code] + 10 * np.arange(len(channels), dtype=np.int32)[:, None, None]
        found.append(np.stack([_histogram(patterns, places, 10) for places in bodies]))
    return found


def _wavelets(channels: NDArray[np.uint8], bodies: list[Places]) -> list[Array]:
    """For every level and band (bodies, channels, 3) sizes of Haar's differences at steps of 1, 2 and 4 pixels."""
    quarter = np.float32(0.25)
    smooth = channels.astype(np.float32)
    found = []
    for level in range(3):
        step = 2**level
        down, across = np.roll(smooth, -step, axis=1), np.roll(smooth, -step, axis=2)
        both = np.roll(across, -step, axis=1)
        bands = (smooth - across + down - both, smooth + across - down - both, smooth - across - down + both)
        found += [_spread(band * quarter, bodies) for band in bands]
        smooth = (smooth + across + down + both) * quarter
    return found


@lru_cache(maxsize=1)
def _kernels() -> tuple[NDArray[np.float32], ...]:
    kernels = [cv2.getGaborKernel((9, 9), 2.2, np.pi * angle / ANGLES, 5.0, 0.7, 0, cv2.CV_32F)
               for angle in range(ANGLES)]  # fmt: skip
    return tuple((kernel - kernel.mean()) / np.abs(kernel).sum() for kernel in kernels)


def _gabor(channels: NDArray[np.uint8], masks: list[NDArray[np.bool_]]) -> list[Array]:
    """For every scale (halved twice) and angle (bodies, channels, 3) sizes of the filter's answers."""
    found = []
    layers, own = [channel.astype(np.float32) for channel in channels], masks
    for scale in range(SCALES):
        bodies = [np.flatnonzero(mask) for mask in own]
        for kernel in _kernels():
            answers = np.stack([cv2.filter2D(layer, cv2.CV_32F, kernel) for layer in layers])
            found.append(_spread(answers, bodies))
        if scale + 1 < SCALES:
            layers = [cv2.pyrDown(layer) for layer in layers]
            size = layers[0].shape[::-1]
            own = [cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0 for mask in own]
    return found


def _granulometry(channels: NDArray[np.uint8], bodies: list[Places]) -> list[Array]:
    """For openings and closings by growing squares (bodies, channels) of what each takes away or adds in the mean."""
    found = []
    for operation in (cv2.MORPH_OPEN, cv2.MORPH_CLOSE):
        for radius in OPENINGS:
            square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
            changed = np.stack([cv2.morphologyEx(channel, operation, square) for channel in channels])
            change = cv2.absdiff(changed, channels).reshape(len(channels), -1)
            found.append(np.stack([change.take(places, axis=1).sum(axis=1) / max(len(places), 1) for places in bodies]))
    return found


def _gradients(channels: NDArray[np.uint8], bodies: list[Places]) -> Array:
    """(bodies, channels, 15): sizes of the gradient, and a histogram of its steepness in steps of 8 grey values."""
    slopes = np.stack([cv2.magnitude(cv2.Sobel(c, cv2.CV_32F, 1, 0), cv2.Sobel(c, cv2.CV_32F, 0, 1)) for c in channels])
    bins = np.minimum(slopes / 32, STEEPNESS - 1).astype(np.int32)  # Sobel's kernel weighs four
    bins += STEEPNESS * np.arange(len(channels), dtype=np.int32)[:, None, None]
    shares = [_histogram(bins, places, STEEPNESS).reshape(len(channels), STEEPNESS) for places in bodies]
    return np.concatenate([_spread(slopes, bodies), np.stack(shares)], axis=2)


def _histogram(values: NDArray[np.int32], places: Places, bins: int) -> Array:
    """(C * bins,) shares by value, the values of each channel lying in bins of its own."""
    own = values.reshape(len(values), -1).take(places, axis=1)
    return np.bincount(own.ravel(), minlength=bins * len(values)) / max(len(places), 1)


def _spread(values: NDArray[np.float32], bodies: list[Places]) -> Array:
    """(bodies, channels, 3): mean size, standard deviation and mean square; 0 without pixels."""
    flat = values.reshape(len(values), -1)
    rows = []
    for places in bodies:
        own, number = flat.take(places, axis=1), max(len(places), 1)
        square = np.einsum("ij,ij->i", own, own) / number
        spread = np.sqrt(np.maximum(square - (own.sum(axis=1) / number) ** 2, 0))
        rows.append(np.stack([np.abs(own).sum(axis=1) / number, spread, square], axis=1))
    return np.stack(rows).astype(float)
