"""Annotates a synthetic slide as the public marrow slides are, in DICOM and in tables.

A few square regions that hold many cells; a box around every nucleated cell in them and around a few outside; some
boxes that nobody labelled; the readings of `phantom.examiners` and their consensus. Cell identifiers are the numbers in
the `cell_id` of the truth, region identifiers the `region` of its table of regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from myelos import tables, taxonomy
from myelos.datasets.bulk_annotations import (
    CONSENSUS,
    REGION,
    SCHEME,
    STRUCTURE,
    UNLABELLED,
    Annotations,
    write_annotations,
)
from myelos.errors import UsageError
from myelos.phantom.cells import cell_rng
from myelos.phantom.examiners import ExaminerSettings, Reading, agreement, consensus_of, read_cells
from myelos.slides.dicom_study import Study

FOLDER = "annotations"  # in that of the slide
READABLE = ("trail", "smear", "readable")  # regions of the truth in which examiners look for theirs
LEFT_OUT = ("erythrocyte", "platelet")  # nobody boxes them
# What an examiner says of a type that is coarser than the set's labels, or that the set has no word for.
FINER = {
    "eosinophil": "segmented_eosinophil",
    "basophil": "segmented_basophil",
    "neutrophil": "segmented_neutrophil",
    "erythroblast": "polychromatic_erythroblast",
    "immature_granulocyte": "myelocyte",
    "naked_nucleus": "damaged_cell",
}
MOSTLY = 0.8  # of a region's cells
SHARP, LOST = 0.75, 0.2  # sharpness from which a region is worth reading, and below which a cell is unfit


@dataclass(frozen=True, slots=True)
class AnnotationSettings:
    """regions: how many at most, `side` µm wide. outside: share of boxes outside them. unlabelled: share of boxes that
    nobody labels; the public set has labels for 28,000 of 40,000 boxes.
    """

    regions: int = 6
    side: float = 300.0
    outside: float = 0.04
    unlabelled: float = 0.3
    examiners: ExaminerSettings = field(default_factory=ExaminerSettings)

    def __post_init__(self) -> None:
        if self.regions < 1 or self.side <= 0 or not (0 <= self.outside < 1 and 0 <= self.unlabelled < 1):
            raise UsageError("annotations need a region, and shares from 0 to below 1")


@dataclass(frozen=True, slots=True)
class _Cells:
    """All cells of the truth: boxes (N, 4), and for each its number, type, region, sharpness, damage."""

    slide_id: str
    boxes: NDArray[np.float64]
    numbers: NDArray[np.int64]
    types: NDArray[np.str_]
    readable: NDArray[np.bool_]
    sharpness: NDArray[np.float64]
    damage: NDArray[np.str_]

    @property
    def centres(self) -> NDArray[np.float64]:
        return self.boxes[:, :2] + self.boxes[:, 2:] / 2

    def chosen(self, which: NDArray[Any]) -> _Cells:
        parts = (self.boxes, self.numbers, self.types, self.readable, self.sharpness, self.damage)
        return _Cells(self.slide_id, *(part[which] for part in parts))


def annotate(
    slide: Path, truth: Path, study: Study, *, seed: int, settings: AnnotationSettings | None = None
) -> dict[str, Any]:
    """Annotate the DICOM slide in the folder `slide`, whose tables stand in `truth`, and tell what was done.

    Writes `annotations/*.dcm` into the slide's folder, `opinions.parquet` beside the other tables, and adds the regions
    to `regions.parquet`.
    """
    settings = settings or AnnotationSettings()
    (described,) = tables.read_table(truth, "slides").to_pylist()
    rows = tables.read_table(truth, "regions").to_pylist()
    cells = _load(truth, [row["kind"] for row in rows])
    regions = choose_regions(cells.centres, _good(cells), described, cell_rng(seed, "annotated regions"), settings)
    numbers = np.arange(len(rows), len(rows) + len(regions))
    rows += [_row(cells.slide_id, *what, described["mpp"]) for what in zip(numbers.tolist(), regions, strict=True)]
    tables.write_table(truth, "regions", rows)
    boxed, inside = _boxed(cells, regions, cell_rng(seed, "boxed cells"), settings)
    within = np.where(inside >= 0, numbers[inside] if len(numbers) else -1, -1)
    readings = _readings(boxed, cell_rng(seed, "labelled cells"), seed, settings)
    agreed = [consensus_of(labels) for labels in zip(*readings, strict=True)]
    made = _series(boxed, within, readings, agreed)
    made.insert(0, Annotations("", regions, (REGION,) * len(regions), numbers, np.full(len(regions), -1)))
    for one in made:
        if len(one.boxes):
            write_annotations(slide / FOLDER / f"{_file_name(one.session)}.dcm", one, study)
    tables.write_table(truth, "opinions", _opinions(boxed, readings, agreed, settings.examiners.readings))
    told: dict[str, Any] = {"regions": len(regions), "boxes": len(boxed.numbers), "settings": asdict(settings)}
    told["series"] = {one.description: len(one.boxes) for one in made}
    names = settings.examiners.readings
    told["no_consensus"] = agreed.count("no_consensus")
    return told | {"agreement": agreement(readings, names), "agreement_with_truth": _with_truth(boxed, readings, names)}


def _load(truth: Path, kinds: Sequence[str]) -> _Cells:
    """The cells that a person would box; the tables of a piece of smear have no damage and no sharpness."""
    names = ["slide_id", "cell_id", "x", "y", "width", "height", "cell_type", "region", "damage", "sharpness"]
    file = pq.ParquetFile(truth / "cells.parquet")
    found = file.read([name for name in names if name in file.schema_arrow.names])
    found = found.filter(pa.compute.invert(pa.compute.is_in(found["cell_type"], pa.array(LEFT_OUT))))
    count = found.num_rows
    region = found["region"].fill_null(-1).to_numpy()
    readable = np.array([kind in READABLE for kind in kinds] + [False])
    ids = found["cell_id"].to_pylist()
    has = found.schema.names
    return _Cells(
        found["slide_id"][0].as_py() if count else "",
        np.stack([found[name].to_numpy() for name in ("x", "y", "width", "height")], axis=1),
        np.array([int(name.rpartition("-")[2]) for name in ids], np.int64),
        np.array(found["cell_type"].to_pylist(), dtype=str),
        readable[region],
        found["sharpness"].fill_null(1).to_numpy().astype(float) if "sharpness" in has else np.ones(count),
        np.array(found["damage"].fill_null("").to_pylist(), dtype=str) if "damage" in has else np.full(count, ""),
    )


def _good(cells: _Cells) -> NDArray[np.bool_]:
    """Cells for whose sake a region is chosen."""
    return cells.readable & (cells.sharpness >= SHARP) & (cells.types != "artefact")


def choose_regions(
    centres: NDArray[np.float64],
    good: NDArray[np.bool_],
    slide: Mapping[str, Any],
    rng: np.random.Generator,
    settings: AnnotationSettings,
) -> NDArray[np.float64]:
    """(R, 4) square boxes, from top to bottom, of a grid's squares in which many of the (N, 2) cells lie.

    good: (N,) cells for whose sake a square is chosen; they must be the most in it, if such squares there are. slide: a
    row of the table `slides`, of which width, height and mpp count.
    """
    side = min(round(settings.side / slide["mpp"]), slide["width"], slide["height"])
    places = np.floor(centres / side).astype(int)
    whole = ((places + 1) * side <= [slide["width"], slide["height"]]).all(axis=1)
    squares, which = np.unique(places[whole], axis=0, return_inverse=True)
    counts = np.bincount(which.ravel(), weights=good[whole], minlength=len(squares))
    clear = counts >= MOSTLY * np.bincount(which.ravel(), minlength=len(squares))
    squares, counts = (squares[clear], counts[clear]) if clear.any() else (squares, counts)
    if not len(squares):
        return np.zeros((0, 4))
    dense = squares[counts >= 0.5 * np.quantile(counts, 0.9)]
    chosen = dense[rng.permutation(len(dense))[: settings.regions]]
    chosen = chosen[np.lexsort((chosen[:, 0], chosen[:, 1]))].astype(float) * side
    return np.concatenate([chosen, np.full_like(chosen, side)], axis=1)


def _row(slide_id: str, number: int, box: NDArray[np.float64], mpp: float) -> dict[str, Any]:
    x, y, width, height = box.tolist()
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    area = width * height * mpp**2 * 1e-6
    return {"slide_id": slide_id, "region": number, "kind": REGION, "polygon": corners, "area_mm2": area}


def _boxed(
    cells: _Cells, regions: NDArray[np.float64], rng: np.random.Generator, settings: AnnotationSettings
) -> tuple[_Cells, NDArray[np.int64]]:
    """The cells that get a box, in the order of their numbers, and (N,) which region holds each, -1 for none."""
    inside = np.full(len(cells.numbers), -1)
    for number, (x, y, width, height) in enumerate(regions):
        cx, cy = cells.centres.T
        inside[(cx >= x) & (cx < x + width) & (cy >= y) & (cy < y + height)] = number
    beyond = np.flatnonzero((inside < 0) & _good(cells))
    few = round((inside >= 0).sum() * settings.outside / (1 - settings.outside))
    strays = rng.permutation(beyond)[:few]
    which = np.sort(np.concatenate([np.flatnonzero(inside >= 0), strays]))
    return cells.chosen(which), inside[which]


def _readings(boxed: _Cells, rng: np.random.Generator, seed: int, settings: AnnotationSettings) -> list[Reading]:
    """What every session says of every box, None for those that it passed over."""
    ragged = boxed.damage == "ragged"
    readings = read_cells(_true_types(boxed), settings.examiners, seed, sharpness=boxed.sharpness, ragged=ragged)
    nobody = rng.random(len(boxed.numbers)) < settings.unlabelled
    return [[None if left else label for label, left in zip(one, nobody, strict=True)] for one in readings]


def _true_types(cells: _Cells) -> list[str]:
    """The label that a faultless examiner gives."""
    types = np.array([word_for(name) for name in cells.types.tolist()], dtype="U64")
    types[cells.damage == "naked_nucleus"] = "damaged_cell"
    types[(cells.sharpness < LOST) & (types != "artefact")] = "technically_unfit"
    return [str(name) for name in types]


@cache
def word_for(cell_type: str) -> str:
    """The type that the public set's labels have for this one; technically_unfit where they have none."""
    scheme = taxonomy.SCHEMES[SCHEME]
    words = {name for label, name in scheme.codes.items() if label not in scheme.technical}
    for name in taxonomy.ancestors(cell_type):
        if name in words or name in FINER:
            return FINER.get(name, name)
    return "technically_unfit"


