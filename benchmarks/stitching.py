"""Cells cut, doubled, joined and lost at the borders of tiles: overlapping tiles beside `--stitch wang`.

    python -m benchmarks.stitching                  an oracle: true boxes, cut by the tile, a little off, with a score
    python -m benchmarks.stitching --model marrow   a detector on the pixels of the same synthetic slide

The oracle sees a cell when at least 15 % of its box lies in the tile; parts have lower scores, and parts under half of
the cell often the wrong type. What differs between the two ways is then the stitching alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myelos import tables
from myelos.detection.pairs import close_pairs
from myelos.detection.run import DetectionSettings, detect, resolve
from myelos.detection.stitching import StitchSettings
from myelos.detection.tiling import Tile, plan
from myelos.geometry import corners, overlaps
from myelos.models.types import Boxes

MPP = 0.25
VISIBLE = 0.15  # share of a cell's box that must lie in a tile for the oracle to see it
WAYS = {
    "overlap": DetectionSettings(stitch="overlap"),
    "wang": DetectionSettings(stitch="wang"),
    "wang, equal types": DetectionSettings(stitch="wang", stitching=StitchSettings(equal_types=True)),
    "tiles that touch, nothing joined": DetectionSettings(stitch="wang", stitching=StitchSettings(epsilon_um=0.0)),
}


@dataclass
class Oracle:
    """Answers for a tile from the truth. `resolve` asks it for its types, scale and threshold only."""

    truth: NDArray[np.float64]  # (N, 4) x y width height
    types: tuple[str, ...]
    kinds: NDArray[np.intp]  # (N,)
    seed: int = 0
    mpp: float = MPP
    tile: int = 640
    batch: int = 1
    threshold: float = 0.3

    def look(self, tile: Tile) -> Boxes:
        rng = np.random.default_rng([self.seed, tile.index])
        box = tile.box
        window = np.array([[box.x, box.y, box.width, box.height]])
        seen = overlaps(self.truth, window)[0][:, 0] / np.prod(self.truth[:, 2:], axis=1)
        rows = np.flatnonzero(seen >= VISIBLE)
        low, high = [box.x, box.y] * 2, [box.right, box.bottom] * 2
        jitter = rng.normal(0, 1.0, (len(rows), 4)) * np.where(seen[rows] < 1, 1.0, 1.0)[:, None]
        edges = np.clip(corners(self.truth[rows]) + jitter, low, high)
        xywh = np.concatenate([edges[:, :2] - [box.x, box.y], edges[:, 2:] - edges[:, :2]], axis=1)
        scores = 0.35 + 0.6 * seen[rows] + rng.normal(0, 0.02, len(rows))
        wrong = (seen[rows] < 0.5) & (rng.random(len(rows)) < 0.5)
        kinds = np.where(wrong, rng.integers(0, len(self.types), len(rows)), self.kinds[rows])
        order = np.argsort(-scores, kind="stable")
        shares = np.full((len(rows), len(self.types)), 0.2 / max(1, len(self.types) - 1), np.float32)
        shares[np.arange(len(rows)), kinds] = 0.8
        return Boxes(xywh[order].astype(np.float32), scores[order].astype(np.float32), shares[order])


def judge(cells: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[dict[str, NDArray[np.bool_]], int]:
    """What became of each true cell, (N,) bool by name, and the number of boxes that are no cell (`extra`).

    whole: exactly one box with an IoU of 0.6 or more. cut: boxes lie on it, none with that IoU. doubled: more than one
    box has half its area in it. joined: its box covers most of another cell, too. lost: no box. extra: boxes on none.
    """
    both = np.concatenate([truth, cells])
    first, second = close_pairs(both)
    cross = (first < len(truth)) & (second >= len(truth))
    t, c = first[cross], second[cross] - len(truth)
    inter, union = _pairwise(truth[t], cells[c])
    inside = inter / np.prod(cells[c, 2:], axis=1) > 0.5
    matching = inter / union >= 0.6
    covering = inter / np.prod(truth[t, 2:], axis=1) > 0.8
    covered = np.bincount(c[covering], minlength=len(cells))
    boxes, matches = (
        np.bincount(t[inside | matching], minlength=len(truth)),
        np.bincount(t[matching], minlength=len(truth)),
    )
    joined = np.zeros(len(truth), bool)
    joined[t[covering & (covered[c] > 1)]] = True
    doubled = boxes > 1
    whole = (matches == 1) & ~doubled
    lost = (boxes == 0) & (matches == 0) & ~joined
    cut = ~whole & ~doubled & ~lost & ~joined
    extra = np.setdiff1d(np.arange(len(cells)), c[inside | matching | covering])
    fates = {"whole": whole, "cut": cut, "doubled": doubled, "joined": joined & ~whole & ~doubled, "lost": lost}
    return fates, len(extra)


def _pairwise(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, other = corners(a), corners(b)
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    inter = np.clip(sides, 0, None).prod(axis=1)
    return inter, a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - inter


def near_borders(truth: NDArray[np.float64], tiles: list[Tile], reach: float) -> NDArray[np.bool_]:
    """Cells within `reach` pixels of a border between tiles that touch."""
    xs = np.array(sorted({tile.box.x for tile in tiles} - {0.0}))
    ys = np.array(sorted({tile.box.y for tile in tiles} - {0.0}))
    x1, y1, x2, y2 = corners(truth).T
    near = np.zeros(len(truth), bool)
    for low, high, lines in ((x1, x2, xs), (y1, y2, ys)):
        for line in lines:
            near |= (low - reach <= line) & (line <= high + reach)
    return near


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(8192, 6144), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slide", type=Path, help="a synthetic slide that is there already")
    parser.add_argument("--model", help="a detector in place of the oracle")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slide = options.slide or paint(Path(folder), options.size, options.seed)
        truth, kinds = read_truth(slide)
        results = {name: measure(way, slide, truth, kinds, options.model) for name, way in WAYS.items()}
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for group in ("all cells", "cells at borders of touching tiles"):
        columns = list(results["overlap"][group])
        print(f"\n{group}\n{'':<34}" + "".join(f"{name:>9}" for name in columns))
        for name, result in results.items():
            print(f"{name:<34}" + "".join(f"{result[group][column]:>9}" for column in columns))


def paint(folder: Path, size: tuple[int, int], seed: int) -> Path:
    from myelos.phantom.slide import write_slide

    path = folder / "slide.tif"
    write_slide(path, width=size[0], height=size[1], mpp=MPP, specimen="marrow", seed=seed, red_cell_truth=False)
    return path


def read_truth(slide: Path) -> tuple[NDArray[np.float64], list[str]]:
    """Boxes (N, 4) and types of all nucleated cells of a synthetic slide."""
    rows = tables.read_table(slide.with_name(f"{slide.stem}.truth"), "cells").to_pylist()
    rows = [row for row in rows if row["cell_type"] not in ("erythrocyte", "platelet")]
    return np.array([(r["x"], r["y"], r["width"], r["height"]) for r in rows]), [r["cell_type"] for r in rows]


def measure(
    way: DetectionSettings, slide: Path, truth: NDArray[np.float64], kinds: list[str], model: str | None
) -> dict[str, dict[str, float]]:
    from myelos.slides import open_slide

    with open_slide(slide) as image:
        bounds = image.bounds
        tiles = plan(bounds, mpp_slide=MPP, detector_mpp=MPP, overlap_um=way.overlap)
        begun = time.perf_counter()
        if model is None:
            names = tuple(sorted(set(kinds)))
            oracle = Oracle(truth, names, np.array([names.index(kind) for kind in kinds]))
            cells = resolve([(tile, oracle.look(tile)) for tile in tiles], tiles, oracle, way).xywh  # type: ignore[arg-type]
        else:
            from myelos.models import load

            cells = detect(
                lambda t: image.read_scaled(t.box, t.downsample), tiles, load(model), settings=way
            ).cells.xywh
        seconds = time.perf_counter() - begun
    border = near_borders(truth, plan(bounds, mpp_slide=MPP, detector_mpp=MPP, overlap_um=0), reach=2)
    fates, extra = judge(cells, truth)
    groups = {"all cells": np.ones(len(truth), bool), "cells at borders of touching tiles": border}
    head = {"tiles": len(tiles), "seconds": round(seconds, 2), "extra": extra}
    return {
        name: {"cells": int(rows.sum()), **{fate: int((mask & rows).sum()) for fate, mask in fates.items()}} | head
        for name, rows in groups.items()
    }


if __name__ == "__main__":
    main()
