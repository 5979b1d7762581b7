"""What a TIFF holds, from its directories alone: levels, resolution, compression. Hostile headers end here.

The directories are walked with bounds before tifffile sees them: an offset behind the end of the file, a loop, or a
count that no file of this size could hold is an error at once, without the memory that it asks for.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from myelos.errors import InputError
from myelos.slides import colour
from myelos.slides.base import Level
from myelos.slides.files import truncated
from myelos.slides.resolution import agreeing
from myelos.wording import number_of

MAX_DIRECTORIES = 4096
MAX_ENTRIES = 4096
TYPE_SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
SUB_DIRECTORIES = 330
LATER = (274, 281, 341)  # Orientation, MaxSampleValue, SMaxSampleValue
MICRONS = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}


@dataclass(frozen=True, slots=True)
class Layout:
    """pages: the tifffile pages of the levels, finest first. mpp: as claimed. skipped: pages that are no level."""

    pages: tuple[Any, ...]
    levels: tuple[Level, ...]
    mpp: float | None
    properties: dict[str, str]
    skipped: int


def check_directories(path: Path) -> None:
    """Raise InputError where the chain of directories leaves the file, loops, or asks for the impossible.

    Subdirectories may be listed and chained at once, as the writers of OME-TIFF do: to see one twice is no loop.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = len(head) > 3 and struct.unpack(order + "H", head[2:4])[0] == 43
        if len(head) < (16 if big else 8):
            raise truncated(path, 16 if big else 8)
        at = struct.unpack(order + "Q", head[8:16])[0] if big else struct.unpack(order + "I", head[4:8])[0]
        waiting, seen = [(at, False)], set[int]()
        while waiting:
            at, below = waiting.pop()
            if at in seen and below:
                continue
            if at in seen or len(seen) >= MAX_DIRECTORIES:
                raise InputError(f"{path.name} is damaged", why="its directories loop or are too many")
            seen.add(at)
            following, *listed = _directory(file, path, at, order, big, size)
            waiting += [(found, True) for found in listed if found]
            waiting += [(following, below)] if following else []


def _directory(file: IO[bytes], path: Path, at: int, order: str, big: bool, size: int) -> list[int]:
    """Offsets that follow from the directory at `at`: the next one and its subdirectories."""
    count_size, entry_size, word = (8, 20, "Q") if big else (2, 12, "I")
    if at + count_size > size:
        raise truncated(path, at + count_size)
    file.seek(at)
    count = struct.unpack(order + ("Q" if big else "H"), file.read(count_size))[0]
    if count > MAX_ENTRIES:
        raise InputError(f"{path.name} is damaged", why=f"a TIFF directory claims {count} entries")
    entries = file.read(count * entry_size)
    following = file.read(8 if big else 4)
    if len(following) < (8 if big else 4):
        raise truncated(path, at + count_size + count * entry_size + (8 if big else 4))
    offsets = [struct.unpack(order + word, following)[0]]
    for i in range(count):
        entry = entries[i * entry_size : (i + 1) * entry_size]
        offsets += _entry(file, path, entry, order, big, size)
    return offsets


def _entry(file: IO[bytes], path: Path, entry: bytes, order: str, big: bool, size: int) -> list[int]:
    """Check that an entry's values lie inside the file; subdirectory offsets, if it holds them."""
    word = "Q" if big else "I"
    tag, kind, values = struct.unpack_from(order + "HH" + word, entry)
    length = values * TYPE_SIZE.get(kind, 1)
    field = entry[12:] if big else entry[8:]
    if length > len(field):
        offset = struct.unpack(order + word, field)[0]
        if offset + length > size:
            raise truncated(path, offset + length)
        if tag == SUB_DIRECTORIES and values <= MAX_DIRECTORIES:
            file.seek(offset)
            field = file.read(length)
    if tag != SUB_DIRECTORIES or kind not in (4, 13, 16, 18):
        return []
    letter = "I" if TYPE_SIZE[kind] == 4 else "Q"
    return list(struct.unpack_from(f"{order}{min(values, MAX_DIRECTORIES)}{letter}", field))


def read_layout(path: Path) -> Layout:
    """The levels of the first image of a TIFF. Raises InputError for what is no TIFF, or has no image."""
    import tifffile

    check_directories(path)
    try:
        with tifffile.TiffFile(path, is_ome=False, is_shaped=False) as file:
            first = file.pages.first
            _check_page(first, path)
            others = [*(first.pages or ()), *(file.pages[i] for i in range(1, len(file.pages)))]
            others = [page if isinstance(page, tifffile.TiffPage) else page.aspage() for page in others]
            pages = [first, *_levels_below(first, others, path)]
            for page in pages:
                _check_segments(page, path)
                _load(page)
            properties = _properties(first)
            mpp = _claimed_mpp(first)
    except InputError:
        raise
    except Exception as error:  # tifffile raises what its many parsers raise, on headers that anyone can write
        raise InputError(
            f"{path.name} is not a TIFF that can be read", why=str(error) or type(error).__name__
        ) from None
    levels = tuple(
        Level(page.imagewidth, page.imagelength, downsample_of(first.imagewidth, first.imagelength, page))
        for page in pages
    )
    return Layout(tuple(pages), levels, mpp, properties, 1 + len(others) - len(pages))


def _load(page: Any) -> None:
    """Fetch what tifffile would look up later, when its file is closed."""
    for tag in LATER:
        page.tags.valueof(tag)
    _ = page.jpegtables, page.colormap if page.photometric == 3 else None, page.decode


