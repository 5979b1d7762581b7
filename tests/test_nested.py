"""The interval that decides: the inversion against oracles, bias, coverage, and what it says in a count."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scipy import optimize, stats

from myelos.counting import Confusion, count
from myelos.errors import UsageError
from myelos.metrics.coverage import (
    Drawn,
    GeneratorSettings,
    coverage,
    draw_count,
    drawn_intervals,
    exact_method,
    nested_method,
)
from myelos.metrics.nested import FalseDetections, NestedSettings, compose, nested_shares
from myelos.report import ReportInput, write
from myelos.report.page import render

TYPES = ("blast", "promyelocyte", "myelocyte", "lymphocyte")
RIGHT = np.array([[80, 15, 3, 2, 0], [10, 75, 13, 2, 0], [2, 10, 85, 3, 0], [1, 1, 2, 96, 0]])
SCHEMA = Path(__file__).resolve().parent.parent / "docs" / "report.schema.json"


def spread(numbers: np.ndarray, fields: int, seed: int = 0) -> np.ndarray:
    """(fields, T): cells dealt at random to fields."""
    generator = np.random.default_rng(seed)
    kinds = generator.permutation(np.repeat(np.arange(len(numbers)), numbers))
    table = np.zeros((fields, len(numbers)))
    np.add.at(table, (np.arange(len(kinds)) % fields, kinds), 1)
    return table


def test_the_composition_is_the_most_likely_one() -> None:
    """Against a general optimiser of the same likelihood, with missed cells and false detections."""
    generator = np.random.default_rng(1)
    matrix = generator.dirichlet([1] * 5, size=4) * 0.3 + np.eye(4, 5) * 0.7
    numbers, behind = np.array([40.0, 3, 120, 22]), np.array([2.0, 3.5, 1, 0.5])
    tight = NestedSettings(iterations=20_000, tolerance=1e-9)
    found = compose(numbers, matrix, background=behind, settings=tight)

    def against(true: np.ndarray) -> float:
        mean = true @ matrix[:, :-1] + behind
        return float(np.sum(mean - numbers * np.log(mean)))

    best = optimize.minimize(against, np.full(4, 40.0), bounds=[(0, None)] * 4, tol=1e-14)
    assert found == pytest.approx(best.x, abs=0.05)
    assert found[1] == pytest.approx(0, abs=0.05), "fewer than the false detections explain: none, and not below"
    stacked = compose(np.stack([numbers] * 3), np.stack([matrix] * 3), background=behind, settings=tight)
    assert np.allclose(stacked, found, atol=1e-6)


def test_a_perfect_classifier_changes_nothing() -> None:
    """Singly drawn cells and a matrix that is known to be right: Jeffreys' posterior of each share."""
    numbers = np.array([[25, 0, 375, 100]])
    right = np.column_stack([np.eye(4) * 1e9, np.zeros(4)])
    found = nested_shares(numbers, right, settings=NestedSettings(draws=20_000), singly=True)
    assert found.estimates == pytest.approx(numbers[0] / 500, abs=1e-4)
    for i, k in enumerate((25, 0, 375, 100)):
        low, high = stats.beta(k + 0.5, 500 - k + 0.5).ppf([0.025, 0.975])
        assert found.intervals[i] == pytest.approx([low if k else 0, high], abs=0.002)


def test_known_errors_are_taken_out_and_the_simpler_direction_is_biased() -> None:
    """Held-out cells of equal numbers, a count of few blasts: P(truth | named) finds too many, reweighted or not."""
    truth = np.array([0.04, 0.16, 0.30, 0.50])
    named = np.round(10_000 * truth @ (RIGHT / 100))[:4].astype(int)
    found = nested_shares(spread(named, 200), RIGHT * 50)
    backward = RIGHT[:, :4] / RIGHT[:, :4].sum(axis=0)  # P(truth | named) of the held-out cells
    naive = named / named.sum()
    simple = backward @ naive
    weighted = naive[:, None] * RIGHT[:, :4]  # held-out cells weighted to the composition that was named
    weighted = (weighted / weighted.sum(axis=0)) @ naive
    assert np.abs(found.estimates - truth).max() < 0.003
    assert np.all((found.intervals[:, 0] < truth) & (truth < found.intervals[:, 1]))
    assert naive[0] > 0.05
    assert simple[0] > 0.08, "the classifier's own test set pulls the count towards equal numbers"
    assert weighted[0] > 0.045, "one step of the way, no more"


