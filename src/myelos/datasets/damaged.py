"""Damaged images, found by their content: decoders read them without a word, and what they show is not a cell.

A JPEG is a chain of blocks. Where a bit is wrong the blocks after it are shifted, repeated or recoloured from some
block of a row to the end of the image: along a staircase on the grid of blocks the picture jumps, and nowhere else.
That is looked for in the pixels, because the damage is often older than the file (the damaged files of the Munich
marrow set are correct JPEGs of damaged pictures). Where the file itself is damaged its data as a rule end too early or
too late.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from myelos.datasets.records import Fault

_BLOCK = 8  # pixels, of every JPEG; chroma is often stored for two by two of them
_FILL = bytes([0x5A, 0xA3]) * 32  # more data than the missing end of an image could need, without a marker
_OTHER = bytes([0x35, 0xCA, 0x91, 0x6C, 0x17, 0xE8])  # takes the place of the last bytes


@dataclass(frozen=True, slots=True)
class DamageSettings:
    """jump: grey levels that count as a full jump. share: of the staircase that jumps, above it an image is damaged.

    Chosen on every fourth to sixth of the intact single cells of two sets (0.52 at most) and of damage made in others;
    the six damaged files of the Munich set have 0.92 and more.
    """

    jump: float = 8.0
    share: float = 0.6


def find_damaged(
    paths: Sequence[Path],
    *,
    settings: DamageSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Fault]:
    """The images that cannot be read or show damage, each with what was found, in the order given."""
    faults = []
    for done, path in enumerate(paths, 1):
        reason = damage(path, settings=settings)
        if reason:
            faults.append(Fault(path, None, "damaged image", reason))
        if progress:
            progress(done, len(paths))
    return faults


def damage(path: Path, *, settings: DamageSettings | None = None) -> str:
    """What is wrong with an image, in words; empty where nothing is."""
    settings = settings or DamageSettings()
    try:
        data = path.read_bytes()
        rgb = _decode(data)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"it cannot be read: {error}"
    share, row = staircase(rgb, jump=settings.jump)
    if share > settings.share:
        return f"from line {row} on it is shifted, repeated or recoloured ({share:.0%} of the edge of a row of blocks)"
    return stream_end(data, rgb)


def staircase(rgb: NDArray[np.uint8], *, jump: float = 8.0) -> tuple[float, int]:
    """(H, W, 3) → the largest share, of all staircases on the grid of blocks, at which the picture jumps; its line.

    A staircase runs along the lower edge of a row of blocks up to some block, and from there along its upper edge. A
    jump is a step over the mean slope on both sides, in the mean of a block and the channel where it is largest, less
    twice the median of all blocks (the picture's own blockiness).
    """
    if min(rgb.shape[:2]) < 4 * _BLOCK:
        return 0.0, 0
    edges = _steps(rgb)
    full = np.clip((edges - 2 * np.median(edges)) / jump, 0, 1)
    sums = np.pad(np.cumsum(full, axis=1), ((0, 0), (1, 0)))  # (rows, blocks + 1): of the blocks before
    best, line = 0.0, 0
    for height in (1, 2):  # blocks in a row of the stream: one, or two where chroma is stored for two by two
        below = np.pad(sums[height:], ((0, height), (0, 0)))
        shares = (sums[:, -1:] - sums + below) / full.shape[1]
        if shares.max() > best:
            best = float(shares.max())
            line = (int(shares.max(axis=1).argmax()) + 1) * _BLOCK
    return best, line


def _steps(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(rows - 1, blocks): the step at the upper edge of each block from the second row on, in grey levels."""
    image = rgb.astype(np.float32)
    lines = np.arange(_BLOCK, len(image) - 1, _BLOCK)
    slopes = (image[lines - 1] - image[lines - 2] + image[lines + 1] - image[lines]) / 2
    step = image[lines] - image[lines - 1] - slopes
    number = image.shape[1] // _BLOCK
    means = step[:, : number * _BLOCK].reshape(len(lines), number, _BLOCK, 3).mean(axis=2)
    return np.abs(means).max(axis=2)


def stream_end(data: bytes, rgb: NDArray[np.uint8]) -> str:
    """Whether a JPEG's data end before its last block, or go on after it; empty for intact and other files.

    rgb: what it decodes to. Further data change nothing unless some were missing; other last bytes change something
    unless they were not needed. Files with several scans or with restart markers are not judged.
    """
    if not data.startswith(b"\xff\xd8") or not _one_scan(data):
        return ""
    end = data.rfind(b"\xff\xd9")
    if not _same(data[:end] + _FILL + data[end:], rgb):
        return "its data end before its last block"
    if _same(data[: end - len(_OTHER)] + _OTHER + data[end:], rgb):
        return "its data go on after its last block"
    return ""


def _one_scan(data: bytes) -> bool:
    """Whether this is a sequential JPEG of one scan without restart markers, up to its end marker."""
    kinds = list(_segments(data))
    body = data[kinds[-1][1] : data.rfind(b"\xff\xd9")] if kinds else b""
    markers = body.count(b"\xff") - body.count(b"\xff\x00")
    names = {kind for kind, _ in kinds}
    return 0xDA in names and bool(names & {0xC0, 0xC1}) and 0xDD not in names and markers == 0 and len(body) > 64


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Kind of each header segment and where it ends, up to the start of the scan."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        kind = data[place + 1]
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield kind, place
        if kind == 0xDA:
            return


def _same(data: bytes, rgb: NDArray[np.uint8]) -> bool:
    try:
        return np.array_equal(_decode(data), rgb)
    except (OSError, ValueError, SyntaxError):
        return False


def _decode(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
