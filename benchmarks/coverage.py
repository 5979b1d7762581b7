"""Do the intervals hold what they promise? Counts by the generator of `myelos.metrics.coverage`, fixed beforehand.

python -m benchmarks.coverage                5,000 counts: some minutes on two idle cores
python -m benchmarks.coverage --quick        100 counts: shows that it runs
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np

from benchmarks.table import Row, parser, show
from myelos.metrics.coverage import (
    Drawn,
    FloatArray,
    GeneratorSettings,
    Method,
    coverage,
    draw_count,
    drawn_intervals,
    exact_method,
    fields_method,
    nested_method,
)
from myelos.metrics.nested import NestedSettings, nested_shares

BANDS = ((0.02, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 1.01))
MARROW = GeneratorSettings(marrows=1)
WORSE = GeneratorSettings(marrows=1, right=(0.45, 0.65))
PART = 25  # counts that one process draws at a time


def another_matrix(one: Drawn, seed: int) -> FloatArray:
    """The nested interval with held-out cells of a worse classifier, as of another stain."""
    other = draw_count(np.random.default_rng([99, seed]), WORSE)
    return nested_shares(one.named, other.confusion, other.false_detections, seed=seed).intervals


def drawn(method: Method, counts: int, processes: int, settings: GeneratorSettings | None = None) -> FloatArray:
    """Rows of `drawn_intervals`; the same for any number of processes."""
    parts = [range(first, min(first + PART, counts)) for first in range(0, counts, PART)]
    job = partial(drawn_intervals, method, settings=settings)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return np.concatenate(list(pool.map(job, parts)))


def of(what: str, rows: FloatArray, least: float = 0.02, most: float = 1.01) -> Iterator[Row]:
    found = coverage(rows, least=least, most=most)
    missed = f"truth above {100 * found.below:.1f} %, below {100 * found.above:.1f} %"
    wide = f"{found.widening:.2f} times the binomial width"
    yield Row(what, 100 * found.covered, "%", f"{found.intervals} intervals; {missed}; {wide}")


def rows(*, counts: int, processes: int, draws: int) -> list[Row]:
    nested = drawn(partial(nested_method, settings=NestedSettings(draws=draws)), counts, processes)
    others = max(counts // 10, 20)
    bands = [(f"nested: types of {100 * low:.0f} to {100 * min(high, 1):.0f} %", low, high) for low, high in BANDS]
    return [
        *of("nested (decides): types of 2 % and more", nested),
        *(row for what, low, high in bands for row in of(what, nested, low, high)),
        *of("over fields, not corrected", drawn(fields_method, counts, processes)),
        *of("exact binomial, not corrected", drawn(exact_method, counts, processes)),
        *of("nested, matrix of a worse classifier", drawn(another_matrix, others, processes, MARROW)),
    ]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--counts", type=int, default=5000)
    made.add_argument("--draws", type=int, default=NestedSettings().draws, help="of each bootstrap")
    made.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = made.parse_args()
    counts = 100 if options.quick else options.counts
    show(lambda: rows(counts=counts, processes=options.processes, draws=options.draws), markdown=options.markdown)


if __name__ == "__main__":
    main()
