"""Sets of cut-out cells brought to one look: that of the rendered cells in stain, and none sharper than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.phantom.alike import RENDERED, blurs, shared_types, stain_maps
from myelos.phantom.cells import cell_rng, render_sprite
from myelos.phantom.cutting import WORKING, CutOut
from myelos.phantom.looks import LOOKS, VARIANTS
from myelos.phantom.matching import matched
from myelos.phantom.scatter import ScatterSettings, scattered
from myelos.phantom.stain import DYES, standard_stain

COMPARED = 8  # rendered cells of each type that colours and sharpness are compared with
Named = Mapping[str, Mapping[str, Sequence[tuple[CutOut, str]]]]  # source → type → cells and names of their images
Cells = dict[str, dict[str, list[CutOut]]]


@dataclass(frozen=True, slots=True)
class Look:
    """cells: source → type → cells. maps: source → (3, 3) of densities. blur: source, and `RENDERED`, → µm of blur that
    they still need."""

    cells: Cells
    maps: Mapping[str, NDArray[np.float64]]
    blur: Mapping[str, float]


def one_look(sets: Named, alike: bool = True, match: bool = True, scatter: bool = True) -> Look:
    """alike: mean colours and sharpness. match: see `matching`, scatter: see `scatter`; both where types are shared."""
    plain = {source: {kind: [c for c, _ in own] for kind, own in by_type.items()} for source, by_type in sets.items()}
    if not alike:
        return Look(plain, {source: np.eye(3) for source in plain}, dict.fromkeys([*plain, RENDERED], 0.0))
    rendered = _rendered({kind for own in plain.values() for kind in own})
    maps = stain_maps(plain, rendered)
    found = {s: {k: [_stained(c, maps[s]) for c in own] for k, own in by.items()} for s, by in plain.items()}
    if not match or not shared_types(found):
        return Look(found, maps, blurs(found | {RENDERED: rendered}))
    found = matched(found)
    blur = blurs(found | {RENDERED: rendered})
    blur |= dict.fromkeys(found, min(blur[source] for source in found))  # they are matched: none more than another
    if not scatter:
        return Look(found, maps, blur)
    blur[RENDERED] = float(np.hypot(blur[RENDERED], np.mean(ScatterSettings().blur)))
    return Look(_scattered(found, sets), maps, blur)


def _scattered(cells: Cells, sets: Named) -> Cells:
    """What happens to a cell depends on its image alone."""
    return {
        source: {
            kind: [
                scattered(cell, cell_rng(0, "scatter", name))
                for cell, (_, name) in zip(own, sets[source][kind], strict=True)
            ]
            for kind, own in by_type.items()
        }
        for source, by_type in cells.items()
    }


def _rendered(kinds: set[str]) -> dict[str, list[CutOut]]:
    """Rendered cells of the types that can be rendered, in the standard stain, as if they had been cut out."""
    matrix = np.asarray(standard_stain().density, np.float32) * np.float32(np.log(10.0))
    result: dict[str, list[CutOut]] = {}
    for kind in sorted(kinds):
        if kind in LOOKS or kind in VARIANTS:
            sprites = [render_sprite(kind, cell_rng(0, "compared", kind, n), WORKING) for n in range(COMPARED)]
            result[kind] = [CutOut(s.layers[..., : len(DYES)] @ matrix, s.cover, s.nucleus) for s in sprites]
    return result


def _stained(cell: CutOut, map_: NDArray[np.float64]) -> CutOut:
    return CutOut(np.maximum(cell.density @ map_.astype(np.float32), 0), cell.cover, cell.nucleus)
