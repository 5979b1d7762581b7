"""Keys that name a cell in the page: mnemonic where possible, the same in every report."""

from __future__ import annotations

from collections.abc import Iterable

KEYS = {
    "blast": "b",
    "promyelocyte": "p",
    "myelocyte": "m",
    "metamyelocyte": "t",
    "band_neutrophil": "n",
    "segmented_neutrophil": "s",
    "neutrophil": "q",
    "eosinophil": "e",
    "basophil": "a",
    "monocyte": "o",
    "lymphocyte": "l",
    "plasma_cell": "c",
    "proerythroblast": "1",
    "basophilic_erythroblast": "2",
    "polychromatic_erythroblast": "3",
    "orthochromatic_erythroblast": "4",
    "erythroblast": "r",
    "megakaryocyte": "k",
    "mitosis": "x",
    "smudge_cell": "u",
    "macrophage": "h",
    "artefact": "f",
    "platelet": "d",
    "leukocyte": "w",
    "not_identifiable": "i",
}
_SPARE = "567890gjvy"  # z undoes


def assign(types: Iterable[str]) -> dict[str, str]:
    """Type → key; types beyond the keys of the keyboard have none and are chosen by mouse."""
    spare = iter(_SPARE)
    return {name: KEYS[name] if name in KEYS else next(spare, "") for name in types}
