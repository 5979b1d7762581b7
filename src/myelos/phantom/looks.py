"""What each type of cell looks like: sizes in µm, dye concentrations, nuclear shapes.

Ranges are drawn from evenly. Sizes and ratios follow the usual descriptions of haematology atlases for smears
(cells lie flat and are larger than in suspension); the concentrations were set by comparing renders with
photographs.
"""

from __future__ import annotations

from dataclasses import dataclass

from myelos.phantom.stain import AZURE, CHROMATIN, EOSIN

Range = tuple[float, float]
NONE: Range = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Granules:
    """density: per µm² of where they lie. diameter: µm. strength: concentration that one adds."""

    dye: int
    density: Range
    diameter: Range
    strength: Range
    over_nucleus: float = 0.0  # share of the density that also lies over the nucleus
    patchy: float = 0.6  # unevenness of the density


@dataclass(frozen=True, slots=True)
class CellLook:
    """diameter: µm, of the circle of equal area. ratio: area of the nucleus by area of the cell."""

    diameter: Range
    ratio: Range
    nucleus: tuple[str, ...]  # shapes to choose from, see `shapes.NUCLEI`
    eccentric: Range = (0.0, 0.5)  # 0 central, 1 touching the edge of the cell
    outline: float = 0.05  # irregularity of the cell's edge, relative to its radius
    elongation: Range = (1.0, 1.15)
    chromatin: Range = (0.85, 1.05)
    texture: Range = (0.5, 0.7)  # µm, size of the chromatin pattern
    contrast: Range = (0.1, 0.16)
    clumped: float = 0.0  # 0 even pattern, 1 dark clumps between clear gaps
    nucleoli: tuple[int, int] = (0, 0)
    blue: Range = NONE  # basophilia of the cytoplasm
    eosin: Range = NONE
    azure: Range = NONE
    haemoglobin: Range = NONE
    grain: float = 0.12  # unevenness of the cytoplasm
    rim: float = 0.1  # darker edge of the cytoplasm
    halo: Range = NONE  # pale ring around the nucleus
    hof: Range = NONE  # pale area beside the nucleus
    vacuoles: tuple[int, int] = (0, 0)
    granules: tuple[Granules, ...] = ()
    fringe: Range = NONE  # µm by which the cell's edge is frayed


def _azurophilic(density: Range, strength: Range = (0.2, 0.5), over: float = 0.0, dye: int = AZURE) -> Granules:
    return Granules(dye, density, (0.25, 0.45), strength, over)


_SPECIFIC = _azurophilic((1.2, 2.6), (0.10, 0.26))  # fine pink-violet granules of the neutrophil line
# The same of mature cells, from faint to crowded, as stains and analysers show them.
_VISIBLE = _azurophilic((0.9, 2.6), (0.10, 0.45))