def test_missed_cells_and_false_detections_are_corrected() -> None:
    truth = np.array([200.0, 200, 300, 300])
    matrix = RIGHT * 100
    matrix[0] //= 2
    matrix[0, -1] = 5000 - 0  # half of the blasts are missed
    rows = matrix / matrix.sum(axis=1, keepdims=True)
    false = np.array([0, 0, 0, 120.0])
    named = np.round(truth @ rows[:, :4] + false).astype(int)
    plain = nested_shares(spread(named, 60), matrix)
    given = nested_shares(spread(named, 60), matrix, FalseDetections((0, 0, 0, 2000), 1000))
    assert np.abs(given.estimates - truth / 1000).max() < 0.005
    assert plain.estimates[3] - 0.3 > 0.03


def test_an_uncertain_matrix_widens_and_clustered_fields_do() -> None:
    named = np.round(500 * np.array([0.2, 0.2, 0.3, 0.3])).astype(int)
    sharp, vague = (nested_shares(spread(named, 30), RIGHT * factor) for factor in (100, 0.1))
    width = [np.ptp(one.intervals, axis=1).mean() for one in (sharp, vague)]
    assert width[1] > 1.3 * width[0]
    assert vague.draws.var(axis=0).sum() > 1.5 * vague.sampling.var(axis=0).sum()
    heaps = np.zeros((30, 4))
    heaps[np.arange(30), np.repeat([0, 1, 2, 3], [6, 6, 9, 9])] = named.sum() / 30
    assert np.ptp(nested_shares(heaps, RIGHT * 100).intervals, axis=1).mean() > 2 * width[0]


def test_fast_and_repeatable() -> None:
    one = draw_count(np.random.default_rng(3))
    begun = time.process_time()
    first = nested_shares(one.named, one.confusion, one.false_detections, seed=5)
    assert time.process_time() - begun < 3, "about half a second on an idle core"
    again = nested_shares(one.named, one.confusion, one.false_detections, seed=5)
    assert np.array_equal(first.draws, again.draws)
    assert first.draws.shape == (2000, one.named.shape[1])
    assert np.allclose(first.draws.sum(axis=1), 1)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="do not fit"):
        nested_shares(np.ones((3, 4)), RIGHT[:, :4])
    with pytest.raises(UsageError, match="held-out"):
        nested_shares(np.ones((3, 4)), RIGHT * [[1], [0], [1], [1]])
    with pytest.raises(UsageError, match="below 0"):
        nested_shares(-np.ones((3, 4)), RIGHT)
    with pytest.raises(UsageError, match="prior"):
        nested_shares(np.ones((3, 4)), RIGHT, settings=NestedSettings(prior="flat"))
    with pytest.raises(UsageError, match="shape"):
        Confusion.of(TYPES, RIGHT[:3], source="x", specimen="marrow")


def test_the_intervals_cover() -> None:
    """Few counts of the generator, so the limits are wide; `python -m benchmarks.coverage` draws thousands."""
    method = partial(nested_method, settings=NestedSettings(draws=300))
    found = coverage(drawn_intervals(method, range(300), seed=11))
    assert 0.925 < found.covered < 0.98
    assert found.widening < 2
    naive = coverage(drawn_intervals(exact_method, range(100), seed=11))
    assert naive.covered < found.covered - 0.03


def test_a_matrix_of_another_classifier_corrects_nothing() -> None:
    """Why it must fit: the same counts with the held-out cells of a worse classifier."""
    marrow, worse = GeneratorSettings(marrows=1), GeneratorSettings(marrows=1, right=(0.45, 0.65))

    def of_another(one: Drawn, seed: int) -> np.ndarray:
        other = draw_count(np.random.default_rng([99, seed]), worse)
        return nested_shares(one.named, other.confusion, settings=NestedSettings(draws=200)).intervals

    assert coverage(drawn_intervals(of_another, range(20), seed=3, settings=marrow)).covered < 0.85


WORDS = (*TYPES, "plasma_cell", "mitosis")  # the last two are the detector's own
COLUMNS = [0, 1, 2, 3, None, None]


def test_words_that_are_the_types_change_nothing() -> None:
    named = spread(np.array([40, 110, 150, 200]), 30)
    plain, given = (nested_shares(named, RIGHT, columns=columns) for columns in (None, [0, 1, 2, 3]))
    assert np.allclose(plain.intervals, given.intervals, atol=1e-9)


def test_what_is_kept_apart_is_not_corrected_and_the_whole_is_the_whole() -> None:
    """The others are what they are without it; its share is its number among all true cells."""
    numbers = np.array([40, 110, 150, 200, 60, 0])
    named = np.zeros((40, 6))
    for k, number in enumerate(numbers):
        np.add.at(named, (np.random.default_rng(k).integers(0, 40, number), k), 1)
    found = nested_shares(named, RIGHT, columns=COLUMNS)
    others = nested_shares(named[:, :4], RIGHT)
    assert found.estimates.sum() == pytest.approx(1)
    assert np.allclose(found.draws.sum(axis=1), 1)
    assert found.estimates[:4] == pytest.approx(others.estimates * 500 / 560, abs=1e-3)
    assert found.estimates[4] == pytest.approx(60 / 560, abs=1e-3)
    exact = stats.beta(60.5, 500.5).ppf([0.025, 0.975])
    assert np.ptp(found.intervals[4]) == pytest.approx(np.ptp(exact), rel=0.25)
    assert found.estimates[5] == 0
    assert found.intervals[5, 1] < 0.02


