"""Do several smears, or the fields of one, show the same composition? A test, and an index of how much cells cluster.

Pearson's chi-square over the table of origin by type, rare types pooled, judged by permutation: where an origin has
several units (the fields of a smear) whole units change their origin, because cells of a field are no independent
draws; where each unit is its own origin, single cells change places with the margins kept (Patefield 1981).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myelos.errors import UsageError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class HomogeneitySettings:
    """least: mean expected cells below which a type is pooled with other rare ones; Cochran's 5 for smears, and 1 for
    fields, whose small tables are judged by permutation all the same."""

    permutations: int = 999
    seed: int = 0
    least_smears: float = 5.0
    least_fields: float = 1.0
    noted: float = 0.05  # p below it is said to be a difference


@dataclass(frozen=True)
class Homogeneity:
    """index: chi-square ÷ its degrees of freedom, about 1 where the origins differ by chance alone."""

    origins: int
    of: str  # fields, tiles, smears
    statistic: float
    freedom: int
    index: float
    p_value: float
    columns: int  # types after pooling
    method: str
    sentence: str


def homogeneity(
    numbers: ArrayLike,
    origin: Sequence[str] | None = None,
    *,
    of: str = "fields",
    settings: HomogeneitySettings | None = None,
) -> Homogeneity | None:
    """numbers: (U, T) cells by unit and type; origin: (U,) the smear of each unit, None where units are compared.

    None where there is nothing to compare: fewer than two origins with cells, or than two types after pooling. The same
    rows give the same answer. Raises UsageError where the lengths differ.
    """
    settings = settings or HomogeneitySettings()
    cells = np.asarray(numbers, dtype=float)
    if origin is not None and len(origin) != len(cells):
        raise UsageError(f"{len(cells)} units and {len(origin)} origins do not fit")
    full = cells.sum(axis=1) > 0
    names = [str(k) for k in range(len(cells))] if origin is None else [str(name) for name in origin]
    groups = np.unique([name for name, one in zip(names, full, strict=True) if one], return_inverse=True)[1]
    cells = cells[full]
    count = int(groups.max(initial=-1)) + 1
    if count < 2:
        return None
    table = _table(cells, groups, count)
    columns = _pooled(table, settings.least_fields if origin is None else settings.least_smears)
    table = table @ columns
    if table.shape[1] < 2:
        return None
    statistic, freedom = chi_square(table), (count - 1) * (table.shape[1] - 1)
    generator = np.random.default_rng(settings.seed)
    if len(cells) > count:
        by_units, method = True, "permutation of whole fields between smears"
        drawn = _units_permuted(cells @ columns, groups, settings.permutations, generator)
    else:
        by_units, method = False, "permutation of single cells"
        drawn = _cells_permuted(table, settings.permutations, generator)
    p = float((1 + np.sum(drawn >= statistic - 1e-9)) / (1 + len(drawn)))
    index = statistic / freedom
    sentence = _sentence(count, of, index, p, by_units or origin is not None, settings)
    return Homogeneity(count, of, statistic, freedom, index, p, table.shape[1], method, sentence)


def chi_square(tables: FloatArray) -> float:
    """Pearson's statistic of a (G, T) table without empty margins."""
    return float(_chi_squares(tables[None])[0])


def _chi_squares(tables: FloatArray) -> FloatArray:
    expected = tables.sum(axis=2, keepdims=True) * tables.sum(axis=1, keepdims=True)
    expected = expected / tables.sum(axis=(1, 2), keepdims=True)
    return ((tables - expected) ** 2 / np.maximum(expected, 1e-12)).sum(axis=(1, 2))


def _table(cells: FloatArray, groups: NDArray[np.intp], count: int) -> FloatArray:
    table = np.zeros((count, cells.shape[1]))
    np.add.at(table, groups, cells)
    return table


def _pooled(table: FloatArray, least: float) -> FloatArray:
    """(T, C) which type belongs to which column: rarest first into one, until its mean expected number is reached."""
    totals = table.sum(axis=0)
    needed = least * len(table)  # mean over the origins, which differ in size
    order = [int(i) for i in np.argsort(totals, kind="stable") if totals[i] > 0]
    rare: list[int] = []
    while order and (totals[order[0]] < needed or (rare and totals[rare].sum() < needed)):
        rare.append(order.pop(0))
    groups = [[i] for i in order] + ([rare] if rare else [])
    return np.array([[float(i in group) for group in groups] for i in range(len(totals))]).reshape(len(totals), -1)


def _units_permuted(
    cells: FloatArray, groups: NDArray[np.intp], permutations: int, generator: np.random.Generator
) -> FloatArray:
    shuffled = generator.permuted(np.tile(groups, (permutations, 1)), axis=1)
    member = (shuffled[:, None, :] == np.arange(groups.max() + 1)[None, :, None]).astype(float)  # (P, G, U)
    return _chi_squares(member @ cells)


def _cells_permuted(table: FloatArray, permutations: int, generator: np.random.Generator) -> FloatArray:
    rows, columns = (table.sum(axis=axis).astype(np.int64) for axis in (1, 0))
    return _chi_squares(random_tables(rows, columns, permutations, generator).astype(float))


def random_tables(
    rows: NDArray[np.int64], columns: NDArray[np.int64], number: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """(number, R, C) tables with these margins, each as likely as when single cells change places.

    Cell by cell from the hypergeometric distribution, all tables at once. SciPy's `random_table` draws the same, but
    importing its statistics takes longer than all else that a count does after the cells are named.
    """
    left = np.tile(columns, (number, 1))  # of each column, not yet drawn
    tables = np.zeros((number, len(rows), len(columns)), np.int64)
    for row, total in enumerate(rows):
        wanted = np.full(number, total)
        for column in range(len(columns)):
            others = left[:, column + 1 :].sum(axis=1)
            drawn = generator.hypergeometric(left[:, column], others, wanted)
            tables[:, row, column] = drawn
            wanted -= drawn
        left -= tables[:, row]
    return tables


def _sentence(count: int, of: str, index: float, p: float, merged: bool, settings: HomogeneitySettings) -> str:
    differ = p < settings.noted
    chance = f"p {'<' if p < 0.0015 else '='} {max(p, 0.001):.3f}"
    if merged:
        said = "differ by more than chance: read them one by one" if differ else "do not differ by more than chance"
        return f"The {count} {of} that were merged {said} ({chance}, index {index:.1f})."
    said = "cells of a type lie together" if differ else "no sign that cells of a type lie together"
    return f"Over {count} {of}: {said} (index of overdispersion {index:.1f}, 1 is chance; {chance})."
