"""Cells cut out of single-cell images, kept as a pool from which fields and slides draw beside the rendered cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cells import Sprite
from myelos.phantom.looks import LOOKS, VARIANTS
from myelos.phantom.stain import standard_stain

CUT = "cut out"  # the outcome of an image whose cell is used
RIDGE, SWEEPS = 0.001, 40


@dataclass(frozen=True, slots=True)
class Kept:
    """image: (h, w, 7) float16: concentrations of `stain.DYES`, cover, nucleus. source: the set it came from. cut_from:
    first digits of the SHA-256 of its image."""

    image: NDArray[np.float16]
    source: str
    cut_from: str


@dataclass(frozen=True)
class CutOuts:
    """cells: type → source → cells at `mpp`. rendered: share of the cells of these types that are rendered all the
    same, so that being real gives no type away. softness: µm of blur that rendered cells need to be as soft as these.

    about: what is known of the sets, for `run.json`: cells of each type and source, what was left out and why.
    """

    cells: Mapping[str, Mapping[str, tuple[Kept, ...]]]
    mpp: float
    rendered: float = 0.25
    softness: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def types(self) -> tuple[str, ...]:
        """Types with cells, sorted."""
        return tuple(sorted(kind for kind, by_source in self.cells.items() if by_source))

    @property
    def drawable(self) -> tuple[str, ...]:
        """Types with cells that could be rendered, too: what compositions are made of."""
        return tuple(kind for kind in self.types if kind in LOOKS or kind in VARIANTS)

    def pick(self, cell_type: str, number: int) -> Kept | None:
        """The cell that a random `number` stands for; None where it is to be rendered. All sources alike often."""
        sources = self.cells.get(cell_type)
        if not sources:
            return None
        share, rest = number % 1000, number // 1000
        if share < 1000 * self.rendered and (cell_type in LOOKS or cell_type in VARIANTS):
            return None
        cells = sources[sorted(sources)[rest % len(sources)]]
        return cells[rest // len(sources) % len(cells)]


def to_sprite(kept: Kept, cell_type: str, mpp: float) -> Sprite:
    """As a rendered cell, which takes part in every stain."""
    image = kept.image.astype(np.float32)
    return Sprite(cell_type, mpp, image[..., :6], image[..., 6], kept.source, kept.cut_from)


def unmixed(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w, 3) optical densities (base 10) → (h, w, 5) concentrations of `stain.DYES` in the standard stain.

    Least squares with concentrations that cannot fall below 0, by coordinate descent: sums of positive and negative
    dyes would give wild colours in any other stain. The small ridge chooses among mixtures of one colour.
    """
    dyes = np.asarray(standard_stain().density, np.float32)  # (5, 3)
    gram = dyes @ dyes.T + RIDGE * np.eye(len(dyes), dtype=np.float32)
    wanted = density.reshape(-1, 3) @ dyes.T
    found = np.zeros_like(wanted)
    for _ in range(SWEEPS):
        for dye in range(len(dyes)):
            rest = wanted[:, dye] - found @ gram[dye] + found[:, dye] * gram[dye, dye]
            found[:, dye] = np.maximum(rest / gram[dye, dye], 0)
    return found.reshape(*density.shape[:2], len(dyes))


def in_words(cut_outs: CutOuts) -> str:
    """Lines for people: of each source and type how many cells were cut out, and why others were left out."""
    lines = []
    for source, by_type in cut_outs.about["outcomes"].items():
        tried = sum(sum(outcomes.values()) for outcomes in by_type.values())
        done = sum(outcomes.get(CUT, 0) for outcomes in by_type.values())
        lines.append(f"{source}: {done} of {tried} cells cut out cleanly")
        for kind, outcomes in by_type.items():
            rest = ", ".join(f"{why} {n}" for why, n in sorted(outcomes.items(), key=lambda o: -o[1]) if why != CUT)
            lines.append(f"  {kind} {outcomes.get(CUT, 0)}" + (f"; left out: {rest}" if rest else ""))
    if lonely := cut_outs.about["of_one_source"]:
        lines.append(f"Of one source only, which may give these types away: {', '.join(lonely)}")
    return "\n".join(lines) + "\n"
