"""A first look at every input, before any model sees it: does it open, is it a smear, how large is a pixel.

A field that fails is set aside with its reason and the others go on; nothing here raises for a bad input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myelos.detection.prepare import pooled_scales, spread
from myelos.detection.run import ahead
from myelos.detection.working_scale import working_mpp
from myelos.errors import InputError, NotASmearError
from myelos.imaging.appearance import AppearanceSettings
from myelos.imaging.plausibility import judge
from myelos.models.types import Detector
from myelos.slides import open_slide
from myelos.slides.base import MPP_RANGE, Resolution
from myelos.slides.fingerprint import fingerprint
from myelos.slides.fingerprint import slide_id as id_of
from myelos.smears.inputs import SetAside

Image = NDArray[np.uint8]  # (height, width, 3) RGB
FIELDS_ASKED = 6  # of one size, for the working scale
FIELD_PIXELS = 80_000_000  # images above it are read tile by tile, whatever they are called


@dataclass(frozen=True)
class Look:
    """What is known of an image before a model sees it. `slide_id` is opaque and follows from the content alone."""

    number: int
    path: Path
    slide_id: str
    fingerprint: str
    kind: str  # slide or field
    width: int
    height: int
    resolution: Resolution
    scanner: str | None
    warnings: tuple[str, ...] = ()  # what the reader says of the file
    doubt: str = ""  # why it may be no smear; empty where it looks like one
    score: float = 1.0  # 0..1, how much it looks like one; slides are judged when they are read
    working_mpp: float | None = None  # at which the detector sees cells best, where no scale is known: no measure

    @property
    def reading_mpp(self) -> float | None:
        """µm/px that brings the image to the detector's scale: the resolution, else the working scale."""
        return self.resolution.mpp or self.working_mpp

    @property
    def by_tiles(self) -> bool:
        """Too large to hold in memory as one array, or a slide."""
        return self.kind == "slide" or self.width * self.height > FIELD_PIXELS


def look_at(
    paths: Sequence[Path], *, mpp: float | None, force: bool, threads: int, step: Callable[[], None]
) -> tuple[list[Look], list[SetAside]]:
    """Look at every file; returns what can be counted, in the order of `slide_id`, and what was set aside.

    mpp: as said by the user, goes before what a file says. force: images that seem to be no smear are kept.
    """
    looks: dict[str, Look] = {}
    aside: list[SetAside] = []
    answers = ahead(lambda item: _tried(*item, mpp), list(enumerate(paths, 1)), threads=threads, depth=2 * threads)
    for look in answers:
        step()
        if isinstance(look, SetAside):
            aside.append(look)
        elif look.slide_id in looks:
            aside.append(_duplicate(look, looks[look.slide_id]))
        elif look.doubt and not force:
            error = no_smear(look.path, look.doubt)
            aside.append(SetAside.by(error, number=look.number, path=look.path, reason="no smear"))
        else:
            looks[look.slide_id] = look
    return [looks[slide_id] for slide_id in sorted(looks)], aside


def no_smear(path: Path, why: str) -> NotASmearError:
    """What is said of an image that is refused."""
    return NotASmearError(f"{path.name} shows no smear", why=why, remedy="Pass --force to count it")


def _tried(number: int, path: Path, mpp: float | None) -> Look | SetAside:
    try:
        return look(path, number=number, mpp=mpp)
    except InputError as error:
        reason = "missing" if not path.exists() else "unreadable"
        return SetAside.by(error, number=number, path=path, reason=reason)


def look(path: Path, *, number: int = 1, mpp: float | None = None) -> Look:
    """Open one input; fields are read in full and judged. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    mark = fingerprint(path)
    with open_slide(path, mpp=mpp) as slide:
        seen = Look(
            number=number,
            path=path,
            slide_id=id_of(mark),
            fingerprint=mark,
            kind=slide.kind,
            width=slide.width,
            height=slide.height,
            resolution=slide.resolution,
            scanner=slide.properties.get("scanner"),
            warnings=slide.warnings,
        )
        return seen if seen.by_tiles else judged(seen, [slide.read(slide.bounds)], seen.resolution.mpp)


def judged(look: Look, images: Sequence[Image], mpp: float | None) -> Look:
    """The look with the score of its images in the middle, and a doubt where most of them seem to be no smear."""
    verdicts = sorted((judge(image, mpp) for image in images), key=lambda verdict: verdict.score)
    middle = verdicts[len(verdicts) // 2]
    return replace(look, score=middle.score, doubt="" if middle.is_smear else middle.reason)


def with_scale(looks: Sequence[Look]) -> list[Look]:
    """The looks of one smear, fields without a resolution given that of their red cells, pooled by image size."""
    groups: dict[tuple[int, int], list[Look]] = {}
    for one in looks:
        if one.resolution.mpp is None and not one.by_tiles:
            groups.setdefault((one.width, one.height), []).append(one)
    found = pooled_scales(groups, _pixels)
    result = []
    for one in looks:
        estimate = found.get((one.width, one.height)) if one.resolution.mpp is None and not one.by_tiles else None
        if estimate and MPP_RANGE[0] / 2 <= estimate.mpp <= MPP_RANGE[1]:
            one = replace(one, resolution=Resolution(estimate.mpp, "red cells", estimate.uncertainty))
        result.append(one)
    return result


def with_working_scale(looks: Sequence[Look], detector: Detector, appearance: AppearanceSettings) -> list[Look]:
    """The looks of one smear, fields that still have no scale given the one at which the detector sees cells."""
    groups: dict[tuple[int, int], list[Look]] = {}
    for one in looks:
        if one.resolution.mpp is None and not one.by_tiles:
            groups.setdefault((one.width, one.height), []).append(one)
    found = {
        size: working_mpp([_pixels(one) for one in spread(group, FIELDS_ASKED)], detector, appearance=appearance)
        for size, group in groups.items()
    }
    return [
        replace(one, working_mpp=found[one.width, one.height])
        if one in groups.get((one.width, one.height), ())
        else one
        for one in looks
    ]


def _pixels(one: Look) -> Image:
    return read_whole(one.path)


def read_whole(path: Path) -> Image:
    """All pixels of a field; raises InputError."""
    try:
        with open_slide(path) as slide:
            return slide.read(slide.bounds)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read", why=error.strerror or str(error)) from error


def _duplicate(one: Look, first: Look) -> SetAside:
    error = InputError(f"{one.path.name} is the same image as {first.path.name}", remedy="It is counted once")
    aside = SetAside.by(error, number=one.number, path=one.path, reason="duplicate", slide_id=one.slide_id)
    return replace(aside, detail="the same image was given twice and is counted once")
