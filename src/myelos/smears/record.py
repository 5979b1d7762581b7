"""What a run leaves behind: its tables, the local list of names, and `run.json`."""

from __future__ import annotations

import csv
import dataclasses
import io
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa

import myelos
from myelos import tables
from myelos.classification.opinion import RULE as SECOND_RULE
from myelos.errors import ResultError
from myelos.imaging.matching import ALIKE
from myelos.metrics.adequacy import Evidence
from myelos.models.types import Classifier, Detector
from myelos.smears.inputs import SetAside, label
from myelos.smears.job import Job
from myelos.smears.looking import Look
from myelos.smears.rows import Reading, chosen
from myelos.wording import number_of

FORMAT = "myelos-run-1"
RULE = "the adopted type of a cell is the most probable type of the detector"
RESEARCH_USE = "For research use only. Not for use in diagnostic procedures."
REPORTED = ("slides", "tiles", "cells", "set_aside", "opinions")  # tables that a report shows


def write_tables(
    folder: Path,
    smear: str,
    specimen: str | None,
    readings: Sequence[Reading],
    aside: Sequence[SetAside],
    *,
    crops: Mapping[str, bytes],
) -> dict[str, pa.Table]:
    """Write all tables of a smear and return those that a report shows."""
    rows = {
        "slides": [slide_row(reading.look, smear, specimen) for reading in readings],
        "regions": [row for reading in readings for row in reading.regions],
        "tiles": [row for reading in readings for row in reading.tiles],
        "cells": [row for reading in readings for row in reading.cells],
        "opinions": [row for reading in readings for row in reading.opinions],
        "crops": [{"slide_id": _slide(cell), "cell_id": cell, "png": png, "level": 0} for cell, png in crops.items()],
        "set_aside": set_aside_rows(aside),
    }
    written = {name: tables.table(name, content) for name, content in rows.items()}
    for name, table in written.items():
        tables.write_table(folder, name, table)
    return {name: written[name] for name in REPORTED}


def kept_crops(readings: Sequence[Reading], most: int) -> dict[str, bytes]:
    """Pictures of up to `most` cells of each type, in the order of the cells."""
    cells = [row for reading in readings for row in reading.cells]
    kept = {row["cell_id"] for row in chosen(cells, most)}
    return {cell: png for reading in readings for cell, png in reading.crops.items() if cell in kept}


def withdraw_smears(out: Path) -> None:
    """Take `run.json` away from the smears of an earlier result that is about to be replaced."""
    try:
        folders = tables.read_run(out).get("smears", {}).values()
    except ResultError:
        return
    for folder in folders:
        if Path(folder).name == folder:
            (out / folder / tables.RUN_FILE).unlink(missing_ok=True)


def _slide(cell_id: str) -> str:
    return cell_id.rsplit("-", 1)[0]


def slide_row(look: Look, smear: str, specimen: str | None) -> dict[str, Any]:
    resolution = look.resolution
    return {
        "slide_id": look.slide_id,
        "fingerprint": look.fingerprint,
        "smear": smear,
        "specimen": specimen,
        "width": look.width,
        "height": look.height,
        "mpp": resolution.mpp,
        "mpp_source": resolution.source,
        "mpp_uncertainty": resolution.uncertainty if resolution.mpp else None,
        "scanner": look.scanner,
        "kind": look.kind,
    }


def set_aside_rows(aside: Sequence[SetAside]) -> list[dict[str, Any]]:
    return [
        {"input": item.input, "slide_id": item.slide_id, "reason": item.reason, "detail": item.detail}
        for item in sorted(aside, key=lambda item: item.number)
    ]


def write_names(folder: Path, smears: Mapping[str, Sequence[Look]], aside: Sequence[SetAside]) -> None:
    """`names.csv`: which file is which slide. It stays on this computer; no export carries it."""
    rows = [
        (one.number, one.slide_id, smear, str(one.path.resolve())) for smear, looks in smears.items() for one in looks
    ]
    rows += [(item.number, item.slide_id or "", "", str(Path(item.name).resolve())) for item in aside]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["input", "slide_id", "smear", "file"])
    # A failed input is named under its smear and among those set aside: once is enough.
    seen: set[int] = set()
    for number, *rest in sorted(rows, key=lambda row: (row[0], row[2] == "")):
        if number not in seen:
            writer.writerow([label(number), *rest])
        seen.add(number)
    tables.write_bytes(folder / "names.csv", sink.getvalue().encode())


def evidence(readings: Sequence[Reading], aside: Sequence[SetAside]) -> Evidence:
    """Fields and tiles that were read, and what was not; duplicates are no evidence of anything."""
    reasons = Counter(item.reason for item in aside if item.reason != "duplicate")
    read = 0
    for reading in readings:
        bad = sum(row["set_aside"] is not None for row in reading.tiles)
        read += len(reading.tiles) - bad if reading.look.by_tiles else 1
        if bad:
            reasons["tile unreadable"] += bad
    areas = [reading.area_mm2 for reading in readings]
    known = [area for area in areas if area is not None]
    return Evidence(read, dict(sorted(reasons.items())), sum(known) if len(known) == len(areas) else None)


