"""Is this image a blood or marrow smear at all? A count of something else would be worse than none.

`judge` measures what an image looks like (`field_features`) and lets a few hundred small questions vote on it: boosted
trees of at most eight leaves, stored as numbers in `plausibility.json` and fitted by
`python -m benchmarks.plausibility --fit` on real fields against tissue sections, photographs, text, noise and drawings.
The reason given is a second reading of the same numbers, in the order in which a person would notice things.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.imaging.field_features import Image, measure

Features = Mapping[str, float]


@dataclass(frozen=True)
class PlausibilitySettings:
    """`threshold`: least score of a smear. `least_side`: fewer pixels show no cell.

    `even_edge`: an image whose strongest edges (99th percentile) are below this many grey levels shows one even ground.
    Images with a side above `large_side` are judged by up to five windows of `window` pixels, or of `window_um` where
    the resolution is known, because cells of a large image vanish in one small view of it.
    """

    threshold: float = 0.3
    least_side: int = 32
    even_edge: float = 4.0
    large_side: int = 2400
    window: int = 1200
    window_um: float = 250.0


SETTINGS = PlausibilitySettings()


@dataclass(frozen=True)
class Verdict:
    """`score` in 0..1, that of a smear above the threshold; `reason`: a sentence for people; `features`: why."""

    is_smear: bool
    reason: str
    score: float
    features: dict[str, float]


def judge(rgb: Image, mpp: float | None = None, *, settings: PlausibilitySettings = SETTINGS) -> Verdict:
    """Judge one field, crop or region: RGB uint8 (h, w, 3); mpp in µm per pixel where known.

    A grey image (h, w) is taken as three equal channels, alpha is ignored. Never raises on any image content.
    """
    rgb = _three_channels(rgb)
    if min(rgb.shape[:2]) < settings.least_side:
        return Verdict(False, f"too small to show a cell: {rgb.shape[1]} × {rgb.shape[0]} pixels", 0.0, {})
    verdicts = [_judge_one(window, settings) for window in _windows(rgb, mpp, settings)]
    shown = [verdict for verdict in verdicts if verdict.features["edge_p99"] >= settings.even_edge] or verdicts
    return sorted(shown, key=lambda verdict: verdict.score)[len(shown) // 2]


def _three_channels(rgb: Image) -> Image:
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[..., None], 3, axis=2)
    return np.ascontiguousarray(rgb[..., :3])


def _windows(rgb: Image, mpp: float | None, settings: PlausibilitySettings) -> list[Image]:
    """The image itself, or windows at its middle and in the middle of its four quarters."""
    height, width = rgb.shape[:2]
    if max(height, width) <= settings.large_side:
        return [rgb]
    side = int(np.clip(settings.window_um / mpp, 400, settings.large_side)) if mpp else settings.window
    places = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
    corners = [(max(0, int(y * height - side / 2)), max(0, int(x * width - side / 2))) for y, x in places]
    return [rgb[top : top + side, left : left + side] for top, left in corners]


def _judge_one(rgb: Image, settings: PlausibilitySettings) -> Verdict:
    features = measure(rgb)
    score = smear_score(features)
    if features["edge_p99"] < settings.even_edge:
        score = 0.0
    if score >= settings.threshold:
        return Verdict(True, "cells in Romanowsky colours on a light ground", score, features)
    return Verdict(False, why_not(features, settings), score, features)


def smear_score(features: Features) -> float:
    """Probability of a smear among equal numbers of smears and others, by the stored trees."""
    names, base, trees = _trees()
    values = np.array([features[name] for name in names])
    at = np.zeros(len(trees["left"]), int)
    rows = np.arange(len(at))
    while (inner := trees["left"][rows, at] >= 0).any():
        low = values[trees["feature"][rows, at]] <= trees["threshold"][rows, at]
        at = np.where(inner, np.where(low, trees["left"][rows, at], trees["right"][rows, at]), at)
    return float(1 / (1 + np.exp(-(base + trees["value"][rows, at].sum()))))


@functools.cache
def _trees() -> tuple[list[str], float, dict[str, NDArray[Any]]]:
    """Names of the features, the starting value, and (trees, nodes) arrays; a leaf has no left child (-1)."""
    stored = json.loads(files("myelos.imaging").joinpath("plausibility.json").read_text(encoding="utf-8"))
    deepest = max(len(tree["left"]) for tree in stored["trees"])
    arrays = {
        key: np.array([tree[key] + [-1] * (deepest - len(tree[key])) for tree in stored["trees"]])
        for key in ("feature", "threshold", "left", "right", "value")
    }
    return stored["features"], float(stored["base"]), arrays


def why_not(features: Features, settings: PlausibilitySettings = SETTINGS) -> str:
    """What an image without a smear most looks like, as a sentence: the first description that fits."""
    if features["edge_p99"] < settings.even_edge:
        return "nothing is in it: one even ground without cells"
    for fits, sentence in DESCRIPTIONS:
        if fits(features):
            return sentence
    return "its colours and textures together fit no stained smear"


def _romanowsky(f: Features) -> float:
    return f["hue_blue"] + f["hue_magenta"] + f["hue_red"]


DESCRIPTIONS: tuple[tuple[Callable[[Features], bool], str], ...] = (
    (lambda f: f["chroma_p95"] < 5, "no colours: a grey image, where a stained smear has purple nuclei"),
    (lambda f: f["repeats"] > 0.9, "a pattern that repeats itself: stripes, a grid or a checkerboard"),
    (lambda f: f["edge_p99"] < 14 and f["scale_rest"] > -0.7, "a gradient of colours without cells"),
    (
        lambda f: f["scale_0"] > -1.0 and f["equal_neighbours"] < 0.3,
        "noise: neighbouring pixels have nothing in common",
    ),
    (
        lambda f: f["colour_five"] > 0.8 and f["equal_neighbours"] > 0.5,
        "text or a drawing: a few even colours with sharp edges",
    ),
    (
        lambda f: _romanowsky(f) < 0.03 or f["nucleus_b"] > 2 or f["hue_green"] + f["hue_yellow"] > 0.3,
        "no Romanowsky colours: nothing purple or blue as nuclei are; looks like a photograph",
    ),
    (
        lambda f: f["hue_magenta"] + f["hue_red"] > 0.35 and f["nucleus_step"] > 10,
        "no separate cells on a light ground: looks like a tissue section",
    ),
    (lambda f: f["background_share"] < 0.2, "no light ground between cells: looks like a photograph"),
)
