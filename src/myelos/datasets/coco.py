"""COCO: JSON files with `images`, `annotations` (`bbox`: x y width height in pixels) and `categories`.

Regions of several cells (`iscrowd`) are neither cell nor background. JSON has no lines: faults name the annotation.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from myelos.datasets.images import find_images
from myelos.datasets.records import Annotation, Fault, Mark

_KEYS = ("images", "annotations", "categories")


def recognise(folder: Path) -> bool:
    return any(_load(path) is not None for path in sorted(folder.rglob("*.json")))


def scan(folder: Path, *, coded: bool = False) -> tuple[list[Annotation], list[Fault]]:
    """Annotations and faults of a folder; `coded`: category numbers are codes of a scheme."""
    images = find_images(folder)
    annotations: list[Annotation] = []
    faults: list[Fault] = []
    for path in sorted(folder.rglob("*.json")):
        content = _load(path)
        if content is not None:
            annotations += _annotations(path, content, images, faults, coded=coded)
    labelled = {annotation.image for annotation in annotations}
    faults += [Fault(image, None, "missing label file", "in no JSON, left out") for image in images
               if image not in labelled]  # fmt: skip
    return annotations, faults


def _annotations(
    path: Path, content: dict[str, Any], images: list[Path], faults: list[Fault], *, coded: bool
) -> list[Annotation]:
    names = {entry.get("id"): str(entry.get("id") if coded else entry.get("name")) for entry in content["categories"]}
    marks: dict[Any, list[Mark]] = defaultdict(list)
    for entry in content["annotations"]:
        mark = _mark(entry, names)
        if mark is None:
            faults.append(Fault(path, None, "unreadable box", f"annotation {entry.get('id')}, left out"))
        else:
            marks[entry.get("image_id")].append(mark)
    known = {entry.get("id") for entry in content["images"]}
    for image_id in marks.keys() - known:
        faults.append(Fault(path, None, "missing image", f"image_id {image_id} is not listed, left out"))
    return [
        Annotation(_image(path, str(entry.get("file_name", "")), images), path, tuple(marks[entry.get("id")]),
                   size=_size(entry))
        for entry in content["images"]
    ]  # fmt: skip


def _mark(entry: dict[str, Any], names: dict[Any, str]) -> Mark | None:
    category = entry.get("category_id")
    try:
        x, y, width, height = (float(value) for value in entry["bbox"])
    except (KeyError, TypeError, ValueError):
        return None
    label = names.get(category, f"category {category}")
    return Mark(x, y, width, height, label, name=f"annotation {entry.get('id')}", ignore=bool(entry.get("iscrowd")))


def _image(path: Path, name: str, images: list[Path]) -> Path:
    """The file that a COCO `file_name` means: the one below the folder that ends alike, the nearest to the JSON."""
    wanted = PurePosixPath(name.replace("\\", "/")).parts
    for length in (len(wanted), 1):
        ends = [image for image in images if image.parts[-length:] == wanted[-length:]]
        if ends:
            return min(ends, key=lambda image: (image.parent != path.parent, len(image.parts), image))
    return path.parent / (wanted[-1] if wanted else "unnamed")


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    width, height = entry.get("width"), entry.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _load(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return None
    whole = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in _KEYS)
    return content if whole else None
