"""What the source of the types cannot name and cannot tell apart: every report says so beside its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from myelos import taxonomy

# Cells whose type was not stated or could not be: never in the percentages, always beside them.
UNSTATED = ("leukocyte", "nucleated_cell", "haematological_structure", "no_consensus", "not_identifiable")

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
class Blind:
    """What the source of the types cannot name and cannot tell apart, of the usual list, and where it was tested."""

    cannot_name: tuple[str, ...]
    not_told_apart: Mapping[str, tuple[str, ...]]
    blast_equivalents: str


def blind_to(specimen: str, known: Sequence[str] | None) -> Blind:
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