def test_a_finer_word_takes_its_part_of_what_was_corrected() -> None:
    """Blasts of which 30 of 40 carry the detector's finer word: the sum is as without it."""
    plain = spread(np.array([40, 110, 150, 200]), 30)
    named = np.column_stack([plain, np.zeros(30)])
    finer = np.minimum(plain[:, 0], np.where(np.arange(30) % 4, plain[:, 0], 0))
    named[:, 0] -= finer
    named[:, 4] = finer
    found, whole = nested_shares(named, RIGHT, columns=[0, 1, 2, 3, 0]), nested_shares(plain, RIGHT)
    assert found.estimates[0] + found.estimates[4] == pytest.approx(whole.estimates[0])
    assert found.estimates[4] / (found.estimates[0] + found.estimates[4]) == pytest.approx(finer.sum() / 40)
    both = found.of([True, False, False, False, True], [True] * 5)
    assert both.draws.std() == pytest.approx(whole.of([True, False, False, False], [True] * 4).draws.std(), rel=0.1)
    with pytest.raises(UsageError, match="words"):
        nested_shares(plain, RIGHT, columns=COLUMNS)


def _apart_covered(seed: int) -> np.ndarray:
    """Whether the intervals of a count hold its truth: four types that a drawn matrix confuses, two kept apart."""
    generator = np.random.default_rng([17, seed])
    truth = generator.dirichlet(12 * np.array([0.08, 0.16, 0.26, 0.3, 0.12, 0.08]))
    matrix = np.array([generator.dirichlet(60 * row) for row in (RIGHT + 0.2) / (RIGHT + 0.2).sum(axis=1)[:, None]])
    fields = generator.dirichlet(60 * truth, size=40)
    cells = np.array([generator.multinomial(13, shares) for shares in fields])
    named = np.array([sum(generator.multinomial(row[k], matrix[k])[:4] for k in range(4)) for row in cells])
    held_out = np.array([generator.multinomial(150, row) for row in matrix])
    named = np.column_stack([named, cells[:, 4:]])
    found = nested_shares(named, held_out, settings=NestedSettings(draws=300), columns=COLUMNS).intervals
    held = (found[:, 0] <= truth) & (truth <= found[:, 1])
    return np.where(truth >= 0.02, held, np.nan)


def test_intervals_of_counts_with_words_kept_apart_cover() -> None:
    """Simulated counts whose truth is known, all by one seed; some 1,000 intervals, so that 1 % is one and a half of
    their standard errors."""
    held = np.array([_apart_covered(seed) for seed in range(180)])
    assert 0.93 < np.nanmean(held) < 0.98
    assert 0.91 < np.nanmean(held[:, 4:]) < 0.99, "kept apart"
    assert 0.91 < np.nanmean(held[:, :4]) < 0.99, "corrected"


PLACES = np.random.default_rng(6).integers(0, 40, 500)
CELLS = [(name, f"field {k}") for name, k in zip(np.repeat(TYPES, [40, 110, 150, 200]), PLACES, strict=True)]


def test_a_count_decides_by_the_matrix_that_fits() -> None:
    confusion = Confusion.of(TYPES, RIGHT * 4, source="held-out cells of laboratory A", specimen="marrow")
    plain, decided = count(CELLS, specimen="marrow"), count(CELLS, specimen="marrow", confusion=confusion)
    for before, after in zip(plain.types, decided.types, strict=True):
        assert (before.percent, before.low, before.bootstrap_high) == (after.percent, after.low, after.bootstrap_high)
        assert before.deciding.method == "bootstrap"
        assert after.deciding.method == "nested bootstrap"
        assert after.deciding.low <= after.deciding.value <= after.deciding.high
    assert decided.types[0].deciding.value < decided.types[0].percent - 1
    assert "laboratory A" in decided.decided_by
    assert "not in the intervals" in plain.decided_by
    ten = [next(row for row in one.thresholds if row.percent == 10) for one in (plain, decided)]
    assert ten[1].method == "nested bootstrap"
    assert ten[1].probability < ten[0].probability
    assert sum(share.deciding.value for share in decided.types) == pytest.approx(100)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"specimen": "blood"}, "measured on blood"),
        ({"fits": False, "why": "it was measured on another stain"}, "another stain"),
        ({"types": TYPES[:3], "matrix": RIGHT[:3, [0, 1, 2, 4]]}, "does not have lymphocyte"),
        ({"matrix": RIGHT * [[0], [1], [1], [1]]}, "too few held-out cells of blast"),
    ],
)
def test_a_matrix_that_does_not_fit_is_named_and_unused(change: dict[str, object], word: str) -> None:
    given = {"types": TYPES, "matrix": RIGHT, "source": "laboratory A", "specimen": "marrow", **change}
    types, matrix = given.pop("types"), given.pop("matrix")
    result = count(CELLS, specimen="marrow", confusion=Confusion.of(types, matrix, **given))
    assert word in result.decided_by
    assert all(share.deciding.method == "bootstrap" for share in result.types)
    assert result.types == tuple(
        type(a)(**{**vars(b), "deciding": a.deciding})
        for a, b in zip(result.types, count(CELLS, specimen="marrow").types, strict=True)
    )


