"""Named cells → differential count: percentages, intervals, ratios, thresholds, and how far it can be trusted.

The rules are those of the International Council for Standardization in Haematology and of the WHO classification, as
far as they could be read; every number is a setting and is printed with the result. A count says how many cells it
rests on, what is left out of the hundred and reported beside it, and what the model that named the cells cannot see.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from myelos import taxonomy
from myelos.errors import UsageError
from myelos.metrics.bootstrap import percentile_interval, resampled_totals
from myelos.metrics.intervals import clopper_pearson, probability_above

SPECIMENS = ("marrow", "blood")

# Cells of which a type was not stated or could not be: never in the percentages, always beside them.
UNSTATED = ("leukocyte", "nucleated_cell", "not_identifiable")

# What a full count of each specimen distinguishes; a model that names fewer says so in every report.
USUAL = {
    "marrow": (
        "blast promyelocyte myelocyte metamyelocyte band_neutrophil segmented_neutrophil eosinophil basophil monocyte "
        "proerythroblast basophilic_erythroblast polychromatic_erythroblast orthochromatic_erythroblast lymphocyte "
        "plasma_cell megakaryocyte smudge_cell"
    ).split(),
    "blood": (
        "blast promyelocyte myelocyte metamyelocyte band_neutrophil segmented_neutrophil eosinophil basophil monocyte "
        "lymphocyte plasma_cell erythroblast smudge_cell"
    ).split(),
}

BLAST_EQUIVALENTS = (
    "Blast equivalents (promonocytes in monocytic leukaemia, abnormal promyelocytes in acute promyelocytic leukaemia) "
    "are not in the blast percentage."
)


@dataclass(frozen=True)
class CountSettings:
    """Rules of the count. Percentages are of 100; where no source is named the default is ours."""

    level: float = 0.95
    minimum_marrow: int = 500  # WHO
    minimum_blood: int = 100  # the classical hundred
    evaluable_marrow: int = 200  # fewest cells on which a response after treatment may be judged
    evaluable_blood: int = 50
    monocytes_in_ratio: bool = False  # in the numerator of the M:E ratio
    blasts_in_ratio: bool = False
    minimum_erythroid: int = 10  # below it the M:E ratio is undefined
    blast_thresholds: tuple[float, ...] = (5.0, 10.0, 20.0)  # WHO 2022, ICC
    plasma_thresholds: tuple[float, ...] = (10.0, 60.0)
    draws: int = 2000
    seed: int = 0
    minimum_units: int = 5  # fields or tiles below which no bootstrap is given
    minimum_events: int = 5  # cells of a type (and of all others) below which resampling says nothing of it
    most_set_aside: float = 0.5  # share of fields or tiles set aside above which nothing is judged
    noted_set_aside: float = 0.2
    most_unnamed: float = 0.5  # share of cells without a type above which nothing is judged
    noted_unnamed: float = 0.1
    oil_field_mm2: float = 0.038  # what a 100× objective shows at field number 22
    cells_per_oil_field: float = 10.0  # fewer suggest dilution by blood
    mature_share: float = 0.7  # segmented neutrophils and lymphocytes, a sign of dilution by blood


@dataclass(frozen=True)
class Evidence:
    """What the reading says about the specimen: fields or tiles read, those set aside by reason, area read."""

    read: int = 0
    set_aside: Mapping[str, int] = field(default_factory=dict)
    area_mm2: float | None = None  # null where the scale is unknown


@dataclass(frozen=True)
class Share:
    """One type or lineage among the counted cells; percentages of 100, null where nothing was counted."""

    name: str
    label: str
    number: int
    percent: float | None
    low: float | None
    high: float | None
    bootstrap_low: float | None
    bootstrap_high: float | None


@dataclass(frozen=True)
class Beside:
    """A kind of cell that is no part of the hundred: its number, and per 100 counted cells."""

    name: str
    label: str
    number: int
    per_hundred: float | None


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
class Adequacy:
    """`verdict`: "not evaluable", "short count" or "adequate as far as judged"; the sentences that led to it."""

    verdict: str
    sentence: str
    reasons: tuple[str, ...]
    not_judged: tuple[str, ...]


@dataclass(frozen=True)
class Blind:
    """What the source of the types cannot name, cannot tell apart, and where it was tested."""

    cannot_name: tuple[str, ...]
    not_told_apart: Mapping[str, tuple[str, ...]]
    blast_equivalents: str
    tested_on: tuple[str, ...]


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
        raise UsageError(
            f"unknown specimen {specimen!r}",
            why="marrow and blood are counted by different rules",
            remedy="Pass marrow or blood",
        )
    pairs = _pairs(cells, unit)
    return _Counter(pairs, specimen, settings or CountSettings(), evidence or Evidence(), known, tested_on, unit).count()
