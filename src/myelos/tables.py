"""Tables: the rows that every stage reads and writes, as Parquet files that appear whole or not at all.

One run writes one folder: one Parquet file per table, then `run.json` last. A folder without `run.json` holds no
result. Nothing here knows a slide, a model or a report.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from myelos.errors import ResultError

_TEXT, _REAL, _WHOLE, _FLAG = pa.string(), pa.float64(), pa.int64(), pa.bool_()

_BOX = [("x", _REAL), ("y", _REAL), ("width", _REAL), ("height", _REAL)]  # level-0 pixels

SCHEMAS: dict[str, pa.Schema] = {
    "slides": pa.schema(
        [
            ("slide_id", _TEXT),  # opaque: the first 12 hex digits of the fingerprint
            ("fingerprint", _TEXT),  # size, header and sampled blocks
            ("smear", _TEXT),
            ("patient", _TEXT),
            ("specimen", _TEXT),  # marrow or blood
            ("width", _WHOLE),
            ("height", _WHOLE),
            ("mpp", _REAL),  # µm per pixel of level 0, null where unknown
            ("mpp_source", _TEXT),  # file, argument, red cells, unknown
            ("mpp_uncertainty", _REAL),  # relative, at one standard deviation
            ("stain", _TEXT),
            ("scanner", _TEXT),
            ("kind", _TEXT),  # slide or field
        ]
    ),
    "regions": pa.schema(
        [("slide_id", _TEXT), ("region", _WHOLE), ("kind", _TEXT), ("polygon", pa.list_(_REAL)), ("area_mm2", _REAL)]
    ),
    "tiles": pa.schema(
        [
            ("slide_id", _TEXT),
            ("tile", _WHOLE),
            *_BOX,
            ("region", _WHOLE),
            ("sharpness", _REAL),
            ("cells", _WHOLE),
            ("set_aside", _TEXT),  # reason, null where the tile was read
        ]
    ),
    "cells": pa.schema(
        [
            ("slide_id", _TEXT),
            ("cell_id", _TEXT),  # "<slide_id>-<number>", numbered top to bottom, left to right
            *_BOX,
            ("score", _REAL),
            ("cell_type", _TEXT),  # the adopted type, by the rule in run.json
            ("probability", _REAL),  # of the adopted type; null for hand-made counts
            ("region", _WHOLE),
            ("tile", _WHOLE),
        ]
    ),
    "opinions": pa.schema(
        [
            ("slide_id", _TEXT),
            ("cell_id", _TEXT),
            ("source", _TEXT),  # a model's name, an examiner, or truth
            ("session", _TEXT),
            ("scheme", _TEXT),
            ("cell_type", _TEXT),
            ("probabilities", pa.list_(pa.float32())),  # in the order of the source's types
            ("time", pa.timestamp("us", tz="UTC")),  # null where a machine speaks
        ]
    ),
    "crops": pa.schema([("slide_id", _TEXT), ("cell_id", _TEXT), ("png", pa.binary()), ("level", _WHOLE)]),
    "pictures": pa.schema([("slide_id", _TEXT), ("image", pa.binary()), ("scale", _REAL)]),  # of the report
    "corrections": pa.schema(
        [
            ("slide_id", _TEXT),
            ("cell_id", _TEXT),  # null for an added cell
            ("action", _TEXT),  # reclassify, strike, add
            ("from_type", _TEXT),
            ("to_type", _TEXT),
            *_BOX,
            ("who", _TEXT),
            ("time", pa.timestamp("us", tz="UTC")),
            ("why", _TEXT),
        ]
    ),
    "embeddings": pa.schema(
        [
            ("cell_id", _TEXT),  # opaque; `names.csv` beside it says which file
            ("cell_type", _TEXT),  # as labelled
            ("source", _TEXT),
            ("patient", _TEXT),
            ("part", _TEXT),  # train, choose or test; null where the set was not split
            ("predicted", _TEXT),  # by the network itself
            ("picture", pa.binary()),  # JPEG
            ("embedding", pa.list_(pa.float32())),
            ("x", _REAL),  # on the map of two dimensions
            ("y", _REAL),
        ]
    ),
    "set_aside": pa.schema([("input", _TEXT), ("slide_id", _TEXT), ("reason", _TEXT), ("detail", _TEXT)]),
}

RUN_FILE = "run.json"


def table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of the declared schema; columns that a row lacks are null, unknown ones are an error."""
    schema = SCHEMAS[name]
    rows = list(rows)
    unknown = {key for row in rows for key in row} - set(schema.names)
    if unknown:
        raise ValueError(f"table {name} has no column {', '.join(sorted(unknown))}")
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: temporary name, sync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_table(folder: Path, name: str, rows: pa.Table | Iterable[Mapping[str, Any]]) -> Path:
    """Write `<folder>/<name>.parquet` and return its path."""
    content = rows if isinstance(rows, pa.Table) else table(name, rows)
    if content.schema != SCHEMAS[name]:
        raise ValueError(f"table {name} is not of its declared schema")
    sink = pa.BufferOutputStream()
    pq.write_table(content, sink, compression="zstd")
    path = folder / f"{name}.parquet"
    write_bytes(path, sink.getvalue().to_pybytes())
    return path


def read_table(folder: Path, name: str) -> pa.Table:
    """Read `<folder>/<name>.parquet`; raises ResultError where it is missing, damaged or of another schema."""
    path = folder / f"{name}.parquet"
    try:
        content = pq.read_table(path)
    except FileNotFoundError:
        raise ResultError(f"{path} is missing", remedy="Run the command that writes it again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ResultError(f"{path} cannot be read", why=str(error)) from error
    missing = [column for column in SCHEMAS[name].names if column not in content.schema.names]
    if missing:
        raise ResultError(f"{path} is no table of {name}", why=f"it has no column {', '.join(missing)}")
    return content.select(SCHEMAS[name].names).cast(SCHEMAS[name])


def read_run(folder: Path) -> dict[str, Any]:
    """The manifest of a finished run; raises ResultError where the folder holds none."""
    path = folder / RUN_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(
            f"{folder} holds no finished result", why=f"{RUN_FILE} is missing", remedy="Run the command again"
        ) from None
    except ValueError as error:
        raise ResultError(f"{path} is damaged", why=str(error)) from error


def prepare(folder: Path, *, overwrite: bool) -> None:
    """Make a result folder ready to be written: refuse a finished one, or withdraw its `run.json` first.

    The manifest goes before anything else is touched, so that a run killed half way leaves nothing that calls itself
    done. Raises ResultError where a result exists and `overwrite` is false, or where files of other origin lie there.
    """
    refuse_finished(folder, overwrite=overwrite)
    (folder / RUN_FILE).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for begun in folder.glob(".*.tmp"):  # by a run that was killed
        begun.unlink(missing_ok=True)


def refuse_finished(folder: Path, *, overwrite: bool) -> None:
    """Raise ResultError where `folder` holds a finished result that may not be replaced, or is no folder."""
    if folder.exists() and not folder.is_dir():
        raise ResultError(f"{folder} is a file", remedy="Pass a folder to -o")
    if (folder / RUN_FILE).exists() and not overwrite:
        raise ResultError(
            f"{folder} already holds a finished result", remedy="Pass --overwrite to replace it, or another -o"
        )


def write_run(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `run.json`, the last file of a run: from here on the result exists."""
    write_json(folder / RUN_FILE, dict(manifest))
