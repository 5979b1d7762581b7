"""How well a detector finds cells on annotated fields, prepared exactly as a count prepares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from myelos.datasets.layouts import read_fields, read_sets
from myelos.datasets.records import FieldRecord
from myelos.detection.predictions import Prediction, read_predictions
from myelos.detection.prepare import Image, by_scale, pooled_scales, prepare, read_rgb, scale_key, spread
from myelos.detection.run import DetectionSettings, ahead, ask, batches, resolve
from myelos.detection.tiling import Tile, plan
from myelos.detection.working_scale import working_mpp
from myelos.geometry import Box
from myelos.imaging.appearance import AppearanceSettings
from myelos.metrics.detection import evaluate
from myelos.models.types import Detector

Progress = Callable[[str, int, int], None]
FLOOR = 0.02  # score of the weakest box that average precision looks at
FIELDS_ASKED = 6  # of one source and size, where only the detector can tell a scale
TOGETHER = 4  # fields whose tiles share batches


def evaluate_model(
    data: Sequence[Path],
    detector: Detector,
    *,
    mpp: float | None = None,
    scheme: str | None = None,
    settings: DetectionSettings | None = None,
    appearance: AppearanceSettings | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Figures of a detector on annotated folders, together and, where there are several, by `sources`.

    mpp: of all fields; where None it is read from the red cells, pooled over the fields of one source and size.
    The result is that of `metrics.detection.evaluate`, with the number of `faults` of the labels.
    """
    records, faults = read_sets(data, scheme=scheme)
    result = evaluate_records(
        records, detector, mpp=mpp, settings=settings, appearance=appearance, threads=threads, progress=progress
    )
    return result | {"faults": len(faults)}


def evaluate_records(
    records: Sequence[FieldRecord],
    detector: Detector,
    *,
    mpp: float | None = None,
    settings: DetectionSettings | None = None,
    appearance: AppearanceSettings | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """As `evaluate_model`, on annotated fields that were read before, such as one part of a split."""
    settings = replace(settings or DetectionSettings(), threshold=FLOOR)
    factors = common_factors(records, detector, mpp)
    load = _Loader(detector, settings, appearance or AppearanceSettings(), factors)
    loaded = ahead(load, records, threads=threads, depth=TOGETHER + threads)
    predictions: list[Prediction] = []
    for group in batches(loaded, TOGETHER):
        boxes = iter(ask(detector, [image for images, _ in group for image in images]))
        for _, tiles in group:
            cells = resolve([(tile, next(boxes)) for tile in tiles], tiles, detector, settings)
            predictions.append((cells.xywh, cells.scores, [detector.types[i] for i in cells.types]))
        if progress:
            progress("reading", len(predictions), len(records))
    return _by_source(records, predictions, detector.threshold)


def evaluate_files(
    truth: Path, predictions: Path, *, threshold: float = 0.5, scheme: str | None = None
) -> dict[str, Any]:
    """Figures of predictions that any program made; see `predictions.read_predictions` for their forms."""
    folder = truth if truth.is_dir() else truth.parent
    records, faults = read_fields(folder, layout=None if truth.is_dir() else "coco", scheme=scheme)
    found = read_predictions(predictions, records, scheme=scheme, truth=truth)
    return _by_source(records, found, threshold) | {"faults": len(faults)}


def common_factors(records: Sequence[FieldRecord], detector: Detector, mpp: float | None = None) -> dict[Path, float]:
    """Path of each field → the detector's pixels per pixel of it; 1 where no scale at all can be told."""
    if mpp is not None:
        return {record.path: mpp / detector.mpp for record in records}
    groups = by_scale(records)
    known = {group: one.mpp if one else None for group, one in pooled_scales(groups, read_rgb).items()}
    for group in [group for group, scale in known.items() if scale is None]:
        known[group] = working_mpp([read_rgb(path) for path in spread(groups[group], FIELDS_ASKED)], detector)
    return {record.path: (known[scale_key(record)] or detector.mpp) / detector.mpp for record in records}


class _Loader:
    """Field → the pixels of its tiles, and the tiles."""

    def __init__(
        self,
        detector: Detector,
        settings: DetectionSettings,
        appearance: AppearanceSettings,
        factors: Mapping[Path, float],
    ) -> None:
        self._detector, self._settings, self._appearance, self._factors = detector, settings, appearance, factors

    def __call__(self, record: FieldRecord) -> tuple[list[Image], list[Tile]]:
        factor, detector = self._factors[record.path], self._detector
        rgb = read_rgb(record.path)
        prepared = prepare(rgb, factor=factor, appearance=self._appearance)
        tiles = plan(
            Box(0, 0, rgb.shape[1], rgb.shape[0]),
            mpp_slide=factor * detector.mpp,
            detector_mpp=detector.mpp,
            tile=detector.tile,
            overlap_um=self._settings.overlap,
        )
        return [tile.cut(prepared) for tile in tiles], tiles


def _by_source(records: Sequence[FieldRecord], predictions: Sequence[Prediction], threshold: float) -> dict[str, Any]:
    truth = [record.truth() for record in records]
    result = evaluate(truth, predictions, threshold=threshold)
    sources = sorted({record.source for record in records})
    if len(sources) > 1:
        result["sources"] = {}
        for source in sources:
            rows = [i for i, record in enumerate(records) if record.source == source]
            own = evaluate([truth[i] for i in rows], [predictions[i] for i in rows], threshold=threshold)
            result["sources"][source] = own
    return result
