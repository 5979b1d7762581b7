"""Sources of cut-out cells made alike: what differs by making is brought together, what the types differ in stays."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from myelos.phantom.alike import RENDERED, colours
from myelos.phantom.cutting import CutOut
from myelos.phantom.matching import MatchSettings, contrasts, edged, greyed, matched, rims, size_factors, split_bands
from myelos.phantom.one_look import one_look
from myelos.phantom.scatter import ScatterSettings, scattered
from myelos.phantom.tones import fitted_tone

LOOKS = {"lymphocyte": (34, 28, 0.9), "monocyte": (50, 30, 0.6), "blast": (44, 36, 0.75)}  # px, px, density
Sets = dict[str, dict[str, list[CutOut]]]


def _cell(kind: str, number: int, *, size: float, colour: tuple[float, float, float], blur: float) -> CutOut:
    """A disc with a nucleus, a rough texture in colour, and a camera's blur."""
    rng = np.random.default_rng((number, len(kind)))
    outer, inner, dark = LOOKS[kind]
    radius = outer * size * np.exp(rng.normal(0, 0.05))
    side = 2 * int(radius + 8)
    away = np.hypot(*np.indices((side, side)) - side / 2 + 0.5).astype(np.float32)
    cover = np.clip(radius - away + 0.5, 0, 1).astype(np.float32)
    nucleus = np.clip(inner / outer * radius - away + 0.5, 0, 1).astype(np.float32)
    grain = np.exp(0.25 * cv2.GaussianBlur(rng.standard_normal((side, side, 3), dtype=np.float32), (0, 0), 1.0) * 3)
    density = (0.25 + dark * nucleus)[..., None] * grain * np.array(colour, np.float32) * np.exp(rng.normal(0, 0.1))
    return CutOut(cv2.GaussianBlur(density, (0, 0), blur) * cover[..., None], cover, nucleus)


@pytest.fixture(scope="module")
def sets() -> Sets:
    """Two sources that differ in scale, stain and sharpness; one alone has blasts."""
    here = {"size": 0.85, "colour": (1.0, 1.4, 0.5), "blur": 1.6}
    there = {"size": 1.1, "colour": (1.2, 1.5, 0.4), "blur": 0.4}
    return {
        "here": {kind: [_cell(kind, n, **here) for n in range(10)] for kind in LOOKS},
        "there": {kind: [_cell(kind, 50 + n, **there) for n in range(10)] for kind in ("lymphocyte", "monocyte")},
    }


@pytest.fixture(scope="module")
def alike(sets: Sets) -> Sets:
    return matched(sets)


def _apart(values: dict[str, np.ndarray]) -> float:
    return float(np.abs(values["here"] - values["there"]).mean())


def test_sizes_come_together(sets: Sets, alike: Sets) -> None:
    factors = size_factors(sets)
    assert factors["here"] / factors["there"] == pytest.approx(1.1 / 0.85, rel=0.05)
    again = size_factors(alike)
    assert again["here"] / again["there"] == pytest.approx(1, abs=0.03)


def test_contrast_and_edge_come_together(sets: Sets, alike: Sets) -> None:
    settings = MatchSettings()
    assert _apart(contrasts(alike, settings)) < 0.35 * _apart(contrasts(sets, settings))
    assert _apart(rims(alike, settings)) < 0.1
    covers = [cell.cover for own in alike.values() for cell in own["lymphocyte"]]
    widths = [((cover > 0.1) & (cover < 0.9)).sum() / np.sqrt((cover > 0.5).sum()) for cover in covers]
    assert np.std(widths) < 0.15 * np.mean(widths)


def test_colours_come_together_and_types_stay_apart(sets: Sets, alike: Sets) -> None:
    before, after = ({s: colours(own["monocyte"]) for s, own in part.items()} for part in (sets, alike))
    assert _apart(after) < 0.4 * _apart(before)
    for own in alike.values():
        assert colours(own["lymphocyte"])[0].sum() > 1.15 * colours(own["monocyte"])[0].sum()  # darker nuclei
        areas = [np.median([(c.cover > 0.5).sum() for c in own[kind]]) for kind in ("monocyte", "lymphocyte")]
        assert areas[0] > 1.6 * areas[1]