def test_a_count_keeps_apart_what_the_detector_alone_names() -> None:
    """Plasma cells stay, a stage of erythroblasts is a part of the corrected erythroblasts, mitoses lie beside."""
    types = ("lymphocyte", "erythroblast")
    alone = ("plasma_cell", "basophilic_erythroblast", "mitosis")
    matrix = np.array([[180, 20, 0], [40, 160, 0]])
    numbers = {"lymphocyte": 300, "erythroblast": 60, "basophilic_erythroblast": 60, "plasma_cell": 80, "mitosis": 20}
    cells = [(name, f"field {k % 37}") for k, name in enumerate(n for n, k in numbers.items() for _ in range(k))]
    given = {"source": "A", "specimen": "marrow"}
    result = count(cells, specimen="marrow", confusion=Confusion.of(types, matrix, **given, alone=alone))
    shares = {share.name: share.deciding for share in result.types}
    assert sum(share.value for share in shares.values()) == pytest.approx(100)
    assert shares["plasma_cell"].value == pytest.approx(16, abs=0.1)
    assert (shares["plasma_cell"].method, shares["lymphocyte"].method) == ("bootstrap", "nested bootstrap")
    assert "alone" in shares["plasma_cell"].why
    true = np.linalg.solve(matrix[:, :2].T / 200, [300, 120]) / 5
    assert shares["lymphocyte"].value == pytest.approx(true[0], abs=0.5)
    assert shares["erythroblast"].value == pytest.approx(shares["basophilic_erythroblast"].value)
    assert shares["erythroblast"].value * 2 == pytest.approx(true[1], abs=0.5)
    assert "basophilic erythroblast" in result.decided_by
    other = count(cells, specimen="marrow", confusion=Confusion.of(types, matrix, **given, alone=alone[1:]))
    assert "does not have plasma_cell" in other.decided_by, "whoever named it, the matrix cannot say"


def test_cells_outside_the_hundred_and_ratio() -> None:
    """Blasts called smudge cells come back into the hundred; the M:E ratio follows the draws."""
    types = ("myelocyte", "polychromatic_erythroblast", "smudge_cell")
    matrix = np.array([[450, 0, 50, 0], [0, 250, 250, 0], [0, 0, 500, 0]])
    cells = [(name, f"field {k % 30}") for k, name in enumerate(np.repeat(types, [270, 75, 155]))]
    confusion = Confusion.of(types, matrix, source="A", specimen="marrow")
    ratio = count(cells, specimen="marrow", confusion=confusion).ratio
    assert ratio is not None
    assert ratio.value == pytest.approx(270 / 75)
    assert ratio.deciding is not None
    assert ratio.deciding.value == pytest.approx(2, abs=0.05)
    assert ratio.deciding.low < 2 < ratio.deciding.high


def test_the_report_shows_it(tmp_path: Path) -> None:
    confusion = Confusion.of(TYPES, RIGHT, source="laboratory A", specimen="marrow")
    given = ReportInput(title="x", count=count(CELLS, specimen="marrow", confusion=confusion))
    html = render(given)
    assert "corrected for the classifier" in html
    assert "deciding</th>" in html
    assert "Stop rule</th>" in html
    assert "blasts are above 20 %" in html or "blasts are below 20 %" in html
    write(tmp_path / "out", given)
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    jsonschema.validate(content, json.loads(SCHEMA.read_text()))
    assert Confusion.from_dict(content["count"]["confusion"]) == confusion
    other = Confusion.of(TYPES, RIGHT, source="laboratory A", specimen="blood")
    plain = render(ReportInput(title="x", count=count(CELLS, specimen="marrow", confusion=other)))
    assert "deciding</th>" not in plain
    assert "does not hold here" in plain
