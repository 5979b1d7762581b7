"""The interval that decides: fields drawn again and, within each draw, the errors of the classifier and of the search.

A classifier that calls one promyelocyte in ten a myelocyte moves both percentages, and how often it does is itself
known from a limited number of held-out cells. Each draw therefore takes

1. whole units (fields, tiles): Dirichlet weights, the Bayesian bootstrap (Rubin 1981, Annals of Statistics 9:130), with
   the shape (U - 2) / U, which makes its variance that of the mean of U units; cells without units are drawn singly, as
   in Jeffreys' posterior;
2. a confusion matrix: Dirichlet rows from the held-out cells of each true type, missed cells as one more column;
3. a rate of false detections per unit, gamma, where it was measured;

and asks which true composition explains the drawn counts best under the drawn matrix. That is the maximum of a Poisson
likelihood under numbers ≥ 0, found by expectation maximisation (Richardson 1972, Lucy 1974; Vardi and Lee 1993, Journal
of the Royal Statistical Society B 55:569). The inverse of the matrix would answer with negative percentages and with
errors that explode where two types are often confused. The other direction, P(truth | named) from held-out cells, is
simpler and wrong: it holds for the composition of the held-out cells and pulls every count towards it.

Words that the matrix does not have. A cell that somebody else named, and the classifier cannot, is kept apart: with n_j
Poisson(Σ_i λ_i m_ij) for the others and n_k Poisson(λ_k) for it, the likelihood is a product, so λ follows from the
others alone, λ_k = n_k, and the share is λ_k ÷ (Σ λ_i + Σ λ_k), drawn with the same fields. A finer word for a cell of
column j takes the part n_s ÷ n_j of λ_j. Nobody measured how often either word is wrong; neither interval knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myelos.errors import UsageError
from myelos.metrics.words import words_of

FloatArray = NDArray[np.float64]
_TINY = 1e-12
_CHECKED = 8  # steps between two looks at which draws stand still
PRIORS = ("1/k", "jeffreys")


@dataclass(frozen=True)
class NestedSettings:
    """prior: what is added to a row of held-out counts, spread over its columns: one cell in all ("1/k"; Perks), or
    half a cell each ("jeffreys"), which is much for a row of sixteen types and few held-out cells. smoothing: cells
    added to each named type, as in Jeffreys' posterior. The other figures are ours."""

    draws: int = 2000
    level: float = 0.95
    prior: str = "1/k"
    smoothing: float = 0.5
    iterations: int = 300
    tolerance: float = 1e-3  # change of a number of cells at which the search for the composition ends


@dataclass(frozen=True)
class FalseDetections:
    """numbers: (T,) things that are no cell, by the type they were given, on `units` held-out units of one size."""

    numbers: tuple[int, ...]
    units: int


@dataclass(frozen=True)
class NestedShares:
    """Shares of 1. estimates: (T,); intervals: (T, 2); draws: (draws, T), of which any other figure is taken;
    sampling: (draws, T) with the matrix held at its mean: what is left to chance if the matrix were known."""

    estimates: FloatArray
    intervals: FloatArray
    draws: FloatArray
    sampling: FloatArray
    units: float  # that were drawn again, infinite where single cells were
    level: float

    def of(self, part: Sequence[bool], whole: Sequence[bool]) -> Part:
        """The share of some types among others that include them; each (T,)."""

        def among(shares: FloatArray) -> FloatArray:
            above, below = shares[..., list(part)].sum(axis=-1), shares[..., list(whole)].sum(axis=-1)
            return np.divide(above, below, out=np.zeros_like(above), where=below > 0)

        estimate = among(self.estimates)
        drawn = among(self.draws)
        known = centred(drawn, estimate, self.units, self.level)
        return Part(float(estimate), known, float(drawn.var()), float(among(self.sampling).var()))


@dataclass(frozen=True)
class Part:
    """One share. draws: (draws,) centred, of which intervals and probabilities are taken; variance: of the share, and
    `sampling` the part of it that more cells would make smaller."""

    estimate: float
    draws: FloatArray
    variance: float
    sampling: float


