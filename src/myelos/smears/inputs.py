"""Inputs → smears: files, folders and patterns; which fields are one smear; who may know their names.

Nothing that leaves the computer carries a file name: inputs have numbers, slides have opaque ids, and the names are
in one local file, `names.csv`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from myelos.errors import InputError, UsageError

PHOTOGRAPHS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".btf", ".webp")
SCANS = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm")
IMAGES = frozenset(PHOTOGRAPHS + SCANS)
DEFAULT = "smear"
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class SetAside:
    """An input that was not counted. `name` and `message` are for the terminal and names.csv, `reason` and `detail`
    for every other output."""

    number: int  # by place in the sorted list
    name: str
    reason: str  # missing, unreadable, no smear, duplicate, not grouped
    detail: str
    message: str
    slide_id: str | None = None

    @property
    def input(self) -> str:
        """What stands for the file in every output."""
        return label(self.number)

    @staticmethod
    def by(error: Exception, *, number: int, path: Path, reason: str, slide_id: str | None = None) -> SetAside:
        message = str(error) or type(error).__name__
        message = message if path.name in message else f"{path.name}: {message}"
        return SetAside(number, str(path), reason, anonymous(message, path), message, slide_id)


def label(number: int) -> str:
    return f"input {number}"


def anonymous(text: str, path: Path) -> str:
    """The text without the file's name and folder."""
    for name in sorted({str(path), str(path.resolve()), str(path.parent), path.name, path.stem}, key=len, reverse=True):
        if len(name) > 1:
            text = text.replace(name, "the input")
    return text


def find(inputs: Iterable[str | Path]) -> list[Path]:
    """Files that the inputs name, each once, sorted: files, folders of images, and patterns.

    A file that does not exist is in the list (it is set aside later, by name). Raises InputError where nothing at all
    is named: no input, an empty folder, a pattern without a match, and no other file beside them.
    """
    named = [str(item) for item in inputs]
    found: dict[Path, Path] = {}
    for item in named:
        for path in _expand(item):
            found.setdefault(path.resolve(), path)
    if not found:
        listed = ", ".join(named) if named else "nothing"
        raise InputError(
            f"no image was found in {listed}", remedy="Pass image files, folders that hold some, or patterns"
        )
    return [found[key] for key in sorted(found)]


def _expand(item: str) -> list[Path]:
    path = Path(item)
    if path.is_dir():
        return _images_of(path)
    if not path.exists() and _PATTERN.search(item):
        anchor = Path(path.anchor) if path.anchor else Path()
        pattern = item[len(path.anchor) :] if path.anchor else item
        return sorted(p for p in anchor.glob(pattern) if p.suffix.lower() in IMAGES and p.is_file())
    return [path]


def _images_of(folder: Path) -> list[Path]:
    """Images of a folder. A folder of DICOM files of one slide is that slide: the folder itself is the input."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES and not p.name.startswith("."))
    files = [p for p in files if p.is_file()]
    if len(files) > 1 and all(p.suffix.lower() == ".dcm" for p in files):
        return [folder]
    return files


def grouping(smear_by: str | Path | None) -> Callable[[Path], str | None]:
    """File → name of its smear, None where the rule says nothing of it.

    smear_by: a regular expression with one group, searched in the file's name, or a CSV file with the columns `file`
    and `smear`. Without it all fields of a call are one smear.
    """
    if smear_by is None:
        return lambda _: DEFAULT
    if str(smear_by).lower().endswith(".csv"):
        return _by_table(Path(smear_by))
    return _by_pattern(str(smear_by))


def _by_pattern(text: str) -> Callable[[Path], str | None]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"--smear-by {text!r} is no regular expression", why=str(error)) from None
    if pattern.groups != 1:
        remedy = "Put brackets around the part of the name that tells the smear, as in '_(\\w+)_'"
        raise UsageError(f"--smear-by {text!r} has {pattern.groups} groups instead of one", remedy=remedy)

    def smear(path: Path) -> str | None:
        match = pattern.search(path.name)
        return match.group(1) if match else None

    return smear


def _by_table(path: Path) -> Callable[[Path], str | None]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--smear-by {path} cannot be read", why=str(error)) from None
    if not rows or not {"file", "smear"} <= set(rows[0]):
        raise UsageError(f"--smear-by {path} has no columns file and smear", remedy="Add a first line: file,smear")
    smears = {str(row["file"]): str(row["smear"]) for row in rows}
    return lambda path: smears.get(str(path), smears.get(path.name))


def folder_names(smears: Sequence[str]) -> dict[str, str]:
    """A name for the folder of each smear that every file system takes, each different, in sorted order."""
    taken: dict[str, str] = {}
    for smear in sorted(smears):
        plain = re.sub(r"[^\w.-]+", "_", smear).strip("._") or "smear"
        name, number = plain[:80], 2
        while name.lower() in {used.lower() for used in taken.values()}:
            name, number = f"{plain[:76]}-{number}", number + 1
        taken[smear] = name
    return taken
