"""Pascal VOC: one XML file an image, in `Annotations/` beside `JPEGImages/`, or beside the image.

Corners are taken as they stand (`xmin` to `xmax`), which is what LabelImg writes; the one-based inclusive reading of
the original challenge would make every box one pixel larger. `difficult` objects are cells like others.
XML is parsed with neither document types nor entities: a file that declares one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from myelos.datasets.images import find_images
from myelos.datasets.records import Annotation, Fault, Mark


@dataclass(slots=True)
class _Element:
    tag: str
    line: int
    text: str = ""
    children: list[_Element] = field(default_factory=list)

    def find(self, *tags: str) -> _Element | None:
        found: _Element | None = self
        for tag in tags:
            found = next((child for child in found.children if child.tag == tag), None) if found else None
        return found

    def value(self, *tags: str) -> str:
        found = self.find(*tags)
        return found.text.strip() if found else ""


class _RefusedError(ValueError):
    pass


def recognise(folder: Path) -> bool:
    return any(b"<annotation" in path.open("rb").read(2000) for path in _label_files(folder)[:20])


def scan(folder: Path) -> tuple[list[Annotation], list[Fault]]:
    """Annotations and faults of a folder."""
    images = {image.stem: image for image in find_images(folder)}
    named = {image.name: image for image in images.values()}
    annotations: list[Annotation] = []
    faults: list[Fault] = []
    for path in _label_files(folder):
        try:
            root = _parse(path.read_bytes())
        except (expat.ExpatError, _RefusedError, LookupError) as error:
            faults.append(Fault(path, getattr(error, "lineno", None), "unreadable label file", f"{error}, left out"))
            images.pop(path.stem, None)
            continue
        stated = root.value("filename") or path.stem
        image = images.get(path.stem) or named.get(Path(stated).name) or path.parent / Path(stated).name
        annotations.append(Annotation(image, path, _marks(root, path, faults), size=_size(root)))
    labelled = {annotation.image for annotation in annotations}
    for image in images.values():
        if image not in labelled:
            faults.append(Fault(image, None, "missing label file", "left out"))
    return annotations, faults


def _marks(root: _Element, path: Path, faults: list[Fault]) -> tuple[Mark, ...]:
    marks: list[Mark] = []
    for thing in (child for child in root.children if child.tag == "object"):
        try:
            x1, y1, x2, y2 = (float(thing.value("bndbox", tag)) for tag in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError:
            faults.append(Fault(path, thing.line, "unreadable box", "left out"))
            continue
        marks.append(Mark(x1, y1, x2 - x1, y2 - y1, thing.value("name") or None, thing.line))
    return tuple(marks)


def _size(root: _Element) -> tuple[int, int] | None:
    try:
        return int(root.value("size", "width")), int(root.value("size", "height"))
    except ValueError:
        return None


def _label_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.xml"))


def _parse(content: bytes) -> _Element:
    """The tree of an XML document with the line of every element; raises ExpatError, or _RefusedError on a DOCTYPE."""
    parser = expat.ParserCreate()
    root = _Element("", 0)
    stack = [root]

    def start(tag: str, _attributes: dict[str, str]) -> None:
        element = _Element(tag, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def text(part: str) -> None:
        stack[-1].text += part

    def refuse(*_declaration: object) -> None:
        raise _RefusedError("it declares a document type or an entity")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _tag: stack.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.Parse(content, True)
    return root.children[0]
