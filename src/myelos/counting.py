"""Named cells → differential count: percentages, intervals, ratios, thresholds, and how far it can be trusted.

The rules are those of the International Council for Standardization in Haematology and of the WHO classification, as
far as they could be read; every number is a setting and is printed with the result. A count says how many cells it
rests on, what is left out of the hundred and reported beside it, and what the model that named the cells cannot see.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from myelos import taxonomy
from myelos.datasets.tally import read_annotations, read_tally
from myelos.errors import UsageError
from myelos.metrics.adequacy import Adequacy, AdequacySettings, Evidence, judge
from myelos.metrics.bootstrap import percentile_interval
from myelos.metrics.intervals import clopper_pearson, probability_above
from myelos.metrics.shares import Share, ShareSettings, Tally, by_place

SPECIMENS = ("marrow", "blood")
UNITS = ("field", "tile", "none")

# Cells whose type was not stated or could not be: never in the percentages, always beside them.
UNSTATED = ("leukocyte", "nucleated_cell", "haematological_structure", "no_consensus", "not_identifiable")

# Mature cells of blood: many of them in a marrow suggest that it is diluted.
MATURE = ("segmented_neutrophil", "lymphocyte")

# What a full count distinguishes; where the source of the types names fewer, every report says so.
_LEUKOCYTES = (
    *("blast", "promyelocyte", "myelocyte", "metamyelocyte", "band_neutrophil", "segmented_neutrophil"),
    *("eosinophil", "basophil", "monocyte", "lymphocyte", "plasma_cell", "smudge_cell"),
)
_ERYTHROBLASTS = tuple(f"{stage}erythroblast" for stage in ("pro", "basophilic_", "polychromatic_", "orthochromatic_"))
USUAL = {
    "marrow": (*_LEUKOCYTES, *_ERYTHROBLASTS, "megakaryocyte"),
    "blood": (*_LEUKOCYTES, "erythroblast"),
}

BLAST_EQUIVALENTS = (
    "Blast equivalents (promonocytes in monocytic leukaemia, abnormal promyelocytes in acute promyelocytic leukaemia) "
    "are not in the blast percentage."
)


@dataclass(frozen=True)
class CountSettings:
    """Rules of the count. Percentages are of 100; where no source is named the default is ours."""

    monocytes_in_ratio: bool = False  # in the numerator of the M:E ratio
    blasts_in_ratio: bool = False
    minimum_erythroid: int = 10  # below it the M:E ratio is undefined
    blast_thresholds: tuple[float, ...] = (5.0, 10.0, 20.0)  # WHO 2022, ICC
    plasma_thresholds: tuple[float, ...] = (10.0, 60.0)
    shares: ShareSettings = field(default_factory=ShareSettings)
    adequacy: AdequacySettings = field(default_factory=AdequacySettings)


@dataclass(frozen=True)
class Beside:
    """A kind of cell that is no part of the hundred: its number, per 100 counted cells, and per mm² read."""

    name: str
    label: str
    number: int
    per_hundred: float | None
    per_mm2: float | None


@dataclass(frozen=True)
class Ratio:
    """Myeloid to erythroid ratio; `value` is null and `why` says so where it is undefined."""

    myeloid: int
    erythroid: int
    value: float | None
    low: float | None
    high: float | None
    method: str
    why: str


@dataclass(frozen=True)
class Threshold:
    """Probability that the true percentage of a type is above `percent`; null where it cannot be judged."""

    name: str
    label: str
    percent: float
    number: int | None
    probability: float | None
    method: str


@dataclass(frozen=True)
class Blind:
    """What the source of the types cannot name and cannot tell apart, of the usual list, and where it was tested."""

    cannot_name: tuple[str, ...]
    not_told_apart: Mapping[str, tuple[str, ...]]
    blast_equivalents: str


@dataclass(frozen=True)
class Count:
    """A differential count. `counted` cells make the hundred, `cells` were named in all."""

    specimen: str
    cells: int
    counted: int
    types: tuple[Share, ...]
    lineages: tuple[Share, ...]
    ratio: Ratio | None
    thresholds: tuple[Threshold, ...]
    beside: tuple[Beside, ...]
    unstated: tuple[Beside, ...]
    adequacy: Adequacy
    blind: Blind
    unit: str  # field, tile, or "none" where cells have no place
    units: int
    known: tuple[str, ...] | None  # types that the source can name, null where that is not known
    tested_on: tuple[str, ...]
    evidence: Evidence
    settings: CountSettings

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, as `report.json` stores them."""
        return dataclasses.asdict(self)


