"""Does the deciding interval hold what it promises? Counts drawn by a generator that was fixed before any tuning.

One count: a specimen (marrow in three of four, else blood); its composition, Dirichlet around the normal one; in a
third of the marrows blasts of 2 to 40 % instead; fields whose compositions scatter around the specimen's
(Dirichlet-multinomial, so that cells cluster); true confusion rows, Dirichlet around a fixed matrix in which neighbours
in maturation are confused most; missed cells; false detections; and a calibration sample drawn anew from the same rows,
of a size of its own per type. The interval sees the named cells per field and the calibration sample only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.metrics.bootstrap import resampled_totals
from myelos.metrics.intervals import clopper_pearson
from myelos.metrics.nested import FalseDetections, NestedSettings, nested_shares

FloatArray = NDArray[np.float64]

# Normal compositions, per cent, in the order in which neighbours are confused: middles of usual reference ranges.
MARROW = {
    "blast": 1.5, "promyelocyte": 4.0, "myelocyte": 11.0, "metamyelocyte": 12.0, "band_neutrophil": 14.0,
    "segmented_neutrophil": 16.0, "eosinophil": 3.0, "basophil": 0.3, "monocyte": 2.0, "lymphocyte": 11.0,
    "plasma_cell": 1.5, "proerythroblast": 1.2, "basophilic_erythroblast": 4.0, "polychromatic_erythroblast": 12.0,
    "orthochromatic_erythroblast": 6.0, "artefact": 0.5,
}  # fmt: skip
BLOOD = {
    "blast": 0.3, "promyelocyte": 0.1, "myelocyte": 0.4, "metamyelocyte": 0.8, "band_neutrophil": 4.0,
    "segmented_neutrophil": 55.0, "eosinophil": 3.0, "basophil": 0.8, "monocyte": 7.0, "lymphocyte": 28.0,
    "artefact": 0.6,
}  # fmt: skip


@dataclass(frozen=True)
class GeneratorSettings:
    """Ranges are drawn uniformly, those marked log on a logarithmic scale."""

    marrows: float = 0.75  # share of the counts that are of marrow
    around: float = 30.0  # Dirichlet concentration of a specimen's composition around the normal one
    raised: float = 1 / 3  # share of the marrows with blasts drawn from `blasts`
    blasts: tuple[float, float] = (0.02, 0.40)
    cells: tuple[int, int] = (500, 200)  # cells in the fields of a marrow, of a blood
    per_field: tuple[float, float] = (15.0, 5.0)  # their mean number in a field of marrow, of blood
    clustering: tuple[float, float] = (15.0, 120.0)  # log; Dirichlet concentration of a field around the specimen
    right: tuple[float, float] = (0.82, 0.96)  # share of a type's found cells that are named right
    nearby: float = 0.75  # part of the wrong ones that go to the two neighbours
    missed: tuple[float, float] = (0.0, 0.05)
    rows: float = 200.0  # Dirichlet concentration of the true rows around the fixed ones
    false_per_field: tuple[float, float] = (0.0, 0.3)
    calibration_cells: tuple[int, int] = (60, 600)  # log; held-out cells of each type
    calibration_fields: int = 100  # on which false detections were counted


@dataclass(frozen=True)
class Drawn:
    """One count and its truth. truth: (T,) shares; named: (U, T); confusion: (T, T + 1) held-out cells."""

    truth: FloatArray
    named: FloatArray
    confusion: FloatArray
    false_detections: FalseDetections


@dataclass(frozen=True)
class Coverage:
    """Pooled over types: share of the intervals that hold the truth, and mean widths (of 1)."""

    intervals: int
    covered: float
    width: float
    binomial_width: float  # of the exact interval of as many cells named with the same share
    below: float  # share of the intervals that lie below the truth
    above: float

    @property
    def widening(self) -> float:
        return self.width / self.binomial_width


# A count and a seed → (T, 2) intervals.
Method = Callable[[Drawn, int], FloatArray]


def fixed_matrix(types: int, generator: np.random.Generator, settings: GeneratorSettings) -> FloatArray:
    """(T, T + 1) rows that sum to 1: right, neighbours, all others, missed."""
    right = generator.uniform(*settings.right, size=types)
    missed = generator.uniform(*settings.missed, size=types)
    matrix = np.zeros((types, types + 1))
    for i in range(types):
        near = [j for j in (i - 1, i + 1) if 0 <= j < types]
        matrix[i, :types] = (1 - right[i]) * (1 - settings.nearby) / (types - 1)
        matrix[i, near] += (1 - right[i]) * settings.nearby / len(near)
        matrix[i, i] = right[i]
        matrix[i, :types] *= (1 - missed[i]) / matrix[i, :types].sum()
    matrix[:, types] = missed
    return matrix


def draw_count(generator: np.random.Generator, settings: GeneratorSettings | None = None) -> Drawn:
    """One count by the rules above."""
    settings = settings or GeneratorSettings()
    marrow = generator.random() < settings.marrows
    truth = _composition(MARROW if marrow else BLOOD, generator, settings, marrow=marrow)
    types = len(truth)
    rows = fixed_matrix(types, np.random.default_rng(types), settings)
    rows = np.stack([generator.dirichlet(row * settings.rows + 1e-3) for row in rows])
    cells = settings.cells[0 if marrow else 1]
    per_field = settings.per_field[0 if marrow else 1]
    fields = round(cells / per_field)
    size = 1 + generator.multinomial(cells - fields, generator.dirichlet(np.full(fields, 4.0)))
    scatter = _log_uniform(settings.clustering, generator)
    false = generator.uniform(*settings.false_per_field) * generator.dirichlet(np.ones(types))
    named = np.stack([_field(truth, int(n), rows, scatter, false, generator) for n in size])
    held_out = [generator.multinomial(round(_log_uniform(settings.calibration_cells, generator)), row) for row in rows]
    seen = generator.poisson(false * settings.calibration_fields)
    found = FalseDetections(tuple(int(n) for n in seen), settings.calibration_fields)
    return Drawn(truth, named.astype(float), np.stack(held_out).astype(float), found)


def _composition(
    normal: Mapping[str, float], generator: np.random.Generator, settings: GeneratorSettings, *, marrow: bool
) -> FloatArray:
    centre = np.array(list(normal.values())) / sum(normal.values())
    truth = generator.dirichlet(centre * settings.around)
    if marrow and generator.random() < settings.raised:
        truth[0] = 0
        blasts = generator.uniform(*settings.blasts)
        truth *= (1 - blasts) / truth.sum()
        truth[0] = blasts
    return truth


def _field(
    truth: FloatArray, cells: int, rows: FloatArray, scatter: float, false: FloatArray, generator: np.random.Generator
) -> NDArray[np.int64]:
    """(T,) named cells of one field."""
    inside = generator.multinomial(cells, generator.dirichlet(truth * scatter + 1e-9))
    named = sum(generator.multinomial(n, row)[:-1] for n, row in zip(inside, rows, strict=True))
    return named + generator.poisson(false)


def _log_uniform(between: tuple[float, float], generator: np.random.Generator) -> float:
    return float(np.exp(generator.uniform(*np.log(between))))


def nested_method(one: Drawn, seed: int, settings: NestedSettings | None = None) -> FloatArray:
    """The interval that decides."""
    return nested_shares(one.named, one.confusion, one.false_detections, settings, seed=seed).intervals


def exact_method(one: Drawn, _seed: int) -> FloatArray:
    """The exact binomial interval of the named cells, as if no cell were ever misnamed."""
    return exact_intervals(one.named.sum(axis=0))


def fields_method(one: Drawn, seed: int) -> FloatArray:
    """Fields drawn again, the exact interval where a type has fewer than five cells; nothing is corrected."""
    drawn = resampled_totals(one.named, draws=2000, seed=seed)
    numbers = one.named.sum(axis=0)
    between = np.quantile(drawn / drawn.sum(axis=1, keepdims=True), [0.025, 0.975], axis=0).T
    return np.where(numbers[:, None] < 5, exact_intervals(numbers), between)


def exact_intervals(numbers: FloatArray, level: float = 0.95) -> FloatArray:
    whole = int(numbers.sum())
    return np.array([clopper_pearson(int(number), whole, level) for number in numbers])


def drawn_intervals(
    method: Method, numbers: Iterable[int], *, seed: int = 0, settings: GeneratorSettings | None = None
) -> FloatArray:
    """(N, 4) truth, lower, upper limit, and width of the exact interval, of every type of every count.

    Each count has a generator of its own from `seed` and its number, so that parts may be drawn apart and joined.
    """
    rows = []
    for number in numbers:
        one = draw_count(np.random.default_rng([seed, number]), settings)
        exact = np.ptp(exact_intervals(one.named.sum(axis=0)), axis=1)
        rows.append(np.column_stack([one.truth, method(one, number), exact]))
    return np.concatenate(rows)


def coverage(rows: FloatArray, *, least: float = 0.02, most: float = 1.0) -> Coverage:
    """rows: of `drawn_intervals`; types whose true share is in [least, most)."""
    truth, low, high, exact = rows[(rows[:, 0] >= least) & (rows[:, 0] < most)].T
    return Coverage(
        intervals=len(truth),
        covered=float(np.mean((low <= truth) & (truth <= high))),
        width=float(np.mean(high - low)),
        binomial_width=float(np.mean(exact)),
        below=float(np.mean(high < truth)),
        above=float(np.mean(low > truth)),
    )
