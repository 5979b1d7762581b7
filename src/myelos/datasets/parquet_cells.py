"""Images of single cells in Parquet files with an `image` and a `label` column, as public hubs hold them.

An image is its file's bytes, or a struct of `bytes` and `path`. A label is a word, or a number whose name stands in the
schema's metadata (key `huggingface`, feature ClassLabel). Everything else reads files, so the images are written out
once, their bytes unchanged: `CLASS/FILE-ROW.jpg`, and last a manifest that says which tables it came from.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from myelos.datasets.class_folders import MANIFEST
from myelos.errors import InputError, LabelError, UsageError

_FOLDER = "cells"
_ORIGIN = "unpacked.json"
_ROWS = 256  # read at a time: some 10 MB of images
_KINDS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"II": ".tif", b"MM": ".tif", b"BM": ".bmp", b"RI": ".webp"}


def recognise(folder: Path, images: Sequence[Path]) -> bool:
    """Whether there are tables with images and labels, and no images beside those written from them."""
    own = folder / _FOLDER
    return bool(_tables(folder)) and all(path.is_relative_to(own) for path in images)


def unpack(folder: Path, cache: Path | None) -> Path:
    """The folder with the images of all tables, written where it is not there yet or the tables have changed.

    Raises UsageError where it cannot be written, LabelError for labels without names, InputError for broken tables.
    """
    out = cache or folder / _FOLDER
    tables = _tables(folder)
    origin = {path.relative_to(folder).as_posix(): path.stat().st_size for path in tables}
    if _unpacked(out) == origin:
        return out
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / _ORIGIN).unlink(missing_ok=True)
        rows = [row for table in tables for row in _write(table, table.relative_to(folder), out)]
        _write_manifest(out / MANIFEST, rows)
        (out / f"{_ORIGIN}.part").write_text(json.dumps(origin), encoding="utf-8")
        (out / f"{_ORIGIN}.part").replace(out / _ORIGIN)
    except OSError as error:
        raise UsageError(
            f"the images of {folder} cannot be written to {out}",
            why=str(error),
            remedy="Copy the tables to a folder that can be written to",
        ) from error
    return out


def _unpacked(out: Path) -> Any:
    try:
        return json.loads((out / _ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _tables(folder: Path) -> list[Path]:
    """Parquet files with the two columns, sorted."""
    return [path for path in sorted(folder.rglob("*.parquet")) if {"image", "label"} <= _columns(path)]


def _columns(path: Path) -> set[str]:
    try:
        return set(pq.read_schema(path).names)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as Parquet", why=str(error)) from error


def _write(table: Path, name: Path, out: Path) -> Iterator[dict[str, str]]:
    """Write the images of one table; a row of the manifest for each."""
    stem = "-".join(name.with_suffix("").parts)
    with pq.ParquetFile(table) as file:
        names = class_names(file.schema_arrow.metadata or {})
        row = 0
        for batch in file.iter_batches(_ROWS, columns=["image", "label"]):
            for image, label in zip(batch["image"].to_pylist(), batch["label"].to_pylist(), strict=True):
                word = _word(label, names, table)
                content = image.get("bytes") if isinstance(image, dict) else image
                if not isinstance(content, bytes) or content[:2] not in _KINDS:
                    raise InputError(
                        f"row {row} of {table} holds no image", remedy="Columns with paths alone have none"
                    )
                place = f"{word}/{stem}-{row:06d}{_KINDS[content[:2]]}"
                _keep(out / place, content)
                yield {"file": place, "label": word, "table": name.as_posix(), "row": str(row)}
                row += 1


def class_names(metadata: dict[bytes, bytes]) -> list[str] | None:
    """The names of the label's numbers as the schema's metadata states them, None where it does not."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return list(features["label"]["names"])
    except (KeyError, ValueError, TypeError):
        return None


def _word(label: Any, names: list[str] | None, table: Path) -> str:
    if isinstance(label, str):
        word = label
    elif isinstance(label, int) and names and 0 <= label < len(names):
        word = names[label]
    else:
        raise LabelError(
            f"the label {label!r} in {table} has no name",
            why="numbers are named in the metadata of the schema, under huggingface",
            remedy="Write the class names into the column",
        )
    if not word or word.startswith(".") or any(letter in word for letter in "/\\:\0"):
        raise LabelError(f"the label {word!r} in {table} is no class")
    return word


def _keep(path: Path, content: bytes) -> None:
    """Write an image unless it is there already: after an interruption only what is missing is written."""
    if path.is_file() and path.stat().st_size == len(content):
        return
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def _write_manifest(path: Path, rows: Sequence[dict[str, str]]) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "label", "table", "row"])
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
