"""Rendered cells, fields and slides: repeatable, of the stated size, and with a truth that fits the pixels."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from myelos import tables
from myelos.errors import LabelError, ResultError, UsageError
from myelos.geometry import Box
from myelos.phantom import sprites
from myelos.phantom.cells import LOOKS, VARIANTS, cell_rng, outline_of, render_cell, render_sprite
from myelos.phantom.compositions import COMPOSITIONS, draw_types, normalised
from myelos.phantom.dataset import WANG19, write_cells, write_fields
from myelos.phantom.fields import FieldSettings, render_field
from myelos.phantom.optics import STEADY, OpticsSettings
from myelos.phantom.placing import spread_out
from myelos.phantom.slide import SlideSettings, _draw, render_block, write_slide
from myelos.phantom.stain import STAINS, Stain, random_stain, standard_stain

POOL = {"pool_per_type": 6, "pool_seed": 5}
NUCLEATED = [name for name, look in LOOKS.items() if look.nucleus and name != "smudge_cell"]
EMPTY = {"cells_per_mm2": 0.0, "red_cells_per_mm2": 0.0, "platelets_per_mm2": 0.0, "haze": 0.0, "debris": 0.0}
CLEAR = OpticsSettings((0.1, 0.1), (0, 0), 0.0, (0, 0), (0, 0), None)


def bounds(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)


def test_every_type_of_the_schemes_has_a_look() -> None:
    from myelos.taxonomy import TYPES

    assert len(WANG19) == 16
    wanted = {*WANG19, "basophil", "smudge_cell", "erythrocyte", "platelet", "neutrophil"}
    assert wanted <= set(LOOKS) | set(VARIANTS)
    assert set(LOOKS) | set(VARIANTS) <= set(TYPES)


@pytest.mark.parametrize("cell_type", sorted(LOOKS))
def test_cells_have_the_size_and_nucleus_of_their_look(cell_type: str) -> None:
    look = LOOKS[cell_type]
    mpp = 0.2 if look.diameter[1] < 30 else 0.5
    for number in range(4):
        sprite = render_sprite(cell_type, cell_rng(3, cell_type, number), mpp)
        diameter = 2 * sprite.radius
        slack = 0.05 * diameter + mpp + (0.15 * diameter if cell_type == "smudge_cell" else 0)  # its edge is frayed
        assert look.diameter[0] - slack <= diameter <= look.diameter[1] + slack
        if cell_type in NUCLEATED:
            ratio = (sprite.nucleus > 0.5).sum() / (sprite.cover > 0.5).sum()
            assert look.ratio[0] - 0.05 <= ratio <= look.ratio[1] + 0.05
        assert not sprite.cover[[0, -1]].any() or sprite.cover[[0, -1]].max() < 0.5  # the patch holds the cell
        assert sprite.layers.min() >= 0


def test_a_rendered_cell_has_patch_cover_and_outline() -> None:
    rgb, cover, outline = render_cell("neutrophil", cell_rng(1, 2), 0.2, standard_stain())
    assert rgb.dtype == np.uint8
    assert rgb.shape == (*cover.shape, 3)
    assert 0 <= cover.min() <= cover.max() <= 1
    area = cv2.contourArea(outline.reshape(-1, 1, 2))
    assert area == pytest.approx((cover > 0.5).sum(), rel=0.1)
    assert len(outline_of(np.zeros((5, 5), np.float32))) == 0


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(LabelError, match="unicorn"):
        render_cell("unicorn", cell_rng(1), 0.25, standard_stain())


def test_overlapping_cells_multiply_their_transmissions() -> None:
    stain = standard_stain()
    a, b = np.random.default_rng(0).random((2, 4, 4, 5)).astype(np.float32) * 0.3
    white = np.asarray(stain.white)
    together = stain.transmit(a + b) / white
    assert np.allclose(together, stain.transmit(a) / white * stain.transmit(b) / white, rtol=1e-4)


def test_same_seed_same_field_whatever_was_rendered_before() -> None:
    settings = FieldSettings(256, 256, **POOL)
    first = render_field(settings, np.random.default_rng(7))
    sprites._sprite.cache_clear()
    sprites._measures.cache_clear()
    render_field(settings, np.random.default_rng(8))
    again = render_field(settings, np.random.default_rng(7))
    assert first.rgb.tobytes() == again.rgb.tobytes()
    assert np.array_equal(first.boxes, again.boxes)
    assert first.types == again.types
    assert not np.array_equal(first.rgb, render_field(settings, np.random.default_rng(9)).rgb)


@pytest.mark.parametrize("cell_type", ["blast", "segmented_neutrophil", "plasma_cell", "lymphocyte", "eosinophil"])
def test_boxes_are_tight_around_what_the_pixels_show(cell_type: str) -> None:
    """Oracle: a single cell on empty glass, found by its darkness alone."""
    settings = FieldSettings(
        160, 160, 0.2, "blood", optics=CLEAR, stain="wright_giemsa", stain_variation=0, **EMPTY, **POOL
    )
    for seed in range(3):
        field = render_field(settings, np.random.default_rng(seed), centre=cell_type)
        darkness = field.rgb[..., 1].max().astype(int) - field.rgb[..., 1]
        count, _, stats, _ = cv2.connectedComponentsWithStats((darkness > 15).astype(np.uint8))
        largest = stats[1:][np.argmax(stats[1:, cv2.CC_STAT_AREA])] if count > 1 else stats[0]
        assert len(field.types) == 1
        assert Box(*field.boxes[0]).iou(Box(*largest[:4].astype(float))) >= 0.8


@pytest.mark.parametrize("specimen", ["marrow", "blood"])
def test_boxes_lie_inside_and_hold_a_cell(specimen: str) -> None:
    settings = FieldSettings(400, 300, specimen=specimen, optics=CLEAR, cells_per_mm2=1500, **POOL)
    field = render_field(settings, np.random.default_rng(2))
    assert len(field.boxes) == len(field.types) > 5
    x, y, width, height = field.boxes.T
    assert min(x.min(), y.min()) >= 0
    assert min(width.min(), height.min()) > 0
    assert (x + width).max() <= 400
    assert (y + height).max() <= 300
    background = np.percentile(field.rgb[..., 1], 90)
    for left, top, wide, high in field.boxes.astype(int):
        assert field.rgb[top : top + high, left : left + wide, 1].min() < background - 40


def test_red_cells_and_platelets_have_boxes_when_asked_for() -> None:
    settings = FieldSettings(256, 256, specimen="blood", red_cells_per_mm2=8000, red_cell_truth=True, **POOL)
    types = Counter(render_field(settings, np.random.default_rng(1)).types)
    assert types["erythrocyte"] > 10
    silent = FieldSettings(256, 256, specimen="blood", red_cells_per_mm2=8000, **POOL)
    assert "erythrocyte" not in render_field(silent, np.random.default_rng(1)).types


def test_drawn_types_follow_the_composition() -> None:
    shares = normalised(COMPOSITIONS["marrow_normal"])
    counts = Counter(draw_types(shares, 20000, np.random.default_rng(0)))
    for name, share in shares.items():
        error = np.sqrt(20000 * share * (1 - share))
        assert abs(counts[name] - 20000 * share) < 5 * error + 1
    assert all(abs(sum(normalised(c).values()) - 1) < 1e-9 for c in COMPOSITIONS.values())
    with pytest.raises(UsageError, match="unicorn"):
        normalised({"unicorn": 1})


def test_cells_are_spread_out_but_none_is_lost() -> None:
    rng = np.random.default_rng(3)
    radii = np.concatenate([rng.uniform(5, 9, 150), np.full(3, 30.0)])
    centres = spread_out(radii, lambda n: rng.random((n, 2)) * 800, spacing=1.0, large=14)
    assert centres.shape == (153, 2)
    gaps = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1)) - (radii[:, None] + radii[None])
    assert gaps[np.triu_indices(153, 1)].min() >= 0


def test_types_differ_enough_for_a_trivial_classifier() -> None:
    """Nearest mean over size and colour, means from one half, on the other: well above chance (1 in 16)."""
    stain = standard_stain("wright_giemsa")
    features = np.array([[_features(name, number, stain) for number in range(10)] for name in WANG19])
    scale = features.reshape(-1, features.shape[-1]).std(axis=0)
    means = features[:, :5].mean(axis=1) / scale
    distances = np.linalg.norm(features[:, 5:, None] / scale - means, axis=-1)
    right = (distances.argmin(axis=-1) == np.arange(len(WANG19))[:, None]).mean()
    assert right > 0.4


def _features(name: str, number: int, stain: Stain) -> list[float]:
    rgb, cover, _ = render_cell(name, cell_rng(9, name, number), 0.4, stain)
    inside = rgb[cover > 0.5].astype(float)
    return [np.log(len(inside)), *inside.mean(axis=0), *inside.std(axis=0), *np.percentile(inside, 85, axis=0)]


def test_stains_vary_and_stay_plausible() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_stain(rng) for _ in range(30)]
    assert {stain.name for stain in drawn} == set(STAINS)
    assert len({stain.white for stain in drawn}) == 30
    assert all(np.array(stain.density).min() > 0 for stain in drawn)
    fixed = random_stain(rng, name="liu", variation=0)
    assert np.allclose(np.array(fixed.density), np.array(STAINS["liu"]) * np.exp(-0.05))


def test_the_largest_megakaryocytes_are_about_100_micrometres_long() -> None:
    usual = LOOKS["megakaryocyte"]
    look = dataclasses.replace(usual, diameter=(usual.diameter[1],) * 2, elongation=(usual.elongation[1],) * 2)
    cover = render_sprite("megakaryocyte", cell_rng(3), 0.5, look).cover
    corners = np.argwhere(cover > 0.5).astype(np.float32)
    assert 85 < 0.5 * max(cv2.minAreaRect(corners)[1]) < 115


def test_a_frayed_edge_is_longer_and_encloses_about_as_much() -> None:
    lengths, areas = np.zeros(2), np.zeros(2)
    for number in range(6):
        for which, fringe in enumerate(((0.0, 0.0), (0.3, 0.3))):
            look = dataclasses.replace(LOOKS["monocyte"], fringe=fringe, diameter=(15, 15))
            cover = render_sprite("monocyte", cell_rng(number), 0.1, look).cover
            lengths[which] += cv2.arcLength(outline_of(cover), True)
            areas[which] += (cover > 0.5).sum()
    assert 0.9 < areas[1] / areas[0] < 1.1
    assert lengths[1] / lengths[0] > 1.05


@pytest.mark.parametrize(
    "wrong", [{"specimen": "lymph"}, {"width": 0}, {"mpp": 9.0}, {"stain": "none"}, {"composition": "mars"}]
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        FieldSettings(**wrong)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "marrow.tiff"
    seen: list[tuple[int, int]] = []
    write_slide(path, width=1600, height=1100, specimen="marrow", seed=4, progress=lambda *now: seen.append(now))
    assert seen[-1] == (len(seen), len(seen))
    return path


def test_a_slide_opens_with_its_resolution(slide: Path) -> None:
    import openslide

    with openslide.OpenSlide(str(slide)) as opened:
        assert opened.dimensions == (1600, 1100)
        assert opened.level_count >= 2
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(0.25, rel=1e-4)


def test_the_truth_of_a_slide_is_complete(slide: Path) -> None:
    import openslide

    truth = slide.with_name("marrow.truth")
    run = tables.read_run(truth)
    assert run["synthetic"] is True
    assert run["seed"] == 4
    row = tables.read_table(truth, "slides").to_pylist()[0]
    assert (row["width"], row["height"], row["mpp"], row["specimen"]) == (1600, 1100, 0.25, "marrow")
    cells = tables.read_table(truth, "cells").to_pylist()
    assert len(cells) == run["cells"] == len({cell["cell_id"] for cell in cells})
    counts = Counter(cell["cell_type"] for cell in cells)
    nucleated = sum(n for name, n in counts.items() if name not in ("erythrocyte", "platelet"))
    assert counts["erythrocyte"] > 150
    assert 60 < nucleated < 250
    middle = [c for c in cells if abs(c["x"] - 800) < 300 and abs(c["y"] - 550) < 200]
    assert middle
    assert all(cell["region"] is not None for cell in middle)  # the middle of a slide is always readable
    assert any(cell["region"] is None for cell in cells)
    kinds = {region["kind"] for region in tables.read_table(truth, "regions").to_pylist()}
    assert kinds == {"readable", "particle"}
    with openslide.OpenSlide(str(slide)) as opened:
        pixels = np.array(opened.read_region((0, 0), 0, opened.dimensions).convert("RGB"))
    for cell in cells:
        assert cell["x"] >= 0
        assert cell["x"] + cell["width"] <= 1600
        if cell["cell_type"] in WANG19 and cell["width"] > 20:
            x, y, width, height = (int(cell[key]) for key in ("x", "y", "width", "height"))
            assert pixels[y : y + height, x : x + width, 1].min() < 150


def test_same_seed_same_slide(slide: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tiff"
    write_slide(again, width=1600, height=1100, specimen="marrow", seed=4)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(slide.read_bytes()).digest()
    first, second = slide.with_name("marrow.truth"), again.with_name("again.truth")
    for name in ("cells", "regions", "slides"):
        assert (first / f"{name}.parquet").read_bytes() == (second / f"{name}.parquet").read_bytes()


def test_blocks_do_not_depend_on_how_the_slide_is_cut() -> None:
    plan = _draw(SlideSettings(900, 600, 0.5, "marrow", 11, cells_per_mm2=900))
    whole, painting = render_block(plan, 0, 0, 900, 600)
    parts, boxes = np.empty_like(whole), []
    for left, right in ((0, 500), (500, 900)):
        for top, bottom in ((0, 350), (350, 600)):
            parts[top:bottom, left:right], part = render_block(plan, left, top, right, bottom)
            boxes += part.boxes
    assert sorted(boxes) == sorted(painting.boxes)
    difference = np.abs(cv2.blur(whole, (7, 7)).astype(int) - cv2.blur(parts, (7, 7)))
    assert difference.max() <= 2 + 2 * STEADY.noise[1]  # only the sensor's noise differs


def test_an_existing_slide_is_not_replaced_unasked(slide: Path) -> None:
    with pytest.raises(ResultError, match="already exists"):
        write_slide(slide, width=64, height=64, specimen="blood")
    with pytest.raises(UsageError, match="specimen"):
        write_slide(slide.with_name("other.tiff"), width=64, height=64, specimen="lymph")


def test_a_tiny_blood_slide_works(tmp_path: Path) -> None:
    path = tmp_path / "small.tiff"
    truth = write_slide(path, width=300, height=200, specimen="blood", cells_per_mm2=0, red_cell_truth=False)
    assert tables.read_table(truth, "cells").num_rows == 0
    write_slide(path, width=310, height=200, specimen="blood", overwrite=True)
    assert tables.read_table(truth, "slides").to_pylist()[0]["width"] == 310


def test_fields_are_written_in_the_layout_of_own_tables(tmp_path: Path) -> None:
    from myelos.datasets.layouts import find_layout, read_fields

    out = write_fields(
        tmp_path / "a", count=3, specimen="marrow", size=(320, 240), seed=2, settings=FieldSettings(**POOL)
    )
    assert find_layout(out) == "myelos"
    records, faults = read_fields(out)
    assert not faults
    assert [(r.width, r.height) for r in records] == [(320, 240)] * 3
    assert sum(len(r.boxes) for r in records) == tables.read_table(out, "cells").num_rows > 5
    again = write_fields(
        tmp_path / "b", count=2, specimen="marrow", size=(320, 240), seed=2, settings=FieldSettings(**POOL)
    )
    for path in sorted((again / "images").iterdir()):
        assert path.read_bytes() == (out / "images" / path.name).read_bytes()
    with pytest.raises(ResultError, match="already holds"):
        write_fields(out, count=1, specimen="marrow")


def test_cells_are_written_in_class_folders(tmp_path: Path) -> None:
    out = write_cells(tmp_path, types=["blast", "neutrophil"], per_type=2, mpp=0.25, settings=FieldSettings(**POOL))
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["label"] for row in rows) == {"blast": 2, "neutrophil": 2}
    for row in rows:
        content = (out / row["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (int(row["height"]), int(row["width"]), 3)
        middle = int(row["x"]) + int(row["box_width"]) / 2
        assert abs(middle - image.shape[1] / 2) < 0.15 * image.shape[1]
    assert tables.read_run(out)["synthetic"] is True
    with pytest.raises(UsageError, match="unicorn"):
        write_cells(tmp_path / "x", types=["unicorn"])