def _series(
    boxed: _Cells, within: NDArray[np.int64], readings: Sequence[Reading], agreed: Sequence[str | None]
) -> list[Annotations]:
    """Unlabelled boxes, a series for each session, the consensus."""
    labels = {name: label for label, name in taxonomy.SCHEMES[SCHEME].codes.items()}

    def series(session: str, types: Sequence[str | None]) -> Annotations:
        which = np.array([i for i, name in enumerate(types) if name is not None], np.intp)
        words = tuple(labels[name] for name in types if name is not None)
        return Annotations(session, boxed.boxes[which], words, boxed.numbers[which], within[which])

    bare = [STRUCTURE if name is None else None for name in agreed]
    sessions = [series(str(number), types) for number, types in enumerate(readings)]
    return [series(UNLABELLED, bare), *sessions, series(CONSENSUS, agreed)]


def _file_name(session: str) -> str:
    known = {"": "regions", UNLABELLED: "unlabelled", CONSENSUS: CONSENSUS}
    return known.get(session, f"session-{session}")


def _opinions(
    boxed: _Cells, readings: Sequence[Reading], agreed: Sequence[str | None], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of the table; a box without any label is a structure whose type nobody said."""
    said = enumerate(zip(names, readings, strict=True))
    sources = [(f"examiner {name}", str(number), types) for number, (name, types) in said]
    sources.append((CONSENSUS, CONSENSUS, list(agreed)))
    sources.append(("box", UNLABELLED, [STRUCTURE if name is None else None for name in agreed]))
    return [
        {"slide_id": boxed.slide_id, "cell_id": f"{boxed.slide_id}-{number}", "cell_type": name}
        | {"source": source, "session": session, "scheme": SCHEME}
        for source, session, types in sources
        for number, name in zip(boxed.numbers.tolist(), types, strict=True)
        if name is not None
    ]


def _with_truth(boxed: _Cells, readings: Sequence[Reading], names: Sequence[str]) -> list[dict[str, Any]]:
    truth: Reading = list(_true_types(boxed))
    found = []
    for number, (name, reading) in enumerate(zip(names, readings, strict=True)):
        (row,) = agreement([reading, truth], [name, "truth"])
        found.append(row | {"sessions": [number], "examiners": [name]})
    return found