def _check_page(page: Any, path: Path) -> None:
    """Tags can hold any type and any number of values: what is computed with must be whole numbers."""
    whole = ("imagewidth", "imagelength", "tilewidth", "tilelength", "rowsperstrip", "samplesperpixel", "bitspersample")
    for name in (*whole, "compression", "photometric", "planarconfig"):
        if not isinstance(getattr(page, name), int):
            raise InputError(f"{path.name} is damaged", why=f"its {name} is {getattr(page, name)}")
    if page.imagewidth < 1 or page.imagelength < 1 or page.imagedepth > 1 or min(segment_size(page)) < 1:
        raise InputError(f"{path.name} holds no plane image", why=f"its shape is {page.shape}")


def number(page: Any, tag: int) -> float | None:
    """The value of a tag, the largest of several, None where it is absent or no number."""
    value = page.tags.valueof(tag)
    values = value if isinstance(value, tuple) else (value,)
    return float(max(values)) if values and all(isinstance(one, int | float) for one in values) else None


def _levels_below(first: Any, others: list[Any], path: Path) -> list[Any]:
    """Pages that show the same picture smaller: same shape of picture, same way of storing it."""
    levels: list[Any] = []
    for page in others:
        width = (levels[-1] if levels else first).imagewidth
        if not 0 < page.imagewidth < width or page.imagelength < 1 or page.is_tiled != first.is_tiled:
            continue
        across, down = first.imagewidth / page.imagewidth, first.imagelength / page.imagelength
        slack = across * 1.5 * (1 / page.imagewidth + 1 / page.imagelength)
        same = page.photometric == first.photometric and page.samplesperpixel == first.samplesperpixel
        if abs(across - down) <= slack and same and page.bitspersample == first.bitspersample:
            _check_page(page, path)
            levels.append(page)
    return levels


def downsample_of(width: int, height: int, page: Any) -> float:
    return snapped(width, height, page.imagewidth, page.imagelength)


def snapped(width: int, height: int, level_width: int, level_height: int) -> float:
    """Pixel size of a level in level-0 pixels: the whole number that explains both sides, else their mean ratio.

    Writers round the sides of a level up or down, so the ratio of sides is slightly off the factor that was used.
    """
    across, down = width / level_width, height / level_height
    for factor in {round(across), round(down)}:
        if factor and abs(width - level_width * factor) < factor and abs(height - level_height * factor) < factor:
            return float(factor)
    return (across + down) / 2


def _check_segments(page: Any, path: Path) -> None:
    """All tiles or strips must lie inside the file, and there must be as many as the size asks for."""
    size = path.stat().st_size
    end = max((start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
    if end > size:
        raise truncated(path, end)
    width, height = segment_size(page)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    wanted = -(-page.imagewidth // width) * -(-page.imagelength // height) * planes
    found = min(len(page.dataoffsets), len(page.databytecounts))
    if found < wanted:
        raise InputError(f"{path.name} is damaged", why=f"its size asks for {number_of(wanted, 'tile')}, not {found}")


def segment_size(page: Any) -> tuple[int, int]:
    """Width and height of a tile, or of a strip taken as a tile."""
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    return page.imagewidth, min(page.rowsperstrip, page.imagelength)


def _properties(page: Any) -> dict[str, str]:
    """What may be known of a file: a positive list, because names hide in descriptions, labels and private tags."""
    text = str(page.description or "")
    compression = getattr(page.compression, "name", str(page.compression))
    properties = {"format": "TIFF", "compression": compression, "bits": str(page.bitspersample)}
    properties["colour"] = getattr(page.photometric, "name", str(page.photometric))
    width, height = segment_size(page)
    properties["tile"] = f"{width} × {height}"
    if text.startswith("Aperio"):
        properties |= {"format": "Aperio SVS", "scanner": "Aperio"}
    for key, pattern in (("objective", r"\bAppMag\s*=\s*(\d{1,3}(?:\.\d+)?)\b"), ("quality", r"\bQ=(\d{1,3})\b")):
        found = re.search(pattern, text)
        if found:
            properties[key] = found.group(1)
    profile = page.tags.get(34675)
    if profile is not None and isinstance(profile.value, bytes):
        properties["icc_sha256"] = colour.digest(profile.value)
    return properties


def _claimed_mpp(page: Any) -> float | None:
    """µm/px: Aperio's MPP, OME's PhysicalSize, ImageJ's unit, then the resolution tags, believable or not."""
    text = str(page.description or "")
    found = re.search(r"\bMPP\s*=\s*([0-9.]+)", text) if text.startswith("Aperio") else None
    if found:
        return _number(found.group(1))
    if "<OME" in text[:2000]:
        across, down = _ome_size(text, "X"), _ome_size(text, "Y")
        if across and down:
            return agreeing(across, down)
    across, down = (_ratio(page, tag) for tag in (282, 283))
    if not (across and down):
        return None
    unit = page.tags.valueof(296, default=2)
    imagej = re.search(r"^unit=(\S+)", text, re.MULTILINE) if text.startswith("ImageJ") else None
    microns = MICRONS.get(imagej.group(1).replace("\\u00B5", "µ")) if imagej else {2: 25400.0, 3: 1e4}.get(unit)
    return agreeing(microns / across, microns / down) if microns else None


def _ome_size(text: str, axis: str) -> float | None:
    """PhysicalSizeX or Y of the first image in µm, found without parsing XML that a stranger wrote."""
    found = re.search(rf'PhysicalSize{axis}="([^"]{{1,40}})"', text)
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]{{1,20}})"', text)
    microns = MICRONS.get(unit.group(1) if unit else "µm")
    value = _number(found.group(1)) if found else None
    return value * microns if value and microns else None


def _ratio(page: Any, tag: int) -> float | None:
    value = page.tags.valueof(tag)
    return value[0] / value[1] if isinstance(value, tuple) and len(value) == 2 and value[1] else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