def count(
    cells: pa.Table | Sequence[tuple[str, str | None]],
    *,
    specimen: str,
    settings: CountSettings | None = None,
    evidence: Evidence | None = None,
    known: Sequence[str] | None = None,
    tested_on: Sequence[str] = (),
    unit: str = "field",
) -> Count:
    """Count cells of one smear.

    cells: a table of the schema `cells`, or pairs (type, name of the field or tile, null where it has none).
    known: the types that the source can name, null where that is unknown. unit: what the bootstrap resamples, "field"
    (one per `slide_id`), "tile" (one per `slide_id` and `tile`) or "none". Raises UsageError for another specimen or
    unit, LabelError for a type that the taxonomy does not have.
    """
    if specimen not in SPECIMENS:
        why = "marrow and blood are counted by different rules"
        raise UsageError(f"unknown specimen {specimen!r}", why=why, remedy="Pass marrow or blood")
    settings, evidence = settings or CountSettings(), evidence or Evidence()
    known = None if known is None else tuple(known)
    names = [(taxonomy.cell_type(name).name, place) for name, place in _pairs(cells, unit)]
    numbers = Counter(name for name, _ in names)
    inside = _inside(numbers, specimen, known)
    matrix = by_place(names, inside)
    tally = Tally.of(matrix, numbers, inside, settings.shares)
    unnamed = sum(numbers[name] for name in UNSTATED)
    mature = sum(numbers[name] for name in MATURE)
    return Count(
        specimen=specimen,
        cells=len(names),
        counted=tally.counted,
        types=tuple(tally.share(name, taxonomy.cell_type(name).label, {name}) for name in inside),
        lineages=_lineages(tally),
        ratio=_ratio(tally, settings) if specimen == "marrow" else None,
        thresholds=_thresholds(tally, known, settings),
        beside=_beside(tally, specimen, known, evidence),
        unstated=tuple(_aside(tally, name, evidence) for name in UNSTATED if numbers[name]),
        adequacy=judge(
            specimen=specimen,
            counted=tally.counted,
            unnamed=unnamed,
            mature=mature,
            evidence=evidence,
            settings=settings.adequacy,
        ),
        blind=_blind(specimen, known),
        unit=unit if len(matrix) else "none",
        units=len(matrix),
        known=known,
        tested_on=tuple(tested_on),
        evidence=evidence,
        settings=settings,
    )


def _pairs(cells: pa.Table | Sequence[tuple[str, str | None]], unit: str) -> Sequence[tuple[str, str | None]]:
    """Type and place of every cell; cells of which no type is known are not identifiable."""
    if unit not in UNITS:
        raise UsageError(f"unknown unit {unit!r}", remedy=f"Pass one of {', '.join(UNITS)}")
    if not isinstance(cells, pa.Table):
        return cells
    types = [name or "not_identifiable" for name in cells["cell_type"].to_pylist()]
    places: list[str | None] = cells["slide_id"].to_pylist()
    if unit == "tile":
        places = [f"{slide} {tile}" for slide, tile in zip(places, cells["tile"].to_pylist(), strict=True)]
    elif unit == "none":
        places = [None] * len(types)
    return list(zip(types, places, strict=True))


def is_inside(name: str, specimen: str) -> bool:
    """Whether cells of this type are part of the hundred."""
    return name not in UNSTATED and taxonomy.cell_type(name).counted[specimen]


def in_order(names: Iterable[str]) -> list[str]:
    """Types by lineage and, within it, by maturation, coarse types first."""
    place = {name: number for number, name in enumerate(taxonomy.TYPES)}
    lineage = {name: number for number, name in enumerate(taxonomy.LINEAGES)}
    return sorted(names, key=lambda name: (lineage[taxonomy.cell_type(name).lineage], place[name]))


def _inside(numbers: Mapping[str, int], specimen: str, known: Sequence[str] | None) -> tuple[str, ...]:
    """Types of the hundred that were seen, or could have been: a zero is a finding where the source knows the type."""
    candidates = {name for name in numbers if numbers[name]} | set(known or ())
    return tuple(in_order(name for name in candidates if is_inside(name, specimen)))


def _lineages(tally: Tally) -> tuple[Share, ...]:
    """Sums that readers agree on better than on stages."""
    groups = {name: set(taxonomy.of_lineage(name)) & set(tally.inside) for name in taxonomy.LINEAGES}
    return tuple(tally.share(name, taxonomy.LINEAGES[name].label, group) for name, group in groups.items() if group)


