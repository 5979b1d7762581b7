"""A second look at what only half looks like a smear, once the detector has read it.

The trees that judge an image before anything is read know the kinds of non-smears that they were fitted on; something
new in the colours of a stain they half believe. Where the detector is sure of no cell in such an image either, nothing
could be counted in it, and it is set aside. What looks surely like a smear, or was taken together with fields that do,
stays in the count without any cell, as a field that was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median_low

from myelos.detection.found import Found
from myelos.smears.looking import Look, no_smear

WHY = "it looks only half like a smear, and the detector is sure of no cell in it"


@dataclass(frozen=True)
class SecondLookSettings:
    """sure: score of `imaging.plausibility` from which an image is a smear whatever is found in it. sure_cell: score of
    the detector from which one cell is enough for any other. company: fields of one size in a smear from which they
    speak for each other. The scores were chosen on kinds of non-smears that trees had not seen (docs/detector.md)."""

    sure: float = 0.9
    sure_cell: float = 0.95
    company: int = 3


def in_company(looks: Sequence[Look], settings: SecondLookSettings) -> list[Look]:
    """The looks of one smear, each believed at least as much as the middle one of its size: one camera took them."""
    scores: dict[tuple[int, int], list[float]] = {}
    for one in looks:
        scores.setdefault((one.width, one.height), []).append(one.score)
    middle = {size: median_low(some) if len(some) >= settings.company else 0.0 for size, some in scores.items()}
    return [replace(one, score=max(one.score, middle[one.width, one.height])) for one in looks]


def second_look(look: Look, cells: Found, settings: SecondLookSettings, *, force: bool) -> Look:
    """The look, with its doubt where it was forced; cells: found at the working threshold. Raises NotASmearError."""
    if look.doubt or look.score >= settings.sure or (cells.scores >= settings.sure_cell).any():
        return look
    if not force:
        raise no_smear(look.path, WHY)
    return replace(look, doubt=WHY)
