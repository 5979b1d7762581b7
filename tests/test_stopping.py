"""When counting may stop, and whether what is merged belongs together: error rates by simulation, oracles by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from myelos.counting import count
from myelos.errors import UsageError
from myelos.metrics.homogeneity import chi_square, homogeneity, random_tables
from myelos.metrics.intervals import clopper_pearson
from myelos.metrics.stopping import effective_cells, is_decided, log_evidence, stop_rule


def looks(share: float, clustering: float, paths: int, *, seed: int, bias: float = 0.0) -> np.ndarray:
    """(paths, looks, 3) cells, share and its variance over fields, at every fifth field from 500 to 3,000 cells."""
    generator = np.random.default_rng(seed)
    fields, size = 200, 15
    truth = generator.beta(share * clustering, (1 - share) * clustering, (paths, fields))
    seen = generator.binomial(size, truth)
    found = []
    for last in range(35, fields + 1, 5):
        part = seen[:, :last]
        estimate = part.mean(axis=1) / size
        variance = ((part / size - estimate[:, None]) ** 2).sum(axis=1) / (last - 1) / last
        found.append(np.stack([np.full(paths, last * size), estimate, variance], axis=1))
    result = np.stack(found, axis=1)
    result[:, :, 1] += bias * generator.standard_normal((paths, 1))  # the classifier's error: one for all looks
    result[:, :, 2] += bias**2
    return result


def ever_decided(paths: np.ndarray, threshold: float) -> float:
    """Share of the paths on which any look settles it."""
    return float(
        np.mean(
            [
                any(is_decided(p, effective_cells(p, variance, n), threshold) for n, p, variance in path)
                for path in paths
            ]
        )
    )


def test_the_evidence_is_the_mixture_of_likelihood_ratios() -> None:
    def ratio(p: float) -> float:
        return stats.beta(0.5, 0.5).pdf(p) * (p / 0.2) ** 30 * ((1 - p) / 0.8) ** 70

    assert log_evidence(0.3, 100, 0.2) == pytest.approx(np.log(integrate.quad(ratio, 0, 1)[0]), abs=1e-4)
    assert log_evidence(0.2, 0, 0.2) == 0


@pytest.mark.parametrize(("clustering", "bias"), [(1e6, 0.0), (20.0, 0.0), (20.0, 0.015)])
def test_errors_over_all_looks_stay_below_the_level(clustering: float, bias: float) -> None:
    """The share is the threshold itself: whatever is settled is wrong. 34 looks at each of 400 counts."""
    wrong = ever_decided(looks(0.2, clustering, 400, seed=1, bias=bias), 0.2)
    assert wrong <= 0.05


def test_a_plain_interval_would_not() -> None:
    def beyond(n: float, p: float) -> bool:
        low, high = clopper_pearson(round(n * p), round(n))
        return not low <= 0.2 <= high

    wrong = [any(beyond(n, p) for n, p, _ in path) for path in looks(0.2, 20.0, 150, seed=1)]
    assert np.mean(wrong) > 0.2


def test_what_is_far_from_the_threshold_is_settled_soon() -> None:
    paths = looks(0.3, 20.0, 150, seed=2)
    assert ever_decided(paths[:, :8], 0.2) > 0.8, "within 1,000 cells"


def test_how_many_more() -> None:
    given = {"percent": 20.0, "share": 0.25, "counted": 500, "minimum": 500}
    found = stop_rule("blasts", sampling=0.25 * 0.75 / 500, **given)
    assert not found.settled
    assert found.further is not None
    assert is_decided(0.25, 500 + found.further, 0.2)
    assert not is_decided(0.25, 499 + found.further, 0.2)
    assert found.sentence.startswith(f"About {-(-found.further // 10) * 10} more cells would settle whether blasts")
    clustered = stop_rule("blasts", sampling=2 * 0.25 * 0.75 / 500, **given)
    assert clustered.further == pytest.approx(500 + 2 * found.further, abs=2), "twice the variance, twice the cells"


def test_nothing_is_settled_below_the_minimum() -> None:
    given = {"percent": 20.0, "share": 0.6, "sampling": 0.24 / 300, "minimum": 500}
    short = stop_rule("blasts", counted=300, **given)
    assert not short.settled
    assert short.further == 200
    assert "200 more cells at the earliest" in short.sentence
    assert stop_rule("blasts", counted=500, **given).settled
    near = stop_rule("blasts", counted=100, **given | {"share": 0.29, "sampling": 0.2 / 100})
    assert near.further is not None
    assert near.further >= 400


def test_what_no_count_can_settle_is_said() -> None:
    given = {"percent": 20.0, "counted": 500, "minimum": 500}
    blurred = stop_rule("blasts", share=0.24, sampling=0.0004, lasting=0.0009, **given)
    assert blurred.further is None
    assert "classifier's errors" in blurred.sentence
    near = stop_rule("blasts", share=0.2001, sampling=0.00032, **given)
    assert near.further is None
    assert "Too near 20 %" in near.sentence


def test_every_threshold_has_its_rule() -> None:
    cells = [("blast" if k % 4 == 0 else "lymphocyte", f"field {k // 12}") for k in range(600)]
    rules = {row.percent: row.stop for row in count(cells, specimen="marrow").thresholds if row.name == "blast"}
    assert rules[5.0] is not None
    assert rules[5.0].sentence == "Settled: blasts are above 5 %."
    none = count([("lymphocyte", None)] * 600, specimen="marrow", unit="none").thresholds
    assert [row.stop.settled for row in none if row.stop] == [True] * 5, "no blast and no plasma cell in 600"
    few = count(cells[:300], specimen="marrow").thresholds[0].stop
    assert few is not None
    assert (few.settled, few.further) == (False, 200)
    blind = count(cells, specimen="marrow", known=("lymphocyte", "blast")).thresholds[-1]
    assert blind.stop is None


def test_chi_square_is_pearsons() -> None:
    table = np.array([[30, 12, 40], [22, 25, 31]])
    expected = stats.chi2_contingency(table, correction=False)
    assert chi_square(table.astype(float)) == pytest.approx(expected.statistic)
    found = homogeneity(table)
    assert found is not None
    assert (found.freedom, found.origins) == (2, 2)
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.02)
    assert found.index == pytest.approx(expected.statistic / 2)


def test_tables_are_drawn_as_single_cells_change_places() -> None:
    """Margins are kept, and means and the statistic are those of SciPy's tables of the same margins."""
    from scipy.stats import random_table

    rows, columns = np.array([30, 12, 0, 50]), np.array([40, 20, 25, 7])
    drawn = random_tables(rows, columns, 20_000, np.random.default_rng(0))
    assert (drawn.sum(axis=2) == rows).all()
    assert (drawn.sum(axis=1) == columns).all()
    theirs = random_table(rows, columns).rvs(20_000, random_state=1)
    assert np.abs(drawn.mean(axis=0) - theirs.mean(axis=0)).max() < 0.1
    assert np.abs(drawn.std(axis=0) - theirs.std(axis=0)).max() < 0.05
    kept = rows > 0
    ours, other = (np.array([chi_square(one[kept]) for one in some[:4000].astype(float)]) for some in (drawn, theirs))
    assert np.percentile(ours, [50, 95]) == pytest.approx(np.percentile(other, [50, 95]), rel=0.05)


