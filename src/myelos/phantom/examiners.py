"""Made-up examiners: readings of the same cells that differ as those of people do, and their consensus.

Each cell stands somewhere on the ladder of maturation of its line: at its true stage, moved by its own look (every
examiner sees that), by what an examiner makes of this cell (the same at a second reading), by the examiner's habit of
calling cells older or younger, and by the mood of the reading. The stage that is nearest is the label. Confusions are
therefore between neighbours in maturation, and an examiner agrees with himself more than with another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError
from myelos.metrics.agreement import cohen_kappa, confusion_matrix
from myelos.phantom.cells import cell_rng

# Types by rising maturation, as far as the public marrow slides have labels for them.
LADDERS: tuple[tuple[str, ...], ...] = (
    ("blast", "promyelocyte", "myelocyte", "metamyelocyte", "band_neutrophil", "segmented_neutrophil"),
    ("eosinophilic_myelocyte", "eosinophilic_metamyelocyte", "band_eosinophil", "segmented_eosinophil"),
    ("basophilic_myelocyte", "basophilic_metamyelocyte", "band_basophil", "segmented_basophil"),
    ("monoblast", "promonocyte", "immature_monocyte", "monocyte"),
    ("proerythroblast", "basophilic_erythroblast", "polychromatic_erythroblast", "orthochromatic_erythroblast"),
    ("lymphoid_precursor_cell", "prolymphocyte", "lymphocyte"),
    ("promegakaryocyte", "megakaryocyte"),
)
# What a cell is taken for in a lapse that has nothing to do with maturation.
LOOK_ALIKES = {
    "blast": "lymphocyte", "promyelocyte": "promonocyte", "metamyelocyte": "monocyte", "monocyte": "metamyelocyte",
    "proerythroblast": "blast", "basophilic_erythroblast": "plasma_cell", "plasma_cell": "basophilic_erythroblast",
    "polychromatic_erythroblast": "lymphocyte", "orthochromatic_erythroblast": "lymphocyte",
    "lymphocyte": "orthochromatic_erythroblast", "mitosis": "damaged_cell", "smudge_cell": "damaged_cell",
    "segmented_eosinophil": "segmented_neutrophil", "segmented_basophil": "lymphocyte",
}  # fmt: skip
NO_CONSENSUS = "no_consensus"
RAGGED = 0.3  # a cell with torn cytoplasm is called damaged by who sees it moved by more than this


@dataclass(frozen=True, slots=True)
class ExaminerSettings:
    """readings: who reads, in the order of the sessions; the same name again is a second reading by the same examiner.

    cell, own, habit, mood: standard deviations in stages of maturation, of a cell's look, an examiner's view of it, an
    examiner's habit (one number for each line), and one reading. They are set so that kappa on normal marrow is near
    what Wang 2022, table 6, reports of two examiners: 0.794 between them, 0.897 within the more experienced one.
    lapses: share of labels that are a look-alike. skipped: share of cells that a reading passes over.
    """

    readings: tuple[str, ...] = ("A", "B", "A")
    cell: float = 0.15
    own: float = 0.25
    habit: float = 0.1
    mood: float = 0.125
    lapses: float = 0.01
    skipped: float = 0.04

    def __post_init__(self) -> None:
        if not self.readings or min(self.cell, self.own, self.habit, self.mood) < 0:
            raise UsageError("examiners need a reading, and spreads of 0 or more")
        if not (0 <= self.lapses <= 1 and 0 <= self.skipped < 1):
            raise UsageError("shares of lapses and skipped cells lie between 0 and 1")


Reading = list[str | None]  # a type for each cell, None where it was passed over


def read_cells(
    types: Sequence[str],
    settings: ExaminerSettings,
    seed: int,
    *,
    sharpness: NDArray[np.float64] | None = None,
    ragged: NDArray[np.bool_] | None = None,
) -> list[Reading]:
    """The readings of cells of the true `types`, in the order of `settings.readings`.

    sharpness: (N,) 1 in focus, towards 0; an examiner's doubt grows by its inverse, up to three times. ragged: (N,)
    whether the cytoplasm is torn.
    """
    count = len(types)
    torn = [False] * count if ragged is None else ragged.tolist()
    doubt = np.ones(count) if sharpness is None else 1 / np.clip(sharpness, 1 / 3, 1)
    look = cell_rng(seed, "examiners", "look").normal(0, settings.cell, count)
    own, habits = {}, {}
    for name in dict.fromkeys(settings.readings):
        rng = cell_rng(seed, "examiners", "own", name)
        own[name] = rng.normal(0, settings.own, count)
        habits[name] = rng.normal(0, settings.habit, len(LADDERS))
    readings: list[Reading] = []
    for number, name in enumerate(settings.readings):
        rng = cell_rng(seed, "examiners", "reading", number)
        moved = (look + own[name] + rng.normal(0, settings.mood, count)) * doubt
        lapse, skipped = rng.random(count) < settings.lapses, rng.random(count) < settings.skipped
        seen = zip(types, moved.tolist(), lapse.tolist(), torn, strict=True)
        said = [_said(*what, habits[name]) for what in seen]
        readings.append([None if passed else word for word, passed in zip(said, skipped.tolist(), strict=True)])
    return readings


def _said(cell_type: str, moved: float, lapse: bool, torn: bool, habits: NDArray[np.float64]) -> str:
    """The label for one cell whose look is `moved` stages from its own."""
    if torn and moved > RAGGED:
        return "damaged_cell"
    if lapse and cell_type in LOOK_ALIKES:
        return LOOK_ALIKES[cell_type]
    for number, ladder in enumerate(LADDERS):
        if cell_type in ladder:
            stage = ladder.index(cell_type) + moved + float(habits[number])
            return ladder[int(np.clip(np.rint(stage), 0, len(ladder) - 1))]
    return cell_type


def consensus_of(labels: Sequence[str | None]) -> str | None:
    """The label of a cell by the rule of the public set, None where nobody labelled it.

    At least two labels, and the most frequent at least half of all; a tie is no consensus (Höfener et al. 2025 do not
    say so, but a label against another would otherwise be the word of whoever comes first).
    """
    given = Counter(label for label in labels if label is not None)
    if not given:
        return None
    (best, most), *others = given.most_common()
    agreed = given.total() >= 2 and 2 * most >= given.total() and all(count < most for _, count in others)
    return best if agreed else NO_CONSENSUS


def agreement(readings: Sequence[Reading], names: Sequence[str]) -> list[dict[str, object]]:
    """Cohen's kappa and plain agreement of every two readings, over the cells that both labelled."""
    found: list[dict[str, object]] = []
    for one, other in combinations(range(len(readings)), 2):
        pairs = [(a, b) for a, b in zip(readings[one], readings[other], strict=True) if a is not None and b is not None]
        labels = sorted({label for pair in pairs for label in pair})
        kappa = cohen_kappa(confusion_matrix([a for a, _ in pairs], [b for _, b in pairs], labels)[:, :-1])
        equal = sum(a == b for a, b in pairs) / len(pairs) if pairs else None
        row: dict[str, object] = {"sessions": [one, other], "examiners": [names[one], names[other]]}
        found.append(row | {"cells": len(pairs), "agreement": equal, "kappa": kappa})
    return found
