"""Named cells → differential count: percentages, intervals, ratios, thresholds, and how far it can be trusted.

The rules are those of the International Council for Standardization in Haematology and of the WHO classification, as
far as they could be read; every number is a setting and is printed with the result. A count says how many cells it
rests on, what is reported beside it, which interval decides, and what the model that named the cells cannot see.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from myelos import taxonomy
from myelos.datasets.tally import read_annotations, read_tally
from myelos.errors import UsageError
from myelos.metrics.adequacy import Adequacy, AdequacySettings, Evidence, judge
from myelos.metrics.blind import UNSTATED, Blind, blind_to
from myelos.metrics.confusion import Confusion, Corrected
from myelos.metrics.homogeneity import Homogeneity, HomogeneitySettings, homogeneity
from myelos.metrics.ratio import Ratio, ratio
from myelos.metrics.shares import FloatArray, Share, ShareSettings, Tally, by_place
from myelos.metrics.stopping import StopSettings
from myelos.metrics.thresholds import Looks, Threshold, threshold

SPECIMENS = ("marrow", "blood")
UNITS = ("field", "tile", "none")
Cells = Sequence[tuple[str, str | None]]  # type, and field or tile
MATURE = ("segmented_neutrophil", "lymphocyte")  # of blood: many of them in a marrow suggest that it is diluted


@dataclass(frozen=True)
class CountSettings:
    """Rules of the count. Percentages are of 100; where no source is named the default is ours."""

    monocytes_in_ratio: bool = False  # in the numerator of the M:E ratio
    blasts_in_ratio: bool = False
    minimum_erythroid: int = 10  # below it the M:E ratio is undefined
    blast_thresholds: tuple[float, ...] = (5.0, 10.0, 20.0)  # WHO 2022, ICC
    plasma_thresholds: tuple[float, ...] = (10.0, 60.0)
    shares: ShareSettings = field(default_factory=ShareSettings)
    stopping: StopSettings = field(default_factory=StopSettings)
    homogeneity: HomogeneitySettings = field(default_factory=HomogeneitySettings)
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
class Count:
    """A differential count. `counted` cells make the hundred, `cells` were named in all.

    `decided_by` says in a sentence which interval decides; `confusion` is what was given, whether it was used or not.
    """

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
    decided_by: str
    homogeneity: Homogeneity | None
    confusion: Confusion | None
    settings: CountSettings

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, as `report.json` stores them."""
        return dataclasses.asdict(self)


def count(
    cells: pa.Table | Cells,
    *,
    specimen: str,
    settings: CountSettings | None = None,
    evidence: Evidence | None = None,
    known: Sequence[str] | None = None,
    tested_on: Sequence[str] = (),
    unit: str = "field",
    confusion: Confusion | None = None,
    said: pa.Table | None = None,
    smears: Mapping[str, str] | None = None,
) -> Count:
    """Count cells of one smear, or of several smears of one patient.

    cells: a table of the schema `cells`, or pairs (type, name of the field or tile, null where it has none).
    known: the types that the source can name, null where that is unknown. unit: what the bootstrap resamples, "field"
    (one per `slide_id`), "tile" (one per `slide_id` and `tile`) or "none". confusion: held-out cells of the classifier
    that named the cells; where it fits, the nested bootstrap decides. said: the same cells by the classifier's words,
    where these were not adopted. smears: `slide_id` (or field) → smear, where several were merged.
    Raises UsageError for another specimen or unit, LabelError for an unknown type.
    """
    _check_specimen(specimen)
    settings, evidence = settings or CountSettings(), evidence or Evidence()
    known = None if known is None else tuple(known)
    names = [(taxonomy.cell_type(name).name, place) for name, place in _pairs(cells, unit)]
    numbers = Counter(name for name, _ in names)
    words = names if said is None else _pairs(said, unit)
    corrected, objection = _corrected(confusion, words, specimen, known, settings)
    inside = _inside(numbers + Counter(word for word, _ in words) if corrected else numbers, specimen, known)
    matrix = by_place(names, inside)
    why = objection or "fields were drawn again and the classifier's errors from its held-out cells"
    tally = Tally.of(matrix, numbers, inside, settings.shares, corrected=corrected, why=why)
    spread = _spread(names, matrix, unit, smears, settings)
    return Count(
        specimen=specimen,
        cells=len(names),
        counted=tally.counted,
        types=tuple(tally.share(name, taxonomy.cell_type(name).label, {name}) for name in inside),
        lineages=_lineages(tally),
        ratio=_ratio(tally, settings) if specimen == "marrow" else None,
        thresholds=_thresholds(tally, specimen, known, spread, settings),
        beside=_beside(tally, specimen, known, evidence),
        unstated=tuple(_aside(tally, name, evidence) for name in UNSTATED if numbers[name]),
        adequacy=_adequacy(tally, specimen, evidence, settings),
        blind=blind_to(specimen, known),
        unit=unit if len(matrix) else "none",
        units=len(matrix),
        known=known,
        tested_on=tuple(tested_on),
        evidence=evidence,
        decided_by=_decided_by(tally, confusion, unit),
        homogeneity=spread,
        confusion=confusion,
        settings=settings,
    )


