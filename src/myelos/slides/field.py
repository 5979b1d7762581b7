"""Camera fields: PNG, JPEG, BMP and small TIFF, decoded at once and held in memory."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import UnidentifiedImageError

from myelos.errors import InputError
from myelos.slides import colour, files
from myelos.slides.base import OUTSIDE, Image, Level, Slide
from myelos.slides.resolution import agreeing, doubts, resolution_of

FRAME_SEARCH = 1 << 16  # bytes among which a JPEG's frame header is looked for


class FieldSlide(Slide):
    """A photograph: one level, all of it in memory."""

    kind = "field"
    reader = "field"

    def __init__(self, path: Path, *, mpp: float | None = None) -> None:
        """Decode `path`. Raises InputError where that fails, and for more than files.PIXEL_LIMIT pixels."""
        self.path = path
        form = files.sniff(path)
        if form == "tiff":
            from myelos.slides.tiff import decode_whole

            self._pixels, claimed, self.properties = decode_whole(path, files.PIXEL_LIMIT)
        elif form in ("jpeg", "png", "bmp"):
            self._pixels, claimed, self.properties = _decode(path, form, files.read_whole(path, form))
        else:
            raise InputError(f"{path.name} is not an image", why="it is none of PNG, JPEG, BMP and TIFF")
        self.resolution = resolution_of(claimed, mpp)
        self.warnings = doubts(claimed)
        self.levels = (Level(self._pixels.shape[1], self._pixels.shape[0], 1.0),)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Image:
        assert level == 0
        full_height, full_width = self._pixels.shape[:2]
        if x >= 0 and y >= 0 and x + width <= full_width and y + height <= full_height:
            return self._pixels[y : y + height, x : x + width]
        result = np.full((height, width, 3), OUTSIDE, np.uint8)
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + width, full_width), min(y + height, full_height)
        if x2 > x1 and y2 > y1:
            result[y1 - y : y2 - y, x1 - x : x2 - x] = self._pixels[y1:y2, x1:x2]
        return result

    def close(self) -> None:
        """Nothing is held open."""


def _decode(path: Path, form: str, data: bytes) -> tuple[Image, float | None, dict[str, str]]:
    """Pixels, claimed µm/px, properties."""
    size = files.claimed_size(form, data)
    if size and size[0] * size[1] > files.PIXEL_LIMIT:
        raise files.too_large(path, *size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # large images are judged by files.PIXEL_LIMIT, odd metadata does not matter
            with Pictures.open(io.BytesIO(data), formats=[form.upper()]) as picture:
                properties = _properties(picture, form)
                claimed = _claimed_mpp(picture)
                return _pixels(picture, path, data), claimed, properties
    except InputError:
        raise
    except Pictures.DecompressionBombError:
        raise files.too_large(path) from None
    except UnidentifiedImageError:
        raise InputError(f"{path.name} is not a {form.upper()} that can be read", why=_process(data)) from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, RuntimeError, LookupError, TypeError) as error:
        raise InputError(f"{path.name} cannot be decoded", why=str(error)) from None


def _properties(picture: Pictures.Image, form: str) -> dict[str, str]:
    bits = {"1": "1", "I;16": "16", "I": "16"}.get(picture.mode, "8")
    properties = {"format": form.upper(), "colour": picture.mode, "bits": bits}
    profile = picture.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        properties["icc_sha256"] = colour.digest(profile)
    return properties


def _claimed_mpp(picture: Pictures.Image) -> float | None:
    """µm/px of the density that the file states, believable or not."""
    density = picture.info.get("dpi")
    if not (isinstance(density, tuple) and len(density) == 2 and all(float(side) > 0 for side in density)):
        return None
    return agreeing(25400 / float(density[0]), 25400 / float(density[1]))


def _pixels(picture: Pictures.Image, path: Path, data: bytes) -> Image:
    import imagecodecs

    orientation = int(picture.getexif().get(0x0112, 1))
    if picture.format == "PNG" and data[24] == 16:
        return colour.oriented(_wide_png(path, data), orientation)
    if picture.format == "JPEG" and picture.mode in ("L", "RGB"):
        samples = imagecodecs.jpeg8_decode(data)
    else:
        samples = np.asarray(_plain(picture))
    bands = 1 if samples.ndim == 2 else samples.shape[2]
    if bands in (2, 4):
        light = samples[..., :-1] if bands == 4 else colour.grey_to_rgb(samples[..., 0])
        return colour.oriented(colour.over_white(light, samples[..., -1]), orientation)
    rgb = colour.grey_to_rgb(samples) if bands == 1 else np.ascontiguousarray(samples)
    return colour.oriented(rgb, orientation)


def _plain(picture: Pictures.Image) -> Pictures.Image:
    """Palette, CMYK and the rest as L, LA, RGB or RGBA."""
    if "transparency" in picture.info or picture.mode == "PA":
        return picture.convert("RGBA")
    return picture if picture.mode in ("L", "LA", "RGB", "RGBA") else picture.convert("RGB")


def _wide_png(path: Path, data: bytes) -> Image:
    """16-bit PNG: by the standard its white is 65535, whatever the camera's depth was."""
    import imagecodecs

    try:
        samples: NDArray[Any] = imagecodecs.png_decode(data)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path.name} cannot be decoded", why=str(error)) from None
    samples = samples.reshape(*samples.shape[:2], -1)
    bands = samples.shape[2]
    light = samples[..., : bands - 1] if bands in (2, 4) else samples
    colour.refuse_dark(int(light.max()), path.name)
    rgb = colour.to_bytes(light, 65535)
    rgb = colour.grey_to_rgb(rgb) if rgb.shape[2] == 1 else rgb
    return colour.over_white(rgb, colour.to_bytes(samples[..., -1], 65535)) if bands in (2, 4) else rgb


def _process(data: bytes) -> str:
    """The coding process of a JPEG that cannot be read, named by its frame marker."""
    names = {0xC3: "lossless JPEG", 0xC9: "arithmetic coding", 0xF7: "JPEG-LS"}
    found = [name for marker, name in names.items() if bytes([0xFF, marker]) in data[:FRAME_SEARCH]]
    return f"it uses {found[0]}" if found else "its header is damaged"
