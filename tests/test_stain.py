"""Stains told apart and perturbed, on mixtures whose stains are known and on real cells."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from myelos.errors import UsageError
from myelos.imaging.matching import Look, look_of, matched, transport
from myelos.imaging.stain import BACKGROUND, Separation, density, perturbed, separate

BLUE = np.array([0.65, 0.70, 0.29])
PINK = np.array([0.07, 0.99, 0.11])


def mixture(blue: np.ndarray, pink: np.ndarray) -> np.ndarray:
    """RGB of amounts (h, w) of two stains on glass, by Beer and Lambert's law."""
    stains = np.stack([BLUE / np.linalg.norm(BLUE), PINK / np.linalg.norm(PINK)])
    light = (BACKGROUND + 1) * np.exp(-np.stack([blue, pink], axis=-1) @ stains) - 1
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


@pytest.fixture
def cell() -> np.ndarray:
    """A blue disc beside a pink one, with some of both in between."""
    rng = np.random.default_rng(3)
    blue, pink = rng.uniform(0.2, 1.5, (2, 64, 64))
    blue[:, 40:] = 0
    pink[:, :24] = 0
    return mixture(blue, pink)


def test_the_stains_of_a_mixture_are_found(cell: np.ndarray) -> None:
    found = separate(cell)
    assert not found.fallback
    for own, true in zip(found.stains, (BLUE, PINK), strict=True):
        assert own @ true / np.linalg.norm(true) > 0.995


def test_concentrations_are_those_mixed() -> None:
    rng = np.random.default_rng(5)
    blue, pink = rng.uniform(0.1, 1.0, (2, 40, 40))
    known = Separation(np.stack([BLUE / np.linalg.norm(BLUE), PINK / np.linalg.norm(PINK)]))
    amounts = known.concentrations(mixture(blue, pink))
    assert np.abs(amounts[..., 0] - blue).max() < 0.03
    assert np.abs(amounts[..., 1] - pink).max() < 0.03


@pytest.mark.parametrize("grey", [0, 120, 235, 240, 255])
def test_pale_and_even_crops_fall_back_and_say_so(grey: int) -> None:
    crop = np.full((50, 60, 3), grey, np.uint8)
    found = separate(crop)
    assert found.fallback
    assert np.allclose(np.linalg.norm(found.stains, axis=1), 1)
    assert perturbed(crop, 0.05, np.random.default_rng(0)).shape == crop.shape


def test_one_stain_alone_falls_back() -> None:
    amount = np.random.default_rng(1).uniform(0.3, 1.2, (50, 50))
    assert "one colour" in separate(mixture(amount, np.zeros_like(amount))).fallback


def test_perturbing_by_nothing_changes_nothing(cell: np.ndarray) -> None:
    changed = perturbed(cell, 0.0, np.random.default_rng(0)).astype(int)
    assert np.abs(changed - cell).max() <= 1


def test_perturbed_amounts_are_within_the_published_bounds(cell: np.ndarray) -> None:
    stains = separate(cell)
    before = stains.concentrations(cell).astype(float)
    for seed in range(20):
        after = stains.concentrations(perturbed(cell, 0.05, np.random.default_rng(seed), separation=stains))
        for index in range(2):
            factor, offset = np.polyfit(before[..., index].ravel(), after[..., index].ravel(), 1)
            assert 0.93 < factor < 1.07
            assert -0.07 < offset < 0.07


def test_density_is_zero_at_glass_and_positive_in_stain() -> None:
    values = density(np.array([[[240, 240, 240], [120, 60, 200]]], np.uint8))
    assert np.allclose(values[0, 0], 0)
    assert np.allclose(values[0, 1], -np.log(np.array([121, 61, 201]) / 241))


def test_most_real_cells_have_two_stains(data: Path) -> None:
    from myelos.imaging.appearance import normalise
    from myelos.imaging.crops import CELL_APPEARANCE

    paths = sorted((data / "mll_bone_marrow_cells" / "images").rglob("*.jpg"))[::100]
    found = [separate(normalise(cv2.imread(str(path))[..., ::-1].copy(), CELL_APPEARANCE)) for path in paths]
    assert sum(not one.fallback for one in found) > 0.85 * len(found)
    assert all((one.stains >= 0).all() for one in found)