def _how_read(readings: Sequence[Reading]) -> str:
    unknown = [reading.look for reading in readings if reading.look.resolution.mpp is None]
    if all(look.working_mpp for look in unknown):
        return "they were read at the scale at which the model sees white cells of the usual size"
    return "they were read at the scale they have"


def warnings(readings: Sequence[Reading], job: Job) -> tuple[str, ...]:
    """Sentences for the top of the report."""
    found = []
    unknown = sum(reading.look.resolution.mpp is None for reading in readings)
    if unknown:
        found.append(
            f"The scale of {unknown} of {number_of(len(readings), 'image')} is unknown, and with it lengths, areas and "
            f"densities: {_how_read(readings)}. The model may be wrong. Pass --mpp with the µm per pixel."
        )
    estimated = [reading.look.resolution for reading in readings if reading.look.resolution.source == "red cells"]
    if estimated:
        worst = max(resolution.uncertainty for resolution in estimated)
        found.append(
            f"The scale of {len(estimated)} of {number_of(len(readings), 'image')} was estimated from red cells "
            f"(± {100 * worst:.0f} %): lengths, areas and densities are no more certain than that."
        )
    if not job.settings.common_scale:
        found.append("Images were read at the scale they have, as asked for; the model was trained on another.")
    for model in (job.detector, job.classifier):
        card = getattr(model, "card", None)
        if model and card and job.specimen and card.specimen not in ("", job.specimen):
            found.append(f"The model {model.name} was made for {card.specimen}, not for {job.specimen}.")
    found += sorted({sentence for reading in readings for sentence in reading.look.warnings})
    if any(reading.partial for reading in readings):
        found.append("More tiles than the limit could not be read: this result is partial.")
    return tuple(found)


def manifest(
    verb: str,
    smear: str,
    job: Job,
    readings: Sequence[Reading],
    aside: Sequence[SetAside],
    *,
    seconds: float,
) -> dict[str, Any]:
    """The content of `run.json`. A run with more unreadable tiles than the limit is partial, never done."""
    look_keys = ("slide_id", "fingerprint", "kind", "width", "height")
    return _head(verb) | {
        "status": "partial" if any(reading.partial for reading in readings) else "done",
        "smear": smear,
        "specimen": job.specimen,
        "inputs": [{key: getattr(reading.look, key) for key in look_keys} for reading in readings],
        "cells": sum(len(reading.cells) for reading in readings),
        "read": evidence(readings, aside).read,
        "set_aside": dict(sorted(Counter(item.reason for item in aside).items())),
        "models": [model_entry(model) for model in job.models],
        "rule": RULE if job.classifier is None else SECOND_RULE,
        "stain_matched": sum((reading.stain_apart or 0.0) > ALIKE for reading in readings),
        "stain_apart": max(
            (round(one.stain_apart, 3) for one in readings if one.stain_apart is not None), default=None
        ),
        "settings": dataclasses.asdict(job.settings),
        "versions": versions(),
        "seconds": round(seconds, 3),
    }


def manifest_of_several(verb: str, folders: Mapping[str, str], job: Job, aside: Sequence[SetAside]) -> dict[str, Any]:
    """`run.json` of a folder of smears; each smear has its own below."""
    return _head(verb) | {
        "status": "done",
        "smears": dict(folders),
        "set_aside": dict(sorted(Counter(item.reason for item in aside).items())),
        "models": [model_entry(model) for model in job.models],
        "settings": dataclasses.asdict(job.settings),
        "versions": versions(),
    }


def manifest_of_file(verb: str, mark: str, specimen: str) -> dict[str, Any]:
    """`run.json` of a count made elsewhere."""
    return _head(verb) | {
        "status": "done",
        "specimen": specimen,
        "inputs": [{"fingerprint": mark, "kind": "count made elsewhere"}],
        "models": [],
        "versions": versions(),
    }


def _head(verb: str) -> dict[str, Any]:
    return {"format": FORMAT, "research_use": RESEARCH_USE, "verb": verb, "version": myelos.__version__}


def model_entry(model: Detector | Classifier) -> dict[str, Any]:
    return {
        "name": model.name,
        "sha256": model.sha256,
        "precision": getattr(model, "precision", None),
        "types": list(model.types),
        "mpp": model.mpp,
        "tile": model.side if hasattr(model, "side") else model.tile,
        "threshold": model.threshold,
    }


def versions() -> dict[str, str]:
    """Of Python and of what touches pixels and numbers."""
    names = ("numpy", "opencv-python-headless", "openslide-python", "openvino", "pyarrow", "scipy", "tifffile")
    found = {"myelos": myelos.__version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
