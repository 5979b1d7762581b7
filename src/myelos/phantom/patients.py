"""Made-up patients: diagnosis, age, sex, NPM1, FLT3, ELN category, and which of it shows in which cells.

Frequencies are ours, near those of adult series: NPM1 in 30 % of AML, FLT3 in 40 % of those with NPM1 and 20 % of the
others; the ELN category follows from both as in ELN 2017 (NPM1 without FLT3 favourable, with FLT3 intermediate), and is
drawn for the rest. Age and sex show nowhere in the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from myelos.errors import UsageError
from myelos.phantom.cells import cell_rng
from myelos.phantom.compositions import DISEASES, patient_composition

ELN = ("favourable", "intermediate", "adverse")
OTHER_ELN = (0.25, 0.30, 0.45)  # of AML without NPM1
AGES = {
    "aml": (65, 14),
    "mds_eb": (72, 9),
    "cmml": (73, 9),
    "cml": (56, 14),
    "all": (38, 20),
    "multiple_myeloma": (69, 9),
}
COLUMNS = ("patient", "slide", "diagnosis", "age", "sex", "npm1", "flt3", "eln")


@dataclass(frozen=True, slots=True)
class Sign:
    """A feature of `features.FEATURES`: in which share of its cells it shows with the label, and without."""

    feature: str
    present: float
    absent: float = 0.02


# By label; several signs of one label are possible.
SIGNS: dict[str, tuple[Sign, ...]] = {
    "npm1": (Sign("cup", 0.35),),
    "flt3": (Sign("fine", 1.0, 0.0),),
    "adverse": (Sign("hypogranular", 0.35), Sign("hypolobated", 0.35, 0.03)),
}


@dataclass(frozen=True, slots=True)
class CohortSettings:
    """diseases: drawn evenly. signs: what shows where, see SIGNS; a label left out shows nowhere.

    scanners, stains: conditions, one of each drawn for every patient, whatever the diagnosis.
    """

    patients: int
    width: int = 24_576
    height: int = 16_384
    mpp: float = 0.25
    seed: int = 0
    diseases: tuple[str, ...] = tuple(DISEASES)
    signs: Mapping[str, tuple[Sign, ...]] = field(default_factory=lambda: dict(SIGNS))
    scanners: tuple[str, ...] = ("area_camera",)
    stains: tuple[str, ...] = ("may_gruenwald_giemsa",)
    pool_per_type: int = 40

    def __post_init__(self) -> None:
        unknown = [name for name in self.diseases if name not in DISEASES]
        if unknown or not self.diseases:
            raise UsageError(f"no disease '{', '.join(unknown)}'", remedy=f"Choose of {', '.join(DISEASES)}")
        if not 1 <= self.patients <= 100_000:
            raise UsageError(f"no cohort of {self.patients} patients", remedy="Pass 1 to 100000")
        if set(self.signs) - set(SIGNS):
            raise UsageError("signs are for " + ", ".join(SIGNS))


@dataclass(frozen=True, slots=True)
class Patient:
    """npm1, flt3, eln: None where the diagnosis has none. features: as `GlassSettings.features`."""

    name: str
    diagnosis: str
    age: int
    sex: str
    npm1: bool | None
    flt3: bool | None
    eln: str | None
    composition: dict[str, float]
    features: dict[str, float]
    scanner: str
    stain: str

    def row(self) -> dict[str, object]:
        """As in `patients.csv`: yes, no, or empty."""
        words = {None: "", True: "yes", False: "no"}
        row: dict[str, object] = {"patient": self.name, "slide": f"slides/{self.name}.tif", "diagnosis": self.diagnosis}
        row |= {"age": self.age, "sex": self.sex, "npm1": words[self.npm1], "flt3": words[self.flt3]}
        return row | {"eln": self.eln or ""}


def draw_patient(settings: CohortSettings, number: int) -> Patient:
    """Patient `number`, from 0: depends on the seed and the number, not on how many there are."""
    rng = cell_rng(settings.seed, "patient", number)
    diagnosis = str(rng.choice(settings.diseases))
    middle, spread = AGES.get(diagnosis, (58, 16))
    age, sex = int(np.clip(rng.normal(middle, spread), 18, 95)), str(rng.choice(["female", "male"]))
    npm1, flt3, eln = _genetics(rng) if diagnosis == "aml" else (None, None, None)
    composition = patient_composition(diagnosis, rng)
    present = {"npm1": bool(npm1), "flt3": bool(flt3), "adverse": eln == "adverse" or diagnosis == "mds_eb"}
    scanner, stain = str(rng.choice(settings.scanners)), str(rng.choice(settings.stains))
    features = _features(settings.signs, present)
    name = f"P{number + 1:04d}"
    return Patient(name, diagnosis, age, sex, npm1, flt3, eln, composition, features, scanner, stain)


def _genetics(rng: np.random.Generator) -> tuple[bool, bool, str]:
    npm1 = bool(rng.random() < 0.30)
    flt3 = bool(rng.random() < (0.40 if npm1 else 0.20))
    other = str(rng.choice(ELN, p=OTHER_ELN))
    return npm1, flt3, other if not npm1 else ELN[1] if flt3 else ELN[0]


def _features(signs: Mapping[str, Sequence[Sign]], present: Mapping[str, bool]) -> dict[str, float]:
    """The share of cells with each feature; a feature that is the sign of two labels shows by the stronger."""
    shares: dict[str, float] = {}
    for label, of_label in signs.items():
        for sign in of_label:
            share = sign.present if present[label] else sign.absent
            shares[sign.feature] = max(shares.get(sign.feature, 0.0), share)
    return {name: share for name, share in shares.items() if share > 0}
