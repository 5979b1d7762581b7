"""Sources of cut-out cells matched beyond their mean colour: size, edge, fine detail, contrast at all scales, tones.

`alike.stain_maps` brings the mean colours of sources together. Here follows what a discriminator of sources still saw
(benchmarks/sources.py). Everything is fitted on the types that sources share, each type weighted alike, and applied to
all types of a source; every step brings the sources to each other, none to the rendered cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.alike import ByType, shared_types
from myelos.phantom.cells import cell_rng
from myelos.phantom.cutting import WORKING, CutOut, signed_distance
from myelos.phantom.tones import Tone, fitted_tone, toned

Reals = NDArray[np.float64]
Planes = NDArray[np.float32]
Sets = Mapping[str, ByType]
SAMPLE = 3000  # pixels of a type and compartment that tones are compared by
Own = dict[str, dict[str, list[CutOut]]]


@dataclass(frozen=True, slots=True)
class MatchSettings:
    """Lengths in µm, densities as natural logarithms, summed over R, G and B.

    edge: where the common edge of all cells lies inside that of the cut, and its width. grey: deviation of the Gaussian
    below which detail has the colour of its surroundings, because fine colour is noise and JPEG. bands: deviations of
    the Gaussians between which contrast is made alike. rings: distances inwards from the edge of the cut between which
    density is made alike. turns: sets of axes along which tones are made alike. pixels: of a cell and compartment that
    tones are compared by. glass: density below which tones are left alone.
    """

    edge: tuple[float, float] = (0.35, 0.7)
    grey: float = 0.8
    bands: tuple[float, ...] = (0.075, 0.15, 0.3, 0.6)
    rings: tuple[float, ...] = (0.0, 0.2, 0.4, 0.65, 0.9, 1.2, 1.6, 2.1)
    turns: int = 4
    pixels: int = 60
    glass: float = 0.25


def matched(sets: Sets, settings: MatchSettings | None = None) -> Own:
    """The same cells, of sources that are alike over the types they share; as they are where none is shared."""
    settings = settings or MatchSettings()
    found = {source: {kind: list(cells) for kind, cells in own.items()} for source, own in sets.items()}
    if not shared_types(sets):
        return found
    factors = size_factors(found)
    found = _each(found, lambda cell, source: scaled(cell, factors[source]))
    found = _each(found, lambda cell, _: edged(cell, settings))
    found = _each(found, lambda cell, _: greyed(cell, settings.grey))
    found = _contrasts_alike(found, settings)
    tones = _fitted_tones(found, settings)
    found = _each(found, lambda cell, source: toned(cell, tones[source], settings.glass))
    found = _rims_alike(found, settings)
    found = _each(found, lambda cell, _: greyed(cell, settings.grey))
    found = _contrasts_alike(found, settings)
    return _rims_alike(found, settings)


def _each(sets: Sets, change: Callable[[CutOut, str], CutOut]) -> Own:
    return {s: {kind: [change(cell, s) for cell in own] for kind, own in by.items()} for s, by in sets.items()}


def _compartments(cell: CutOut) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    inside = cell.cover > 0.9
    return (cell.nucleus > 0.5) & inside, (cell.nucleus < 0.3) & inside


def size_factors(sets: Sets) -> dict[str, float]:
    """Source → factor of lengths: one each, so that shared types are as large on average. Scales are known no better.

    From the medians of areas, by type; the middle of the sources stays.
    """
    shared = shared_types(sets)
    logs = {
        source: float(np.mean([np.log(np.median([(c.cover > 0.5).sum() for c in own[k]])) for k in shared if k in own]))
        for source, own in sets.items()
        if any(kind in own for kind in shared)
    }
    middle = float(np.mean(list(logs.values())))
    return {source: float(np.exp((middle - logs.get(source, middle)) / 2)) for source in sets}


def scaled(cell: CutOut, factor: float) -> CutOut:
    height, width = cell.cover.shape
    size = max(4, round(width * factor)), max(4, round(height * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return CutOut(*(cv2.resize(part, size, interpolation=how) for part in (cell.density, cell.cover, cell.nucleus)))


def edged(cell: CutOut, settings: MatchSettings) -> CutOut:
    """With the common edge: the same fade for all, a little inside the cut, where camera and cutting show less."""
    inside, width = settings.edge
    ramp = np.clip((signed_distance(cell.cover > 0.5) * WORKING - inside) / width + 0.5, 0, 1).astype(np.float32)
    cover = ramp * ramp * (3 - 2 * ramp)
    return CutOut(cell.density / np.maximum(cell.cover, 0.15)[..., None] * cover[..., None], cover, cell.nucleus)


def greyed(cell: CutOut, width: float) -> CutOut:
    """Detail finer than `width` µm keeps its density and takes the colour of its surroundings."""
    total = cell.density.sum(axis=-1)
    smooth = cv2.GaussianBlur(cell.density, (0, 0), width / WORKING)
    factor = np.clip(total / np.maximum(smooth.sum(axis=-1), 0.03), 0, 4)
    return CutOut((smooth * factor[..., None]).astype(np.float32), cell.cover, cell.nucleus)


def split_bands(total: Planes, widths: Sequence[float]) -> tuple[list[Planes], Planes]:
    """Differences of Gaussians from fine to coarse, and what is left; together the (h, w) plane. widths: in px."""
    levels = [total, *(np.asarray(cv2.GaussianBlur(total, (0, 0), width), np.float32) for width in widths)]
    return [fine - coarse for fine, coarse in pairwise(levels)], levels[-1]


def contrasts(sets: Sets, settings: MatchSettings) -> dict[str, Reals]:
    """Source → (2, bands) logarithm of the contrast in nucleus and cytoplasm: mean over shared types of medians."""
    shared = shared_types(sets)
    return {
        source: np.nanmean([_typical_contrast(own[kind], settings) for kind in shared if kind in own], axis=0)
        for source, own in sets.items()
        if any(kind in own for kind in shared)
    }


def _typical_contrast(cells: Sequence[CutOut], settings: MatchSettings) -> Reals:
    rows = []
    for cell in cells:
        bands, _ = split_bands(cell.density.sum(axis=-1), [width / WORKING for width in settings.bands])
        deep = signed_distance(cell.cover > 0.9) * WORKING > 0.6
        parts = [part & deep for part in _compartments(cell)]
        rows.append([[_log_spread(band[part]) for band in bands] for part in parts])
    known = np.array(rows)
    return np.stack([np.nanmedian(part, axis=0) if (~np.isnan(part)).any() else np.full(part.shape[1], np.nan)
                     for part in np.moveaxis(known, 1, 0)])  # fmt: skip


def _log_spread(values: Planes) -> float:
    return float(np.log(values.std() + 1e-4)) if values.size > 40 else float("nan")


def _contrasts_alike(sets: Own, settings: MatchSettings) -> Own:
    """To the source of least contrast in each band, twice, because bands overlap."""
    widths = [width / WORKING for width in settings.bands]
    for _ in range(2):
        seen = contrasts(sets, settings)
        least = np.min(list(seen.values()), axis=0)
        gains = {source: np.nan_to_num(least - own) for source, own in seen.items()}
        sets = {
            source: {kind: [with_contrast(c, gains[source], widths) for c in own] for kind, own in by.items()}
            if source in gains
            else by
            for source, by in sets.items()
        }
    return sets


def with_contrast(cell: CutOut, log_gains: Reals, widths: Sequence[float]) -> CutOut:
    """log_gains: (2, bands) for nucleus and cytoplasm. widths: of the bands in px. Colours stay."""
    total = cell.density.sum(axis=-1)
    bands, changed = split_bands(total, widths)
    nucleus = np.clip(cell.nucleus, 0, 1)
    for band, inner, outer in zip(bands, *np.exp(log_gains).astype(np.float32), strict=True):
        changed = changed + band * (nucleus * inner + (1 - nucleus) * outer)
    factor = np.clip(changed / np.maximum(total, 0.03), 0, 3)
    factor = np.where(cell.cover > 0.02, factor, 1).astype(np.float32)
    return CutOut(cell.density * factor[..., None], cell.cover, cell.nucleus)


def rims(sets: Sets, settings: MatchSettings) -> dict[str, Reals]:
    """Source → (rings - 1,) logarithm of the mean density between the rings, relative to the last: the fall to the
    edge. Mean over shared types of medians."""
    shared = shared_types(sets)
    return {
        source: np.mean([_typical_rim(own[kind], settings.rings) for kind in shared if kind in own], axis=0)
        for source, own in sets.items()
        if any(kind in own for kind in shared)
    }


def _typical_rim(cells: Sequence[CutOut], rings: Sequence[float]) -> Reals:
    rows = []
    for cell in cells:
        inwards, total = signed_distance(cell.cover > 0.5) * WORKING, cell.density.sum(axis=-1)
        parts = [(inwards > low) & (inwards <= high) for low, high in pairwise(rings)]
        if all(part.any() for part in parts):
            rows.append([np.log(total[part].mean() + 1e-2) for part in parts])
    found = np.median(rows, axis=0) if rows else np.zeros(len(rings) - 1)
    return np.asarray(found - found[-1])


def _rims_alike(sets: Own, settings: MatchSettings) -> Own:
    """To the middle of the sources."""
    seen = rims(sets, settings)
    middle = np.mean(list(seen.values()), axis=0)
    return _each(sets, lambda cell, source: _with_rim(cell, middle - seen.get(source, middle), settings.rings))


def _with_rim(cell: CutOut, log_gains: Reals, rings: Sequence[float]) -> CutOut:
    inwards = signed_distance(cell.cover > 0.5) * WORKING
    places = [(low + high) / 2 for low, high in pairwise(rings)]
    factor = np.exp(np.interp(inwards, places, log_gains)).astype(np.float32)
    return CutOut(cell.density * factor[..., None], cell.cover, cell.nucleus)


def _fitted_tones(sets: Sets, settings: MatchSettings) -> dict[str, tuple[Tone, Tone]]:
    """Source → maps of nucleus and cytoplasm; the target is the pixels of all sources, as many of each."""
    rng = cell_rng(0, "tones")
    pixels = {source: _pixels(own, shared_types(sets), settings, rng) for source, own in sets.items()}
    wanted = [np.concatenate([own[part] for own in pixels.values()]) for part in (0, 1)]
    found = {}
    for source, (inner, outer) in pixels.items():
        pair = [fitted_tone(own, goal, settings.turns, rng) for own, goal in zip((inner, outer), wanted, strict=True)]
        found[source] = (pair[0], pair[1])
    return found


def _pixels(own: ByType, shared: Sequence[str], settings: MatchSettings, rng: np.random.Generator) -> list[Reals]:
    """(N, 3) densities of nucleus and of cytoplasm: as many pixels of each shared type, of each cell alike."""
    result = []
    for part in (0, 1):
        rows = []
        for kind in shared:
            parts = [cell.density[_compartments(cell)[part]] for cell in own.get(kind, ())]
            drawn = [p[rng.integers(0, len(p), settings.pixels)] for p in parts if len(p) > 20]
            if drawn:
                together = np.concatenate(drawn).astype(np.float64)
                rows.append(together[rng.integers(0, len(together), SAMPLE)])
        result.append(np.concatenate(rows) if rows else np.zeros((0, 3)))
    return result
