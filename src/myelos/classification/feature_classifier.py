"""The classifier of handcrafted features: selected columns, a support vector machine, kept as plain arrays.

Fitted with scikit-learn, run with NumPy alone: what a file holds is numbers, never a pickled object. The answers are
those of scikit-learn, which a test holds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myelos.classification.mrmr import select
from myelos.errors import MissingDependencyError, ModelError
from myelos.tables import write_bytes

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """selected: features that are kept. penalty: C of the machine; gamma is 1 ÷ selected, the features having unit
    spread. balanced: errors of rare types weigh more. The paper gives none of them."""

    selected: int = 200
    penalty: float = 10.0
    balanced: bool = True


@dataclass(frozen=True, slots=True)
class FeatureClassifier:
    """types: in the order of the columns of `scores`. names: of the features it needs, in order. mean, spread: (F,).

    vectors: (S, F) support vectors, those of each type together; counts: (T,) how many of each. weights: (T - 1, S) and
    offsets: (T (T - 1) / 2,) in the layout of LIBSVM (Chang and Lin, ACM TIST 2:27, 2011). gamma: of the kernel.
    """

    types: tuple[str, ...]
    names: tuple[str, ...]
    mean: Array
    spread: Array
    vectors: Array
    counts: NDArray[np.int64]
    weights: Array
    offsets: Array
    gamma: float

    def decisions(self, features: NDArray[np.floating]) -> Array:
        """(N, T (T - 1) / 2) of the machines for every two types; above 0 speaks for the first."""
        unit = (np.asarray(features, dtype=float) - self.mean) / self.spread
        square = (unit**2).sum(axis=1)[:, None] - 2 * unit @ self.vectors.T + (self.vectors**2).sum(axis=1)
        kernel = np.exp(-self.gamma * np.maximum(square, 0))
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        pairs = [(i, j) for i in range(len(self.types)) for j in range(i + 1, len(self.types))]
        columns = []
        for place, (i, j) in enumerate(pairs):
            first, second = np.s_[ends[i] : ends[i + 1]], np.s_[ends[j] : ends[j + 1]]
            ours = kernel[:, first] @ self.weights[j - 1, first] + kernel[:, second] @ self.weights[i, second]
            columns.append(ours + self.offsets[place])
        return np.stack(columns, axis=1)

    def scores(self, features: NDArray[np.floating]) -> Array:
        """(N, T) votes of the pairwise machines, and between equal votes the sum of their decisions.

        features: (N, F) columns `names`. The type of the highest score is the answer.
        """
        decisions = self.decisions(features)
        votes, sums = np.zeros((2, len(decisions), len(self.types)))
        pairs = [(i, j) for i in range(len(self.types)) for j in range(i + 1, len(self.types))]
        for place, (i, j) in enumerate(pairs):
            own = decisions[:, place]
            sums[:, i] += own
            sums[:, j] -= own
            votes[:, i] += own > 0
            votes[:, j] += own <= 0
        return votes + sums / (3 * (np.abs(sums) + 1))

    def probabilities(self, features: NDArray[np.floating]) -> Array:
        """(N, T) shares that rise with the score and add up to 1; not calibrated."""
        scores = self.scores(features)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def fit(
    features: NDArray[np.floating],
    labels: Sequence[str],
    names: Sequence[str],
    settings: FeatureSettings | None = None,
) -> FeatureClassifier:
    """Select features and fit the machine; raises UsageError for one type alone.

    features: (N, F) columns `names`. labels: (N,) types.
    """
    try:
        from sklearn.svm import SVC
    except ImportError as error:
        raise MissingDependencyError(
            "fitting on handcrafted features needs scikit-learn", remedy='pip install "myelos[train]"'
        ) from error
    settings = settings or FeatureSettings()
    chosen = select(features, labels, settings.selected)
    own = np.asarray(features, dtype=float)[:, chosen]
    mean, spread = own.mean(axis=0), own.std(axis=0)
    gamma = 1 / settings.selected
    weight = "balanced" if settings.balanced else None
    machine = SVC(C=settings.penalty, gamma=gamma, class_weight=weight, cache_size=500)
    machine.fit((own - mean) / spread, np.asarray(labels))
    types = tuple(str(name) for name in machine.classes_)
    sign = -1.0 if len(types) == 2 else 1.0  # scikit-learn turns the one machine of two types round
    return FeatureClassifier(
        types=types,
        names=tuple(names[index] for index in chosen),
        mean=mean,
        spread=spread,
        vectors=machine.support_vectors_.astype(float),
        counts=machine.n_support_.astype(np.int64),
        weights=sign * machine.dual_coef_.astype(float),
        offsets=sign * machine.intercept_.astype(float),
        gamma=gamma,
    )


_ARRAYS = ("mean", "spread", "vectors", "counts", "weights", "offsets")


def save_feature_classifier(path: Path, model: FeatureClassifier) -> None:
    """Write a `.safetensors` file: arrays, and names and types in its header."""
    from safetensors.numpy import save

    words = {"kind": "features", "types": model.types, "names": model.names, "gamma": model.gamma}
    arrays = {name: np.ascontiguousarray(getattr(model, name)) for name in _ARRAYS}
    write_bytes(path, save(arrays, metadata={"myelos_features": json.dumps(words)}))


def load_feature_classifier(path: Path) -> FeatureClassifier:
    """Read what `save_feature_classifier` wrote; raises ModelError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            words = json.loads(file.metadata()["myelos_features"])
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"{path.name} is no classifier of handcrafted features", why=str(error)) from error
    return FeatureClassifier(types=tuple(words["types"]), names=tuple(words["names"]), gamma=words["gamma"], **arrays)