def test_types_of_one_source_change_as_the_others_do(sets: Sets, alike: Sets) -> None:
    ratios = [np.median([(c.cover > 0.5).sum() for c in part["here"]["blast"]]) for part in (sets, alike)]
    lymphocytes = [np.median([(c.cover > 0.5).sum() for c in part["here"]["lymphocyte"]]) for part in (sets, alike)]
    assert ratios[1] / ratios[0] == pytest.approx(lymphocytes[1] / lymphocytes[0], rel=0.08)


def test_sources_that_share_nothing_stay(sets: Sets) -> None:
    lonely = {"here": {"blast": sets["here"]["blast"]}, "there": {"monocyte": sets["there"]["monocyte"]}}
    found = matched(lonely)
    assert np.array_equal(found["here"]["blast"][0].density, lonely["here"]["blast"][0].density)


def test_bands_add_up_and_grey_keeps_density(sets: Sets) -> None:
    cell = sets["there"]["monocyte"][0]
    total = cell.density.sum(axis=-1)
    bands, rest = split_bands(total, (1.0, 2.0, 4.0))
    assert np.abs(sum(bands) + rest - total).max() < 1e-4
    grey = greyed(cell, 0.8)
    inside = cell.cover > 0.9
    assert np.abs(grey.density.sum(axis=-1) - total)[inside].max() < 1e-3
    share = (grey.density[..., 0] / np.maximum(grey.density.sum(axis=-1), 1e-3))[inside]
    own = (cell.density[..., 0] / np.maximum(total, 1e-3))[inside]
    assert share.std() < 0.6 * own.std()


def test_a_tone_takes_one_distribution_to_another() -> None:
    rng = np.random.default_rng(0)
    mixing = np.array([[0.2, 0.05, 0.0], [0.0, 0.1, 0.02], [0.0, 0.0, 0.1]])
    wanted = rng.standard_normal((4000, 3)) @ mixing + 0.8
    pixels = np.exp(rng.normal(-1.0, 0.4, (4000, 3)))
    found = fitted_tone(pixels, wanted, 4, rng)(pixels)
    assert np.abs(found.mean(axis=0) - wanted.mean(axis=0)).max() < 0.02
    assert np.abs(np.cov(found.T) - np.cov(wanted.T)).max() < 0.15 * np.cov(wanted.T).max()
    quantiles = [np.percentile(values, (5, 50, 95), axis=0) for values in (found, wanted)]
    assert np.abs(quantiles[0] - quantiles[1]).max() < 0.05


def test_the_edge_is_the_same_fade_for_all(sets: Sets) -> None:
    cell = edged(sets["here"]["monocyte"][0], MatchSettings())
    assert not cell.density[cell.cover == 0].any()
    assert cell.cover.max() == pytest.approx(1)


def test_scatter_is_drawn_and_repeats(sets: Sets) -> None:
    cell = sets["here"]["monocyte"][0]
    one, same, other = (scattered(cell, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.density, same.density)
    assert one.density.shape != other.density.shape or np.abs(one.density - other.density).max() > 0.02
    still = ScatterSettings(0.0, 0.0, 0.0, blur=(0.01, 0.01), size=0.0)
    kept = scattered(cell, np.random.default_rng(1), still).density
    assert abs(kept.sum() / cell.density.sum() - 1) < 0.02
    wide = replace(still, colour=0.2)
    sums = [scattered(cell, np.random.default_rng(n), wide).density.sum() for n in range(30)]
    assert 0.1 < np.std(np.log(sums)) < 0.4


def test_one_look_depends_on_the_image_alone(sets: Sets) -> None:
    named = {s: {k: [(c, f"{k}{n}") for n, c in enumerate(own)] for k, own in by.items()} for s, by in sets.items()}
    looks = [one_look(named) for _ in range(2)]
    for first, second in zip(looks[0].cells["here"]["blast"], looks[1].cells["here"]["blast"], strict=True):
        assert np.array_equal(first.density, second.density)
    assert looks[0].blur["here"] == looks[0].blur["there"]
    assert looks[0].blur[RENDERED] > 0.1
    own = one_look(named, alike=False)
    assert own.cells["here"]["blast"][0] is sets["here"]["blast"][0]
