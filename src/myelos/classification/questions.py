"""Questions about a cell that are answered with yes or no, and what each type of the taxonomy answers.

Matek et al. 2019 (doi:10.1038/s42256-019-0101-9, abstract) decide two on their blood cells: has a cell blast character,
and does it belong to the types that are normally present in healthy smears. Which of their 15 classes count for which
side stands in their figures, which were not at hand: the lists here are inferred from the words. Matek 2021 expects a
binary classifier to do better than one of all types for the rarest of them: `one_type`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy
from myelos.errors import LabelError, UsageError

ANSWERS = ("no", "yes")  # what a model for a question names, in the order of its outputs
ONE_TYPE = "type:"
_NO_CELL = ("not_identifiable", "artefact", "technically_unfit", "damaged_cell", "haematological_structure", "spicule")


@dataclass(frozen=True, slots=True)
class Question:
    """yes, no, open: types that answer so, with what is finer and not listed itself; whatever is in none answers no.

    open: types that say neither. A coarse word whose finer types disagree says neither either, unless it is listed.
    """

    name: str
    text: str
    yes: tuple[str, ...]
    no: tuple[str, ...] = ()
    open: tuple[str, ...] = _NO_CELL

    def answer(self, cell_type: str) -> bool | None:
        """What a label of this type says; None where it leaves the question open."""
        own = self._nearest(cell_type)
        if cell_type in (*self.yes, *self.no, *self.open):
            return own
        return own if all(self._nearest(name) == own for name in taxonomy.narrower(cell_type)) else None

    def _nearest(self, cell_type: str) -> bool | None:
        for name in taxonomy.ancestors(cell_type):
            for listed, said in ((self.yes, True), (self.no, False), (self.open, None)):
                if name in listed:
                    return said
        return False

    def allowed(self, cell_type: str) -> NDArray[np.bool_] | None:
        """(2,) which of `ANSWERS` a label allows, for the loss; None where it says neither and teaches nothing."""
        said = self.answer(cell_type)
        return None if said is None else np.array([not said, said])

    def scores(self, probabilities: NDArray[np.floating], types: Sequence[str]) -> NDArray[np.float64]:
        """(N, T) of a classifier of types → (N,) how much of what answers at all answers yes (Matek 2019 sums so).

        Raises UsageError where no type of the classifier answers yes, or none no.
        """
        said = [self.answer(name) for name in types]
        yes, no = (probabilities[:, [place for place, one in enumerate(said) if one is side]] for side in (True, False))
        if not yes.shape[1] or not no.shape[1]:
            raise UsageError(
                f"this classifier cannot answer {self.name}",
                why=f"none of its types ({', '.join(types)}) answers {'yes' if not yes.shape[1] else 'no'}",
                remedy="Pass another --model, or train one: myelos train classifier --question",
            )
        wanted = yes.sum(axis=1, dtype=np.float64)
        return wanted / np.maximum(wanted + no.sum(axis=1, dtype=np.float64), 1e-12)


QUESTIONS = {
    question.name: question
    for question in (
        Question("blast-character", "Has this cell blast character?", yes=("blast",)),
        Question(
            "healthy-smear",
            "Is this cell of a type that a healthy blood smear normally shows?",
            yes=(
                "segmented_neutrophil", "band_neutrophil", "neutrophil", "eosinophil", "basophil", "monocyte",
                "lymphocyte", "platelet", "erythrocyte",
            ),
            no=(
                "eosinophilic_myelocyte", "eosinophilic_metamyelocyte", "abnormal_eosinophil", "basophilic_myelocyte",
                "basophilic_metamyelocyte", "promonocyte", "immature_monocyte", "immature_lymphocyte", "prolymphocyte",
                "lymphoidocyte", "atypical_lymphocyte", "hairy_cell",
            ),
            open=(*_NO_CELL, "smudge_cell", "naked_nucleus"),
        ),
    )
}  # fmt: skip


def one_type(label: str) -> Question:
    """Is this cell a …? For rare types; raises LabelError where there is no such type."""
    name = taxonomy.resolve(label)
    text = f"Is this cell of the type {taxonomy.cell_type(name).label.lower()}?"
    return Question(ONE_TYPE + name, text, yes=(name,))


def question(name: str) -> Question:
    """A question by its name, `type:NAME` for one type; raises UsageError."""
    if name.startswith(ONE_TYPE):
        try:
            return one_type(name.removeprefix(ONE_TYPE))
        except LabelError as error:
            raise UsageError(f"--question {name}: {error.what}", why=error.why, remedy=error.remedy) from None
    if name not in QUESTIONS:
        raise UsageError(
            f"there is no question {name!r}",
            remedy=f"Choose {', '.join(QUESTIONS)}, or {ONE_TYPE}NAME such as type:basophil",
        )
    return QUESTIONS[name]
