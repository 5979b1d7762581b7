"""What a path is before any decoder touches it: its format by content, its companions, whether it is whole.

Only headers are read here, so a file that is missing, empty, cut short or of no known kind ends within milliseconds.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from myelos.errors import InputError

MAGIC: dict[str, tuple[bytes, ...]] = {
    "jpeg": (b"\xff\xd8\xff",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "bmp": (b"BM",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
PIXEL_LIMIT = 178_000_000  # decoded at once; Pillow draws the line against decompression bombs at the same place
READABLE = "PNG, JPEG, BMP, TIFF, and the slide formats of OpenSlide (SVS, NDPI, MRXS, SCN, DICOM, ...)"
_SERIES = re.compile(rb"\x20\x00\x0e\x00UI(..)([0-9.]{1,64})", re.DOTALL)  # (0020,000E) SeriesInstanceUID, explicit VR
_HEADER = 1 << 16


def sniff(path: Path) -> str:
    """Format of a file by its content: jpeg, png, bmp, tiff, dicom, mrxs, or "other".

    Raises InputError where the file is missing, empty or unreadable.
    """
    head = _head(path, 132)
    if path.suffix.lower() == ".mrxs":  # its own content is a JPEG of the label
        return "mrxs"
    if head[128:132] == b"DICM":
        return "dicom"
    return next((name for name, magics in MAGIC.items() if head.startswith(magics)), "other")


def _head(path: Path, length: int) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"{path.name} is a folder, not an image")
        with path.open("rb") as file:
            head = file.read(length)
    except FileNotFoundError:
        raise InputError(f"{path.name} does not exist", remedy="Check the path and its spelling") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path.name} cannot be read", why=why) from None
    if not head:
        raise InputError(f"{path.name} is empty", why="0 bytes")
    return head


def resolve(path: Path) -> Path:
    """The file to open: `path` itself, or the first instance of a DICOM series where it is a folder.

    Raises InputError where a folder holds no DICOM or more than one series.
    """
    if not path.is_dir():
        return path
    found: dict[bytes, list[Path]] = {}
    for file in sorted(path.iterdir()):
        if file.is_file() and file.stat().st_size and sniff(file) == "dicom":
            found.setdefault(series(file), []).append(file)
    if not found:
        raise InputError(f"The folder {path.name} is no slide", why="it holds no DICOM files")
    if len(found) > 1:
        raise InputError(
            f"The folder {path.name} holds {len(found)} DICOM series", remedy="Name one file of the slide that is meant"
        )
    return next(iter(found.values()))[0]


def series(path: Path) -> bytes:
    """SeriesInstanceUID of a DICOM file, empty where it is not found near the beginning."""
    found = _SERIES.search(_head(path, _HEADER))
    return found.group(2) if found else b""


def belonging(path: Path) -> list[Path]:
    """All files that make up the slide: itself, the companions of an MRXS, the instances of a DICOM series."""
    path = resolve(path)
    kind = sniff(path)
    if kind == "mrxs":
        companions = path.with_suffix("")
        return [path, *sorted(file for file in companions.glob("*") if file.is_file())]
    if kind == "dicom":
        own = series(path)
        others = (file for file in sorted(path.parent.iterdir()) if file.is_file() and file.stat().st_size)
        return [file for file in others if file == path or (own and sniff(file) == "dicom" and series(file) == own)]
    return [path]


def truncated(path: Path, expected: int | None, why: str = "") -> InputError:
    """The error for a file that ends too early."""
    found = path.stat().st_size
    sizes = f"{expected} bytes expected, {found} found" if expected is not None else f"{why}, {found} bytes found"
    return InputError(f"{path.name} is truncated: {sizes}", remedy="Copy it again from its source")


def read_whole(path: Path, kind: str) -> bytes:
    """All bytes of a JPEG, PNG or BMP. Raises InputError where they end before the header says so."""
    checks = {"jpeg": _check_jpeg, "png": _check_png, "bmp": _check_bmp}
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read", why=error.strerror or str(error)) from None
    checks[kind](path, data)
    return data


def _check_jpeg(path: Path, data: bytes) -> None:
    """Walk the segments to the first scan, then look for the end marker: a thumbnail's own does not count."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            if data.find(b"\xff\xd9", at + 2 + length) < 0:
                raise truncated(path, None, "the end of the JPEG is missing")
            return
        at += 2 + length
    if at >= len(data) - 4:
        raise truncated(path, at + 4)
    raise InputError(f"{path.name} is damaged", why=f"no JPEG segment begins at byte {at}")


def _check_png(path: Path, data: bytes) -> None:
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        at += 12 + length
        if name == b"IEND" and at <= len(data):
            return
    raise truncated(path, max(at, len(data)) + (0 if at > len(data) else 12))


def _check_bmp(path: Path, data: bytes) -> None:
    if len(data) < 30:
        raise truncated(path, 54)
    start, header = struct.unpack_from("<II", data, 10)
    if header < 40 or len(data) < 34:
        return
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in (0, 3):
        expected = start + (width * bits + 31) // 32 * 4 * abs(height)
        if expected > len(data):
            raise truncated(path, expected)


def too_large(path: Path, width: int = 0, height: int = 0) -> InputError:
    size = f"{width} × {height} px" if width else f"more than {PIXEL_LIMIT // 10**6} megapixels"
    return InputError(
        f"{path.name} claims {size}",
        why=f"an image without tiles is read up to {PIXEL_LIMIT // 10**6} megapixels",
        remedy="Convert it to a tiled pyramidal TIFF",
    )


def frame_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in the frame header of a JPEG stream, None where there is none."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[at + k : at + k + 2], "big") for k in (5, 7))
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def claimed_size(kind: str, data: bytes) -> tuple[int, int] | None:
    """Width and height as the header of a JPEG, PNG or BMP claims them, None where it does not say."""
    if kind == "jpeg":
        return frame_size(data)
    if kind == "png" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    if kind == "bmp" and len(data) >= 26 and data[14] >= 40:
        width, height = struct.unpack_from("<ii", data, 18)
        return abs(width), abs(height)
    return None
