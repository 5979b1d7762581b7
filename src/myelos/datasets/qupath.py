"""QuPath: a GeoJSON file for an image of the same stem, with outlines in level-0 pixels and class names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from myelos.datasets.images import find_images
from myelos.datasets.records import Annotation, Fault, Mark
from myelos.errors import InputError
from myelos.geometry import Box

_SUFFIX = ".geojson"
_DEPTH = {"Point": 0, "MultiPoint": 1, "LineString": 1, "Polygon": 2, "MultiLineString": 2, "MultiPolygon": 3}

Outline = list[tuple[float, float]]


class HandMark(NamedTuple):
    """One object: its bounding box (no size for a point), its outer outline, and its class in the file's words."""

    box: Box
    outline: Outline
    label: str | None


def read_geojson(path: Path) -> list[HandMark]:
    """The objects of a QuPath export: a FeatureCollection, a list of features, or one feature.

    Every point of a point annotation is an object of its own, because people count with the points tool; of several
    polygons in one object, the outline is the first and the box holds all. Raises InputError where it is no GeoJSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no GeoJSON", why=str(error)) from error
    if isinstance(content, dict):
        content = content.get("features") if content.get("type") == "FeatureCollection" else [content]
    if not isinstance(content, list) or not all(isinstance(f, dict) and f.get("type") == "Feature" for f in content):
        raise InputError(f"{path} is no GeoJSON", why="it holds no features", remedy="Export annotations from QuPath")
    return [mark for number, feature in enumerate(content, start=1) for mark in _marks(path, number, feature)]


def recognise(folder: Path) -> bool:
    return any(folder.rglob(f"*{_SUFFIX}"))


def scan(folder: Path) -> tuple[list[Annotation], list[Fault]]:
    """Annotations and faults of a folder. Classes that QuPath ignores (names ending in *) are areas to ignore."""
    annotations: list[Annotation] = []
    faults: list[Fault] = []
    images = {name: image for image in find_images(folder) for name in (image.stem, image.name)}
    for path in sorted(folder.rglob(f"*{_SUFFIX}")):
        stem = path.name.removesuffix(_SUFFIX)
        try:
            marks = tuple(_mark(number, mark) for number, mark in enumerate(read_geojson(path), start=1))
        except InputError as error:
            faults.append(Fault(path, None, "unreadable label file", f"{error.why}, left out"))
            continue
        annotations.append(Annotation(images.get(stem, path.with_name(stem)), path, marks))
    labelled = {annotation.image for annotation in annotations}
    for image in sorted(set(images.values()) - labelled):
        faults.append(Fault(image, None, "missing label file", "left out"))
    return annotations, faults


def _mark(number: int, mark: HandMark) -> Mark:
    box, label = mark.box, mark.label
    ignore = label is not None and label.endswith("*")
    return Mark(box.x, box.y, box.width, box.height, label, name=f"object {number}", ignore=ignore)


def _marks(path: Path, number: int, feature: dict[str, Any]) -> list[HandMark]:
    geometry = feature.get("geometry") or {}
    depth = _DEPTH.get(geometry.get("type", ""))
    try:
        if depth is None:
            raise ValueError(f"geometry {geometry.get('type')!r}")
        parts = _points(geometry["coordinates"], depth)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} has an object without usable geometry", why=f"object {number}: {error}") from error
    label = _label(feature)
    if geometry["type"] in ("Point", "MultiPoint"):
        return [HandMark(Box(x, y, 0.0, 0.0), [(x, y)], label) for part in parts for x, y in part]
    xs, ys = zip(*(point for part in parts for point in part), strict=True)
    return [HandMark(Box(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), parts[0], label)]


def _points(coordinates: list[Any], depth: int) -> list[Outline]:
    """Coordinates → the outer rings, each a list of points."""
    if depth == 0:
        return [[(float(coordinates[0]), float(coordinates[1]))]]
    if depth == 1:
        return [[(float(x), float(y)) for x, y, *_ in coordinates]]
    if depth == 2:
        return _points(coordinates[0], 1)
    return [ring for polygon in coordinates for ring in _points(polygon, 2)]


def _label(feature: dict[str, Any]) -> str | None:
    """The class name: an object with `name` in current versions, `names` from root to leaf in some, or plain text."""
    stated = (feature.get("properties") or {}).get("classification")
    if isinstance(stated, dict):
        names = stated.get("names")
        stated = stated.get("name") or (": ".join(map(str, names)) if names else None)
    return str(stated).strip() or None if stated is not None else None