def test_rare_types_are_pooled() -> None:
    table = np.array([[100, 90, 1, 0, 2], [110, 85, 0, 1, 4]])
    found = homogeneity(table, ["a", "b"], of="smears")
    assert found is not None
    assert found.columns == 2, "3 types with 8 cells join the next rarest"
    assert homogeneity([[5, 0], [7, 0]]) is None, "one type only"
    assert homogeneity([[5, 3]]) is None
    assert homogeneity(np.zeros((0, 3))) is None
    with pytest.raises(UsageError):
        homogeneity(table, ["a"])


def fields(generator: np.random.Generator, shares: np.ndarray, number: int, clustering: float) -> np.ndarray:
    return np.stack([generator.multinomial(15, generator.dirichlet(shares * clustering)) for _ in range(number)])


def test_fields_and_not_cells_change_their_smear() -> None:
    """Two smears of one composition whose fields cluster: a test over cells would often find a difference."""
    generator, shares = np.random.default_rng(4), np.array([0.2, 0.3, 0.5])
    p, over_cells = [], []
    for _ in range(100):
        table = fields(generator, shares, 40, 12.0)
        found = homogeneity(table, ["a"] * 20 + ["b"] * 20, of="smears")
        assert found is not None
        p.append(found.p_value)
        over_cells.append(stats.chi2_contingency([table[:20].sum(axis=0), table[20:].sum(axis=0)]).pvalue)
    assert np.mean(np.array(p) < 0.05) <= 0.1
    assert np.mean(np.array(over_cells) < 0.05) > 0.15


def test_smears_that_differ_are_found_in_a_count() -> None:
    generator = np.random.default_rng(5)
    names, cells = ("blast", "myelocyte", "lymphocyte"), []
    for smear, shares in (("a", [0.1, 0.3, 0.6]), ("b", [0.3, 0.3, 0.4])):
        for number, row in enumerate(fields(generator, np.array(shares), 20, 60.0)):
            cells += [(name, f"{smear}{number}") for name, k in zip(names, row, strict=True) for _ in range(k)]
    smears = {place: place[0] for _, place in cells}
    merged = count(cells, specimen="marrow", smears=smears).homogeneity
    assert merged is not None
    assert (merged.of, merged.origins) == ("smears", 2)
    assert merged.p_value < 0.01
    assert "differ by more than chance" in merged.sentence
    single = count(cells, specimen="marrow").homogeneity
    assert single is not None
    assert (single.of, single.origins) == ("fields", 40)
    assert single.index > 1.1
    even = count([(names[k % 3], f"f{k // 12}") for k in range(480)], specimen="marrow").homogeneity
    assert even is not None
    assert even.p_value > 0.9
