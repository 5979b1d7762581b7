"""The images of a smear → their cells. Fields are read whole and kept at the common scale, slides tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from myelos.detection.prepare import prepare
from myelos.detection.run import Detected, ahead, ask, batches, resolve
from myelos.detection.tiling import Tile
from myelos.errors import InputError, NotASmearError, ResolutionError
from myelos.imaging.appearance import normalise
from myelos.imaging.sharpness import sharpness
from myelos.models.types import Classifier, Detector
from myelos.smears.inputs import SetAside
from myelos.smears.looking import Look, read_whole
from myelos.smears.rows import Image, Reading, ReadSettings, around, cell_rows, cut, jpeg, png, tile_plan, tile_rows
from myelos.smears.second_look import in_company, second_look
from myelos.smears.second_opinion import from_field, scale_for
from myelos.smears.staining import SmearOpinion, Windows
from myelos.smears.whole_slides import read_slide


def read_all(
    looks: Sequence[Look],
    detector: Detector,
    *,
    settings: ReadSettings,
    threads: int,
    step: Callable[[], None],
    classifier: Classifier | None = None,
) -> Iterator[Reading | SetAside]:
    """Every image of a smear, fields before slides, each in the order of `looks` but for those set aside.

    classifier: gives a second opinion on the cells of images that it fits.
    """
    looks = in_company(looks, settings.second_look)
    fields = [look for look in looks if not look.by_tiles]
    loaded = ahead(lambda look: _tried(_load, look, detector, settings), fields, threads=threads, depth=4 + threads)
    opinion = SmearOpinion(classifier, settings.stain) if classifier is not None else None
    for group in batches(loaded, 4):  # a few fields at a time keep every core of the detector busy
        good = [item for item in group if isinstance(item, _Field)]
        found = dict(zip((item.look.slide_id for item in good), _detect_fields(good, detector, settings), strict=True))
        for item in group:
            step()
            if isinstance(item, _Field):
                item = _tried(_finish_field, item.look, item, found[item.look.slide_id], detector, settings, classifier)
            if isinstance(item, SetAside):
                yield item
            else:
                yield from opinion.add(*item) if opinion else [item[0]]
    yield from opinion.rest() if opinion else ()
    for look in looks:
        if look.by_tiles:
            yield _tried(
                lambda one: read_slide(one, detector, settings=settings, threads=threads, classifier=classifier), look
            )
            step()


def _tried(function: Callable[..., Any], look: Look, *rest: Any) -> Any:
    """The function's answer, or why the image is set aside."""
    try:
        return function(look, *rest)
    except NotASmearError as error:
        return SetAside.by(error, number=look.number, path=look.path, reason="no smear", slide_id=look.slide_id)
    except ResolutionError as error:
        return SetAside.by(error, number=look.number, path=look.path, reason="no scale", slide_id=look.slide_id)
    except InputError as error:
        return SetAside.by(error, number=look.number, path=look.path, reason="unreadable", slide_id=look.slide_id)


@dataclass(frozen=True)
class _Field:
    look: Look
    rgb: Image  # as the file has it
    prepared: Image  # at the detector's scale
    tiles: list[Tile]


def _load(look: Look, detector: Detector, settings: ReadSettings) -> _Field:
    rgb = read_whole(look.path)
    mpp = look.reading_mpp if settings.common_scale else None
    prepared = prepare(rgb, factor=mpp / detector.mpp if mpp else 1.0, appearance=settings.appearance)
    return _Field(look, rgb, prepared, tile_plan(look, detector, mpp, settings))


def _detect_fields(fields: Sequence[_Field], detector: Detector, settings: ReadSettings) -> list[Detected]:
    """All tiles of a few fields in common batches."""
    boxes = iter(ask(detector, [tile.cut(item.prepared) for item in fields for tile in item.tiles]))
    results = []
    for item in fields:
        answers = [(tile, next(boxes)) for tile in item.tiles]
        results.append(Detected(resolve(answers, item.tiles, detector, settings.detection), tuple(item.tiles)))
    return results


def _finish_field(
    look: Look,
    item: _Field,
    found: Detected,
    detector: Detector,
    settings: ReadSettings,
    classifier: Classifier | None,
) -> tuple[Reading, Windows]:
    """What was detected, and what a classifier is to see of it."""
    look = second_look(look, found.cells, settings.second_look, force=settings.force)
    cells, opinions = cell_rows(look, found.cells, detector)
    mpp = scale_for(classifier, look, settings)
    windows: dict[str, Image] = {}
    if classifier is not None and cells and mpp:
        show = from_field(normalise(item.rgb, settings.appearance), mpp, classifier)
        windows = {row["cell_id"]: image for row in cells if (image := show(row)) is not None}
    crops = {row["cell_id"]: png(cut(item.rgb, around(row, settings))) for row in cells}
    sharp = {tile.index: sharpness(tile.cut(item.prepared), detector.mpp) for tile in item.tiles}
    scale = min(1.0, settings.picture / max(item.rgb.shape[:2]))
    tiles = tile_rows(look, found, sharp, None)
    area = look.width * look.height
    return Reading(look, cells, opinions, tiles, [], crops, jpeg(item.rgb, scale), scale, area=area), windows