def _ratio(tally: Tally, settings: CountSettings) -> Ratio:
    """Granulocytic ÷ erythroid; its interval follows from that of the share M ÷ (M + E)."""
    optional = {"monocytic": settings.monocytes_in_ratio, "blasts": settings.blasts_in_ratio}
    added = {name for name in taxonomy.ratio_types("optional") if optional[taxonomy.cell_type(name).lineage]}
    myeloid_types, erythroid_types = taxonomy.ratio_types("myeloid") | added, taxonomy.ratio_types("erythroid")
    myeloid, erythroid = tally.number(myeloid_types), tally.number(erythroid_types)
    if erythroid < settings.minimum_erythroid:
        why = f"undefined: {erythroid} erythroid cells, at least {settings.minimum_erythroid} are needed"
        return Ratio(myeloid, erythroid, None, None, None, "", why)
    level, method = settings.shares.level, "exact binomial"
    low, high = (p / (1 - p) for p in clopper_pearson(myeloid, myeloid + erythroid, level))
    m, e = tally.drawn(myeloid_types), tally.drawn(erythroid_types)
    if m is not None and e is not None:
        between = percentile_interval(np.divide(m, e, out=np.full(len(m), np.nan), where=e > 0), level)
        if between is not None:
            (low, high), method = between, "bootstrap"
    return Ratio(myeloid, erythroid, myeloid / erythroid, low, high, method, "")


def _thresholds(tally: Tally, known: Sequence[str] | None, settings: CountSettings) -> tuple[Threshold, ...]:
    """Probabilities from the bootstrap where there is one, else from the Jeffreys posterior."""
    rows = []
    lines = [("blast", percent) for percent in settings.blast_thresholds]
    lines += [("plasma_cell", percent) for percent in settings.plasma_thresholds]
    for name, percent in lines:
        group, label = taxonomy.narrower(name), taxonomy.cell_type(name).label
        number = tally.number(group)
        if known is not None and not group & set(known) and not number:
            rows.append(Threshold(name, label, percent, None, None, "not judged: the source does not name this type"))
        elif not tally.counted:
            rows.append(Threshold(name, label, percent, number, None, "not judged: nothing was counted"))
        else:
            drawn = tally.drawn(group)
            above = probability_above(number, tally.counted, percent / 100)
            method = "Jeffreys posterior"
            if drawn is not None:
                above, method = float(np.mean(drawn > percent / 100)), "bootstrap"
            rows.append(Threshold(name, label, percent, number, above, method))
    return tuple(rows)


def _beside(tally: Tally, specimen: str, known: Sequence[str] | None, evidence: Evidence) -> tuple[Beside, ...]:
    seen = {name for name, number in tally.numbers.items() if number} | set(known or ())
    outside = [name for name in seen if name not in UNSTATED and not is_inside(name, specimen)]
    return tuple(_aside(tally, name, evidence) for name in in_order(outside))


def _aside(tally: Tally, name: str, evidence: Evidence) -> Beside:
    number = tally.numbers.get(name, 0)
    per_hundred = 100 * number / tally.counted if tally.counted else None
    per_mm2 = number / evidence.area_mm2 if evidence.area_mm2 else None
    return Beside(name, taxonomy.cell_type(name).label, number, per_hundred, per_mm2)


def _blind(specimen: str, known: Sequence[str] | None) -> Blind:
    """Compare the usual list with what the source names: missing, or known only by a coarser name."""
    if known is None:
        return Blind((), {}, BLAST_EQUIVALENTS)
    missing: list[str] = []
    together: dict[str, list[str]] = {}
    for name in USUAL[specimen]:
        if taxonomy.narrower(name) & set(known):
            continue
        coarser = [wide for wide in known if wide not in UNSTATED and name in taxonomy.narrower(wide)]
        if coarser:
            together.setdefault(coarser[0], []).append(name)
        else:
            missing.append(name)
    return Blind(tuple(missing), {wide: tuple(names) for wide, names in together.items()}, BLAST_EQUIVALENTS)


def from_tally(path: Path, *, specimen: str, settings: CountSettings | None = None) -> Count:
    """The count of a CSV with the columns cell_type and count; faults as in `datasets.tally.read_tally`."""
    numbers = read_tally(path)
    cells = [(name, None) for name, number in numbers.items() for _ in range(number)]
    return count(cells, specimen=specimen, settings=settings, known=tuple(numbers), unit="none")


def from_geojson(path: Path, *, specimen: str, settings: CountSettings | None = None) -> Count:
    """The count of cells marked and named in QuPath; the types that appear are taken for those that were looked for."""
    cells = read_annotations(path)
    known = tuple(dict.fromkeys(cells["cell_type"].to_pylist()))
    return count(cells, specimen=specimen, settings=settings, known=known, unit="none")
