"""Cut-out cells among the sprites of a glass, and where each sprite comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from myelos.phantom.cut_outs import CutOuts, Kept, to_sprite
from myelos.phantom.dataset import write_csv
from myelos.phantom.glass.poses import Rendered, as_rendered
from myelos.phantom.glass.scanners import Scanner
from myelos.phantom.stain import Stain

SPRITES = "sprites.csv"  # beside `cells.parquet`, whose column `sprite` counts its rows from 0

Origin = tuple[str, str]  # source, first digits of the SHA-256 of the image


def with_cut_outs(
    name: str, rendered: Sequence[Rendered], cut_outs: CutOuts | None, *, stain: Stain, made: Scanner, mpp: float
) -> tuple[list[Rendered], list[Origin]]:
    """The sprites of a type: as many intact ones of each source, rendered ones in their share, and the damaged ones.

    As many as the source has that has fewest: poses are dealt out evenly over sprites.
    """
    sources: Mapping[str, Sequence[Kept]] = cut_outs.cells.get(name, {}) if cut_outs else {}
    if not cut_outs or not sources:
        return list(rendered), [("rendered", "")] * len(rendered)
    each = min(len(own) for own in sources.values())
    real = [kept for source in sorted(sources) for kept in sources[source][:each]]
    intact = [one for one in rendered if not one.damage]
    drawn = intact[: round(len(real) * cut_outs.rendered / (1 - cut_outs.rendered))]
    hurt = [one for one in rendered if one.damage]
    whole = [to_sprite(kept, name, mpp) for kept in real]
    sprites = [as_rendered(sprite, sprite.layers, 0, stain, made) for sprite in whole]
    origins = [(kept.source, kept.cut_from) for kept in real]
    return [*drawn, *sprites, *hurt], [("rendered", "")] * len(drawn) + origins + [("rendered", "")] * len(hurt)


def write_origins(folder: Path, types: Sequence[str], origins: Sequence[Sequence[Origin]]) -> None:
    """`sprites.csv`: sprite, type, source and image of every sprite, in the order of the pool."""
    rows = [(name, *origin) for name, own in zip(types, origins, strict=True) for origin in own]
    write_csv(folder / SPRITES, ("sprite", "cell_type", "source", "image"), [(i, *row) for i, row in enumerate(rows)])
