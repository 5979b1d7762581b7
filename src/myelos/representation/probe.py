"""How much a frozen encoder knows: a linear probe and k nearest neighbours on its features.

So are foundation models judged: the better the encoder, the simpler the classifier that is enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy
from myelos.errors import MissingDependencyError, UsageError
from myelos.metrics.agreement import cohen_kappa, confusion_matrix
from myelos.metrics.classification import evaluate
from myelos.representation.neighbours import Features, NeighbourIndex, NeighbourSettings, vote


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """strength: inverse of the L2 penalty (C of scikit-learn) on features of unit spread. balanced: every type weighs
    the same. iterations: of L-BFGS, at most."""

    strength: float = 0.1
    balanced: bool = False
    iterations: int = 1000


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """least: cells that a type needs in `train`; one that is seen once can be learned by neither."""

    neighbours: NeighbourSettings = field(default_factory=NeighbourSettings)
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    least: int = 10


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """Multinomial logistic regression on standardised features.

    names: T types; mean, spread: (C,) of the training features; weights: (T, C); bias: (T,).
    """

    names: tuple[str, ...]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def probabilities(self, features: Features) -> NDArray[np.float64]:
        """(N, C) → (N, T), each row sums to 1."""
        logits = (features - self.mean) / self.spread @ self.weights.T + self.bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def fit_probe(features: Features, labels: Sequence[str], settings: ProbeSettings | None = None) -> LinearProbe:
    """Fit to (N, C) features of N labelled cells. Raises UsageError where they are all of one type."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingDependencyError(
            "a linear probe needs scikit-learn", remedy='Install it with: pip install "myelos[train]"'
        ) from error
    settings = settings or ProbeSettings()
    names = tuple(sorted(set(labels)))
    if len(names) < 2:
        raise UsageError("a probe needs cells of at least two types", remedy="Pass a folder with more types")
    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    spread[spread < 1e-9] = 1.0
    model = LogisticRegression(
        C=settings.strength,
        max_iter=settings.iterations,
        class_weight="balanced" if settings.balanced else None,
    ).fit((features - mean) / spread, list(labels))
    weights, bias = model.coef_, model.intercept_
    if len(names) == 2:  # scikit-learn gives one row, for the second type
        weights, bias = np.vstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return LinearProbe(names, mean, spread, weights, bias)


def judge(
    features: Features,
    labels: Sequence[str],
    train: Sequence[int],
    test: Sequence[int],
    settings: JudgeSettings | None = None,
) -> dict[str, Any]:
    """Figures of both on the cells `test` (indices), learned from `train`; see `metrics.classification.evaluate`.

    Cells whose label is a coarser word for others among the labels are left out, and types with few cells; `left_out`
    says how many. The probe's strength is fixed beforehand, so that no further part is needed to choose it. Raises
    UsageError where a part is empty.
    """
    settings = settings or JudgeSettings()
    seen = Counter(labels[index] for index in train)
    coarse = {name for name in set(labels) if (taxonomy.narrower(name) - {name}) & set(labels)}
    rare = {name for name in set(labels) if seen[name] < settings.least}
    given = [labels[index] for part in (train, test) for index in part]
    train, test = ([index for index in part if labels[index] not in coarse | rare] for part in (train, test))
    if not train or not test:
        raise UsageError(f"{len(train)} cells to learn from and {len(test)} to be judged on are too few")
    known, truth = [labels[index] for index in train], [labels[index] for index in test]
    names = sorted(set(known))
    index = NeighbourIndex(features[train])
    answers: dict[str, Callable[[], NDArray[np.float64]]] = {
        "neighbours": lambda: vote(index, known, features[test], names, settings.neighbours),
        "probe": lambda: fit_probe(features[train], known, settings.probe).probabilities(features[test]),
    }
    left_out = dict(sorted(Counter(name for name in given if name in coarse | rare).items()))
    parts = {"train": len(train), "test": len(test), "left_out": left_out}
    return {"parts": parts} | {key: _figures(truth, answer(), names) for key, answer in answers.items()}


def _figures(truth: Sequence[str], shares: NDArray[np.float64], names: Sequence[str]) -> dict[str, Any]:
    said = [names[best] for best in shares.argmax(axis=1)]
    result = evaluate(truth, said)
    labels = sorted({*truth, *said})
    return {
        "accuracy": result["accuracy"],
        "macro_f1": result["macro"]["f1"],
        "weighted_f1": result["weighted"]["f1"],
        "kappa": cohen_kappa(confusion_matrix(truth, said, labels)[:, :-1]),
        "classes": {
            name: {key: row[key] for key in ("support", "precision", "recall", "f1")}
            for name, row in result["classes"].items()
        },
    }