def _check_specimen(specimen: str) -> None:
    if specimen not in SPECIMENS:
        why = "marrow and blood are counted by different rules"
        raise UsageError(f"unknown specimen {specimen!r}", why=why, remedy="Pass marrow or blood")


def _adequacy(tally: Tally, specimen: str, evidence: Evidence, settings: CountSettings) -> Adequacy:
    return judge(
        specimen=specimen,
        counted=tally.counted,
        unnamed=sum(tally.numbers.get(name, 0) for name in UNSTATED),
        mature=sum(tally.numbers.get(name, 0) for name in MATURE),
        evidence=evidence,
        settings=settings.adequacy,
    )


def _corrected(
    confusion: Confusion | None, words: Cells, specimen: str, known: Sequence[str] | None, settings: CountSettings
) -> tuple[Corrected | None, str]:
    """Cells as the classifier has them, or why not."""
    if confusion is None:
        return None, "no held-out cells of a classifier were given"
    named = Counter(word for word, _ in words)
    objection = confusion.objection(specimen, {name: named[name] for name in _inside(named, specimen, known)})
    return (None, objection) if objection else (Corrected.of_cells(confusion, words, settings.shares), "")


def _decided_by(tally: Tally, confusion: Confusion | None, unit: str) -> str:
    if tally.corrected is not None and confusion is not None:
        drawn = f"{unit}s were drawn again" if tally.corrected.by_units else "single cells, too few fields, were drawn"
        return confusion.sentence(drawn, tally.numbers)
    if confusion is not None:
        return f"Nothing is corrected for the classifier's errors, because its matrix does not hold here: {tally.why}."
    return "Errors in the naming of cells are not in the intervals: no held-out cells of a classifier were given."


def _spread(
    names: Cells,
    matrix: FloatArray,
    unit: str,
    smears: Mapping[str, str] | None,
    settings: CountSettings,
) -> Homogeneity | None:
    """Between the smears that were merged, else between the fields of one."""
    if smears is None or unit == "none":
        return homogeneity(matrix, of=f"{unit}s", settings=settings.homogeneity)
    places = sorted({place for _, place in names if place is not None})  # the rows of `matrix`
    origin = [smears.get(place, smears.get(place.rpartition(" ")[0], "")) for place in places]
    if len(set(origin)) < 2:
        return homogeneity(matrix, of=f"{unit}s", settings=settings.homogeneity)
    return homogeneity(matrix, origin, of="smears", settings=settings.homogeneity)


def _pairs(cells: pa.Table | Cells, unit: str) -> Cells:
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
    """Granulocytic ÷ erythroid; monocytes and blasts by the settings."""
    optional = {"monocytic": settings.monocytes_in_ratio, "blasts": settings.blasts_in_ratio}
    added = {name for name in taxonomy.ratio_types("optional") if optional[taxonomy.cell_type(name).lineage]}
    myeloid, erythroid = taxonomy.ratio_types("myeloid") | added, taxonomy.ratio_types("erythroid")
    return ratio(tally, myeloid, erythroid, least=settings.minimum_erythroid)


def _thresholds(
    tally: Tally,
    specimen: str,
    known: Sequence[str] | None,
    spread: Homogeneity | None,
    settings: CountSettings,
) -> tuple[Threshold, ...]:
    """Every line of the settings, judged or with the reason why not."""
    rows = []
    index = spread.index if spread and spread.of != "smears" else 1.0
    looks = Looks(settings.adequacy.minimum(specimen), index, settings.stopping)
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
            rows.append(threshold(tally, name, label, percent, group, looks=looks))
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
