"""Parts of a data set that share no patient, no sample and no near-duplicate.

What belongs together forms a unit. A unit is known by the smallest content hash of its images, so that neither the
order of the records nor the names of files and folders change where it goes. By the rule `hashed` nothing else does:
a further source moves no unit that it shares no image, sample or near-duplicate with.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from myelos.datasets.duplicates import WITH_SINGLE_CELLS, groups
from myelos.datasets.images import content_hash
from myelos.datasets.records import FieldRecord
from myelos.datasets.units import key, members, place, unit_labels
from myelos.errors import UsageError
from myelos.wording import number_of

_TRIES = 200  # orders in which folds are filled; the best is kept


@dataclass(frozen=True, slots=True)
class Unit:
    """Records that may not be parted: their indices, a key that depends on content and seed only, their sources."""

    key: str
    members: tuple[int, ...]
    sources: tuple[str, ...]
    types: Mapping[str, int]  # boxes by type; "" for cells of unstated type


def units(records: Sequence[FieldRecord], *, seed: int = 0, duplicates: Sequence[int] | None = None) -> list[Unit]:
    """What belongs together, sorted by key. duplicates: labels of `duplicates.groups`, computed where None."""
    labels = groups(records) if duplicates is None else duplicates
    if len(labels) != len(records):
        raise UsageError(f"{len(labels)} labels of duplicates are not for {number_of(len(records), 'record')}")
    whole = members(unit_labels(records, labels))
    return sorted((_unit(records, part, seed) for part in whole), key=lambda unit: unit.key)


def split(
    records: Sequence[FieldRecord],
    *,
    fractions: Mapping[str, float],
    seed: int = 0,
    rule: str = "hashed",
    duplicates: Sequence[int] | None = None,
) -> dict[str, list[int]]:
    """Indices of records by part, such as {"train": 0.8, "test": 0.2}; units go whole.

    rule: `hashed`, where the hash of a unit says, whatever else is given; shares come out as chance has it. `filled`,
    where most images are still wanted, so that every part has its share of every source; a further source changes it
    all. The figures of the shipped detectors are of `filled`. duplicates: labels of `duplicates.groups`, computed where
    None, by `filled` as it was when those were trained.
    Raises UsageError where the fractions do not add up to 1 and for an unknown rule.
    """
    if abs(sum(fractions.values()) - 1) > 1e-6 or min(fractions.values(), default=0) <= 0:
        raise UsageError(f"fractions {dict(fractions)} do not add up to 1", remedy="Pass positive shares of the whole")
    if rule not in RULES:
        raise UsageError(f"there is no rule {rule!r} for a split", remedy=f"Choose one of {', '.join(RULES)}")
    if duplicates is None and rule == "filled":
        duplicates = groups(records, WITH_SINGLE_CELLS)
    whole = units(records, seed=seed, duplicates=duplicates)
    parts = RULES[rule](whole, fractions)
    return {name: sorted(index for unit in parts[name] for index in unit.members) for name in fractions}


def _filled(whole: Sequence[Unit], fractions: Mapping[str, float]) -> dict[str, list[Unit]]:
    """In the order of their keys, within each combination of sources, each unit where most images are still wanted."""
    parts: dict[str, list[Unit]] = {name: [] for name in fractions}
    strata: dict[tuple[str, ...], list[Unit]] = defaultdict(list)
    for unit in whole:
        strata[unit.sources].append(unit)
    for _, stratum in sorted(strata.items()):
        total = sum(len(unit.members) for unit in stratum)
        wanted = {name: share * total for name, share in fractions.items()}
        for unit in stratum:
            name = max(wanted, key=lambda name: wanted[name])
            wanted[name] -= len(unit.members)
            parts[name].append(unit)
    return parts


def _hashed(whole: Sequence[Unit], fractions: Mapping[str, float]) -> dict[str, list[Unit]]:
    """Each unit where its key falls in the unit interval.

    Of a few units a part may get none, and nothing could be learned, chosen or quoted: the largest such part first, it
    takes the unit that lies nearest to its share, from a part that has others or a smaller share.
    """
    bounds = dict(zip(fractions, pairwise(accumulate(fractions.values(), initial=0.0)), strict=True))
    parts: dict[str, list[Unit]] = {name: [] for name in fractions}
    for unit in whole:
        parts[min(bounds, key=lambda name: _away(unit, bounds[name]))].append(unit)
    for empty in sorted(fractions, key=lambda name: -fractions[name]):
        giving = [name for name in parts if len(parts[name]) > 1 or fractions[name] < fractions[empty]]
        spare = [(_away(unit, bounds[empty]), name, unit) for name in giving for unit in parts[name]]
        if spare and not parts[empty]:
            _, name, unit = min(spare, key=lambda item: item[:2])
            parts[name].remove(unit)
            parts[empty].append(unit)
    return parts


def _away(unit: Unit, bounds: tuple[float, float]) -> float:
    """How far a unit's place in the unit interval lies outside of bounds; 0 within."""
    return max(bounds[0] - place(unit.key), place(unit.key) - bounds[1], 0.0)


