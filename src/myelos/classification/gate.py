"""Whether a cell is like those that a classifier was taught: only then has its word a place beside the detector's.

The score is that of `outlier`, fitted to training cells; its threshold lets 99.5 % of the cells of the choosing
part pass. Both lie in the model file beside the weights. Models without them are asked about every cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from myelos.classification.evaluate import Aside, crops_of
from myelos.classification.judging import as_aside, parts_of
from myelos.classification.outlier import OutlierModel, fit_outlier
from myelos.datasets.cell_sets import read_cell_sets
from myelos.detection.prepare import spread
from myelos.errors import UsageError
from myelos.imaging.crops import Image
from myelos.models import load_classifier
from myelos.models.files import ModelCard, find, read_card, store_beside
from myelos.models.types import Classifier, FeaturedClassifier

PARTS = ("train", "choose", "test")


@dataclass(frozen=True, slots=True)
class GateSettings:
    """learned, judged: at most so many cells to fit to, and of each other part. least: of both, fewer tell no spread.
    kept: the share of the cells of the choosing part that passes."""

    learned: int = 1200
    judged: int = 700
    least: int = 100
    kept: float = 0.995


def gate_of(classifier: Classifier) -> OutlierModel | None:
    """The gate of a classifier that has one and does not decide: who decides was measured on all cells."""
    arrays = getattr(classifier, "beside", {})
    return None if classifier.decides or not arrays else OutlierModel.from_arrays(arrays)


def heard(classifier: Classifier, crops: Sequence[Image]) -> list[NDArray[np.float32] | None]:
    """(T,) probabilities of each crop; None of those that are unlike the training cells."""
    gate = gate_of(classifier)
    if gate is None or not crops:
        return list(classifier(crops))
    shares, features = cast(FeaturedClassifier, classifier).with_features(crops)  # a gate was fitted to its features
    unlike = gate.score(features) > gate.threshold
    return [None if other else row for row, other in zip(shares, unlike, strict=True)]


def add_gate(model: str | Path, data: Sequence[Path], *, mpp: float | None = None) -> tuple[ModelCard, Aside]:
    """Write the gate of a classifier that is there into its file; the card, and what was set aside with its reason.

    The weights stay as they are. data: the folders that it was trained on, split as the recipes do. mpp: µm/px of sets
    that do not say. Raises UsageError where these are too few.
    """
    path, settings = find(model), GateSettings()
    card = read_card(path)
    records, faults = read_cell_sets(data)
    parts = parts_of(records, card)
    known = {name: [record for record in parts[name] if record.cell_type in card.types] for name in PARTS}
    known = {name: spread(own, settings.learned if name == "train" else settings.judged) for name, own in known.items()}
    read = {name: crops_of(own, to_mpp=card.mpp, side=card.tile, mpp=mpp) for name, own in known.items()}
    crops = {name: own for name, (own, _, _) in read.items()}
    labels = [known["train"][i].cell_type for i in read["train"][1]]
    found = gate_from(path, crops, labels, settings=settings)
    if not found.unlike:
        raise UsageError(
            f"{len(crops['train'])} and {len(crops['choose'])} cells are too few to tell what is unlike them",
            remedy=f"Pass the folders that it was trained on: {settings.least} or more are needed of each part",
        )
    return found, as_aside(faults) + [row for _, _, unread in read.values() for row in unread]


def gate_from(
    path: Path,
    crops: dict[str, list[Image]],
    labels: Sequence[str],
    *,
    settings: GateSettings | None = None,
) -> ModelCard:
    """Fit the gate to the crops of `train`, set its threshold by those of `choose`, judge it on those of `test`.

    labels: of the crops of `train`. Returns the new card; nothing changes where there are too few cells.
    """
    settings, card = settings or GateSettings(), read_card(path)
    if min(len(crops["train"]), len(crops["choose"])) < settings.least:
        return card
    classifier: Any = load_classifier(path)
    features = {name: classifier.with_features(own)[1] for name, own in crops.items() if own}
    gate = _as_stored(fit_outlier(features["train"], labels)).with_threshold(features["choose"], kept=settings.kept)
    test = features.get("test", features["choose"][:0])
    flagged = float((gate.score(test) > gate.threshold).mean()) if len(test) else None
    card = replace(card, unlike={"fitted": len(labels), "judged": len(test), "flagged": flagged})
    store_beside(path, gate.to_arrays(), card)
    return card


def _as_stored(gate: OutlierModel) -> OutlierModel:
    """In half precision, so that the threshold is that of what the file holds."""
    means, whitening = (values.astype(np.float16).astype(np.float32) for values in (gate.means, gate.whitening))
    return OutlierModel(means, whitening)
