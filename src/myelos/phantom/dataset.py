"""Rendered training data on disk: fields with boxes, and single cells in class folders."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import myelos
from myelos import tables
from myelos.errors import InputError, UsageError
from myelos.phantom.cells import cell_rng
from myelos.phantom.compositions import COMPOSITIONS
from myelos.phantom.cut_outs import CutOuts
from myelos.phantom.fields import Field, FieldSettings, render_field
from myelos.phantom.looks import LOOKS, VARIANTS
from myelos.phantom.optics import OpticsSettings
from myelos.wording import number_of

Progress = Callable[[int, int], None]

FIELDS_PER_POOL = 120  # new cells are rendered after so many fields
PORTRAIT = 26.0  # µm, side of a single cell's image; larger cells get a larger one
WANG19 = (
    "blast", "promyelocyte", "myelocyte", "metamyelocyte", "band_neutrophil", "segmented_neutrophil", "eosinophil",
    "monocyte", "proerythroblast", "basophilic_erythroblast", "polychromatic_erythroblast",
    "orthochromatic_erythroblast", "lymphocyte", "plasma_cell", "mitosis", "megakaryocyte",
)  # fmt: skip

# How often a field of a training set has which composition: even ones so that rare types are learned.
MIXES: dict[str, dict[str, float]] = {
    "marrow": {"marrow_normal": 0.4, "marrow_even": 0.35, "marrow_aml": 0.06, "marrow_apl": 0.03,
               "marrow_myeloma": 0.05, "marrow_erythroid": 0.06, "marrow_lymphocytic": 0.05},
    "blood": {"blood_normal": 0.4, "blood_even": 0.45, "blood_aml": 0.15},
}  # fmt: skip


SOURCES = "cell_sources.csv"  # beside `cells.parquet`: cell_id, source, and the image of cut-out cells
EVENLY = "cell_images"  # in a mix: every type of the cut-out cells alike often

# Cut-out cells are no sharper than their sets' cameras made them, and rendered ones are blurred to match.
SOFTER = (0.05, 0.45)


@dataclass(frozen=True, slots=True)
class _Written:
    name: str  # relative to the folder, with forward slashes
    sha256: str


def write_fields(
    out: str | Path,
    *,
    count: int,
    specimen: str,
    size: int | tuple[int, int] = 640,
    mpp: float = 0.25,
    seed: int = 0,
    settings: FieldSettings | None = None,
    mix: Mapping[str, float] | None = None,
    cut_outs: CutOuts | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write `count` fields in the layout of Myelos' own tables, and return the folder.

    size: side, or width and height, in px. mix: how often which composition is taken (names of COMPOSITIONS), the
    usual one of the specimen where None. `settings` gives everything else. cut_outs: real cells, at `mpp`, that take
    the place of rendered ones; half of the fields then have all their types alike often, and `cell_sources.csv` says
    where each cell comes from. The folder holds `images/*.jpg`, `slides.parquet`, `cells.parquet`, `names.csv`
    (slide_id, file), and `run.json`, last. Field `i` depends on `seed` and `i` only. Raises UsageError and ResultError.
    """
    width, height = (size, size) if isinstance(size, int) else size
    optics = OpticsSettings(blur=SOFTER) if cut_outs else OpticsSettings()
    given = replace(settings or FieldSettings(optics=optics), width=width, height=height, mpp=mpp, specimen=specimen)
    chances = dict(mix or _usual_mix(specimen, cut_outs))
    _check(count, chances, cut_outs)
    folder = Path(out)
    tables.prepare(folder, overwrite=overwrite)
    slides: list[dict[str, Any]] = []
    cells: list[pa.Table] = []
    names: list[tuple[str, str]] = []
    sources: list[tuple[str, str, str]] = []
    for number in range(count):
        image, written = _write_field(folder, number, given, chances, seed, cut_outs)
        slide_id = written.sha256[:12]
        slides.append(_slide_row(slide_id, written, image, specimen))
        cells.append(cell_table(slide_id, image.boxes, image.types))
        names.append((slide_id, written.name))
        sources += source_rows(slide_id, image.boxes, image.origins)
        if progress:
            progress(number + 1, count)
    tables.write_table(folder, "slides", slides)
    tables.write_table(folder, "cells", pa.concat_tables(cells))
    write_csv(folder / "names.csv", ("slide_id", "file"), names)
    details: dict[str, Any] = {"settings": asdict(given), "mix": chances}
    if cut_outs:
        write_csv(folder / SOURCES, ("cell_id", "source", "image"), sources)
        details["cell_images"] = dict(cut_outs.about)
    _write_manifest(folder, "fields", seed, count, details)
    return folder


