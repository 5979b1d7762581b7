"""Knowing when not to answer: risk against coverage, and the temperature that makes probabilities honest."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myelos.errors import UsageError


def risk_coverage(confidences: ArrayLike, right: ArrayLike) -> NDArray[np.float64]:
    """(K, 3) threshold, coverage and risk (share of wrong answers among those given), by falling threshold.

    An answer is given where its confidence is at least the threshold; one row per distinct confidence
    (Geifman and El-Yaniv, NeurIPS 2017).
    """
    given, correct = np.asarray(confidences, dtype=float), np.asarray(right, dtype=bool)
    if given.shape != correct.shape or given.ndim != 1:
        raise UsageError(f"{given.shape} confidences do not fit {correct.shape} answers")
    order = np.argsort(-given, kind="stable")
    wrong = np.cumsum(~correct[order])
    number = np.arange(1, len(order) + 1)
    last = np.append(np.diff(given[order]) != 0, True)[: len(order)]  # equal confidences stand or fall together
    return np.stack([given[order], number / max(len(order), 1), wrong / number], axis=1)[last]


def choose_threshold(confidences: ArrayLike, right: ArrayLike, *, risk: float, coverage: float = 0.8) -> float:
    """The lowest threshold whose risk is at most `risk`, and never one that leaves less than `coverage` answered."""
    curve = risk_coverage(confidences, right)
    allowed = curve[(curve[:, 2] <= risk) & (curve[:, 1] >= coverage)]
    if len(allowed):
        return float(allowed[-1, 0]) if allowed[-1, 1] < 1 else 0.0
    reached = curve[curve[:, 1] >= coverage]
    return float(reached[0, 0]) if len(reached) else 0.0


def area_under_risk_coverage(confidences: ArrayLike, right: ArrayLike) -> float | None:
    """Mean risk over all coverages; None of nothing."""
    curve = risk_coverage(confidences, right)
    if not len(curve):
        return None
    shares = np.diff(np.concatenate([[0.0], curve[:, 1]]))
    return float((curve[:, 2] * shares).sum())


def softmax(logits: NDArray, temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities over the last axis."""
    scaled = np.asarray(logits, dtype=float) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def fit_temperature(logits: NDArray, allowed: NDArray[np.bool_]) -> float:
    """The temperature of least negative log likelihood (Guo et al., ICML 2017), within 0.25 to 4.

    logits: (N, V, T) of V views, whose probabilities are averaged; allowed: (N, T) the types that labels leave open.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        mean = softmax(logits, float(np.exp(log_temperature))).mean(axis=1)
        return float(-np.log(np.maximum((mean * allowed).sum(axis=1), 1e-12)).mean())

    if not len(logits):
        return 1.0
    found = minimize_scalar(loss, bounds=(np.log(0.25), np.log(4.0)), method="bounded")
    return float(np.exp(found.x))
