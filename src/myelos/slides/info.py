"""What is known of an image, as `myelos info` prints it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from myelos.slides import open_slide
from myelos.slides.fingerprint import fingerprint, slide_id

SHOWN = ("format", "scanner", "objective", "compression", "quality", "tile", "bits", "colour", "icc_sha256", "bounds")


def describe(path: str | Path, mpp: float | None = None) -> dict[str, Any]:
    """Format, reader, size, levels, resolution and its source, scanner, compression, fingerprint, warnings.

    Only what is listed here comes out: names of patients hide in labels and descriptions, so those are left in.
    Values are numbers, strings, None, or lists of them: the whole is ready for JSON. Raises InputError as `open_slide`.
    """
    mark = fingerprint(path)
    with open_slide(path, mpp=mpp) as slide:
        known: dict[str, Any] = {name: slide.properties.get(name) for name in SHOWN}
        return {
            "file": Path(path).name,
            "slide_id": slide_id(mark),
            "reader": slide.reader,
            "kind": slide.kind,
            "width": slide.width,
            "height": slide.height,
            "levels": [
                {"width": level.width, "height": level.height, "downsample": level.downsample} for level in slide.levels
            ],
            "mpp": slide.mpp,
            "mpp_source": slide.resolution.source,
            **known,
            "fingerprint": mark,
            "warnings": [*slide.warnings, *_advice(slide.mpp, slide.kind, len(slide.levels))],
        }


def _advice(mpp: float | None, kind: str, levels: int) -> list[str]:
    """What a person can do about what is missing."""
    advice = []
    if mpp is None:
        advice.append("No resolution is known: pass --mpp with the µm per pixel, or lengths stay unknown")
    if kind == "slide" and levels == 1:
        advice.append("There is no pyramid: overviews take longer")
    return advice
