"""Sets of cut-out cells made alike: one stain and one sharpness, so that neither tells from where a cell comes.

Colours are compared as medians over nuclei and cytoplasm of each type. Types that several sets have say how the sets
differ; all types together say how the sets differ from rendered cells. Both are linear maps of optical densities:
what is nothing stays nothing. Sharpness is compared over the same types, and all are blurred to the softest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cutting import WORKING, CutOut

Reals = NDArray[np.float64]
ByType = Mapping[str, Sequence[CutOut]]

RENDERED = "rendered"
RIDGE = 0.03  # pull of a map towards one factor for each channel, relative to the colours' mean square
FIELD = 0.25  # µm per pixel at which sharpness is measured: finer detail is noise in some sets
DEEP = 0.6  # µm, distance from the edge from which on sharpness is measured


def colours(cells: Sequence[CutOut]) -> Reals:
    """(2, 3) densities of nucleus and cytoplasm in R, G, B: medians of the cells' medians; NaN where none is seen."""
    rows = []
    for cell in cells:
        nucleus = cell.nucleus > 0.5
        parts = (nucleus & (cell.cover > 0.9), ~nucleus & (cell.cover > 0.9))
        enough = 0.02 * nucleus.size
        rows.append([np.median(cell.density[p], axis=0) if p.sum() > enough else np.full(3, np.nan) for p in parts])
    return np.stack([_middle(np.array(part)) for part in zip(*rows, strict=True)])


def _middle(values: Reals) -> Reals:
    """(3,) median over rows that are known; NaN where none is."""
    known = values[~np.isnan(values).any(axis=1)]
    return np.median(known, axis=0) if len(known) else np.full(3, np.nan)


def stain_maps(sets: Mapping[str, ByType], rendered: ByType) -> dict[str, Reals]:
    """Source → (3, 3), by which its densities (…, 3), from the right, become those of the rendered cells."""
    seen = {source: {kind: colours(cells) for kind, cells in own.items()} for source, own in sets.items()}
    shared = shared_types(seen)
    if len(seen) > 1:
        middle = {kind: np.mean([own[kind] for own in seen.values() if kind in own], axis=0) for kind in shared}
        maps = {source: _fitted(own, middle) for source, own in seen.items()}
    else:
        maps = {source: np.eye(3) for source in seen}
    common: dict[str, list[Reals]] = {}
    for source, own in seen.items():
        for kind, colour in own.items():
            common.setdefault(kind, []).append(colour @ maps[source])
    target = {kind: colours(cells) for kind, cells in rendered.items()}
    last = _fitted({kind: np.mean(found, axis=0) for kind, found in common.items()}, target)
    return {source: found @ last for source, found in maps.items()}


def shared_types(seen: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Types that several sources have, sorted. seen: source → type → anything."""
    kinds = [kind for own in seen.values() for kind in own]
    return sorted({kind for kind in kinds if kinds.count(kind) > 1})


def _fitted(own: Mapping[str, Reals], target: Mapping[str, Reals]) -> Reals:
    """(3, 3) least squares over the types that both have; one factor for each channel where they are few."""
    kinds = [kind for kind in own if kind in target]
    if not kinds:
        return np.eye(3)
    x, y = (np.concatenate([colour[kind] for kind in kinds]) for colour in (own, target))
    there = ~np.isnan(x).any(axis=1) & ~np.isnan(y).any(axis=1)
    x, y = x[there], y[there]
    if not len(x):
        return np.eye(3)
    factors = np.diag((x * y).sum(axis=0) / (x**2).sum(axis=0))
    pull = RIDGE * len(x) * float((x**2).mean()) * np.eye(3)
    return np.linalg.solve(x.T @ x + pull, x.T @ y + pull @ factors)


def sharpness(cell: CutOut) -> float:
    """Variance of the Laplacian over that of the density, inside the cell, at `FIELD` µm/px; NaN in tiny cells."""
    return _sharpness(cell, 0.0)


def _sharpness(cell: CutOut, blur: float) -> float:
    total = cell.density.sum(axis=-1)
    if blur:
        total = cv2.GaussianBlur(total, (0, 0), blur / WORKING)
    size = max(1, round(total.shape[1] * WORKING / FIELD)), max(1, round(total.shape[0] * WORKING / FIELD))
    small = cv2.resize(total, size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(cell.cover, size, interpolation=cv2.INTER_AREA) > 0.95
    reach = 2 * round(DEEP / FIELD) + 1
    inside = cv2.erode(np.pad(inside, 1).astype(np.uint8), np.ones((reach, reach), np.uint8))[1:-1, 1:-1] > 0
    if inside.sum() < 30:
        return float("nan")
    return float(cv2.Laplacian(small, cv2.CV_32F)[inside].var() / (small[inside].var() + 1e-4))


def blurs(sets: Mapping[str, ByType]) -> dict[str, float]:
    """Source → deviation in µm of the Gaussian that makes it as soft as the softest, over types of several sources."""
    counted = [kind for own in sets.values() for kind in own]
    shared = {kind for kind in counted if counted.count(kind) > 1}
    if len(sets) < 2 or not shared:
        return dict.fromkeys(sets, 0.0)
    return _to_softest(sets, shared)


def _to_softest(sets: Mapping[str, ByType], shared: set[str]) -> dict[str, float]:
    levels = np.linspace(0, 0.5, 11)
    curves: dict[str, dict[str, Reals]] = {
        source: {
            kind: np.array([_typical(cells, float(level)) for level in levels])
            for kind, cells in own.items()
            if kind in shared
        }
        for source, own in sets.items()
    }
    target = {kind: np.nanmin([own[kind][0] for own in curves.values() if kind in own]) for kind in sorted(shared)}
    found = {}
    for source, own in curves.items():
        excess = np.nanmean([curve - target[kind] for kind, curve in own.items()] or [np.zeros(len(levels))], axis=0)
        below = np.flatnonzero(excess <= 0)
        found[source] = float(levels[below[0]]) if len(below) else float(levels[-1])
    return found


def _typical(cells: Sequence[CutOut], blur: float) -> float:
    values = np.array([_sharpness(cell, blur) for cell in cells[:40]])
    return float(np.log(np.nanmedian(values) + 1e-6)) if (~np.isnan(values)).any() else float("nan")