RULES: dict[str, Callable[[Sequence[Unit], Mapping[str, float]], dict[str, list[Unit]]]] = {
    "hashed": _hashed,
    "filled": _filled,
}


def folds(
    records: Sequence[FieldRecord], k: int, *, seed: int = 0, duplicates: Sequence[int] | None = None
) -> list[list[int]]:
    """k lists of indices, each the test part of one fold; every type and source in as many folds as possible.

    Of many orders of filling the one is kept that has most (type, fold) pairs, then the most even boxes by type.
    Raises UsageError where there are fewer units than folds.
    """
    whole = units(records, seed=seed, duplicates=duplicates)
    if not 2 <= k <= len(whole):
        raise UsageError(
            f"{number_of(k, 'fold')} cannot be made",
            why=f"{number_of(len(whole), 'group shares', 'groups share')} no sample, patient or near-duplicate",
        )
    numbers = _numbers(whole)
    rng = np.random.default_rng(seed)
    tries = 1 if len(whole) > 200 else _TRIES  # many small units are even at the first try
    placed = [_fill(numbers, k, rng if attempt else None) for attempt in range(tries)]
    best = max(placed, key=lambda places: _merit(numbers, places, k))
    return [
        sorted(index for unit, place in zip(whole, best, strict=True) if place == fold for index in unit.members)
        for fold in range(k)
    ]


def _unit(records: Sequence[FieldRecord], part: Sequence[int], seed: int) -> Unit:
    smallest = min(content_hash(records[index].path) for index in part)
    sources = tuple(sorted({records[index].source for index in part}))
    return Unit(
        key(smallest, seed),
        tuple(part),
        sources,
        Counter(kind or "" for index in part for kind in records[index].types),
    )


def _numbers(whole: Sequence[Unit]) -> NDArray[np.float64]:
    """(units, types + sources) boxes of each type, and images if of that source, as shares of their totals."""
    names: Iterable[tuple[str, str]] = sorted(
        {("type", kind) for unit in whole for kind in unit.types}
        | {("source", s) for unit in whole for s in unit.sources}
    )
    rows = [
        [unit.types.get(name, 0) if what == "type" else len(unit.members) * (name in unit.sources)
         for what, name in names] for unit in whole
    ]  # fmt: skip
    numbers = np.array(rows, dtype=float)
    return numbers / numbers.sum(axis=0)


def _fill(numbers: NDArray[np.float64], k: int, rng: np.random.Generator | None) -> NDArray[np.intp]:
    """The fold of each unit: the rarest columns first, each unit where that column has least so far."""
    units_with = (numbers > 0).sum(axis=0)
    jitter = rng.random(numbers.shape) if rng is not None else np.zeros(numbers.shape)
    places = np.full(len(numbers), -1)
    filled = np.zeros((k, numbers.shape[1]))
    for column in np.argsort(units_with, kind="stable"):
        size = numbers[:, column] * (1 + jitter[:, column])
        for unit in np.argsort(-size, kind="stable"):
            if places[unit] < 0 and numbers[unit, column] > 0:
                fold = min(range(k), key=lambda fold: (round(filled[fold, column], 9), filled[fold].sum()))
                places[unit] = fold
                filled[fold] += numbers[unit]
    return places


def _merit(numbers: NDArray[np.float64], places: NDArray[np.intp], k: int) -> tuple[int, float]:
    sums = np.stack([numbers[places == fold].sum(axis=0) for fold in range(k)])
    return int((sums > 0).sum()), -float(sums.std(axis=0).sum())
