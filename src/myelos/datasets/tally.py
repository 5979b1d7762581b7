"""Counts that people made: a tally as CSV, or cells marked and named in QuPath."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from myelos import taxonomy
from myelos.errors import InputError, LabelError
from myelos.tables import table

COLUMNS = ("cell_type", "count")
MOST_CELLS = 1_000_000  # a larger tally is a slip of the finger
_SHOWN = 10  # faults listed in one message


def read_tally(path: Path) -> dict[str, int]:
    """A CSV with the columns cell_type and count → number of each type, in the order of the file.

    Commas, semicolons or tabs; UTF-8 with or without mark, else Windows-1252; labels in any spelling of the taxonomy.
    Raises LabelError that names the lines with unknown, doubled, negative or fractional entries.
    """
    rows = list(_rows(_text(path), path))
    numbers: dict[str, int] = {}
    lines: dict[str, int] = {}
    faults = []
    for line, label, written in rows:
        try:
            name = taxonomy.resolve(label)
            number = _number(written)
            if name in lines:
                raise ValueError(f"{label!r} is the type {name} of line {lines[name]} again")
        except (LabelError, ValueError) as error:
            faults.append(f"line {line}: {error.what if isinstance(error, LabelError) else error}")
            continue
        lines[name], numbers[name] = line, number
    _refuse(path, faults)
    if not sum(numbers.values()):
        raise InputError(f"{path.name} counts no cell", remedy="Give at least one type with a count above 0")
    return numbers


def read_annotations(path: Path) -> pa.Table:
    """QuPath GeoJSON → a table of the schema `cells`: one row a feature, its box, its class as a type of the taxonomy.

    Features without a class are not identifiable; coordinates are kept as they are. Raises LabelError that names the
    features with an unknown class or without a usable outline, InputError for a file that is no GeoJSON.
    """
    content = _bytes(path)
    slide = hashlib.sha256(content).hexdigest()[:12]
    rows: list[dict[str, Any]] = []
    faults = []
    for number, feature in enumerate(_features(content, path), start=1):
        try:
            row = {**_box(feature), "cell_type": _class(feature)}
            rows.append({**row, "slide_id": slide, "cell_id": f"{slide}-{number}"})
        except (LabelError, ValueError) as error:
            faults.append(f"feature {number}: {error.what if isinstance(error, LabelError) else error}")
    _refuse(path, faults)
    if not rows:
        raise InputError(f"{path.name} holds no annotation", remedy="Export the annotations or detections of QuPath")
    return table("cells", rows)


def _bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path.name} is missing") from None
    except OSError as error:
        raise InputError(f"{path.name} cannot be read", why=str(error.strerror)) from error
    if not content.strip():
        raise InputError(f"{path.name} is empty")
    return content


def _text(path: Path) -> str:
    content = _bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")  # a European Excel


def _rows(text: str, path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, label and written count of every row that is not empty."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    header: list[str] = []
    for row in reader:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if not header:
            header = [cell.casefold().replace(" ", "_") for cell in cells]
            _check_header(header, path)
            continue
        padded = cells + [""] * len(header)
        yield reader.line_num, padded[header.index("cell_type")], padded[header.index("count")]


def _check_header(header: list[str], path: Path) -> None:
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise LabelError(
            f"{path.name} has no column {' and no column '.join(missing)}",
            why=f"its first line is {', '.join(header)[:80]}",
            remedy="The first line must be cell_type,count",
        )


def _number(written: str) -> int:
    if not written.lstrip("+-").isdecimal():
        raise ValueError(f"{written!r} is no whole number" if written else "the count is missing")
    number = int(written)
    if not 0 <= number <= MOST_CELLS:
        raise ValueError(f"{written} is below 0" if number < 0 else f"{written} is above {MOST_CELLS}")
    return number


def _features(content: bytes, path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is no GeoJSON", why=str(error)) from error
    if isinstance(found, dict):
        found = found.get("features", [found] if found.get("type") == "Feature" else None)
    if not isinstance(found, list) or not all(isinstance(feature, dict) for feature in found):
        raise InputError(f"{path.name} is no GeoJSON", why="it holds no list of features")
    return found


def _class(feature: dict[str, Any]) -> str:
    """QuPath writes the class as an object with a name, or, in older versions, as a text."""
    found = (feature.get("properties") or {}).get("classification")
    label = found.get("name") if isinstance(found, dict) else found
    if isinstance(found, dict) and not label and found.get("names"):
        label = found["names"][0]
    return taxonomy.resolve(str(label)) if label else "not_identifiable"


def _box(feature: dict[str, Any]) -> dict[str, float]:
    points = list(_points((feature.get("geometry") or {}).get("coordinates"), 0))
    if not points:
        raise ValueError("it has no outline")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return {"x": min(xs), "y": min(ys), "width": max(xs) - min(xs), "height": max(ys) - min(ys)}


def _points(coordinates: Any, depth: int) -> Iterator[tuple[float, float]]:
    """All points of a geometry of any kind; a point has no area, which is allowed for hand-made counts."""
    if not isinstance(coordinates, list) or depth > 4:
        return
    if len(coordinates) >= 2 and all(isinstance(value, int | float) for value in coordinates[:2]):
        yield float(coordinates[0]), float(coordinates[1])
        return
    for part in coordinates:
        yield from _points(part, depth + 1)


def _refuse(path: Path, faults: list[str]) -> None:
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        why = "; ".join(faults[:_SHOWN]) + more
        raise LabelError(f"{path.name} has {len(faults)} faulty entries", why=why, remedy="Correct them and try again")
