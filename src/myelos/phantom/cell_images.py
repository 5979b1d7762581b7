"""Labelled single-cell sets read, cut out, made alike, and kept for synthetic smears."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from myelos.datasets.cell_splits import PARTS, split_cells
from myelos.datasets.cells import CellRecord, read_cells
from myelos.datasets.images import content_hash
from myelos.errors import InputError, UsageError
from myelos.imaging.scale import estimate_mpp
from myelos.phantom.alike import RENDERED
from myelos.phantom.cut_outs import CUT, CutOuts, Kept, unmixed
from myelos.phantom.cutting import WORKING, CutOut, Image, NotCleanError, cut_out
from myelos.phantom.looks import LOOKS, VARIANTS
from myelos.phantom.one_look import Look, Named, one_look

LOBED = frozenset({"segmented", "bilobed", "lobulated", "metaphase", "anaphase", "prometaphase", "smear"})
NO_CELLS = frozenset({"artefact", "platelet", "erythrocyte"})  # nothing with a nucleus that could be cut out
RED_CELLS = 40  # images of a set from whose red cells its scale is estimated, where it is not known

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CellImagesSettings:
    """part: train, choose or test: only the cells that `datasets.cell_splits` puts there, as for the shipped
    classifiers; all where None. per_type: at most so many images of each type and source are tried, 0 for all.
    rendered: see `CutOuts`. mpp: µm/px of sets that do not say it; from their red cells where None. scheme: the label
    scheme of sets that do not tell. fewest: clean cells that a type of a source needs to be used at all. alike: bring
    the sources to one stain and sharpness; off, each keeps its own, which gives its types away. matched: not in the
    mean alone, but in size, edge, contrast and tones (`matching`). scatter: then change every cell a little at random
    (`scatter`), so that what is left of a source drowns. Both only where sources share types."""

    part: str | None = None
    per_type: int = 200
    rendered: float = 0.25
    mpp: float | None = None
    scheme: str | None = None
    fewest: int = 5
    alike: bool = True
    matched: bool = True
    scatter: bool = True

    def __post_init__(self) -> None:
        if self.part is not None and self.part not in PARTS:
            raise UsageError(f"there is no part {self.part!r} of a set", remedy=f"Choose one of {', '.join(PARTS)}")
        if not 0 <= self.rendered < 1:
            raise UsageError(f"a share of {self.rendered:g} rendered cells leaves no real ones", remedy="Pass 0 to 0.9")


@dataclass(slots=True)
class _Tally:
    """What became of the images of each source and type."""

    rows: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def table(self) -> dict[str, dict[str, dict[str, int]]]:
        result: dict[str, dict[str, dict[str, int]]] = {}
        for (source, kind, outcome), count in sorted(self.rows.items()):
            result.setdefault(source, {}).setdefault(kind, {})[outcome] = count
        return result


def read_cut_outs(
    folders: Sequence[Path],
    *,
    mpp: float,
    settings: CellImagesSettings | None = None,
    progress: Progress | None = None,
) -> CutOuts:
    """The cells in the middle of the images of labelled sets, at `mpp` µm per pixel, in one stain and sharpness.

    folders: whatever `read_cells` reads. Raises LabelError and UsageError where a set cannot be read, its scale is not
    known, or nothing could be cut out cleanly.
    """
    settings = settings or CellImagesSettings()
    return finished(cut_sets(folders, settings=settings, progress=progress), mpp=mpp, settings=settings)


@dataclass(frozen=True, slots=True)
class CutSets:
    """cells: source → type → cells as cut, with the first digits of their image's SHA-256. scales: source → µm/px of
    the images. outcomes: source → type → what became of how many images."""

    cells: Named
    scales: Mapping[str, float]
    outcomes: Mapping[str, Mapping[str, Mapping[str, int]]]


def cut_sets(
    folders: Sequence[Path], *, settings: CellImagesSettings | None = None, progress: Progress | None = None
) -> CutSets:
    """The cells as they are in their images. Raises as `read_cut_outs`."""
    settings = settings or CellImagesSettings()
    records = _chosen(folders, settings)
    scales = _scales(records, settings.mpp)
    tally = _Tally()
    sets = _kept_sets(_cut_all(records, scales, tally, progress), settings.fewest, tally)
    if not sets:
        raise UsageError(
            "no cell could be cut out cleanly", why=_reasons(tally), remedy="Check --cell-mpp, or add images"
        )
    known = {record.source: record.mpp or scales[record.source] for record in records}
    return CutSets(sets, known, tally.table())


def finished(sets: CutSets, *, mpp: float, settings: CellImagesSettings | None = None) -> CutOuts:
    """The cells made alike as `settings` say, at `mpp` µm per pixel."""
    settings = settings or CellImagesSettings()
    look = one_look(sets.cells, settings.alike, settings.matched, settings.scatter)
    cells: dict[str, dict[str, tuple[Kept, ...]]] = {}
    for source, by_type in sets.cells.items():
        for kind, own in by_type.items():
            images = [_finished(cell, look.blur[source], mpp) for cell in look.cells[source][kind]]
            kept = tuple(Kept(image, source, name) for image, (_, name) in zip(images, own, strict=True))
            cells.setdefault(kind, {})[source] = kept
    return CutOuts(cells, mpp, settings.rendered, look.blur[RENDERED], _about(sets, cells, look, settings))


def _chosen(folders: Sequence[Path], settings: CellImagesSettings) -> list[CellRecord]:
    """The records of the part, at most `per_type` of a type and source, spread evenly over its images."""
    records = [record for folder in folders for record in read_cells(folder, scheme=settings.scheme)[0]]
    if settings.part is not None:
        records = [records[i] for i in split_cells(records)[settings.part]]
    groups: dict[tuple[str, str], list[CellRecord]] = {}
    for record in records:
        if record.cell_type not in NO_CELLS:
            groups.setdefault((record.source, record.cell_type), []).append(record)
    most = settings.per_type
    result = []
    for own in groups.values():
        taken = (
            range(len(own)) if not most or len(own) <= most else np.linspace(0, len(own) - 1, most).round().astype(int)
        )
        result += [own[int(i)] for i in taken]
    if not result:
        raise UsageError("no cells to cut out", why=f"no image of part {settings.part or 'all'} shows a nucleated cell")
    return result


def _scales(records: Sequence[CellRecord], given: float | None) -> dict[str, float]:
    """Source → µm/px of the records that do not say it."""
    unknown: dict[str, list[Path]] = {}
    for record in records:
        if record.mpp is None:
            unknown.setdefault(record.source, []).append(record.path)
    scales = {}
    for source, paths in unknown.items():
        if given is None:
            step = max(1, len(paths) // RED_CELLS)
            found = estimate_mpp([_read(path) for path in sorted(paths)[::step]])
            if found is None:
                raise UsageError(
                    f"the scale of {source} is not known",
                    why="too few red cells are in sight to tell it",
                    remedy="Pass its µm per pixel: --cell-mpp",
                )
            scales[source] = found.mpp
        else:
            scales[source] = given
    return scales


def _read(path: Path) -> Image:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise InputError(f"{path.name} cannot be read as an image")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


Cut = dict[tuple[str, str], list[tuple[CutOut, str]]]


def _cut_all(
    records: Sequence[CellRecord], scales: Mapping[str, float], tally: _Tally, progress: Progress | None
) -> Cut:
    cut: Cut = {}
    for number, record in enumerate(records, 1):
        key = (record.source, record.cell_type)
        look = LOOKS.get(VARIANTS.get(record.cell_type, (record.cell_type,))[0])
        lobed = look is None or bool(LOBED & set(look.nucleus)) or record.cell_type in VARIANTS
        try:
            found = cut_out(
                _read(record.path),
                record.mpp or scales[record.source],
                diameter=look.diameter if look and record.cell_type not in VARIANTS else None,
                one_nucleus=not lobed,
            )
        except NotCleanError as why:
            tally.rows[*key, str(why)] += 1
        except InputError:
            tally.rows[*key, "cannot be read"] += 1
        else:
            tally.rows[*key, CUT] += 1
            cut.setdefault(key, []).append((found, content_hash(record.path)[:12]))
        if progress:
            progress(number, len(records))
    return cut


def _kept_sets(cut: Cut, fewest: int, tally: _Tally) -> dict[str, dict[str, list[tuple[CutOut, str]]]]:
    """Source → type → cells, without types of which a source has too few to hide which cell is which."""
    sets: dict[str, dict[str, list[tuple[CutOut, str]]]] = {}
    for (source, kind), own in sorted(cut.items()):
        if len(own) >= fewest:
            sets.setdefault(source, {})[kind] = own
        else:
            tally.rows[source, kind, "too few of its type"] += tally.rows.pop((source, kind, CUT))
    return sets


def _reasons(tally: _Tally) -> str:
    reasons: Counter[str] = Counter()
    for (_, _, outcome), count in tally.rows.items():
        reasons[outcome] += count
    return ", ".join(f"{outcome} {count}" for outcome, count in reasons.most_common())


def _finished(cell: CutOut, blur: float, mpp: float) -> Any:
    """(h, w, 7) float16 at `mpp`: concentrations of dyes, cover, nucleus, blurred alike."""
    factor = WORKING / mpp
    room = int(np.ceil(3 * blur / WORKING)) + int(np.ceil(2 / factor))
    height, width = (length + 2 * room for length in cell.cover.shape)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    planes = []
    for plane in (*np.moveaxis(cell.density / np.float32(np.log(10.0)), -1, 0), cell.cover, cell.nucleus):
        wide = np.pad(plane.astype(np.float32), room)
        if blur:
            wide = cv2.GaussianBlur(wide, (0, 0), blur / WORKING)
        planes.append(cv2.resize(wide, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR))
    return np.concatenate([unmixed(np.stack(planes[:3], axis=-1)), np.stack(planes[3:], axis=-1)], axis=2).astype(
        np.float16
    )


def _about(
    sets: CutSets, cells: Mapping[str, Mapping[str, tuple[Kept, ...]]], look: Look, settings: CellImagesSettings
) -> dict[str, Any]:
    return {
        "part": settings.part,
        "rendered": settings.rendered,
        "alike": settings.alike,
        "matched": settings.matched,
        "scatter": settings.scatter,
        "sources": {
            source: {
                "mpp": sets.scales[source],
                "stain_map": np.round(look.maps[source], 4).tolist(),
                "blur_um": look.blur[source],
            }
            for source in sorted(look.maps)
        },
        "rendered_blur_um": look.blur[RENDERED],
        "cells": {kind: {s: len(own) for s, own in by.items()} for kind, by in sorted(cells.items())},
        "of_one_source": sorted(kind for kind, by in cells.items() if len(by) == 1),
        "outcomes": sets.outcomes,
    }