def nested_shares(
    named: ArrayLike,
    confusion: ArrayLike,
    false_detections: FalseDetections | None = None,
    settings: NestedSettings | None = None,
    *,
    seed: int = 0,
    singly: bool = False,
    columns: Sequence[int | None] | None = None,
) -> NestedShares:
    """True shares of T types, with intervals, from what a classifier named.

    named: (U, T) numbers by unit and named type. confusion: (T, T + 1) held-out cells by true type and by named type,
    the last column those that were missed or refused. singly: every cell is drawn by itself, as where units are unknown
    or fewer than three. columns: where `named` is (U, W) by words that are not the types, the column of each, None for
    a word kept apart; shares are then of the W words. The same rows and seed give the same draws. Raises UsageError
    where the shapes do not fit or a type has no held-out cell.
    """
    settings = settings or NestedSettings()
    counted = np.asarray(named, dtype=float)
    words = None if columns is None else words_of(columns, len(np.asarray(confusion)))
    if words and counted.shape[-1] != len(words.apart):
        raise UsageError(f"{len(words.apart)} words do not fit numbers of shape {counted.shape}")
    numbers, matrix = _checked(words.gathered(counted) if words else counted, confusion, settings)
    generator = np.random.default_rng(seed)
    said, exposure = _drawn_numbers(counted, settings, generator, singly=singly)
    totals = words.gathered(said) if words else said
    rates, rate = _drawn_rates(false_detections, numbers.shape[1], settings, generator)
    rows = matrix + _prior(matrix.shape, settings)
    mean = rows / rows.sum(axis=1, keepdims=True)
    point = compose(numbers.sum(axis=0), mean, background=rate * len(numbers), settings=settings)
    drawn_rows = generator.standard_gamma(rows, size=(settings.draws, *rows.shape))
    drawn_rows /= drawn_rows.sum(axis=2, keepdims=True)
    draws = compose(totals, drawn_rows, background=rates * exposure[:, None], start=point, settings=settings)
    sampling = compose(totals, mean, background=rate * exposure[:, None], start=point, settings=settings)
    if words:
        draws, sampling, point = (
            words.dealt(*pair) for pair in ((draws, said), (sampling, said), (point, counted.sum(axis=0)))
        )
    shares, estimates = shares_of(draws), shares_of(point)
    drawn_units = float("inf") if singly or len(numbers) < 3 else float(len(numbers))
    moved = centred(shares, estimates, drawn_units, settings.level)
    intervals = interval_of(moved, estimates, settings.level)
    return NestedShares(estimates, intervals, shares, shares_of(sampling), drawn_units, settings.level)


def shares_of(numbers: FloatArray) -> FloatArray:
    """(…, T) numbers → shares of 1; all zero where there is no cell."""
    whole = numbers.sum(axis=-1, keepdims=True)
    return np.divide(numbers, whole, out=np.zeros_like(numbers), where=whole > 0)


def centred(draws: FloatArray, estimates: FloatArray, units: float, level: float) -> FloatArray:
    """(draws, …) shares of a type or of a group of types, moved and spread to what is known of that alone.

    Moved to where Jeffreys' posterior would lie: cells that are added to sixteen types so that each may be more
    frequent than it was seen make the frequent ones rarer; what is joint cannot be right for each. The mean of
    Beta(m p + ½, m (1 - p) + ½) lies (½ - p) / (m + 1) from the share p, where the effective number of cells m follows
    from the variance of the draws. Spread by Student's t, because that variance is itself estimated from few units:
    2 / (kurtosis - 1) degrees of freedom for each (Satterthwaite), which is half a degree, as the numbers of cells that
    lie together have a kurtosis of about 5.
    """
    from scipy.special import ndtri, stdtrit

    mean, variance = draws.mean(axis=0), draws.var(axis=0)
    certain = np.full(np.shape(mean), np.inf)  # all cells or none are of the group, in every draw
    effective = np.divide(mean * (1 - mean), variance, out=certain, where=variance > _TINY)
    wider = stdtrit(units / 2, (1 + level) / 2) / ndtri((1 + level) / 2) if np.isfinite(units) else 1.0
    centre = estimates + (0.5 - estimates) / (effective + 1)
    return np.clip(centre + wider * (draws - mean), 0, 1)


