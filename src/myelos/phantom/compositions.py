"""Shares of cell types in marrow and blood, healthy and not; each dictionary sums to 1 after `normalised`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from myelos.errors import UsageError
from myelos.phantom.looks import LOOKS, VARIANTS

# Middles of the usual reference ranges of a marrow differential count, with the rare cells raised so that a slide of
# a few thousand cells shows them all. Megakaryocytes, mitoses and smudge cells are outside the count.
_MARROW = {
    "blast": 1.5, "promyelocyte": 3.0, "myelocyte": 11.0, "metamyelocyte": 12.0, "band_neutrophil": 14.0,
    "segmented_neutrophil": 15.0, "eosinophil": 3.0, "basophil": 0.3, "monocyte": 2.0, "proerythroblast": 1.2,
    "basophilic_erythroblast": 4.0, "polychromatic_erythroblast": 13.0, "orthochromatic_erythroblast": 6.5,
    "lymphocyte": 11.0, "plasma_cell": 1.5, "mitosis": 0.5, "megakaryocyte": 0.25, "smudge_cell": 2.0,
}  # fmt: skip

COMPOSITIONS: dict[str, dict[str, float]] = {
    "marrow_normal": _MARROW,
    "marrow_aml": _MARROW
    | {"blast": 90.0, "promyelocyte": 5.0, "monocyte": 4.0, "smudge_cell": 6.0, "megakaryocyte": 0.1},
    "marrow_apl": _MARROW | {"promyelocyte": 110.0, "blast": 8.0, "megakaryocyte": 0.1},
    "marrow_myeloma": _MARROW | {"plasma_cell": 55.0},
    "marrow_erythroid": _MARROW
    | {"proerythroblast": 8.0, "basophilic_erythroblast": 22.0, "polychromatic_erythroblast": 40.0,
       "orthochromatic_erythroblast": 20.0, "mitosis": 1.5},
    "marrow_lymphocytic": _MARROW | {"lymphocyte": 110.0, "smudge_cell": 12.0},
    # Every type often enough to be learned; no marrow looks so.
    "marrow_even": dict.fromkeys(_MARROW, 1.0) | {"megakaryocyte": 0.15, "blast": 2.0, "smudge_cell": 0.6},
    "blood_normal": {
        "segmented_neutrophil": 55.0, "band_neutrophil": 4.0, "lymphocyte": 29.0, "monocyte": 7.0,
        "eosinophil": 3.5, "basophil": 0.8, "smudge_cell": 1.5,
    },
    "blood_aml": {
        "blast": 60.0, "segmented_neutrophil": 10.0, "lymphocyte": 17.0, "monocyte": 6.0, "promyelocyte": 2.0,
        "myelocyte": 1.5, "metamyelocyte": 1.0, "orthochromatic_erythroblast": 1.5, "smudge_cell": 6.0,
    },
    "blood_even": {
        "segmented_neutrophil": 1.0, "band_neutrophil": 0.4, "lymphocyte": 1.3, "monocyte": 1.3, "eosinophil": 1.2,
        "basophil": 1.0, "smudge_cell": 0.15,
    },
}  # fmt: skip


def normalised(shares: Mapping[str, float], real: Collection[str] = ()) -> dict[str, float]:
    """Shares that sum to 1; UsageError for an unknown type or where nothing is left. real: see `draw_types`."""
    unknown = [name for name in shares if name not in LOOKS and name not in VARIANTS and name not in real]
    total = float(sum(shares.values()))
    if unknown or total <= 0 or min(shares.values()) < 0:
        raise UsageError(f"no composition: {', '.join(unknown) or 'shares must be positive'}")
    return {name: value / total for name, value in shares.items()}


def draw_types(
    shares: Mapping[str, float], count: int, rng: np.random.Generator, *, real: Collection[str] = ()
) -> list[str]:
    """`count` types, each drawn by its share; coarse types become one of their variants.

    real: types of which there are cut-out cells. They need no look, and coarse ones stay coarse: nobody said more.
    """
    parts = normalised(shares, real)
    drawn = [str(name) for name in rng.choice(list(parts), size=count, p=list(parts.values()))]
    return [str(rng.choice(VARIANTS[name])) if name in VARIANTS and name not in real else name for name in drawn]


@dataclass(frozen=True, slots=True)
class Disease:
    """How the marrow of patients with a disease is composed.

    mean: shares that the patients have on average, relative. concentration: of the Dirichlet distribution around them;
    a share p then spreads with variance p (1 - p) / (concentration + 1). limits: least and greatest share of all
    counted cells that the name of the disease demands, by type; who lies outside is drawn again.
    """

    label: str
    mean: dict[str, float]
    concentration: float
    limits: dict[str, tuple[float, float]]


# Means and spread are ours, set within what textbooks describe; the limits of blasts, monocytes and plasma cells are
# those by which the WHO classification (2022) tells the diseases apart. Lymphoblasts are drawn as blasts.
DISEASES: dict[str, Disease] = {
    "normal": Disease("normal marrow", _MARROW, 120.0, {"blast": (0.0, 0.05), "plasma_cell": (0.0, 0.05)}),
    "aml": Disease("acute myeloid leukaemia", _MARROW | {"blast": 150.0, "monocyte": 8.0, "smudge_cell": 8.0,
        "megakaryocyte": 0.1}, 9.0, {"blast": (0.20, 0.98)}),
    "mds_eb": Disease("myelodysplastic neoplasm with excess blasts", _MARROW
        | {"blast": 12.0, "proerythroblast": 3.0, "basophilic_erythroblast": 7.0, "polychromatic_erythroblast": 20.0,
           "segmented_neutrophil": 9.0, "megakaryocyte": 0.6}, 50.0, {"blast": (0.05, 0.199)}),
    "cmml": Disease("chronic myelomonocytic leukaemia", _MARROW
        | {"monocyte": 22.0, "blast": 6.0, "promyelocyte": 5.0, "myelocyte": 15.0, "lymphocyte": 7.0}, 40.0,
        {"monocyte": (0.10, 0.6), "blast": (0.0, 0.199)}),
    "cml": Disease("chronic myeloid leukaemia", _MARROW
        | {"myelocyte": 28.0, "metamyelocyte": 20.0, "band_neutrophil": 20.0, "segmented_neutrophil": 24.0,
           "eosinophil": 7.0, "basophil": 4.0, "promyelocyte": 6.0, "blast": 3.0, "megakaryocyte": 0.7,
           "lymphocyte": 4.0, "polychromatic_erythroblast": 6.0, "orthochromatic_erythroblast": 3.0}, 60.0,
        {"blast": (0.0, 0.10), "basophil": (0.005, 0.2)}),
    "all": Disease("acute lymphoblastic leukaemia", _MARROW | {"blast": 420.0, "smudge_cell": 20.0, "lymphocyte": 20.0,
        "megakaryocyte": 0.05}, 12.0, {"blast": (0.25, 0.99)}),
    "multiple_myeloma": Disease("multiple myeloma", _MARROW | {"plasma_cell": 60.0}, 10.0,
        {"plasma_cell": (0.10, 0.95), "blast": (0.0, 0.05)}),
}  # fmt: skip


def patient_composition(disease: str, rng: np.random.Generator) -> dict[str, float]:
    """The shares of one patient, which sum to 1; UsageError for an unknown disease."""
    if disease not in DISEASES:
        raise UsageError(f"no disease '{disease}'", remedy=f"Choose one of {', '.join(DISEASES)}")
    described = DISEASES[disease]
    mean = normalised(described.mean)
    # Types that are hardly ever drawn keep a chance, and an alpha below 0.05 gives nothing but zeros and spikes.
    alpha = np.maximum(np.array(list(mean.values())) * described.concentration, 0.05)
    for _ in range(1000):
        shares = dict(zip(mean, rng.dirichlet(alpha).tolist(), strict=True))
        if all(low <= shares[name] <= high for name, (low, high) in described.limits.items()):
            return shares
    raise UsageError(f"no patient with '{disease}' could be drawn", why="its mean lies outside its limits")
