"""At what scale to read fields whose scale nobody knows: the one at which the detector sees cells of a cell's size.

Single fields often show too few whole red cells for an estimate. Read at the size they have, their cells may be four
times as large as any that the detector was trained on, and are missed. So the detector is asked at a ladder of scales,
and the scale is taken at which its surest cells are as large as white cells are. This is good enough to find cells and
far too rough to measure with: the resolution of the field stays unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.detection.prepare import Image, prepare, spread
from myelos.imaging.appearance import AppearanceSettings
from myelos.models.types import Boxes, Detector


@dataclass(frozen=True, slots=True)
class WorkingScaleSettings:
    """low, high: µm/px looked through, in `rungs` equal steps of the logarithm. cell_um: side of the box of a usual
    white cell, spread: of its logarithm. usual_mpp: of cameras on microscopes, usual_spread: of its logarithm; far from
    it a scale needs better evidence. surest: cells of a field that have a say. least: mean merit below which no scale
    is better than any other. fields: how many of a smear are asked."""

    low: float = 0.05
    high: float = 0.6
    rungs: int = 10
    cell_um: float = 13.0
    spread: float = 0.3
    usual_mpp: float = 0.1
    usual_spread: float = 1.2
    surest: int = 3
    least: float = 0.3
    fields: int = 6


def working_mpp(
    images: Sequence[Image],
    detector: Detector,
    *,
    appearance: AppearanceSettings | None = None,
    settings: WorkingScaleSettings | None = None,
) -> float | None:
    """µm/px to read these fields at, None where no scale shows cells. images: of one camera and magnification."""
    settings = settings or WorkingScaleSettings()
    ladder = np.geomspace(settings.low, settings.high, settings.rungs)
    chosen = spread(images, settings.fields)
    merits = np.array([_merit_of_rung(chosen, mpp, detector, appearance, settings) for mpp in ladder])
    usual = np.exp(-((np.log(ladder / settings.usual_mpp) / settings.usual_spread) ** 2) / 2)
    best = int((merits * usual).argmax())
    if merits[best] < settings.least:
        return None
    near = slice(max(0, best - 1), best + 2)  # the mean of neighbours is finer than the ladder
    return float(np.exp(np.average(np.log(ladder[near]), weights=merits[near])))


def _merit_of_rung(
    images: Sequence[Image],
    mpp: float,
    detector: Detector,
    appearance: AppearanceSettings | None,
    settings: WorkingScaleSettings,
) -> float:
    tiles = [_middle(image, mpp / detector.mpp, detector.tile, appearance) for image in images]
    return float(np.mean([merit(found, detector.mpp, settings) for found in detector(tiles)]))


def _middle(image: Image, factor: float, tile: int, appearance: AppearanceSettings | None) -> NDArray[np.uint8]:
    """The middle of a field at a scale, no larger than a tile."""
    side = max(1, round(tile / factor))
    y, x = max(0, (image.shape[0] - side) // 2), max(0, (image.shape[1] - side) // 2)
    return prepare(image[y : y + side, x : x + side], factor=factor, appearance=appearance)[:tile, :tile]


def merit(found: Boxes, mpp: float, settings: WorkingScaleSettings) -> float:
    """Mean score of the surest cells, each the less the further its size is from that of a white cell."""
    if not len(found):
        return 0.0
    scores, sides = found.scores[: settings.surest], np.sqrt(np.prod(found.xywh[: settings.surest, 2:], axis=1))
    distance = np.log(sides * mpp / settings.cell_um) / settings.spread
    return float(np.average(scores * np.exp(-(distance**2) / 2), weights=np.maximum(scores, 1e-6)))