def test_published_augmentation_keeps_the_cell_and_varies_it() -> None:
    from myelos.training.crops import Crop, CropSettings, draw, published

    assert CropSettings().stain == 0
    image = mixture(*np.random.default_rng(7).uniform(0, 1, (2, 80, 80)))
    crop = Crop(image, np.array([True]), "test", "blast", "cell")
    drawn = [draw(crop, 64, 1.0, published(), np.random.default_rng(seed)) for seed in range(4)]
    assert all(one.shape == (64, 64, 3) for one in drawn)
    assert len({one.tobytes() for one in drawn}) == 4
    assert all(abs(one.mean() - image.mean()) < 20 for one in drawn)


def other_source(seed: int, white: tuple[int, int, int], blue: np.ndarray, pink: np.ndarray) -> np.ndarray:
    """A cell on much glass, in other stains and under another lamp."""
    rng = np.random.default_rng(seed)
    amounts = np.zeros((2, 80, 80))
    amounts[0, 20:44, 20:60] = rng.uniform(0.2, 1.2, (24, 40))
    amounts[1, 36:60, 20:60] = rng.uniform(0.2, 0.8, (24, 40))
    stains = np.stack([blue / np.linalg.norm(blue), pink / np.linalg.norm(pink)])
    light = np.exp(-np.moveaxis(amounts, 0, -1) @ stains) * np.array(white)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def test_a_foreign_look_is_brought_to_the_own_one() -> None:
    """The same cells in two laboratories: matching leaves a fraction of what told them apart."""
    violet, salmon = np.array([0.5, 0.8, 0.1]), np.array([0.2, 0.8, 0.5])
    own = [other_source(seed, (240, 240, 240), BLUE, PINK) for seed in range(6)]
    foreign = [other_source(seed, (190, 215, 235), violet, salmon) for seed in range(6)]
    here, there = look_of(own), look_of(foreign)
    assert np.abs(there.white - (190, 215, 235)).max() < 4

    def apart(images: list[np.ndarray]) -> float:
        return float(np.mean([np.abs(a.astype(int) - b) for a, b in zip(images, own, strict=True)]))

    both = [matched(image, there, here) for image in foreign]
    light = [matched(image, there, here, stain=False) for image in foreign]
    assert apart(both) < 0.25 * apart(foreign)
    assert apart(both) < 0.6 * apart(light) < 0.6 * apart(foreign)
    kept = matched(foreign[0], there, there)
    assert np.abs(kept.astype(int) - foreign[0]).max() <= 3
    assert matched(foreign[0], there, here, background=False, stain=False) is foreign[0]


def test_the_stain_alone_leaves_the_background() -> None:
    violet, salmon = np.array([0.5, 0.8, 0.1]), np.array([0.2, 0.8, 0.5])
    foreign = other_source(1, (190, 215, 235), violet, salmon)
    here = look_of([other_source(2, (240, 240, 240), BLUE, PINK)])
    found = matched(foreign, look_of([foreign]), here, background=False)
    assert np.abs(found[0, 0].astype(int) - (190, 215, 235)).max() <= 2


def test_images_without_background_have_no_look() -> None:
    with pytest.raises(UsageError, match="background"):
        look_of([np.zeros((40, 40, 3), np.uint8)])


def test_crops_can_be_drawn_as_they_are() -> None:
    from myelos.training.crops import Crop, draw, plain, unchanged

    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    crop = Crop(image, np.ones(1, bool), "a", "blast", "b")
    drawn = draw(crop, 64, 1.0, unchanged(), np.random.default_rng(4))
    assert (drawn == plain(crop, 64)).all()


def test_the_map_between_looks_is_symmetric_and_brings_the_moments() -> None:
    rng = np.random.default_rng(8)
    own, like = (Look(np.full(3, 240.0), np.cov(rng.normal(size=(3, 40)) * scale)) for scale in (1.0, 1.4))
    found = transport(own, like, most=10)
    np.testing.assert_allclose(found @ own.moments @ found, like.moments, atol=1e-9)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    assert np.linalg.eigvalsh(transport(own, Look(own.white, 100 * own.moments))) == pytest.approx(3.0)
