"""Images for the page: small, re-encoded (so that no metadata of a camera or scanner comes along), within a budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from myelos.report.input import Picture
from myelos.report.single_file import data_uri

_SIDES = (1280, 900, 640)  # longest sides of a picture that are tried until it fits


@dataclass(frozen=True)
class ImageSettings:
    """Sizes in pixels and bytes; the page as a whole stays near `most_bytes`."""

    most_bytes: int = 36_000_000
    crop_side: int = 96
    crop_cap: int = 300  # crops of one type that are embedded
    crop_share: float = 0.5  # of the bytes that crops may take where pictures need the rest
    quality: int = 84


@dataclass(frozen=True)
class Embedded:
    """A data URI and its size in pixels."""

    uri: str
    width: int
    height: int


def encode(image: bytes, *, side: int, quality: int) -> Embedded | None:
    """Decode, shrink to a longest side, encode as JPEG; null for bytes that are no image."""
    import cv2

    buffer = np.frombuffer(image, np.uint8)
    pixels = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if len(buffer) else None
    if pixels is None:
        return None
    factor = min(1.0, side / max(pixels.shape[:2]))
    if factor < 1:
        height, width = (max(1, round(length * factor)) for length in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    done, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        return None
    uri = data_uri(content.tobytes(), "jpeg")
    return Embedded(uri, pixels.shape[1], pixels.shape[0])


def embed_crops(
    crops: Mapping[str, bytes], groups: Iterable[list[str]], settings: ImageSettings, *, most_bytes: float
) -> dict[str, Embedded]:
    """groups: ids of the cells of each type, least certain first; every type gets its turn until the bytes are used."""
    queues = [[cell for cell in group if cell in crops][: settings.crop_cap] for group in groups]
    embedded: dict[str, Embedded] = {}
    used = 0
    for rank in range(max(map(len, queues), default=0)):
        for queue in queues:
            if rank >= len(queue) or used > most_bytes:
                continue
            crop = encode(crops[queue[rank]], side=settings.crop_side, quality=settings.quality)
            if crop is not None:
                embedded[queue[rank]] = crop
                used += len(crop.uri)
    return embedded


def embed_pictures(
    pictures: Mapping[str, Picture], settings: ImageSettings, *, most_bytes: float
) -> dict[str, Embedded]:
    """Pictures by slide_id, each within an even share of the bytes; those that do not fit are left out."""
    embedded: dict[str, Embedded] = {}
    left = most_bytes
    for number, (slide, picture) in enumerate(pictures.items()):
        share = left / (len(pictures) - number)
        for side in _SIDES:
            found = encode(picture.image, side=side, quality=settings.quality)
            if found is None:
                break
            if len(found.uri) <= share or (side == _SIDES[-1] and len(found.uri) <= left and share > 30_000):
                embedded[slide] = found
                left -= len(found.uri)
                break
    return embedded


def size(embedded: Mapping[str, Embedded]) -> int:
    """Bytes that the data URIs take."""
    return sum(len(item.uri) for item in embedded.values())
