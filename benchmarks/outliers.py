"""How well a classifier tells what is no such cell: AUROC of the outlier score against cells that it never trained on.

    python -m benchmarks.outliers --data DATA --model cells-blood [--device cuda] [--cells 1500]

DATA holds pbc_dib_cells, mll_bone_marrow_cells, bm_graz_he, pig_wbc_fields, wbc_masks_tecom and wsi_samples. The score
is fitted to cells of the part "train" of the usual split, its threshold comes from "choose", it is judged on "test".
No image of another kind is seen in fitting. Other scores are measured beside it, because the choice was made here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.classification.evaluate import crops_of
from myelos.classification.outlier import fit_outlier
from myelos.cli.embed import loaded
from myelos.datasets.cell_splits import split_cells
from myelos.datasets.cells import read_cells
from myelos.datasets.layouts import read_fields
from myelos.detection.prepare import read_rgb, spread
from myelos.imaging.appearance import normalise
from myelos.imaging.crops import CELL_APPEARANCE, window
from myelos.metrics.roc import auroc
from myelos.networks.encoder import FrozenEncoder
from myelos.representation.neighbours import NeighbourIndex, unit

Image = NDArray[np.uint8]
Scorer = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.floating]]
WHITE_CELL = 12.0  # µm: a white cell, where the images state no scale
SETS = {"blood": ("pbc_dib_cells",), "marrow": ("mll_bone_marrow_cells", "pbc_dib_cells")}
SCHEMES = {"pbc_dib_cells": "pbc13", "mll_bone_marrow_cells": "mll21"}
TISSUE = {"bm_graz_he": 0.25, "wsi_samples": 0.5}  # µm per pixel, the first a guess of ours


def tissue(images: Sequence[Image], mpp: float, to_mpp: float, side: int, count: int, seed: int) -> list[Image]:
    """Windows of sections that are not empty."""
    rng = np.random.default_rng(seed)
    found: list[Image] = []
    while len(found) < count:
        image = images[rng.integers(len(images))]
        centre = rng.uniform(0, image.shape[1]), rng.uniform(0, image.shape[0])
        crop = window(image, centre, mpp / to_mpp, side)
        if (crop.min(axis=2) < 200).mean() > 0.3:
            found.append(normalise(crop, CELL_APPEARANCE))
    return found


def pigs(folder: Path, to_mpp: float, side: int) -> list[Image]:
    """White cells of a pig, through the eyepiece of another microscope."""
    crops = []
    for field in read_fields(folder)[0]:
        rgb = normalise(read_rgb(field.path), CELL_APPEARANCE)
        for x, y, width, height in field.boxes:
            mpp = WHITE_CELL / np.sqrt(width * height)
            crops.append(window(rgb, (x + width / 2, y + height / 2), mpp / to_mpp, side))
    return crops


def rapid(folder: Path, to_mpp: float, side: int) -> list[Image]:
    """White cells in a rapid stain on a yellow ground, sized by their masks."""
    crops = []
    for path in sorted((folder / "images").glob("*.bmp")):
        mask = cv2.imread(str(folder / "masks" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        y, x = np.nonzero(mask)
        mpp = WHITE_CELL / np.sqrt(4 / np.pi * len(x))
        crops.append(window(normalise(read_rgb(path), CELL_APPEARANCE), (x.mean(), y.mean()), mpp / to_mpp, side))
    return crops


def noise(side: int, count: int, seed: int) -> list[Image]:
    """Noise of several grain sizes, in grey and in colour, and plain colours."""
    rng = np.random.default_rng(seed)
    crops = []
    for index in range(count):
        cells = int(rng.choice([1, 6, 18, side]))
        small = rng.integers(0, 256, (cells, cells, 3 if index % 2 else 1), dtype=np.uint8)
        grown = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, -1)
        crops.append(np.ascontiguousarray(np.broadcast_to(grown, (side, side, 3))))
    return crops


def others(data: Path, mpp: float, side: int, count: int) -> dict[str, list[Image]]:
    """What is no blood cell of this stain, by kind."""
    sections = [read_rgb(path) for path in sorted((data / "bm_graz_he" / "images").glob("*.png"))]
    slide = _slide(data / "wsi_samples" / "CMU-1-Small-Region.svs")
    return {
        "marrow section, H&E (bm_graz_he)": tissue(sections, TISSUE["bm_graz_he"], mpp, side, count, 1),
        "tissue section, H&E (CMU-1)": tissue([slide], TISSUE["wsi_samples"], mpp, side, count, 2),
        "white cells of a pig (pig_wbc_fields)": pigs(data / "pig_wbc_fields", mpp, side),
        "white cells in a rapid stain (wbc_masks_tecom)": rapid(data / "wbc_masks_tecom", mpp, side),
        "noise and plain colours": noise(side, count, 3),
    }


def _slide(path: Path) -> Image:
    from myelos.geometry import Box
    from myelos.slides import open_slide

    with open_slide(path) as slide:
        return slide.read(Box(0, 0, slide.width, slide.height), TISSUE["wsi_samples"])


def scorers(features: NDArray[np.float32], labels: Sequence[str]) -> dict[str, Scorer]:
    """Ours and those that it is compared with; higher means less like a cell."""
    fitted = {f"Mahalanobis, shrinkage {s:g}": fit_outlier_with(features, labels, s) for s in (0.001, 0.01, 0.1, 1.0)}
    index = NeighbourIndex(features)
    directions = fit_outlier_with(unit(features) * 10, labels, 0.01)
    return {
        **fitted,
        "Mahalanobis of unit vectors": lambda f, _: directions(unit(f) * 10, _),
        "cosine of the tenth neighbour": lambda f, _: -index.nearest(f, 10)[1][:, -1],
        "energy (Liu 2020)": lambda _, logits: -np.log(np.exp(logits).sum(axis=1)),
        "one minus the best probability": lambda _, logits: -(np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)),
    }


def fit_outlier_with(features: NDArray[np.float32], labels: Sequence[str], shrinkage: float) -> Scorer:
    from myelos.classification.outlier import OutlierSettings

    model = fit_outlier(features, labels, settings=OutlierSettings(shrinkage=shrinkage))
    return lambda f, _: model.score(f)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--model", default="cells-blood")
    made.add_argument("--device", default="cpu")
    made.add_argument("--cells", type=int, help="at most so many to fit to, and of every kind that is no cell")
    options = made.parse_args()
    classifier = loaded(options.model, device=options.device)
    encoder = FrozenEncoder(classifier.network, device=options.device)
    read = [read_cells(options.data / name, scheme=SCHEMES[name])[0] for name in SETS[classifier.card.specimen]]
    records = [record for one in read for record in one]
    split = split_cells(records)
    parts = {
        name: spread([records[i] for i in indices if records[i].cell_type in classifier.types], options.cells or 10**9)
        for name, indices in split.items()
    }
    read = {name: crops_of(own, to_mpp=classifier.mpp, side=classifier.side) for name, own in parts.items()}
    train, choose, test = (encoder(read[name][0]) for name in ("train", "choose", "test"))
    labels = [parts["train"][i].cell_type for i in read["train"][1]]
    kinds = others(options.data, classifier.mpp, classifier.side, options.cells or 400)
    found = {kind: encoder(images) for kind, images in kinds.items()}
    result = {
        name: {kind: round(auroc(score(*outside), score(*test)), 4) for kind, outside in found.items()}
        for name, score in scorers(train[0], labels).items()
    }
    model = fit_outlier(train[0], labels).with_threshold(choose[0])
    judged = found | {"cells of the part test": test}
    shares = {kind: round(float((model.score(one[0]) > model.threshold).mean()), 4) for kind, one in judged.items()}
    numbers = {"fitted": len(labels), "judged": len(test[0])} | {kind: len(images) for kind, images in kinds.items()}
    print(json.dumps({"images": numbers, "auroc": result, "flagged": shares}, indent=2))


if __name__ == "__main__":
    main()
