"""Is there enough to judge? Stated rules on numbers, so that "not evaluable" is a result and no surprise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from myelos.wording import number_of

NOT_EVALUABLE, SHORT, ADEQUATE = "not evaluable", "short count", "adequate as far as judged"


@dataclass(frozen=True)
class AdequacySettings:
    """Where no source is named the default is ours. Shares are of 1."""

    minimum_marrow: int = 500  # cells of a full count, WHO
    minimum_blood: int = 100  # the classical hundred
    evaluable_marrow: int = 200  # fewest cells on which a response after treatment may be judged
    evaluable_blood: int = 50
    most_set_aside: float = 0.5  # of the fields or tiles; above it nothing is judged
    noted_set_aside: float = 0.2
    most_unnamed: float = 0.5  # cells without a type; above it nothing is judged
    noted_unnamed: float = 0.1
    oil_field_mm2: float = 0.038  # area seen through a 100× objective at field number 22
    cells_per_oil_field: float = 10.0  # fewer suggest dilution by blood
    mature_share: float = 0.7  # mature neutrophils and lymphocytes; more suggest dilution by blood

    def minimum(self, specimen: str) -> int:
        return self.minimum_marrow if specimen == "marrow" else self.minimum_blood

    def evaluable(self, specimen: str) -> int:
        return self.evaluable_marrow if specimen == "marrow" else self.evaluable_blood


@dataclass(frozen=True)
class Evidence:
    """What the reading says of the specimen: fields or tiles read, those set aside by reason, area read."""

    read: int = 0
    set_aside: Mapping[str, int] = field(default_factory=dict)
    area_mm2: float | None = None  # null where the scale is unknown

    @property
    def share_set_aside(self) -> float:
        aside = sum(self.set_aside.values())
        return aside / (aside + self.read) if aside else 0.0


@dataclass(frozen=True)
class Adequacy:
    """The verdict (one of the three above), its sentence, what led to it, and what could not be judged."""

    verdict: str
    sentence: str
    reasons: tuple[str, ...]
    not_judged: tuple[str, ...]


def judge(
    *, specimen: str, counted: int, unnamed: int, mature: int, evidence: Evidence, settings: AdequacySettings
) -> Adequacy:
    """counted: cells in the hundred; unnamed: cells without a type; mature: segmented neutrophils and lymphocytes."""
    stops = list(_stops(specimen, counted, unnamed, evidence, settings))
    notes = list(_notes(specimen, counted, unnamed, mature, evidence, settings))
    minimum, cells = settings.minimum(specimen), number_of(counted, "cell")
    if stops:
        verdict, sentence = NOT_EVALUABLE, f"Not evaluable: {stops[0]}."
    elif counted < minimum:
        verdict, sentence = SHORT, f"Short count: {cells} counted, {minimum} are expected for {specimen}."
    else:
        verdict, sentence = ADEQUATE, f"Adequate as far as judged: {cells} counted ({minimum} expected)."
    missing = _not_judged(specimen, evidence)
    return Adequacy(verdict, sentence, tuple(_sentence(text) for text in stops[1:] + notes), missing)


def _stops(specimen: str, counted: int, unnamed: int, evidence: Evidence, settings: AdequacySettings) -> Iterator[str]:
    """Reasons for which nothing is judged."""
    if counted + unnamed == 0:
        yield "no cells were found"
    elif unnamed > settings.most_unnamed * (counted + unnamed):
        yield f"no type is stated for {unnamed} of {number_of(counted + unnamed, 'cell')}"
    if counted < settings.evaluable(specimen) and counted + unnamed:
        least = settings.evaluable(specimen)
        yield f"{number_of(counted, 'cell')} counted, at least {least} are needed to judge {specimen}"
    if evidence.share_set_aside > settings.most_set_aside:
        yield f"{evidence.share_set_aside:.0%} of what was to be read was set aside"


def _notes(
    specimen: str, counted: int, unnamed: int, mature: int, evidence: Evidence, settings: AdequacySettings
) -> Iterator[str]:
    """What a reader should know although it stops nothing."""
    named = counted + unnamed
    if named and settings.noted_unnamed < unnamed / named <= settings.most_unnamed:
        yield f"no type is stated for {unnamed} of {number_of(named, 'cell')}, which the percentages leave out"
    if settings.noted_set_aside < evidence.share_set_aside <= settings.most_set_aside:
        yield f"{evidence.share_set_aside:.0%} of what was to be read was set aside"
    if specimen == "marrow" and evidence.area_mm2:
        density = named / evidence.area_mm2 * settings.oil_field_mm2
        if density < settings.cells_per_oil_field:
            yield f"about {density:.1f} nucleated cells per oil-immersion field: suggests dilution by blood"
    if specimen == "marrow" and counted and mature / counted > settings.mature_share:
        yield f"{mature / counted:.0%} are mature neutrophils or lymphocytes: a sign of dilution by blood, or a finding"


def _not_judged(specimen: str, evidence: Evidence) -> tuple[str, ...]:
    if specimen == "blood":
        return ("whether the cells were read in the monolayer, away from the feather edge",)
    missing = ["particles", "whether the cells lie in the trails behind particles"]
    if not evidence.area_mm2:
        missing.append("density of nucleated cells (the scale is not known)")
    return tuple(missing)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