def interval_of(draws: FloatArray, estimates: FloatArray, level: float) -> FloatArray:
    """(draws, T) and (T,) → (T, 2) percentile intervals, wide enough to hold the estimate (0 cells begin at 0)."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.stack([np.minimum(low, estimates), np.maximum(high, estimates)], axis=-1)


def compose(
    numbers: FloatArray,
    matrix: FloatArray,
    *,
    background: FloatArray | float = 0.0,
    start: FloatArray | None = None,
    settings: NestedSettings | None = None,
) -> FloatArray:
    """True numbers λ ≥ 0 that make Σ_j n_j log(Σ_i λ_i m_ij + b_j) - Σ_j(Σ_i λ_i m_ij + b_j) largest.

    numbers: (…, T) named; matrix: (T, T + 1) for all, or (…, T, T + 1) for each; background: (…, T) false detections.
    Every step of the expectation maximisation keeps λ ≥ 0 and raises the likelihood; draws that stand still drop out.
    """
    settings = settings or NestedSettings()
    wanted = np.atleast_2d(numbers)
    behind = np.broadcast_to(np.asarray(background, dtype=float), wanted.shape)
    found = np.maximum(np.atleast_2d(numbers if start is None else np.broadcast_to(start, wanted.shape)), 0.5)
    if start is not None:  # the drawn numbers of all cells differ, their composition less
        found = found * wanted.sum(axis=1, keepdims=True) / found.sum(axis=1, keepdims=True).clip(_TINY)
    return _maximised(found, wanted, matrix[..., :-1], behind, settings).reshape(np.shape(numbers))


def _maximised(
    found: FloatArray, wanted: FloatArray, named: FloatArray, behind: FloatArray, settings: NestedSettings
) -> FloatArray:
    """Expectation maximisation of all draws side by side, from `found`; those that stand still are taken out."""
    result, index, own = found.copy(), np.arange(len(found)), named.ndim == 3
    reach = named.sum(axis=-1).clip(_TINY)  # (…, T) chance to be found at all
    for turn in range(settings.iterations):
        new = _step(found, wanted, named, behind, reach)
        if turn % _CHECKED == _CHECKED - 1:
            moving = np.abs(new - found).max(axis=1) > settings.tolerance
            result[index] = new
            if not moving.any():
                break
            if moving.mean() < 0.7:  # packing costs as much as a few steps
                index, new, wanted, behind = index[moving], new[moving], wanted[moving], behind[moving]
                named, reach = (named[moving], reach[moving]) if own else (named, reach)
        found = new
    else:
        result[index] = found
    return result


def _step(
    found: FloatArray, wanted: FloatArray, named: FloatArray, behind: FloatArray, reach: FloatArray
) -> FloatArray:
    """One step: named cells are given back to the true types in proportion to what each would have contributed."""
    if named.ndim == 2:
        return found * ((wanted / (found @ named + behind).clip(_TINY)) @ named.T) / reach
    ratio = wanted / ((found[:, None, :] @ named)[:, 0] + behind).clip(_TINY)
    return found * (named @ ratio[:, :, None])[:, :, 0] / reach


def _drawn_numbers(
    numbers: FloatArray, settings: NestedSettings, generator: np.random.Generator, *, singly: bool
) -> tuple[FloatArray, FloatArray]:
    """(draws, T) numbers of named cells and (draws,) how many units they stand for."""
    units, types = numbers.shape
    more = generator.standard_gamma(max(settings.smoothing, _TINY), size=(settings.draws, types))
    if singly or units < 3:
        drawn = generator.standard_gamma(numbers.sum(axis=0).clip(_TINY), size=(settings.draws, types))
        return drawn + more, np.full(settings.draws, float(units))
    shape = (units - 2) / units
    weights = generator.standard_gamma(shape, size=(settings.draws, units)) / shape
    return weights @ numbers + more, weights.sum(axis=1)


def _drawn_rates(
    given: FalseDetections | None, types: int, settings: NestedSettings, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """False detections per unit by named type: (draws, T) drawn and (T,) as measured."""
    if given is None:
        return np.zeros((settings.draws, types)), np.zeros(types)
    numbers = np.asarray(given.numbers, dtype=float)
    if numbers.shape != (types,) or given.units < 1 or numbers.min(initial=0) < 0:
        raise UsageError("false detections do not fit", why=f"{types} numbers on at least one unit are needed")
    drawn = generator.standard_gamma(numbers + 1 / types, size=(settings.draws, types))
    return drawn / given.units, numbers / given.units


def _prior(shape: tuple[int, ...], settings: NestedSettings) -> float:
    return 1 / shape[1] if settings.prior == "1/k" else 0.5


def _checked(named: ArrayLike, confusion: ArrayLike, settings: NestedSettings) -> tuple[FloatArray, FloatArray]:
    numbers, matrix = np.asarray(named, dtype=float), np.asarray(confusion, dtype=float)
    if settings.prior not in PRIORS:
        raise UsageError(f"unknown prior {settings.prior!r}", remedy=f"Pass one of {', '.join(PRIORS)}")
    if numbers.ndim != 2 or matrix.shape != (numbers.shape[1], numbers.shape[1] + 1):
        raise UsageError(
            "counts and confusion matrix do not fit",
            why=f"{numbers.shape} numbers by unit and type need T rows and T + 1 columns, not {matrix.shape}",
        )
    if min(numbers.min(initial=0), matrix.min(initial=0)) < 0:
        raise UsageError("numbers of cells are below 0")
    if not matrix.sum(axis=1).all():
        raise UsageError("a type has no held-out cell", remedy="Leave out types whose errors were never measured")
    return numbers, matrix
