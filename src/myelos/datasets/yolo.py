"""YOLO: one text file an image, `class cx cy width height` in fractions of the image, or `class x1 y1 x2 y2 …`.

The label file lies in `labels/` where the image lies in `images/`, or beside the image. Names of the classes come from
`classes.txt`, `obj.names`, or the `names` of `data.yaml`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from myelos.datasets.images import find_images
from myelos.datasets.records import Annotation, Fault, Mark
from myelos.errors import LabelError

_NAME_FILES = ("classes.txt", "obj.names", "data.yaml", "data.yml", "dataset.yaml")
_NAMES = re.compile(
    r"""^names:[ \t]*(\[[^\]]*\]|\{[^}]*\})?  # [a, b] or {0: a, 1: b}
    [^\n]*\n?((?:[ \t]*(?:-|['"]?\d+['"]?\s*:)[^\n]*\n?)*)  # or a line each, "- a" or "0: a\"""",
    re.MULTILINE | re.VERBOSE,
)
_NOT_LABELS = frozenset({"classes.txt", "readme.txt", "requirements.txt", "license.txt", "manifest.txt"})


def recognise(folder: Path) -> bool:
    return any(_looks_like_labels(path) for path in _label_files(folder)[:20])


def scan(folder: Path, *, coded: bool = False) -> tuple[list[Annotation], list[Fault]]:
    """Annotations and faults of a folder; `coded`: labels stay the numbers of a scheme, no names are needed."""
    images = _images(folder)
    annotations: list[Annotation] = []
    faults: list[Fault] = []
    labels = {_label_of(image, folder): image for image in images}
    for path in sorted(set(_label_files(folder)) - set(labels)):
        if _looks_like_labels(path):
            faults.append(Fault(path, None, "missing image", "no image of this name, left out"))
    for path, image in labels.items():
        if path.is_file():
            marks, bad = read_labels(path)
            faults += bad
            annotations.append(Annotation(image, path, marks, relative=True))
        else:
            faults.append(Fault(path, None, "missing label file", f"for {image.name}, left out"))
    return (annotations, faults) if coded else _named(folder, annotations, faults)


def read_labels(path: Path) -> tuple[tuple[Mark, ...], list[Fault]]:
    """The marks of one label file, in fractions of the image, labels as class numbers."""
    marks: list[Mark] = []
    faults: list[Fault] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            marks.append(_mark(line.split(), number))
        except ValueError:
            faults.append(Fault(path, number, "unreadable line", f"{line[:60]!r}, left out"))
    return tuple(marks), faults


def read_names(folder: Path) -> dict[str, str] | None:
    """Class number → name, from the first file of names below `folder` that has any; None where there is none."""
    for name in _NAME_FILES:
        for path in sorted(folder.rglob(name), key=lambda path: (len(path.parts), path)):
            text = path.read_text(encoding="utf-8", errors="replace")
            names = _yaml_names(text) if path.suffix in (".yaml", ".yml") else _listed(text.splitlines())
            if names:
                return names
    return None


def _mark(fields: list[str], line: int) -> Mark:
    code, values = str(int(float(fields[0]))), [float(value) for value in fields[1:]]
    if len(values) in (4, 5):  # a fifth value is the confidence of the program that wrote the file
        cx, cy, width, height = values[:4]
        return Mark(cx - width / 2, cy - height / 2, width, height, code, line)
    if len(values) < 6 or len(values) % 2:
        raise ValueError
    xs, ys = values[::2], values[1::2]
    return Mark(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys), code, line)


def _named(folder: Path, annotations: list[Annotation], faults: list[Fault]) -> tuple[list[Annotation], list[Fault]]:
    names = read_names(folder)
    codes = sorted({mark.label for annotation in annotations for mark in annotation.marks if mark.label is not None})
    if names is None and len(codes) > 1:
        raise LabelError(
            f"the classes {', '.join(codes)} of {folder} have no names",
            why=f"none of {', '.join(_NAME_FILES)} is there",
            remedy="Add classes.txt with one name a line, or pass the label scheme",
        )
    if names is None:  # a detector needs no names where there is one class: cells of unstated type
        faults.append(Fault(folder, None, "no class names", "one class only: taken for cells of unstated type"))

    def name(code: str | None) -> str | None:
        return None if names is None or code is None else names.get(code, f"class {code}")

    named = [replace(a, marks=tuple(replace(m, label=name(m.label)) for m in a.marks)) for a in annotations]
    return named, faults


def _images(folder: Path) -> list[Path]:
    """The images that ought to have labels: those in folders called `images`, else all."""
    images = find_images(folder)
    inside = [image for image in images if "images" in image.relative_to(folder).parts[:-1]]
    return inside or images


def _label_of(image: Path, folder: Path) -> Path:
    parts = list(image.relative_to(folder).parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return folder.joinpath(*parts).with_suffix(".txt")


def _label_files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*.txt") if path.name.lower() not in _NOT_LABELS)
    inside = [path for path in files if "labels" in path.relative_to(folder).parts[:-1]]
    return inside or files


def _looks_like_labels(path: Path) -> bool:
    """Whether the first lines are YOLO's; an empty file is in a folder `labels`, and nothing elsewhere."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = [line.split() for line in (file.readline(4096) for _ in range(5)) if line.strip()]
    try:
        marks = [_mark(line, 0) for line in lines]
    except ValueError:
        return False
    # Points and pixels have the same look as fractions but for their size; 2 leaves room for boxes beyond the border.
    return all(mark.x + mark.width <= 2 for mark in marks) if marks else path.parent.name == "labels"


def _listed(lines: list[str]) -> dict[str, str]:
    """One name a line, with or without its number before it."""
    names = [line.strip().strip("'\"") for line in lines if line.strip()]
    return {str(index): re.sub(r"^\d+\s*[:\s]\s*", "", name) for index, name in enumerate(names)}


def _yaml_names(text: str) -> dict[str, str]:
    """`names:` as a flow list, a block list or a mapping from numbers; anything cleverer gives nothing."""
    found = _NAMES.search(text)
    if found is None:
        return {}
    if found[1]:
        entries = [entry.strip() for entry in found[1][1:-1].split(",") if entry.strip()]
    else:
        entries = [line.strip().removeprefix("-").strip() for line in found[2].splitlines() if line.strip()]
    names: dict[str, str] = {}
    for index, entry in enumerate(entries):
        numbered = re.match(r"^['\"]?(\d+)['\"]?\s*:\s*(.+)$", entry)
        names[numbered[1] if numbered else str(index)] = (numbered[2] if numbered else entry).strip(" '\"")
    return names
