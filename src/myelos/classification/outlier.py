"""How little an image is like any cell that a classifier was taught: other stains, tissue, other species, noise.

A classifier names whatever it is shown. This score asks how far an image's features lie from those of every type
(Mahalanobis distance with one covariance for all types; Lee 2018, section 2.1). It needs no such images to learn from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from myelos.errors import ModelError, UsageError

Features = NDArray[np.floating]
_ARRAYS = ("means", "whitening", "threshold")


@dataclass(frozen=True, slots=True)
class OutlierSettings:
    """shrinkage: share of the covariance that is replaced by its mean variance in all directions, so that directions in
    which cells hardly differ do not decide alone."""

    shrinkage: float = 0.01


@dataclass(frozen=True, slots=True)
class OutlierModel:
    """means: (K, C) of the types; whitening: (C, C), after which features spread evenly within a type. threshold: of
    the score, above which an image is called no such cell; infinite before `with_threshold`."""

    means: NDArray[np.float32]
    whitening: NDArray[np.float32]
    threshold: float = float("inf")

    def score(self, features: Features) -> NDArray[np.float32]:
        """(N, C) → (N,): distance from the nearest type, divided by √C: about 1 for the cells it was fitted to."""
        white = np.asarray(features, np.float32) @ self.whitening
        centres = self.means @ self.whitening
        squares = (white**2).sum(axis=1)[:, None] - 2 * white @ centres.T + (centres**2).sum(axis=1)
        return np.sqrt(np.maximum(squares.min(axis=1), 0) / self.means.shape[1])

    def with_threshold(self, features: Features, *, kept: float = 0.99) -> OutlierModel:
        """The same with the threshold that lets `kept` of these cells pass: cells that it was not fitted to."""
        if not len(features) or not 0 < kept <= 1:
            raise UsageError(f"{len(features)} cells and a share of {kept:g} give no threshold")
        return replace(self, threshold=float(np.quantile(self.score(features), kept)))

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """What a model file stores."""
        return {
            "means": self.means,
            "whitening": self.whitening,
            "threshold": np.array([self.threshold], np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.floating]]) -> OutlierModel:
        """The way back, from half precision too; raises ModelError where something is missing."""
        missing = [name for name in _ARRAYS if name not in arrays]
        if missing:
            raise ModelError("the model file tells no outliers", why=f"it has no {', '.join(missing)}")
        means, whitening, threshold = (np.asarray(arrays[name], np.float32) for name in _ARRAYS)
        return cls(means, whitening, float(threshold[0]))


def fit_outlier(features: Features, labels: Sequence[str], *, settings: OutlierSettings | None = None) -> OutlierModel:
    """Fit to (N, C) features of N labelled cells. Raises UsageError where there are too few to tell a spread."""
    settings = settings or OutlierSettings()
    if len(features) != len(labels) or len(features) < 2:
        raise UsageError(f"{len(features)} features of {len(labels)} cells are no basis for a score of outliers")
    names = sorted(set(labels))
    place = np.array([names.index(label) for label in labels])
    values = np.asarray(features, np.float64)
    means = np.stack([values[place == index].mean(axis=0) for index in range(len(names))])
    within = values - means[place]
    covariance = within.T @ within / max(len(values) - len(names), 1)
    even = float(np.trace(covariance)) / len(covariance)
    shrunk = (1 - settings.shrinkage) * covariance + (settings.shrinkage * even + 1e-12) * np.eye(len(covariance))
    eigenvalues, vectors = np.linalg.eigh(shrunk)
    whitening = vectors / np.sqrt(eigenvalues)
    return OutlierModel(means.astype(np.float32), whitening.astype(np.float32))
