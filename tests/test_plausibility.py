"""What is no smear is refused with a reason; smears are not."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks import non_smears as others
from benchmarks import smear_images as smears

from myelos.imaging.field_features import measure
from myelos.imaging.plausibility import judge, smear_score

DRAWN, HELD_OUT, KINDS = others.DRAWN, others.HELD_OUT, others.KINDS

SEED, EACH = 20_077, 22  # not the seed of the fit


def refused_share(folder: Path, kind: str, count: int) -> float:
    images = [np.ascontiguousarray(image) for _, image in others.non_smears(folder, kind, SEED, count)]
    return float(np.mean([not judge(image).is_smear for image in images]))


@pytest.mark.parametrize("kind", [kind for kind in DRAWN if kind not in HELD_OUT | set(others.FOR_FIT)])
def test_what_is_no_smear_is_refused(kind: str) -> None:
    assert refused_share(Path(), kind, EACH) >= 0.95


@pytest.mark.parametrize("kind", list(others.FOR_FIT))
def test_the_fit_sees_other_images_of_a_kind_than_are_quoted(kind: str) -> None:
    """Even with the same seed: made in another way, so that none is like a quoted one, pixel by pixel, of its size."""
    fit, quoted = (list(others.non_smears(Path(), kind, SEED, 10, fit=fit)) for fit in (True, False))
    assert not {group for group, _ in fit} & {group for group, _ in quoted}
    small = [[cv2.resize(image, (24, 24)).astype(float) for _, image in images] for images in (fit, quoted)]
    assert min(np.abs(one - other).mean() for one in small[0] for other in small[1]) > 8


@pytest.mark.data
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in DRAWN])
def test_tissue_sections_are_refused(data: Path, kind: str) -> None:
    assert refused_share(data, kind, 40) >= 0.95


@pytest.mark.data
@pytest.mark.parametrize("name", smears.PATTERNS)
def test_real_smears_are_accepted(data: Path, name: str) -> None:
    paths = sorted(smears.smear_files(data, name), key=lambda path: hashlib.sha256(path.name.encode()).digest())
    paths = paths[: 60 if name in smears.FIELD_SETS else 40]
    refused = [path.name for path in paths if not judge(others.read(path)).is_smear]
    assert len(refused) <= 0.01 * len(paths), refused


@pytest.mark.data
def test_a_field_stays_a_smear_under_other_handling(data: Path) -> None:
    """Half the size, a part of it, grey alpha beside it, brighter light: the same field."""
    field = others.read(smears.smear_files(data, "bccd_fields")[3])
    half = cv2.resize(field, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    alpha = np.dstack([field, np.full(field.shape[:2], 255, np.uint8)])
    brighter = np.clip(field * 1.08, 0, 255).astype(np.uint8)
    assert [judge(image).is_smear for image in (field, half, alpha, brighter, field[:360], field[:, ::-1])] == [
        True
    ] * 6


@pytest.mark.data
def test_a_large_region_is_judged_by_windows(data: Path) -> None:
    """A region of 3000 pixels laid out of fields is a smear; empty glass beside the cells does not change that."""
    field = others.read(smears.smear_files(data, "bccd_fields")[5])
    region = np.tile(field, (6, 5, 1))
    assert judge(region).is_smear
    assert judge(region, 0.25).is_smear
    region[:1000] = np.median(field.reshape(-1, 3), axis=0)
    assert judge(region).is_smear


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (np.full((200, 300, 3), 255, np.uint8), "nothing"),
        (np.zeros((10, 10, 3), np.uint8), "too small"),
        (np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8), "noise"),
        (np.kron(np.indices((20, 20)).sum(axis=0) % 2 * 255, np.ones((16, 16))).astype(np.uint8), "grey"),
    ],
)
def test_the_reason_names_what_it_is(image: np.ndarray, word: str) -> None:
    verdict = judge(image)
    assert not verdict.is_smear
    assert word in verdict.reason


@pytest.mark.parametrize("shape", [(32, 32), (32, 4000), (4000, 33), (333, 35)])
def test_odd_shapes_and_values_get_an_answer(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    for image in (noise, np.zeros_like(noise), np.zeros(shape, np.uint8)):
        verdict = judge(image)
        assert not verdict.is_smear
        assert np.isfinite([verdict.score, *verdict.features.values()]).all()


def test_trees_answer_as_a_walk_by_hand() -> None:
    """Oracle: each stored tree walked in plain Python, one node after another."""
    stored = json.loads(files("myelos.imaging").joinpath("plausibility.json").read_text(encoding="utf-8"))
    image = np.random.default_rng(2).integers(90, 240, (120, 160, 3), dtype=np.uint8)
    features, total = measure(image), stored["base"]
    for tree in stored["trees"]:
        node = 0
        while tree["left"][node] >= 0:
            low = features[stored["features"][tree["feature"][node]]] <= tree["threshold"][node]
            node = tree["left"][node] if low else tree["right"][node]
        total += tree["value"][node]
    assert smear_score(features) == pytest.approx(1 / (1 + np.exp(-total)), rel=1e-9)


def test_same_image_same_verdict() -> None:
    image = np.random.default_rng(3).integers(0, 255, (400, 300, 3), dtype=np.uint8)
    before = image.copy()
    assert judge(image) == judge(image)
    assert np.array_equal(image, before)