def _usual_mix(specimen: str, cut_outs: CutOuts | None) -> dict[str, float]:
    """The usual mix; with real cells, half of the fields show all their types alike often."""
    if cut_outs is None or not cut_outs.drawable:
        return MIXES[specimen]
    return {name: share / 2 for name, share in MIXES[specimen].items()} | {EVENLY: 0.5}


def write_cells(
    out: str | Path,
    *,
    types: Sequence[str] = WANG19,
    per_type: int = 50,
    mpp: float = 0.1,
    seed: int = 0,
    specimen: str = "marrow",
    settings: FieldSettings | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write single cells among neighbours as `<out>/<type>/<type>_<number>.png`, and return the folder.

    The same neighbours, stains and optics are drawn for all types, so that none of them gives the type away.
    `manifest.csv` has a row per image: file, label, width, height, mpp, the cell's box, sha256.
    """
    unknown = [name for name in types if name not in LOOKS and name not in VARIANTS]
    if unknown or not types or per_type < 1:
        raise UsageError(f"no cells of {', '.join(unknown) or 'no type'}", remedy=f"Known: {', '.join(LOOKS)}")
    given = replace(settings or FieldSettings(), mpp=mpp, specimen=specimen, visible=0.0)
    folder = Path(out)
    tables.prepare(folder, overwrite=overwrite)
    rows = []
    for kind, name in enumerate(types):
        for number in range(per_type):
            rows.append(_write_portrait(folder, name, number, given, seed))
            if progress:
                progress(kind * per_type + number + 1, per_type * len(types))
    columns = ("file", "label", "width", "height", "mpp", "x", "y", "box_width", "box_height", "sha256")
    write_csv(folder / "manifest.csv", columns, rows)
    _write_manifest(folder, "cells", seed, len(rows), {"settings": asdict(given), "types": list(types)})
    return folder


def _check(count: int, chances: Mapping[str, float], cut_outs: CutOuts | None = None) -> None:
    unknown = [name for name in chances if name not in COMPOSITIONS and not (cut_outs and name == EVENLY)]
    if unknown:
        raise UsageError(f"no composition '{unknown[0]}'", remedy=f"Choose among {', '.join(COMPOSITIONS)}")
    if count < 1:
        raise UsageError(f"{number_of(count, 'field')} cannot be written", remedy="Ask for at least one")


def _write_field(
    folder: Path,
    number: int,
    settings: FieldSettings,
    chances: Mapping[str, float],
    seed: int,
    cut_outs: CutOuts | None,
) -> tuple[Field, _Written]:
    """Render field `number` and write it once through JPEG, at the quality that its camera would use."""
    rng = cell_rng(seed, "field", number)
    weights = np.array(list(chances.values()))
    composition: str | dict[str, float] = str(rng.choice(list(chances), p=weights / weights.sum()))
    if composition == EVENLY and cut_outs:
        composition = dict.fromkeys(cut_outs.drawable, 1.0)
    optics = replace(settings.optics, jpeg_quality=None)
    pool = (seed * 7919 + number // FIELDS_PER_POOL) % (1 << 31)
    chosen = replace(settings, optics=optics, pool_seed=pool, composition=settings.composition or composition)
    image = render_field(chosen, rng, cut_outs=cut_outs)
    low, high = settings.optics.jpeg_quality or (100, 100)
    encoded = encode(".jpg", image.rgb, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(low, high + 1))])
    name = f"images/{settings.specimen}_{number:06d}.jpg"
    tables.write_bytes(folder / name, encoded)
    return image, _Written(name, hashlib.sha256(encoded).hexdigest())


def _write_portrait(folder: Path, cell_type: str, number: int, settings: FieldSettings, seed: int) -> tuple[Any, ...]:
    largest = LOOKS[VARIANTS.get(cell_type, (cell_type,))[0]].diameter[1]
    side = int(np.ceil(max(PORTRAIT, 1.3 * largest) / settings.mpp))
    pool = (seed * 7919 + 1) % (1 << 31)
    given = replace(settings, width=side, height=side, pool_seed=pool, pool_per_type=60)
    given = replace(given, optics=replace(settings.optics, jpeg_quality=None))
    image = render_field(given, cell_rng(seed, "cell", cell_type, number), centre=cell_type)
    encoded = encode(".png", image.rgb, [])
    name = f"{cell_type}/{cell_type}_{number:05d}.png"
    tables.write_bytes(folder / name, encoded)
    sha256 = hashlib.sha256(encoded).hexdigest()
    return (name, cell_type, side, side, settings.mpp, *(int(v) for v in image.boxes[0]), sha256)


def encode(kind: str, rgb: NDArray[np.uint8], options: list[int]) -> bytes:
    """RGB pixels as the bytes of an image file of `kind` (".png", ".jpg")."""
    done, data = cv2.imencode(kind, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise InputError(f"an image of {rgb.shape[1]} × {rgb.shape[0]} px cannot be encoded as {kind}")
    return data.tobytes()


def cell_table(
    slide_id: str, boxes: NDArray[np.float64], types: Sequence[str], regions: NDArray[np.int64] | None = None
) -> pa.Table:
    """The table `cells` of one image's truth, numbered top to bottom, left to right; regions below 0 become null."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    order = np.lexsort((boxes[:, 0], boxes[:, 1]))
    count = len(order)
    columns: dict[str, Any] = {"slide_id": [slide_id] * count}
    columns["cell_id"] = [f"{slide_id}-{number}" for number in range(count)]
    columns |= {name: boxes[order, i] for i, name in enumerate(("x", "y", "width", "height"))}
    columns |= {"score": np.ones(count), "probability": np.ones(count), "cell_type": [types[i] for i in order]}
    if regions is not None:
        columns["region"] = pa.array(regions[order], pa.int64(), mask=regions[order] < 0)
    schema = tables.SCHEMAS["cells"]
    filled = [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(count, f.type) for f in schema]
    return pa.Table.from_arrays(filled, schema=schema)


def source_rows(
    slide_id: str, boxes: NDArray[np.float64], origins: Sequence[tuple[str, str]]
) -> list[tuple[str, str, str]]:
    """cell_id, source and image of the cells of one image's truth, numbered as in `cell_table`."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    order = np.lexsort((boxes[:, 0], boxes[:, 1]))
    return [(f"{slide_id}-{number}", *origins[i]) for number, i in enumerate(order)]


def _slide_row(slide_id: str, written: _Written, image: Field, specimen: str) -> dict[str, Any]:
    height, width = image.rgb.shape[:2]
    row = {"slide_id": slide_id, "fingerprint": written.sha256, "specimen": specimen, "width": width}
    row |= {"height": height, "mpp": image.mpp, "mpp_source": "file", "mpp_uncertainty": 0.0}
    return row | {"kind": "field", "scanner": "phantom"}


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    tables.write_bytes(path, text.getvalue().encode())


def _write_manifest(folder: Path, kind: str, seed: int, images: int, details: Mapping[str, Any]) -> None:
    head = {"made_by": f"myelos phantom {kind}", "version": myelos.__version__, "synthetic": True, "seed": seed}
    tables.write_run(folder, head | {"images": images} | dict(details))
