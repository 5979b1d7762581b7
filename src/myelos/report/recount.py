"""Counting again after people have corrected cells; the first result stays as it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

import myelos
from myelos.counting import Count, CountSettings, count
from myelos.errors import ResultError
from myelos.metrics.adequacy import AdequacySettings, Evidence
from myelos.metrics.confusion import Confusion
from myelos.metrics.homogeneity import HomogeneitySettings
from myelos.metrics.nested import NestedSettings
from myelos.metrics.shares import ShareSettings
from myelos.metrics.stopping import StopSettings
from myelos.report.corrections import apply, read_corrections
from myelos.report.files import FORMAT
from myelos.report.input import ModelNote, Picture, ReportInput
from myelos.report.page import fingerprint
from myelos.report.write import stored_crops, stored_pictures, write
from myelos.smears.held_out import as_classified
from myelos.tables import prepare, read_run, read_table, write_run, write_table


def load(out: Path) -> ReportInput:
    """What the report of a finished run was made from, read from its files; the count is made again from its cells.

    Raises ResultError where the run is unfinished, holds no cells, or its files are damaged.
    """
    run = read_run(out)
    stored = _stored(out)
    if not (out / "cells.parquet").exists():
        why = "it was made from a tally, which has no cells"
        raise ResultError(f"{out} holds nothing to correct", why=why, remedy="Correct the tally and count it again")
    tables = {name: read_table(out, name) for name in ("cells", "slides")}
    tables |= {name: _optional(out, name) for name in ("tiles", "set_aside", "opinions")}
    return ReportInput(
        title=stored["title"],
        count=again(tables["cells"], tables["slides"], stored["count"], tables["opinions"]),
        run=run,
        crops=stored_crops(out),
        pictures=stored_pictures(out),
        models=tuple(ModelNote(**{**model, "tested_on": tuple(model["tested_on"])}) for model in stored["models"]),
        synthetic=stored["synthetic"],
        forced=stored["forced"],
        warnings=tuple(stored["warnings"]),
        **tables,
    )


def recount(out: Path, corrections: Path) -> Path:
    """Apply a file of corrections to the finished result `out` and count again; returns the new folder.

    The new result lies in `out/recount-N` with the next free N: cells, corrections, report with both counts side by
    side, and its own `run.json`. Nothing in `out` itself changes. Raises ResultError where the corrections were made
    for other cells or contradict them, InputError for a file that holds none.
    """
    first = load(out)
    acts = read_corrections(corrections)
    if acts.base and acts.base != fingerprint(first):
        raise ResultError(
            f"{corrections.name} does not belong to {out}",
            why="it was made for other cells",
            remedy="Pass the result whose page the corrections were saved from",
        )
    cells, done = apply(acts, first.cells, first.slides, first.tiles)
    folder = _next(out)
    prepare(folder, overwrite=False)
    stored = _stored(out)
    given = ReportInput(
        title=first.title,
        count=again(cells, first.slides, stored["count"], corrected=bool(len(done))),
        cells=cells,
        slides=first.slides,
        tiles=first.tiles,
        set_aside=first.set_aside,
        opinions=first.opinions,
        run={"recount of": out.name, "corrections": len(done), **first.run},
        crops={**first.crops, **_new_crops(cells, first)},
        pictures=first.pictures,
        models=first.models,
        synthetic=first.synthetic,
        forced=first.forced,
        warnings=first.warnings,
        first=first.count,
        corrections=done,
    )
    for name in ("cells", "slides", "tiles", "set_aside", "opinions", "corrections"):
        write_table(folder, name, getattr(given, name))
    write(folder, given)
    write_run(folder, _manifest(out, corrections, first, done))
    return folder


def again(
    cells: pa.Table,
    slides: pa.Table,
    stored: dict[str, Any],
    opinions: pa.Table | None = None,
    *,
    corrected: bool = False,
) -> Count:
    """Count cells by the rules that a stored count was made with.

    opinions: what was said of the cells, where any was. corrected: people changed types, whose errors the
    classifier's held-out cells do not describe.
    """
    confusion = Confusion.from_dict(stored["confusion"]) if stored.get("confusion") else None
    if confusion is not None and corrected:
        confusion = replace(confusion, fits=False, why="people have corrected cells, and it describes the classifier")
    return count(
        cells,
        specimen=stored["specimen"],
        settings=_settings(stored["settings"]),
        evidence=Evidence(**stored["evidence"]),
        known=stored["known"],
        tested_on=stored["tested_on"],
        unit=stored["unit"],
        confusion=confusion,
        said=None if opinions is None else as_classified(cells, opinions, confusion),
        smears={row["slide_id"]: row["smear"] or "" for row in slides.to_pylist()},
    )


def _settings(stored: dict[str, Any]) -> CountSettings:
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    shares = stored["shares"] | {"nested": NestedSettings(**stored["shares"].get("nested", {}))}
    plain |= {"shares": ShareSettings(**shares), "adequacy": AdequacySettings(**stored["adequacy"])}
    plain |= {"stopping": StopSettings(**stored.get("stopping", {}))}
    plain |= {"homogeneity": HomogeneitySettings(**stored.get("homogeneity", {}))}
    return CountSettings(**plain)


def _stored(out: Path) -> dict[str, Any]:
    path = out / "report.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{path} cannot be read", why=str(error), remedy="Count again") from error
    if stored.get("format") != FORMAT:
        raise ResultError(f"{path} is of another format", why=f"it is {stored.get('format')}, not {FORMAT}")
    return stored


def _optional(out: Path, name: str) -> pa.Table:
    from myelos.tables import SCHEMAS

    return read_table(out, name) if (out / f"{name}.parquet").exists() else SCHEMAS[name].empty_table()


def _next(out: Path) -> Path:
    number = 1
    while (out / f"recount-{number}").exists():
        number += 1
    return out / f"recount-{number}"


def _new_crops(cells: pa.Table, first: ReportInput) -> dict[str, bytes]:
    """Images of added cells, cut from the stored pictures."""
    known = set(first.cells["cell_id"].to_pylist())
    crops = {}
    for cell in cells.to_pylist():
        picture = first.pictures.get(cell["slide_id"])
        if cell["cell_id"] not in known and picture is not None:
            image = _cut(picture, cell)
            if image:
                crops[cell["cell_id"]] = image
    return crops


def _cut(picture: Picture, cell: dict[str, Any]) -> bytes | None:
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(picture.image, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        return None
    left, top = (max(0, int(cell[key] * picture.scale)) for key in ("x", "y"))
    right = int((cell["x"] + cell["width"]) * picture.scale) + 1
    bottom = int((cell["y"] + cell["height"]) * picture.scale) + 1
    part = pixels[top:bottom, left:right]
    return cv2.imencode(".png", part)[1].tobytes() if part.size else None


def _manifest(out: Path, corrections: Path, first: ReportInput, done: pa.Table) -> dict[str, Any]:
    return {
        "command": "recount",
        "version": myelos.__version__,
        "of": out.name,
        "corrections": {"sha256": hashlib.sha256(corrections.read_bytes()).hexdigest(), "number": len(done)},
        "rule": "the type that the last correction of a cell gave; struck-out cells do not count",
        "first_run": dict(first.run),
    }
