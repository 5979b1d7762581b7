"""How well real cells can be told from rendered ones, by what, and which cells gave themselves away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.realism_cells import (
    ANALYSER,
    TYPES,
    CellSettings,
    Tell,
    key,
    named,
    real_crops,
    rendered_crops,
    trained,
)
from myelos.datasets.cell_splits import split_cells
from myelos.datasets.cells import CellRecord
from myelos.metrics.binary import binary_figures
from myelos.training.crops import Crop, plain

Images = NDArray[np.uint8]
SHOWN = 12
ROWS = (
    ("rendered, found out", False, False),
    ("rendered, taken for real", False, True),
    ("real, taken for rendered", True, False),
    ("real, known as real", True, True),
)


def gap(
    records: Sequence[CellRecord], per_type: int, settings: CellSettings, out: Path, part: str, tell: Tell
) -> dict[str, Any]:
    """AUROC of a small network and of simple measures between real cells and ones rendered as by their analyser.

    Both learn from one half of the cells and judge the other; groups of near-duplicates and pools of rendered cells are
    on one side. Every type is as frequent among the real as among the rendered. Writes `gave_away-<part>.png`.
    """
    folder = out / f"gap-{key(settings.side, settings.mpp, settings.seed, ANALYSER)}"
    rendered = rendered_crops(ANALYSER, per_type, settings, folder / "rendered", tell, seed=settings.seed + 1)
    halves = real_sides(records, per_type)
    learned, judged = (
        [marked(c, real=True) for c in real_crops(halves[side], settings, tell)]
        + [marked(c, real=False) for c in of_side(rendered, side, per_type)]
        for side in ("learn", "judge")
    )
    epochs = settings.epochs
    network = trained(learned, 2, epochs, settings, folder / part, tell, what="training real against rendered")
    logits = named(network, judged, settings.side)
    scores = 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))
    real = np.array([crop.source != "rendered" for crop in judged])
    draw_given_away(judged, scores, settings.side, out / f"gave_away-{part}.png")
    found = binary_figures(scores, real, 0.5)
    result = {"network": {name: found[name] for name in ("cells", "positives", "auroc", "auroc_interval")}}
    return result | {"measures": by_measures(learned, judged, settings.side), "picture": f"gave_away-{part}.png"}


def real_sides(records: Sequence[CellRecord], per_type: int) -> dict[str, list[CellRecord]]:
    """Real cells to learn from and to judge, at most half of `per_type` of each type on each side."""
    sides = split_cells(records, fractions={"learn": 0.5, "judge": 0.5}, seed=1)
    kept: dict[str, list[CellRecord]] = {}
    for side, indices in sides.items():
        of_type = {kind: [records[i] for i in indices if records[i].cell_type == kind] for kind in TYPES}
        kept[side] = [record for kind in TYPES for record in of_type[kind][: per_type // 2]]
    return kept


def of_side(rendered: Sequence[Crop], side: str, per_type: int) -> list[Crop]:
    """The first half of the rendered cells of each type is learned from, the second judged."""
    first = [int(crop.name.rsplit("-", 1)[1]) < per_type // 2 for crop in rendered]
    return [crop for crop, early in zip(rendered, first, strict=True) if early == (side == "learn")]


def marked(crop: Crop, *, real: bool) -> Crop:
    return replace(crop, allowed=np.array([real, not real]))


def by_measures(learned: Sequence[Crop], judged: Sequence[Crop], side: int) -> dict[str, float]:
    """AUROC of logistic regressions on groups of simple measures of a cell."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    tables = [[measures(plain(crop, side)) for crop in crops] for crops in (learned, judged)]
    answers = [np.array([crop.source != "rendered" for crop in crops]) for crops in (learned, judged)]
    result = {}
    for group in tables[0][0]:
        rows = [np.array([row[group] for row in table]) for table in tables]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        scores = model.fit(rows[0], answers[0]).predict_proba(rows[1])[:, 1]
        result[group] = binary_figures(scores, answers[1], 0.5)["auroc"]
    return result


def measures(image: Images) -> Mapping[str, list[float]]:
    """Colours, fine texture and sizes of nucleus, cytoplasm and surroundings of the cell in the middle."""
    light = (image.astype(np.float32) + 1) / 241
    density = -np.log10(np.clip(light, 1e-3, 1))
    smooth = cv2.GaussianBlur(density[..., 1], (0, 0), 1.5)
    y, x = np.indices(smooth.shape)
    middle = np.hypot(x - smooth.shape[1] / 2, y - smooth.shape[0] / 2) < 0.38 * smooth.shape[0]
    nucleus = middle & (smooth > 0.55)
    cytoplasm = middle & (smooth > 0.18) & ~nucleus
    masks = (nucleus, cytoplasm, ~middle)
    fine = [density[..., 1] - cv2.GaussianBlur(density[..., 1], (0, 0), sigma) for sigma in (1.0, 2.5)]
    texture = [float(layer[m].std()) if m.any() else 0.0 for m in masks for layer in fine]
    colours = [float(np.median(density[m][:, c])) if m.any() else 0.0 for m in masks for c in range(3)]
    sizes = [float(nucleus.sum()), float(cytoplasm.sum()), float(smooth[~middle].mean())]
    return {"colours": colours, "texture": texture, "sizes": sizes, "all": [*colours, *texture, *sizes]}


def draw_given_away(crops: Sequence[Crop], scores: NDArray[np.floating], side: int, path: Path) -> None:
    """A row for each of `ROWS`: the cells of which the network is surest. With real cells: not for passing on."""
    rows = []
    for title, real, high in ROWS:
        own = [i for i, crop in enumerate(crops) if (crop.source != "rendered") == real]
        order = sorted(own, key=lambda i: -scores[i] if high else scores[i])[:SHOWN]
        strip = np.hstack([plain(crops[i], side) for i in order])
        head = np.full((18, SHOWN * side, 3), 255, np.uint8)
        cv2.putText(head, title, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        wide = np.full((side, SHOWN * side, 3), 255, np.uint8)
        wide[:, : strip.shape[1]] = strip
        rows += [head, wide]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
