"""How well a classifier names cells, in the classes of any scheme: strict, tolerant, calibrated, with its refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy
from myelos.datasets.cells import CellRecord
from myelos.detection.prepare import POOLED, read_rgb, spread
from myelos.errors import InputError, UsageError
from myelos.imaging.appearance import AppearanceSettings, normalise
from myelos.imaging.crops import Image, cell_window, window
from myelos.imaging.matching import Look, goal_of, look_of, matched
from myelos.imaging.scale import estimate_mpp
from myelos.metrics.agreement import cohen_kappa, confusion_matrix
from myelos.metrics.calibration import expected_calibration_error
from myelos.metrics.classification import evaluate
from myelos.models.types import Classifier

Aside = list[dict[str, str]]
_LOOKED_AT = 200  # cells that tell the look of a source


def crop_of(
    record: CellRecord, *, mpp: float, to_mpp: float, side: int, appearance: AppearanceSettings | None = None
) -> Image:
    """(side, side, 3): what a classifier sees of a record. Raises InputError where its image cannot be read."""
    rgb = read_rgb(record.path)
    if record.box is None:
        return cell_window(rgb, mpp=mpp, to_mpp=to_mpp, side=side, appearance=appearance)
    x, y, width, height = record.box
    even = normalise(rgb, appearance or AppearanceSettings())
    return window(even, (x + width / 2, y + height / 2), mpp / to_mpp, side)


def crops_of(
    records: Sequence[CellRecord],
    *,
    to_mpp: float,
    side: int,
    mpp: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Image], list[int], Aside]:
    """Crops of the records that can be read, their indices, and the others with their reasons.

    mpp: as in `predictions`.
    """
    crops: list[Image] = []
    kept: list[int] = []
    aside: Aside = []
    scales = scales_of(records, mpp)
    for index, record in enumerate(records):
        try:
            crops.append(crop_of(record, mpp=record.mpp or scales[record.source], to_mpp=to_mpp, side=side))
            kept.append(index)
        except (InputError, cv2.error) as error:
            aside.append({"file": record.path.name, "reason": str(error)})
        if progress:
            progress(index + 1, len(records))
    return crops, kept, aside


def scheme_classes(scheme: str) -> tuple[str, ...]:
    """The types of a scheme without its coarser words for several of them, in its order."""
    if scheme not in taxonomy.SCHEMES:
        raise UsageError(f"there is no label scheme {scheme!r}", remedy=f"Choose one of {', '.join(taxonomy.SCHEMES)}")
    known = taxonomy.SCHEMES[scheme]
    coarse = {known.codes[code] for code in known.coarse}
    return tuple(name for name in known.types if name not in coarse)


def into_classes(
    probabilities: NDArray[np.float32], types: Sequence[str], classes: Sequence[str]
) -> NDArray[np.float64]:
    """(N, T) over types → (N, C + 1) over classes; the last column is what no class of the scheme covers."""
    result = np.zeros((len(probabilities), len(classes) + 1))
    for column, name in enumerate(types):
        target = taxonomy.coarsen(name, classes)
        result[:, classes.index(target) if target else -1] += probabilities[:, column]
    return result


def predictions(
    records: Sequence[CellRecord],
    classifier: Classifier,
    *,
    mpp: float | None = None,
    like: Look | Sequence[Look] | None = None,
    progress: Callable[[int, int], None] | None = None,
    batch: int = 64,
) -> tuple[NDArray[np.float32], list[int], Aside]:
    """(N, T) probabilities of the records that can be read, their indices, and the others with their reasons.

    mpp: µm/px of records that do not say it; where that is unknown too, it is taken from their red cells. like: the
    look whose stain the cells of each source are brought to; of several, such as `taught`, the nearest, and none where
    that is near enough.
    """
    rows, kept, aside = [], [], []
    waiting: list[Image] = []
    scales = scales_of(records, mpp)
    cut = partial(_cut, scales=scales, classifier=classifier)
    pairs = _pairs(records, cut, like) if like else {}
    for index, record in enumerate(records):
        try:
            crop = cut(record)
            pair = pairs.get(record.source)
            waiting.append(matched(crop, *pair, background=False) if pair else crop)
            kept.append(index)
        except (InputError, cv2.error) as error:
            aside.append({"file": record.path.name, "reason": str(error)})
        if len(waiting) == batch or index + 1 == len(records):
            rows.append(classifier(waiting))
            waiting = []
        if progress:
            progress(index + 1, len(records))
    empty = np.zeros((0, len(classifier.types)), np.float32)
    return (np.concatenate(rows) if rows else empty), kept, aside


def taught(classifier: Classifier) -> tuple[Look, ...]:
    """The looks of the cells that the classifier learned from, source by source; none where no card says them."""
    card = getattr(classifier, "card", None)
    return () if card is None else tuple(Look.of(card.looks[source]) for source in sorted(card.looks))


def look_of_cells(records: Sequence[CellRecord], classifier: Classifier, *, mpp: float | None = None) -> Look:
    """The look of some of these cells as the classifier sees them; raises UsageError where it cannot be told."""
    few = spread(records, _LOOKED_AT)
    return _look(few, partial(_cut, scales=scales_of(few, mpp), classifier=classifier))


def _cut(record: CellRecord, *, scales: Mapping[str, float], classifier: Classifier) -> Image:
    own = record.mpp or scales[record.source]
    return crop_of(record, mpp=own, to_mpp=classifier.mpp, side=classifier.side)


def _pairs(
    records: Sequence[CellRecord], cut: Callable[[CellRecord], Image], like: Look | Sequence[Look]
) -> dict[str, tuple[Look, Look]]:
    """Source → its look and the one that its cells are brought to, of sources that are."""
    sources: dict[str, list[CellRecord]] = {}
    for record in records:
        sources.setdefault(record.source, []).append(record)
    looks = {source: _look(spread(cells, _LOOKED_AT), cut) for source, cells in sources.items()}
    goals = {source: like if isinstance(like, Look) else goal_of(own, like) for source, own in looks.items()}
    return {source: (own, goal) for source, own in looks.items() if (goal := goals[source])}


def _look(records: Sequence[CellRecord], cut: Callable[[CellRecord], Image]) -> Look:
    """What cannot be read is left out here: whoever names the cells says so."""
    crops = []
    for record in records:
        with suppress(InputError, cv2.error):
            crops.append(cut(record))
    return look_of(crops)


def scales_of(records: Sequence[CellRecord], mpp: float | None = None) -> dict[str, float]:
    """Source → µm/px of the records that do not say it: as given, or from the red cells of their images.

    Raises UsageError where neither is known.
    """
    paths: dict[str, list[Path]] = {}
    for record in records:
        if record.mpp is None:
            paths.setdefault(record.source, []).append(record.path)
    return {source: mpp or _estimated(source, sorted(set(own))) for source, own in paths.items()}


def _estimated(source: str, paths: Sequence[Path]) -> float:
    estimate = estimate_mpp([read_rgb(path) for path in spread(paths, POOLED)])
    if estimate is None:
        raise UsageError(
            f"the scale of {source} is not known",
            why="a classifier sees every cell at one scale, and too few red cells are in sight to tell it",
            remedy="Pass its µm per pixel: --mpp",
        )
    return estimate.mpp


def figures(
    records: Sequence[CellRecord],
    probabilities: NDArray[np.float32],
    types: Sequence[str],
    *,
    scheme: str,
    threshold: float = 0.0,
    aside: Aside | None = None,
) -> dict[str, Any]:
    """The figures of named cells in the classes of a scheme.

    records: N cells; probabilities: (N, T) over `types`. Cells whose label is no class of the scheme, or a coarser word
    for several, are set aside. A cell of which most probability falls to no class of the scheme counts as missed.
    """
    classes = scheme_classes(scheme)
    truth = [taxonomy.coarsen(record.cell_type, classes) for record in records]
    labelled = [index for index, name in enumerate(truth) if name is not None]
    aside = [
        *(aside or []),
        *(no_class(records[i].path, records[i].cell_type, scheme) for i, name in enumerate(truth) if name is None),
    ]
    shares = into_classes(probabilities, types, classes)[labelled]
    said = [classes[best] if best < len(classes) else None for best in shares.argmax(axis=1)]
    meant = [str(truth[index]) for index in labelled]
    confidence, right = shares.max(axis=1), np.array([t == s for t, s in zip(meant, said, strict=True)], bool)
    return (
        {"images": len(labelled), "scheme": scheme}
        | figures_of_words(meant, said, classes)
        | {
            "ece": expected_calibration_error(np.clip(confidence, 0, 1), right) if labelled else None,
            "unidentified": _refused(confidence, right, threshold),
            "set_aside": aside,
        }
    )


def figures_of_words(truth: Sequence[str], said: Sequence[str | None], classes: Sequence[str]) -> dict[str, Any]:
    """Those of the figures that need no probabilities; None: what was missed or called by no class."""
    result, matrix = evaluate(truth, said, labels=classes), confusion_matrix(truth, said, classes)
    seen = {name: row for name, row in result["classes"].items() if row["support"] or row["predicted"]}
    return {
        "accuracy": result["accuracy"],
        "macro_f1": result["macro"]["f1"],
        "weighted_f1": result["weighted"]["f1"],
        "kappa": cohen_kappa(matrix[:, :-1]),
        "classes": {name: _strict(row) for name, row in seen.items()},
        "tolerant": _tolerant(result, seen),
        "confusion": {"classes": list(classes), "matrix": matrix.tolist()},
    }


def no_class(path: Path, cell_type: str, scheme: str) -> dict[str, str]:
    """A cell that cannot be judged, as it stands among what was set aside."""
    return {"file": path.name, "reason": f"{cell_type} is no single class of {scheme}"}


def _strict(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith("tolerant_")}


def _tolerant(result: Mapping[str, Any], seen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    def own(row: Mapping[str, Any]) -> dict[str, Any]:
        return {key.removeprefix("tolerant_"): value for key, value in row.items() if key.startswith("tolerant_")}

    return {
        "accuracy": result["tolerant_accuracy"],
        "macro_f1": result["macro"]["tolerant_f1"],
        "weighted_f1": result["weighted"]["tolerant_f1"],
        "classes": {name: own(row) | {"support": row["support"]} for name, row in seen.items()},
    }


def _refused(confidence: NDArray[np.float64], right: NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    """What the threshold for "unidentified" does: how many answers are left, and how many of them are wrong."""
    given = confidence >= threshold
    return {
        "threshold": threshold,
        "coverage": float(given.mean()) if len(given) else None,
        "risk": float((~right[given]).mean()) if given.any() else None,
    }
