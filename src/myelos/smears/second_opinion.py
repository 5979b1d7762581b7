"""The classifier's word on detected cells: windows cut at its scale, opinions stored, the adopted type set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from myelos import taxonomy
from myelos.classification.gate import gate_of, heard
from myelos.classification.opinion import adopt, unfit
from myelos.geometry import Box
from myelos.imaging.crops import window
from myelos.models.types import Classifier
from myelos.slides.base import Slide
from myelos.smears.job import Job
from myelos.smears.looking import Look
from myelos.smears.rows import Image, Reading, ReadSettings
from myelos.wording import number_of

Row = dict[str, Any]
Cut = Callable[[Row], Image | None]  # a row of `cells` → what the classifier sees of it, None where nothing can be read


def from_field(even: Image, mpp: float, classifier: Classifier) -> Cut:
    """Windows of a field whose light was evened out, at its own scale."""

    def cut(row: Row) -> Image:
        return window(even, _middle(row), mpp / classifier.mpp, classifier.side)

    return cut


def from_slide(
    read: Callable[[Slide, Box, float], Image | None], slide: Slide, mpp: float, classifier: Classifier
) -> Cut:
    """Windows of a slide, each read by itself. read: (slide, box, downsample) → pixels with their white point set."""
    downsample = max(1.0, classifier.mpp / mpp)
    reach = 0.55 * classifier.side * classifier.mpp / mpp  # level-0 pixels, a little more than the window shows

    def cut(row: Row) -> Image | None:
        x, y = _middle(row)
        pixels = read(slide, Box(x - reach, y - reach, 2 * reach, 2 * reach), downsample)
        if pixels is None:
            return None
        height, width = pixels.shape[:2]
        return window(pixels, (width / 2, height / 2), mpp * downsample / classifier.mpp, classifier.side)

    return cut


def _middle(row: Row) -> tuple[float, float]:
    return row["x"] + row["width"] / 2, row["y"] + row["height"] / 2


def with_second_opinion(
    cells: Sequence[Row], opinions: Sequence[Row], cut: Cut, classifier: Classifier, *, batch: int = 64
) -> tuple[list[Row], list[Row]]:
    """Rows of `cells` with the adopted type, and of `opinions` with the classifier's added.

    A cell of which nothing can be read, or that is unlike those that the classifier was taught
    (`classification.gate`), keeps the detector's type.
    """
    named: list[Row] = []
    added: list[Row] = []
    for first in range(0, len(cells), batch):
        part = cells[first : first + batch]
        windows = [cut(row) for row in part]
        answers = iter(heard(classifier, [image for image in windows if image is not None]))
        for row, image in zip(part, windows, strict=True):
            shares = None if image is None else next(answers)
            if shares is None:
                named.append(dict(row))
                continue
            chosen = adopt(
                row["cell_type"],
                row["probability"],
                classifier.types,
                shares,
                classifier.threshold,
                decides=classifier.decides,
            )
            named.append({**row, "cell_type": chosen.cell_type, "probability": chosen.probability})
            added.append(_opinion(row, classifier, shares.tolist()))
    return named, [*opinions, *added]


def _opinion(row: Row, classifier: Classifier, shares: list[float]) -> Row:
    best = max(range(len(shares)), key=shares.__getitem__)
    return {
        "slide_id": row["slide_id"],
        "cell_id": row["cell_id"],
        "cell_type": classifier.types[best],
        "source": classifier.name,
        "scheme": "myelos",
        "probabilities": shares,
    }


def scale_for(classifier: Classifier | None, look: Look, settings: ReadSettings) -> float | None:
    """µm/px at which the classifier is asked about an image; None where it is not asked."""
    if classifier is None:
        return None
    mpp = _scale(look, settings)
    return None if unfit(classifier, mpp=mpp) else mpp


def _scale(look: Look, settings: ReadSettings) -> float | None:
    if not settings.common_scale:
        return None
    return look.resolution.mpp if look.by_tiles else look.reading_mpp


def known_types(job: Job, readings: Sequence[Reading]) -> tuple[str, ...]:
    """The types that a cell of these images can be given: what the rule never adopts is not counted as looked for."""
    asked = job.classifier
    if asked is None or all(scale_for(asked, one.look, job.settings) is None for one in readings):
        return tuple(job.detector.types)
    own = set(job.detector.types)
    added = [name for name in asked.types if asked.decides or own & set(taxonomy.ancestors(name))]
    return tuple(dict.fromkeys([*job.detector.types, *added]))


def unasked(job: Job, readings: Sequence[Reading]) -> tuple[str, ...]:
    """Sentences about images, and single cells, without a second opinion."""
    if job.classifier is None:
        return ()
    scales = [_scale(reading.look, job.settings) for reading in readings]
    reasons = Counter(unfit(job.classifier, mpp=mpp) for mpp in scales)
    return tuple(
        f"No second opinion on the cells of {number} of {number_of(len(readings), 'image')}: {why}."
        for why, number in sorted(reasons.items())
        if why
    ) + _unlike(job, readings)


def _unlike(job: Job, readings: Sequence[Reading]) -> tuple[str, ...]:
    """A sentence about cells that the classifier was not asked about, because it was taught none like them."""
    asked = job.classifier
    if asked is None or gate_of(asked) is None:
        return ()
    shown = [one for one in readings if scale_for(asked, one.look, job.settings) is not None]
    cells = sum(len(one.cells) for one in shown)
    heard_of = sum(row["source"] == asked.name for one in shown for row in one.opinions)
    if heard_of == cells:
        return ()
    one = f"{cells - heard_of} of {number_of(cells, 'cell')}"
    return (f"No second opinion on {one}: unlike the cells that {asked.name} was taught.",)
