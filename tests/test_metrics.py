"""Figures of merit against published tables, independent implementations and counts made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from myelos.errors import UsageError
from myelos.metrics import intervals

# Rümke's table as the clinical rules quote it: (n, percentage) → limits in percent.
RUEMKE = {
    (200, 5): (2.4, 9.0), (200, 10): (6.2, 15.0), (200, 20): (14.7, 26.2),
    (500, 5): (3.3, 7.3), (500, 10): (7.5, 13.0), (500, 20): (16.6, 23.8),
    (1000, 5): (3.7, 6.5), (1000, 10): (8.2, 12.0), (1000, 20): (17.6, 22.6),
}  # fmt: skip


@pytest.mark.parametrize(("n", "percent"), RUEMKE)
def test_clopper_pearson_reproduces_ruemkes_limits(n: int, percent: int) -> None:
    low, high = intervals.clopper_pearson(n * percent // 100, n)
    assert (round(100 * low, 1), round(100 * high, 1)) == RUEMKE[n, percent]


def test_clopper_pearson_at_the_ends_and_against_scipy() -> None:
    from scipy.stats import binomtest

    assert intervals.clopper_pearson(0, 0) == (0, 1)
    for k, n, level in [(0, 17, 0.95), (17, 17, 0.95), (3, 17, 0.9), (1, 1, 0.5)]:
        expected = binomtest(k, n).proportion_ci(level, method="exact")
        assert intervals.clopper_pearson(k, n, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_probability_above_against_a_sampled_posterior() -> None:
    drawn = np.random.default_rng(0).beta(23.5, 77.5, 200_000)
    assert intervals.probability_above(23, 100, 0.2) == pytest.approx((drawn > 0.2).mean(), abs=0.005)
    assert intervals.probability_above(23, 100, 0.0) == 1
    assert intervals.probability_above(23, 100, 1.0) == 0
    assert 0 < intervals.probability_above(0, 2000, 0.05) < 1e-40  # tiny, not rounded to nothing


def test_impossible_counts_are_refused() -> None:
    for call in (lambda: intervals.clopper_pearson(3, 2), lambda: intervals.probability_above(-1, 2, 0.1),
                 lambda: intervals.clopper_pearson(1, 2, 95)):  # fmt: skip
        with pytest.raises(UsageError):
            call()


def test_bootstrap_knows_the_error_of_a_mean_and_repeats_itself() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = intervals.bootstrap(lambda i: values[i].mean(), 400, rng=np.random.default_rng(2))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert (low, high) == intervals.bootstrap(lambda i: values[i].mean(), 400, rng=np.random.default_rng(2))
    assert np.isnan(intervals.bootstrap(lambda i: values[i].mean(), 1, rng=np.random.default_rng(2))).all()
