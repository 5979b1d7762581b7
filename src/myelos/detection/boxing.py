"""Single-cell sets as annotated fields: a detector draws the box of the cell in the middle, the set names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.datasets.cells import CellImage
from myelos.detection.prepare import pooled_scales, prepare
from myelos.models.types import Boxes, Detector
from myelos.tables import write_bytes


@dataclass(frozen=True, slots=True)
class BoxingSettings:
    """score: least of a box. offset: largest distance of its middle from that of the image, as a share of its side."""

    score: float = 0.5
    offset: float = 0.15


def box_cells(
    cells: Sequence[CellImage],
    detector: Detector,
    out: Path,
    *,
    mpp: float | None = None,
    settings: BoxingSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, list[Path]]:
    """Copy the images to `out/images` with a COCO file of one box each; returns how many, and those left out.

    mpp: µm per pixel of the images, estimated from their red cells where None. Left out are images in which the
    detector sees no cell in the middle, and those with a second cell, whose type nobody named.
    """
    settings = settings or BoxingSettings()
    if mpp is None:
        estimate = pooled_scales({"all": list(cells)}, lambda cell: _read(cell.path), most=60)["all"]
        mpp = estimate.mpp if estimate else detector.mpp
    factor = mpp / detector.mpp
    rows, left_out = [], []
    (out / "images").mkdir(parents=True, exist_ok=True)
    for number, cell in enumerate(cells):
        image = _read(cell.path)
        (found,) = detector([prepare(image, factor=factor)])
        box = _central(found, image.shape[1] * factor, image.shape[0] * factor, settings)
        if box is None:
            left_out.append(cell.path)
        else:
            shutil.copyfile(cell.path, out / "images" / cell.path.name)
            rows.append((cell, image.shape, box / factor))
        if progress:
            progress(number + 1, len(cells))
    write_bytes(out / "annotations.json", json.dumps(_coco(rows), indent=1).encode())
    return len(rows), left_out


def _read(path: Path) -> NDArray[np.uint8]:
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _central(found: Boxes, width: float, height: float, settings: BoxingSettings) -> NDArray[np.float32] | None:
    """The one box (4,) x y width height in the middle, None where there is none or a second cell beside it."""
    sure = found.xywh[found.scores >= settings.score]
    if len(sure) != 1:
        return None
    offset = np.abs(sure[0, :2] + sure[0, 2:] / 2 - np.array([width, height]) / 2)
    return sure[0] if (offset <= settings.offset * np.array([width, height])).all() else None


def _coco(rows: Sequence[tuple[CellImage, tuple[int, ...], NDArray[np.float32]]]) -> dict[str, object]:
    names = sorted({cell.cell_type for cell, *_ in rows})
    number = {name: index + 1 for index, name in enumerate(names)}
    return {
        "categories": [{"id": index, "name": name} for name, index in number.items()],
        "images": [
            {"id": i, "file_name": f"images/{cell.path.name}", "width": shape[1], "height": shape[0]}
            for i, (cell, shape, _) in enumerate(rows)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": number[cell.cell_type], "bbox": [round(float(v), 2) for v in box]}
            for i, (cell, _, box) in enumerate(rows)
        ],
    }
