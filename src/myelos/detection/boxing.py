"""Single-cell sets as annotated fields: a detector draws the box of the cell in the middle, the set names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myelos.datasets.cells import CellRecord
from myelos.detection.prepare import pooled_scales, prepare, read_rgb
from myelos.models.types import Boxes, Detector
from myelos.tables import write_bytes


@dataclass(frozen=True, slots=True)
class BoxingSettings:
    """score: least of a box. offset: largest distance of its middle from that of the image, margin: least distance of
    its edges from the border, both as shares of the image's side. doubtful: score from which anything else in the image
    is an area that is neither cell nor background."""

    score: float = 0.5
    offset: float = 0.12
    margin: float = 0.02
    doubtful: float = 0.05


def box_cells(
    cells: Sequence[CellRecord],
    detector: Detector,
    out: Path,
    *,
    mpp: float | None = None,
    settings: BoxingSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, list[Path]]:
    """Copy the images to `out/images` with a COCO file of one box each; returns how many, and those left out.

    mpp: µm per pixel of the images, estimated from their red cells where None. Left out are images in which the
    detector sees no whole cell in the middle. Whatever else it sees is ignored in training (a COCO crowd), because
    nobody named it.
    """
    settings = settings or BoxingSettings()
    if mpp is None:
        estimate = pooled_scales({"all": list(cells)}, lambda cell: read_rgb(cell.path), most=60)["all"]
        mpp = estimate.mpp if estimate else detector.mpp
    factor = mpp / detector.mpp
    rows: list[_Boxed] = []
    left_out: list[Path] = []
    (out / "images").mkdir(parents=True, exist_ok=True)
    for number, cell in enumerate(cells):
        image = read_rgb(cell.path)
        (found,) = detector([prepare(image, factor=factor)])
        size = np.array([image.shape[1], image.shape[0]]) * factor
        middle = _central(found, size, settings)
        if middle is None:
            left_out.append(cell.path)
        else:
            shutil.copyfile(cell.path, out / "images" / cell.path.name)
            others = (found.scores >= settings.doubtful) & (np.arange(len(found)) != middle)
            rows.append(
                _Boxed(cell, image.shape[1], image.shape[0], found.xywh[middle] / factor, found.xywh[others] / factor)
            )
        if progress:
            progress(number + 1, len(cells))
    write_bytes(out / "annotations.json", json.dumps(_coco(rows), indent=1).encode())
    return len(rows), left_out


@dataclass(frozen=True, slots=True)
class _Boxed:
    cell: CellRecord
    width: int
    height: int
    box: NDArray[np.float32]  # (4,) x y width height
    others: NDArray[np.float32]  # (N, 4)


def _central(found: Boxes, size: NDArray[np.float64], settings: BoxingSettings) -> int | None:
    """Index of the box in the middle of an image of `size` (width, height), None where there is none that is whole."""
    for index in np.flatnonzero(found.scores >= settings.score):
        low, high = found.xywh[index, :2] / size, (found.xywh[index, :2] + found.xywh[index, 2:]) / size
        inside = (low >= settings.margin).all() and (high <= 1 - settings.margin).all()
        if inside and (np.abs((low + high) / 2 - 0.5) <= settings.offset).all():
            return int(index)
    return None


def _coco(rows: Sequence[_Boxed]) -> dict[str, object]:
    names = sorted({row.cell.cell_type for row in rows})
    number = {name: index + 1 for index, name in enumerate(names)}
    annotations = [
        {"image_id": i, "category_id": number[row.cell.cell_type], "bbox": _rounded(box), "iscrowd": int(crowd)}
        for i, row in enumerate(rows)
        for crowd, boxes in ((False, [row.box]), (True, row.others))
        for box in boxes
    ]
    return {
        "categories": [{"id": index, "name": name} for name, index in number.items()],
        "images": [
            {"id": i, "file_name": f"images/{row.cell.path.name}", "width": row.width, "height": row.height}
            for i, row in enumerate(rows)
        ],
        "annotations": [{"id": i} | annotation for i, annotation in enumerate(annotations)],
    }


def _rounded(box: NDArray[np.float32]) -> list[float]:
    return [round(float(value), 2) for value in box]
