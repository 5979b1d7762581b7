"""Flat field, white point, scale from red cells, sharpness: on drawings of known truth and on real fields."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from myelos.imaging.appearance import AppearanceSettings, estimate_illumination, normalise
from myelos.imaging.scale import ScaleSettings, estimate_mpp, round_cells
from myelos.imaging.sharpness import sharpness

Image = NDArray[np.uint8]
RED, NUCLEUS = (214, 170, 172), (110, 60, 150)


def read(path: Path) -> Image:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def smear(
    diameter: float,
    *,
    height: int = 480,
    width: int = 640,
    seed: int = 0,
    ring: bool = False,
    doublets: int = 0,
    noise: float = 2.0,
    background: int = 235,
    count: int = 40,
    white_cells: int = 1,
) -> tuple[Image, NDArray[np.bool_]]:
    """A drawn field (RGB) and the mask of its background; red cells of one diameter (± 4 %) that do not touch."""
    random = np.random.default_rng(seed)
    big = 4 if diameter < 60 else 1  # drawn larger, then reduced, so that tiny disks have their true area
    image = np.full((height * big, width * big, 3), background, np.float32)
    taken: list[tuple[float, float, float]] = []
    cells = [0.95] * doublets + [1.7] * white_cells
    for kind in cells + [0.0] * count:
        reach = diameter * (kind or 0.5) * (1 if kind == 0.95 else 0.5 if kind else 1)
        for _ in range(60):
            x, y = random.uniform(reach + 3, width - reach - 3), random.uniform(reach + 3, height - reach - 3)
            if all(math.hypot(x - u, y - v) > reach + r + 3 for u, v, r in taken):
                break
        else:
            continue
        taken.append((x, y, reach))
        radius = diameter / 2 * random.normal(1, 0.04) if kind != 1.7 else diameter * 0.8
        colour = NUCLEUS if kind == 1.7 else RED
        for shift in (-0.4, 0.4) if kind == 0.95 else (0,):
            centre = (round((x + shift * diameter) * big * 16), round(y * big * 16))
            cv2.circle(image, centre, round(radius * big * 16), colour, -1, cv2.LINE_AA, 4)
            if ring and kind != 1.7:
                cv2.circle(image, centre, round(radius * 0.45 * big * 16), (230, 228, 228), -1, cv2.LINE_AA, 4)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    clear = cv2.erode((np.abs(image - background).max(axis=2) < 1).astype(np.uint8), np.ones((5, 5))) > 0
    noisy = cv2.GaussianBlur(image, (0, 0), 0.7) + random.normal(0, noise, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), clear


def vignette(image: Image) -> Image:
    """Pink and bright towards the border, green and dark in the centre, as a poor camera sees it."""
    y, x = np.mgrid[-1 : 1 : image.shape[0] * 1j, -1 : 1 : image.shape[1] * 1j]
    r2 = (x - 0.2) ** 2 + y**2
    gains = np.stack([0.5 + 0.25 * r2, 0.55 - 0.08 * r2, 0.5 + 0.04 * r2 + 0.05 * x], axis=-1)
    return np.clip(image * gains, 0, 255).astype(np.uint8)


def unevenness(image: Image, clear: NDArray[np.bool_]) -> float:
    """Largest range over the channels of block means of the background, in grey levels."""
    blocks = []
    for y in range(0, image.shape[0], 80):
        for x in range(0, image.shape[1], 80):
            inside = clear[y : y + 80, x : x + 80]
            if inside.sum() > 200:
                blocks.append(image[y : y + 80, x : x + 80][inside].mean(axis=0))
    return float(np.ptp(np.array(blocks), axis=0).max())


@pytest.mark.parametrize("count", [15, 90])
def test_vignette_is_removed(count: int) -> None:
    drawn, clear = smear(50, count=count)
    seen = vignette(drawn)
    after = normalise(seen)
    assert unevenness(seen, clear) > 40
    assert unevenness(after, clear) < 8
    assert np.allclose(np.median(after[clear], axis=0), 240, atol=4)


def test_steps_can_be_switched_off() -> None:
    drawn, clear = smear(50)
    seen = vignette(drawn)
    assert normalise(seen, AppearanceSettings(flat_field=False, white_point=False)) is seen
    only_white = normalise(seen, AppearanceSettings(flat_field=False))
    assert unevenness(only_white, clear) > 40
    only_flat = normalise(seen, AppearanceSettings(white_point=False))
    assert unevenness(only_flat, clear) < 8
    assert abs(float(np.median(only_flat[clear])) - float(np.median(seen[clear]))) < 12


def test_red_cells_keep_their_contrast() -> None:
    drawn, clear = smear(60, noise=0)
    after = normalise(vignette(drawn))
    core = cv2.erode((np.abs(drawn.astype(int) - RED).max(axis=2) < 3).astype(np.uint8), np.ones((7, 7))) > 0
    ratio = after[core].mean(axis=0) / after[clear].mean(axis=0)
    assert np.allclose(ratio, np.array(RED) / 235, atol=0.03)


def test_gain_is_bounded() -> None:
    drawn, clear = smear(50, noise=0)
    dim = (drawn * 0.2).astype(np.uint8)
    after = normalise(dim, AppearanceSettings(max_gain=2.5))
    assert np.median(after[clear]) <= np.median(dim[clear]) * 2.5 + 1


def test_black_surround_stays_black_and_does_not_disturb() -> None:
    drawn, clear = smear(30, height=480, width=480)
    y, x = np.mgrid[:480, :480]
    outside = (x - 240) ** 2 + (y - 240) ** 2 > 225**2
    seen = (drawn * np.array([0.9, 0.8, 0.7])).astype(np.uint8)
    seen[outside] = 8
    after = normalise(seen)
    assert after[outside].max() <= 16
    assert np.allclose(np.median(after[clear & ~outside], axis=0), 240, atol=4)


@pytest.mark.parametrize("value", [0, 12])
def test_black_image_is_unchanged(value: int) -> None:
    black = np.full((200, 300, 3), value, np.uint8)
    assert np.array_equal(normalise(black), black)
    assert estimate_illumination(black).background == 0


def test_one_large_cell_is_not_divided_out() -> None:
    image = np.full((360, 360, 3), (254, 230, 201), np.uint8)
    cv2.circle(image, (180, 180), 150, (150, 90, 170), -1)
    after = normalise(image)
    inner = after[140:220, 140:220].reshape(-1, 3).mean(axis=0)
    assert estimate_illumination(image).background > 0.2
    assert np.allclose(inner / 240, np.array([150, 90, 170]) / [254, 230, 201], atol=0.03)


def test_normalising_twice_changes_little_and_is_deterministic() -> None:
    seen = vignette(smear(50)[0])
    once = normalise(seen)
    assert np.array_equal(once, normalise(seen.copy()))
    assert np.abs(normalise(once).astype(int) - once).mean() < 2


def test_pixels_are_the_same_with_any_number_of_threads() -> None:
    """A training goes on from its checkpoint on a machine of other cores only if its images come out the same."""
    for seed in range(12):
        seen = vignette(smear(50, seed=seed, height=360, width=360)[0])
        with threadpool_limits(1):
            alone = normalise(seen)
        with threadpool_limits(2):
            assert np.array_equal(normalise(seen), alone)


def test_invariant_to_flips_and_exposure() -> None:
    seen = vignette(smear(50)[0])
    once = normalise(seen).astype(int)
    assert np.abs(normalise(np.ascontiguousarray(seen[:, ::-1]))[:, ::-1].astype(int) - once).mean() < 1.5
    assert np.abs(normalise((seen * 0.8).astype(np.uint8)).astype(int) - once).mean() < 3


def test_tiles_of_a_slide_share_one_white_point() -> None:
    drawn, clear = smear(40, height=480, width=960)
    seen = (drawn * np.array([0.85, 0.8, 0.75])).astype(np.uint8)
    tiles = [seen[:, :480].copy(), seen[:, 480:].copy()]
    settings = AppearanceSettings(flat_field=False)
    light = estimate_illumination(tiles)
    after = np.hstack([normalise(tile, settings, illumination=light) for tile in tiles])
    whole = normalise(seen, settings, illumination=light)
    assert np.array_equal(after, whole)
    assert np.allclose(np.median(after[clear], axis=0), 240, atol=4)


def test_chula_background_becomes_even(data: Path) -> None:
    for path in sorted((data / "chula_wbc_fields" / "images").glob("*.jpg"))[::40]:
        seen = read(path)
        after = normalise(seen)
        small = cv2.resize(after, (48, 30), interpolation=cv2.INTER_AREA).astype(float)
        blocks = np.array(
            [np.percentile(b, 75, axis=(0, 1)) for row in np.split(small, 3) for b in np.split(row, 4, axis=1)]
        )
        before = cv2.resize(seen, (48, 30), interpolation=cv2.INTER_AREA).astype(float)
        earlier = np.array(
            [np.percentile(b, 75, axis=(0, 1)) for row in np.split(before, 3) for b in np.split(row, 4, axis=1)]
        )
        assert np.ptp(blocks / blocks.mean(axis=0), axis=0).max() < 0.16, path.name
        assert np.ptp(earlier / earlier.mean(axis=0), axis=0).max() > 0.2, path.name


SIZES = [(8, 240, 320), (14, 240, 320), (30, 480, 640), (75, 600, 900), (140, 800, 1100), (250, 1100, 1500)]


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize(("diameter", "height", "width"), SIZES)
def test_scale_of_drawn_cells(diameter: int, height: int, width: int, ring: bool) -> None:
    fields = [smear(diameter, height=height, width=width, seed=s, ring=ring, doublets=2)[0] for s in range(2)]
    estimate = estimate_mpp(fields)
    assert estimate is not None
    assert estimate.mpp == pytest.approx(7.5 / diameter, rel=0.05)
    assert estimate.uncertainty >= 0.08
    assert estimate.red_cells >= 10


def test_scale_of_touching_cells() -> None:
    """Rows of four touching disks: no isolated cell at all."""
    image = np.full((600, 800, 3), 235, np.uint8)
    for row in range(6):
        for column in range(12):
            x, y = 60 + column * 48 + (column // 4) * 40, 60 + row * 90
            cv2.circle(image, (x, y), 24, RED, -1, cv2.LINE_AA)
    estimate = estimate_mpp([cv2.GaussianBlur(image, (0, 0), 1.0)])
    assert estimate is not None
    assert estimate.mpp == pytest.approx(7.5 / 48, rel=0.06)


def test_uncertainty_falls_with_more_cells_but_never_below_the_floor() -> None:
    few = estimate_mpp([smear(60, count=14)[0]])
    many = estimate_mpp([smear(30, count=150, seed=s)[0] for s in range(6)])
    assert few is not None
    assert many is not None
    assert few.uncertainty > many.uncertainty >= 0.08
    assert many.fields == 6


def test_no_scale_where_no_red_cells_are() -> None:
    random = np.random.default_rng(0)
    blank = np.full((480, 640, 3), 235, np.uint8)
    noise = random.integers(0, 255, (480, 640, 3)).astype(np.uint8)
    grain = np.clip(random.normal(200, 20, (480, 640, 3)), 0, 255).astype(np.uint8)
    clouds = cv2.GaussianBlur(random.normal(0, 1, (480, 640)).astype(np.float32), (0, 0), 6)
    clouds = np.repeat(np.clip(200 + clouds / clouds.std() * 25, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    gradient = np.repeat(np.tile(np.linspace(80, 240, 640), (480, 1))[..., None], 3, axis=2).astype(np.uint8)
    for name, image in {"blank": blank, "noise": noise, "grain": grain, "clouds": clouds, "gradient": gradient}.items():
        assert estimate_mpp([image]) is None, name
    assert estimate_mpp([]) is None
    assert estimate_mpp([np.zeros((480, 640, 3), np.uint8)]) is None
    assert estimate_mpp([np.full((9, 9, 3), 200, np.uint8)]) is None
    assert estimate_mpp([smear(60, count=3)[0]]) is None


def test_settings_of_the_scale() -> None:
    field = smear(40)[0]
    assert estimate_mpp([field], settings=ScaleSettings(fewest=1000)) is None
    usual, larger = estimate_mpp([field]), estimate_mpp([field], settings=ScaleSettings(diameter_um=15))
    assert usual is not None
    assert larger is not None
    assert larger.mpp == pytest.approx(2 * usual.mpp)
    assert larger.red_cells == usual.red_cells


def boxes_of_bccd(path: Path) -> list[float]:
    sizes = []
    for found in ElementTree.parse(path.parent.parent / "Annotations" / f"{path.stem}.xml").iterfind("object"):
        left, top, right, bottom = (
            float(found.findtext(f"bndbox/{edge}", "0")) for edge in ("xmin", "ymin", "xmax", "ymax")
        )
        if found.findtext("name") == "RBC" and min(left, top) > 1 and right < 639 and bottom < 479 and right > left:
            sizes.append((right - left + bottom - top) / 2)
    return sizes


def test_scale_of_bccd_agrees_with_the_boxes(data: Path) -> None:
    paths = sorted((data / "bccd_fields" / "JPEGImages").glob("*.jpg"))[3::14]
    estimate = estimate_mpp([read(path) for path in paths])
    assert estimate is not None
    truth = np.median([size for path in paths for size in boxes_of_bccd(path)])
    assert 7.5 / estimate.mpp == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("side", [640, 416, 360])
def test_scale_of_txl_pbc_agrees_with_the_boxes(data: Path, side: int) -> None:
    fields, sizes = [], []
    for path in sorted((data / "txl_pbc_fields" / "images").glob("*.jpg"))[::4]:
        field = read(path)
        height, width = field.shape[:2]
        if width != side or len(fields) == 40:
            continue
        fields.append(field)
        for line in (path.parent.parent / "labels" / f"{path.stem}.txt").read_text().splitlines():
            kind, x, y, w, h = (float(word) for word in line.split())
            if kind == 1 and min(x - w / 2, y - h / 2, 1 - x - w / 2, 1 - y - h / 2) > 0.003:
                sizes.append((w * width + h * height) / 2)
    estimate = estimate_mpp(fields)
    assert estimate is not None
    assert 7.5 / estimate.mpp == pytest.approx(np.median(sizes), rel=0.1)


def test_scale_of_one_sample_is_consistent(data: Path) -> None:
    paths = sorted((data / "chula_wbc_fields" / "images").glob("E-14_*.jpg"))[:12]
    single = [estimate_mpp([read(path)]) for path in paths]
    known = [each.mpp for each in single if each is not None]
    assert len(known) >= 0.5 * len(paths)
    assert np.std(known) / np.mean(known) < 0.08


def test_nucleated_cells_are_no_red_cells() -> None:
    with_white, _ = smear(40, white_cells=4, count=25)
    assert (np.abs(round_cells(with_white) / 40 - 1) < 0.2).all()


def test_sharpness_falls_with_blur_and_ignores_exposure() -> None:
    field = smear(40, noise=0.5)[0]
    levels = [sharpness(field)] + [sharpness(cv2.GaussianBlur(field, (0, 0), s)) for s in (1, 2, 4)]
    assert all(sharper > 1.5 * softer for sharper, softer in pairwise(levels))
    assert sharpness((field * 0.6).astype(np.uint8)) == pytest.approx(levels[0], rel=0.1)
    assert sharpness(np.full((50, 50, 3), 200, np.uint8)) == 0.0
    assert sharpness(np.zeros((0, 0, 3), np.uint8)) == 0.0


def test_sharpness_compares_tiles_of_several_resolutions() -> None:
    field = cv2.GaussianBlur(smear(30, noise=0.0, height=640)[0], (0, 0), 2)
    larger = cv2.resize(field, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert sharpness(larger, mpp=0.125) == pytest.approx(sharpness(field, mpp=0.25), rel=0.25)