LOOKS: dict[str, CellLook] = {
    "blast": CellLook(
        (12, 20), (0.66, 0.86), ("oval", "oval", "dented", "cleft"), (0.0, 0.7), 0.08, (1.0, 1.2), (0.72, 0.95),
        (0.4, 0.6), (0.07, 0.12), nucleoli=(1, 4), blue=(0.32, 0.7), rim=0.28, halo=(0.0, 0.3), vacuoles=(0, 1),
    ),
    "promyelocyte": CellLook(
        (15, 23), (0.46, 0.66), ("oval", "oval", "dented"), (0.4, 0.9), 0.04, (1.0, 1.18), (0.72, 0.92),
        (0.45, 0.65), (0.08, 0.13), nucleoli=(0, 2), blue=(0.26, 0.55), rim=0.15, hof=(0.3, 0.8),
        granules=(_azurophilic((1.2, 3.0), (0.35, 0.8), 0.45), _azurophilic((0.3, 0.9), (0.3, 0.6), 0.3, CHROMATIN)),
    ),
    "myelocyte": CellLook(
        (12, 18), (0.40, 0.55), ("oval", "oval", "dented"), (0.4, 0.9), 0.035, (1.0, 1.15), (0.8, 1.0),
        (0.6, 0.9), (0.12, 0.18), 0.35, blue=(0.08, 0.26), eosin=(0.1, 0.25), hof=(0.0, 0.4),
        granules=(_SPECIFIC, _azurophilic((0.1, 0.8), (0.3, 0.6), 0.2)),
    ),
    "metamyelocyte": CellLook(
        (11, 16), (0.36, 0.50), ("kidney",), (0.2, 0.7), 0.035, (1.0, 1.15), (0.85, 1.08), (0.65, 0.95),
        (0.14, 0.2), 0.5, blue=(0.03, 0.13), eosin=(0.12, 0.28), granules=(_SPECIFIC,),
    ),
    "band_neutrophil": CellLook(
        (10.5, 15), (0.28, 0.45), ("band",), (0.0, 0.4), 0.04, (1.0, 1.18), (0.76, 1.05), (0.5, 0.9),
        (0.12, 0.22), 0.3, blue=(0.0, 0.1), eosin=(0.12, 0.42), azure=(0.0, 0.16), grain=0.2, granules=(_VISIBLE,),
        fringe=(0.0, 0.12),
    ),
    "segmented_neutrophil": CellLook(
        (10.5, 15), (0.22, 0.40), ("segmented",), (0.0, 0.4), 0.045, (1.0, 1.2), (0.78, 1.1), (0.5, 0.9),
        (0.12, 0.22), 0.3, blue=(0.0, 0.1), eosin=(0.12, 0.42), azure=(0.0, 0.16), grain=0.2, granules=(_VISIBLE,),
        fringe=(0.0, 0.12),
    ),
    "eosinophil": CellLook(
        (11.5, 17), (0.26, 0.44), ("bilobed", "bilobed", "segmented", "band", "kidney"), (0.3, 0.9), 0.045, (1.0, 1.2),
        (0.7, 1.0), (0.6, 1.0), (0.12, 0.2), 0.35, blue=(0.0, 0.14), eosin=(0.1, 0.35), azure=(0.0, 0.12),
        granules=(Granules(EOSIN, (3.5, 9.0), (0.5, 0.8), (0.4, 0.8), 0.08, 0.35),
                  Granules(AZURE, (2.0, 6.0), (0.35, 0.6), (0.0, 0.26), 0.05, 0.35)), fringe=(0.0, 0.15),
    ),
    "basophil": CellLook(
        (10, 15), (0.36, 0.60), ("bilobed", "kidney", "segmented", "folded"), (0.0, 0.5), 0.06, (1.0, 1.25),
        (0.48, 0.8), (0.5, 1.1), (0.1, 0.2), 0.2, blue=(0.02, 0.15), eosin=(0.05, 0.3), azure=(0.0, 0.4), grain=0.25,
        granules=(Granules(CHROMATIN, (0.8, 3.4), (0.38, 0.85), (0.5, 0.95), 0.6),
                  Granules(AZURE, (0.5, 2.0), (0.38, 0.8), (0.3, 0.8), 0.4)), fringe=(0.0, 0.2),
    ),
    "monocyte": CellLook(
        (13, 20), (0.38, 0.62), ("folded", "kidney", "horseshoe", "folded"), (0.0, 0.6), 0.12, (1.0, 1.3),
        (0.52, 0.8), (0.5, 0.85), (0.13, 0.22), 0.15, blue=(0.16, 0.55), eosin=(0.03, 0.15), azure=(0.0, 0.15),
        grain=0.3, vacuoles=(0, 7), granules=(_azurophilic((0.4, 2.5), (0.1, 0.3)),), fringe=(0.0, 0.22),
    ),
    "lymphocyte": CellLook(
        (7.5, 13.5), (0.60, 0.92), ("round", "round", "oval", "dented"), (0.2, 0.9), 0.07, (1.0, 1.25),
        (0.74, 1.08), (0.6, 1.2), (0.09, 0.17), 0.3, blue=(0.2, 0.95), azure=(0.0, 0.2), grain=0.2, rim=0.2,
        halo=(0.0, 0.35), fringe=(0.0, 0.25),
    ),
    "plasma_cell": CellLook(
        (12, 19), (0.26, 0.40), ("round", "oval"), (0.75, 1.0), 0.06, (1.1, 1.45), (1.0, 1.25), (1.0, 1.4),
        (0.2, 0.28), 0.7, blue=(0.55, 0.95), grain=0.2, rim=0.12, hof=(0.6, 0.95), vacuoles=(0, 4),
    ),
    "proerythroblast": CellLook(
        (15, 23), (0.60, 0.76), ("round", "round", "oval"), (0.1, 0.5), 0.06, (1.0, 1.12), (0.78, 0.95),
        (0.4, 0.6), (0.09, 0.14), 0.1, (1, 3), blue=(0.75, 1.1), rim=0.2, halo=(0.2, 0.6), hof=(0.0, 0.5),
    ),
    "basophilic_erythroblast": CellLook(
        (11.5, 17), (0.50, 0.68), ("round",), (0.0, 0.4), 0.05, (1.0, 1.1), (0.95, 1.15), (0.7, 1.0),
        (0.16, 0.22), 0.5, blue=(0.65, 1.0), rim=0.15, halo=(0.1, 0.5),
    ),
    "polychromatic_erythroblast": CellLook(
        (9, 13.5), (0.34, 0.54), ("round",), (0.0, 0.5), 0.04, (1.0, 1.12), (1.1, 1.4), (0.8, 1.15),
        (0.2, 0.28), 0.65, blue=(0.2, 0.42), eosin=(0.0, 0.1), haemoglobin=(0.3, 0.7), grain=0.1, halo=(0.0, 0.3),
    ),
    "orthochromatic_erythroblast": CellLook(
        (7.5, 11), (0.22, 0.42), ("round",), (0.1, 0.8), 0.05, (1.0, 1.15), (1.4, 1.8), (0.8, 1.1),
        (0.05, 0.1), 0.0, blue=(0.02, 0.16), haemoglobin=(0.7, 1.1), grain=0.06,
    ),
    "mitosis": CellLook(
        (13, 20), (0.16, 0.36), ("metaphase", "metaphase", "anaphase", "prometaphase"), (0.0, 0.15), 0.05,
        (1.0, 1.2), (1.3, 1.7), (0.7, 1.0), (0.06, 0.1), blue=(0.15, 0.6), grain=0.16, rim=0.1,
    ),
    "megakaryocyte": CellLook(
        (30, 88), (0.22, 0.45), ("lobulated",), (0.0, 0.5), 0.13, (1.0, 1.3), (0.85, 1.15), (1.0, 1.6),
        (0.16, 0.24), 0.4, blue=(0.04, 0.22), eosin=(0.12, 0.3), azure=(0.05, 0.2), grain=0.3, rim=0.05,
        granules=(_azurophilic((1.2, 2.5), (0.12, 0.35)),),
    ),
    "macrophage": CellLook(
        (20, 35), (0.12, 0.25), ("oval", "dented"), (0.3, 0.9), 0.14, (1.0, 1.4), (0.6, 0.8), (0.6, 0.9),
        (0.12, 0.18), 0.2, (0, 2), blue=(0.12, 0.28), eosin=(0.0, 0.1), grain=0.3, vacuoles=(4, 14),
        granules=(_azurophilic((0.1, 0.5), (0.2, 0.5)),),
    ),
    "smudge_cell": CellLook(
        (11, 20), (0.9, 1.0), ("smear",), NONE, 0.16, (1.0, 1.6), (0.4, 0.8), (0.8, 1.6), (0.2, 0.3), 0.3,
    ),
    "erythrocyte": CellLook((6.2, 8.4), NONE, (), outline=0.035, elongation=(1.0, 1.25), haemoglobin=(0.75, 1.2)),
    "platelet": CellLook(
        (1.8, 4.0), NONE, (), outline=0.14, elongation=(1.0, 1.5), blue=(0.1, 0.25), azure=(0.1, 0.3), grain=0.3,
        granules=(Granules(AZURE, (2.0, 4.5), (0.35, 0.6), (0.4, 0.8)),),
    ),
}  # fmt: skip

# Coarse types of labels, and the types that may be drawn for them.
VARIANTS: dict[str, tuple[str, ...]] = {
    "neutrophil": ("segmented_neutrophil", "segmented_neutrophil", "segmented_neutrophil", "band_neutrophil"),
    "erythroblast": ("basophilic_erythroblast", "polychromatic_erythroblast", "orthochromatic_erythroblast"),
}
