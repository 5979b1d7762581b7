"""The colours of pixels of one source brought to the distribution of all: a map of densities for nucleus and cytoplasm.

First the linear map that takes mean and covariance to those wanted and moves pixels least (Monge-Kantorovich; Pitié &
Kokaram, CVMP 2007), then quantiles along several sets of turned axes (Pitié et al., CVIU 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cutting import CutOut

Reals = NDArray[np.float64]
QUANTILES = np.linspace(0.5, 99.5, 41)
LEAST = 1e-5  # added to variances


@dataclass(frozen=True, slots=True)
class Turn:
    """axes: (3, 3) orthogonal. seen, wanted: (3, Q) quantiles along each axis."""

    axes: Reals
    seen: Reals
    wanted: Reals

    def __call__(self, pixels: Reals) -> Reals:
        along = pixels @ self.axes
        for axis, (seen, wanted) in enumerate(zip(self.seen, self.wanted, strict=True)):
            beyond = along[:, axis] - np.clip(along[:, axis], seen[0], seen[-1])
            along[:, axis] = np.interp(along[:, axis], seen, wanted) + beyond
        return along @ self.axes.T


@dataclass(frozen=True, slots=True)
class Tone:
    """A map of (N, 3) densities."""

    mean: Reals
    mixing: Reals
    goal: Reals
    turns: tuple[Turn, ...]

    def __call__(self, pixels: Reals) -> Reals:
        found = (pixels - self.mean) @ self.mixing + self.goal
        for turn in self.turns:
            found = turn(found)
        return found


def fitted_tone(pixels: Reals, wanted: Reals, turns: int, rng: np.random.Generator) -> Tone:
    """pixels, wanted: (N, 3) densities as they are and as they should be distributed."""
    mean, goal = pixels.mean(axis=0), wanted.mean(axis=0)
    own, theirs = (np.cov(values.T) + LEAST * np.eye(3) for values in (pixels, wanted))
    root, inverse = _power(own, 0.5), _power(own, -0.5)
    mixing = inverse @ _power(root @ theirs @ root, 0.5) @ inverse
    found, steps = (pixels - mean) @ mixing + goal, []
    for number in range(turns):
        axes = np.linalg.qr(rng.standard_normal((3, 3)))[0] if number else np.eye(3)
        seen, target = (np.percentile(values @ axes, QUANTILES, axis=0).T for values in (found, wanted))
        steps.append(Turn(axes, seen, target))
        found = steps[-1](found)
    return Tone(mean, mixing, goal, tuple(steps))


def _power(matrix: Reals, power: float) -> Reals:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 1e-8) ** power) @ vectors.T


def toned(cell: CutOut, tones: tuple[Tone, Tone], glass: float) -> CutOut:
    """tones: of nucleus and cytoplasm, blended at the nucleus' edge. What is hardly denser than glass stays."""
    cover = np.maximum(cell.cover, 0.05)[..., None]
    whole = cell.density / cover
    flat = whole.reshape(-1, 3).astype(np.float64)
    inner, outer = (tone(flat).reshape(whole.shape) for tone in tones)
    share = np.clip(cell.nucleus, 0, 1)[..., None]
    there = np.clip(whole.sum(axis=-1, keepdims=True) / glass, 0, 1)
    found = there * (share * inner + (1 - share) * outer) + (1 - there) * whole
    return CutOut((np.maximum(found, 0) * cell.cover[..., None]).astype(np.float32), cell.cover, cell.nucleus)
