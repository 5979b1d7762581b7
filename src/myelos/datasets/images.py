"""The few things that data sets ask of image files: which are there, their size, and a small grey copy."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from myelos.errors import InputError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_HASHED = 1 << 20  # bytes; enough to tell images apart, and slides of many gigabytes cost no more


def find_images(folder: Path) -> list[Path]:
    """All images below `folder`, sorted; hidden files and folders are passed over."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _open(path: Path, side: int) -> Image.Image:
    """Decode an image, JPEGs at the smallest scale that still covers `side` pixels; EXIF rotation applied."""
    image = Image.open(path)
    image.draft("L", (side, side))
    image.load()
    return ImageOps.exif_transpose(image)


def probe(path: Path) -> tuple[int, int]:
    """Width and height as displayed, after decoding everything; raises InputError where that fails."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
        _open(path, 1)
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read", why=str(error)) from error
    return (height, width) if turned else (width, height)


def thumbnail(path: Path, side: int) -> NDArray[np.float32]:
    """(side, side) grey copy, stretched to a square; raises InputError where the image cannot be read."""
    try:
        grey = _open(path, 2 * side).convert("L").resize((side, side), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read", why=str(error)) from error
    return np.asarray(grey, dtype=np.float32)


def content_hash(path: Path) -> str:
    """SHA-256 of a file's size and its first mebibyte: the same wherever the file lies and whatever it is called."""
    with path.open("rb") as file:
        return hashlib.sha256(f"{path.stat().st_size}:".encode() + file.read(_HASHED)).hexdigest()
