"""Who an image is: a quick fingerprint at every reading, a full hash where it must be certain that nothing changed.

Neither depends on the file's name or place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from myelos.errors import InputError
from myelos.slides import files

BLOCK = 64 * 1024  # bytes
SAMPLES = 32  # blocks between the first and the last
WHOLE = 4 * 2**20  # bytes; a file up to this size is hashed as a whole


def fingerprint(path: str | Path) -> str:
    """SHA-256 (64 hex digits) over size, header and sampled blocks of all files of the slide.

    Files up to 4 MB count byte for byte. Of larger ones a change between the sampled blocks goes unseen: `full_hash`
    sees it. Raises InputError where the file is missing, empty or unreadable.
    """
    return _combined(Path(path), _sampled)


def full_hash(path: str | Path) -> str:
    """SHA-256 (64 hex digits) over every byte of all files of the slide; for one file, what `sha256sum` prints."""
    return _combined(Path(path), _full)


def slide_id(mark: str) -> str:
    """The opaque name of a slide: the first 12 hex digits of its fingerprint."""
    return mark[:12]


def _combined(path: Path, digest: Callable[[Path], str]) -> str:
    try:
        digests = sorted(digest(file) for file in files.belonging(path))
    except OSError as error:
        raise InputError(f"{path.name} cannot be read", why=error.strerror or str(error)) from None
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode() + b"\n")
    with path.open("rb") as file:
        if size <= WHOLE:
            digest.update(file.read())
            return digest.hexdigest()
        last = size - BLOCK
        for i in range(SAMPLES + 2):
            file.seek(last * i // (SAMPLES + 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _full(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
