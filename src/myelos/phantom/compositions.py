"""Shares of cell types in marrow and blood, healthy and not; each dictionary sums to 1 after `normalised`."""

from __future__ import annotations

from collections.abc import Mapping

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


def normalised(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares that sum to 1; UsageError for an unknown type or where nothing is left."""
    unknown = [name for name in shares if name not in LOOKS and name not in VARIANTS]
    total = float(sum(shares.values()))
    if unknown or total <= 0 or min(shares.values()) < 0:
        raise UsageError(f"no composition: {', '.join(unknown) or 'shares must be positive'}")
    return {name: value / total for name, value in shares.items()}


def draw_types(shares: Mapping[str, float], count: int, rng: np.random.Generator) -> list[str]:
    """`count` types, each drawn by its share; coarse types become one of their variants."""
    parts = normalised(shares)
    drawn = [str(name) for name in rng.choice(list(parts), size=count, p=list(parts.values()))]
    return [str(rng.choice(VARIANTS[name])) if name in VARIANTS else name for name in drawn]
