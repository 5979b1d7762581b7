"""A whole glass: the same whatever the number of workers, with complete truth; nothing half done looks done."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from myelos import tables
from myelos.errors import ResultError, UsageError
from myelos.phantom.compositions import DISEASES, patient_composition
from myelos.phantom.glass import writing
from myelos.phantom.glass.crowd import CELL, Crowd
from myelos.phantom.glass.drawing import make_layout
from myelos.phantom.glass.grades import grade_of
from myelos.phantom.glass.layout import BLOCK, GlassSettings
from myelos.phantom.glass.poses import TABLE, Dealer, Pool
from myelos.phantom.glass.scanners import SCANNERS
from myelos.phantom.glass.truth import CELL_TRUTH, DAMAGE
from myelos.phantom.glass.writing import write_glass
from myelos.slides import open_slide
from myelos.slides.tiled import TiledTiff, encode_tiles, halved
from myelos.slides.write import halve

FEW = {"lymphocyte": 3.0, "orthochromatic_erythroblast": 2.0, "smudge_cell": 0.3}
SMALL = GlassSettings(4400, 3000, mpp=0.5, seed=3, composition=FEW, pool_per_type=2)
LARGE = GlassSettings(218_944, 103_704)


@pytest.fixture(scope="module")
def glass(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("glass") / "slide.tif"
    write_glass(path, SMALL, threads=1)
    return path


@pytest.fixture(scope="module")
def large() -> Crowd:
    """The plan of a slide of real size, with a pool of made-up sizes."""
    types = tuple(sorted(LARGE.shares("marrow")))
    rows = [(k, d, 60, 0, 26.0) for k in range(len(types)) for d, n in ((0, 40), (1, 6), (2, 6)) for _ in range(n)]
    return Crowd(LARGE, make_layout(LARGE), Pool(np.zeros(0, np.float16), np.array(rows, TABLE), types))


def test_workers_change_nothing(glass: Path, tmp_path: Path) -> None:
    """Processes that are spawned, and one alone, give the same bytes of slide and truth."""
    again = tmp_path / "again.tif"
    write_glass(again, SMALL, threads=2)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(glass.read_bytes()).digest()
    for name in ("cells", "regions", "slides"):
        one, two = glass.with_name("slide.truth"), again.with_name("again.truth")
        assert (one / f"{name}.parquet").read_bytes() == (two / f"{name}.parquet").read_bytes()


def test_openslide_and_our_reader_agree(glass: Path) -> None:
    import openslide

    with openslide.OpenSlide(str(glass)) as theirs, open_slide(glass, reader="tiff") as ours:
        assert theirs.dimensions == (4400, 3000)
        assert theirs.level_count == 4
        assert float(theirs.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert ours.mpp == pytest.approx(0.5)
        for level, (x, y) in ((0, (1500, 1200)), (0, (3900, 2500)), (1, (700, 600)), (3, (0, 0))):
            scale = 2**level
            picture = theirs.read_region((x * scale, y * scale), level, (400, 300)).convert("RGB")
            mine = ours.read_level(level, x, y, 400, 300)
            inside = np.array(picture)[: 3000 // scale - y, : 4400 // scale - x].astype(int)
            assert np.abs(inside - mine[: inside.shape[0], : inside.shape[1]]).max() <= 2


def test_levels_are_halves_of_each_other(glass: Path) -> None:
    with open_slide(glass, reader="tiff") as slide:
        for level in (1, 2, 3):
            above = slide.read_level(level - 1, 400, 200, 320, 320)
            below = slide.read_level(level, 200, 100, 160, 160)
            assert np.abs(halve(above).astype(int) - below).mean() < 6  # two generations of JPEG


def test_truth_fits_the_pixels(glass: Path) -> None:
    truth = glass.with_name("slide.truth")
    run = tables.read_run(truth)
    rows = pq.read_table(truth / "cells.parquet").to_pylist()
    assert len(rows) == run["cells"] == len({row["cell_id"] for row in rows})
    assert tables.read_table(truth, "cells").num_rows == len(rows)  # readable as the plain table, too
    slide_id = tables.read_table(truth, "slides").to_pylist()[0]["slide_id"]
    assert {row["slide_id"] for row in rows} == {slide_id}
    cells = [row for row in rows if row["cell_type"] != "artefact"]
    assert {row["cell_type"] for row in cells} == set(FEW)
    assert {row["grade"] for row in rows if row["cell_type"] == "artefact"} == {6}
    with open_slide(glass) as slide:
        picture = slide.read_level(0, 0, 0, 4400, 3000)
    usual, dark = float(np.median(picture[::8, ::8, 1])), []
    for row in cells:
        x, y, width, height = (int(row[key]) for key in ("x", "y", "width", "height"))
        assert 0 < width < 120
        assert row["damage"] in DAMAGE
        outline = np.array(row["outline"]).reshape(-1, 2)
        assert (outline >= [row["x"], row["y"]]).all()
        assert (outline <= [row["x"] + width, row["y"] + height]).all()
        if row["sharpness"] > 0.9 and x > 0 and y > 0:
            patch = picture[y : y + height, x : x + width, 1]
            dark.append(float(patch.min()) < 0.62 * usual)
    assert len(dark) > 40
    assert np.mean(dark) > 0.95


def test_regions_say_what_lies_on_the_glass(glass: Path) -> None:
    regions = tables.read_table(glass.with_name("slide.truth"), "regions").to_pylist()
    kinds = {row["kind"] for row in regions}
    assert {"label", "smear", "thick", "feather_edge", "trail", "particle", "bubble", "scratch"} <= kinds
    for row in regions:
        assert len(row["polygon"]) >= 6
        assert row["area_mm2"] > 0


def test_a_slide_of_real_size_is_populated_as_asked(large: Crowd) -> None:
    """Enough cells; trails between 300 and 1,500 nucleated cells per mm² wherever they are told to be trails."""
    layout, mpp = large.layout, LARGE.mpp
    square = (layout.step * mpp * 1e-3) ** 2
    assert layout.cells.sum() * square > 80_000
    trails = np.isin(layout.where, [i for i, region in enumerate(layout.regions) if region.kind == "trail"])
    assert trails.sum() * square > 50
    low, high = np.percentile(layout.cells[trails], [3, 99])
    assert low >= 295
    assert high <= 1550


def test_cells_of_a_band_keep_apart_and_poses_do_not_return(large: Crowd) -> None:
    """No two cells within 1 mm have the same sprite, mirrored alike, at the same angle and size."""
    found = []
    for number, (here, _) in enumerate(large.bands()):
        if number >= 26:
            found.append(here)
        if number == 28:
            break
    cells = np.concatenate(found)
    assert len(cells) > 5000
    assert (np.diff(cells["number"]) == 1).all()
    side = np.ceil(1000 / LARGE.mpp)
    order = np.lexsort((cells["x"], cells["mirrored"], cells["sprite"]))
    cells = cells[order]
    for step in range(1, 60):
        a, b = cells[:-step], cells[step:]
        same = (a["sprite"] == b["sprite"]) & (a["mirrored"] == b["mirrored"])
        near = np.hypot(a["x"] - b["x"], a["y"] - b["y"]) < side
        turn = np.abs((a["angle"] - b["angle"] + 180) % 360 - 180)
        twice = same & near & (turn < 3.9) & (np.abs(a["scale"] - b["scale"]) < 0.028)
        assert not twice.any()


def test_memory_of_the_plan_is_bounded() -> None:
    settings = GlassSettings(500_000, 250_000)
    columns, rows = settings.blocks
    layout = make_layout(GlassSettings(16_384, 8192))
    assert layout.per_block**2 * 16 * 8 >= layout.cells.size
    assert columns * rows * int(np.sqrt(2_500_000 / columns / rows)) ** 2 <= 2_500_000


def test_touching_is_marked_on_both(large: Crowd) -> None:
    here = np.zeros(4, CELL)
    here["x"], here["y"], here["radius"] = [100, 140, 400, 1000], [100, 100, 100, 100], 20
    here["radius"][3] = 200  # a megakaryocyte
    here["x"][2] = 785
    large._mark_touching(here, here.copy(), 0)
    assert here["touching"].tolist() == [True, True, True, True]
    here["x"][2], here["touching"] = 500, False
    large._mark_touching(here, here.copy(), 0)
    assert here["touching"].tolist() == [True, True, False, False]


def test_poses_of_neighbouring_squares_differ() -> None:
    rows = np.array([(0, 0, 10, 0, 4.0)] * 3, TABLE)
    dealer = Dealer(Pool(np.zeros(0, np.float16), rows, ("blast",)), 4096, seed=1)
    given = [tuple(dealer.deal(0, 0, x, y)) for y in (0, 4096) for x in (0, 4096) for _ in range(3 * 2 * 36 * 3 // 4)]
    assert len(set(given)) == len(given)


def test_a_failed_run_leaves_no_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "_place", broken)
    path = tmp_path / "slide.tif"
    with pytest.raises(ResultError, match="disk is full"):
        write_glass(path, SMALL, threads=1)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_full_disk_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ResultError, match="not room enough"):
        write_glass(tmp_path / "slide.tif", SMALL, threads=1)
    assert not (tmp_path / "slide.tif").exists()
    assert not list(tmp_path.iterdir())


def test_the_estimate_is_no_less_than_what_is_written(glass: Path) -> None:
    written = glass.stat().st_size + sum(p.stat().st_size for p in glass.with_name("slide.truth").iterdir())
    assert written * 0.8 < writing.estimated_bytes(SMALL, make_layout(SMALL)) < 3 * written


def test_a_finished_slide_is_not_replaced_unasked(glass: Path) -> None:
    with pytest.raises(ResultError, match="already exists"):
        write_glass(glass, SMALL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 100},
        {"height": 2_000_000},
        {"mpp": 3.0},
        {"specimen": "liver"},
        {"stain": "ink"},
        {"scanner": "phone"},
    ],
)
def test_impossible_glasses_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        GlassSettings(**{"width": 4096, "height": 4096} | wrong)


def test_a_blood_smear_lies_beside_the_marrow() -> None:
    layout = make_layout(GlassSettings(40_960, 20_480, blood_smear=True))
    rows = np.flatnonzero(layout.blood.any(axis=1))
    assert rows.min() > 0.6 * len(layout.blood)
    marrow = (layout.where >= 0) & ~layout.blood
    assert marrow.sum() > layout.blood.sum() > 0


def test_every_scanner_has_room_for_its_noise() -> None:
    for scanner in SCANNERS.values():
        assert max(scanner.white) + 4 * scanner.noise < 262
        assert 60 <= scanner.quality <= 95


def test_grades_follow_their_rules() -> None:
    assert grade_of(0, False, False, 0, 1.0) == 1
    assert grade_of(0, True, False, 0, 1.0) == 2
    assert grade_of(1, False, False, 0, 1.0) == 3
    assert grade_of(2, False, False, 0, 1.0) == 4
    assert grade_of(3, False, False, 0, 1.0) == 5
    assert grade_of(0, False, True, 0, 1.0) == 3
    assert grade_of(0, True, False, 2, 1.0) == 4
    assert [grade_of(0, False, False, 0, s) for s in (0.7, 0.3, 0.1)] == [2, 4, 5]


def test_tiles_come_in_any_order_and_repeat(tmp_path: Path) -> None:
    import tifffile

    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8), 32, axis=0), 32, axis=1)
    picture[:512, 512:1024] = picture[:512, :512]
    tiles = encode_tiles(picture, 512, 90)
    with TiledTiff(tmp_path / "a.tif", [(1536, 1024)], mpp=0.25) as tiff:
        for column, row in ((2, 1), (0, 0), (1, 1), (2, 0), (0, 1)):
            tiff.put(0, column, row, tiles[row][column])
        tiff.repeat(0, 1, 0, like=(0, 0))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        read = file.pages[0].asarray()
    assert np.abs(read.astype(int) - picture).mean() < 12  # 4:2:0 of hard edges of colour
    assert (tmp_path / "a.tif").stat().st_size < sum(len(t) for row in tiles for t in row) + 3000
    with pytest.raises(ValueError, match="missing"), TiledTiff(tmp_path / "b.tif", [(1536, 1024)], mpp=0.25) as tiff:
        tiff.put(0, 0, 0, tiles[0][0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif"]


@pytest.mark.parametrize("shape", [(64, 32), (63, 31), (1, 5)])
def test_halving_is_that_of_the_other_writer(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert np.array_equal(halved(pixels), halve(pixels))


@pytest.mark.parametrize("disease", sorted(DISEASES))
def test_patients_spread_within_what_their_disease_means(disease: str) -> None:
    rng = np.random.default_rng(5)
    drawn = [patient_composition(disease, rng) for _ in range(60)]
    for name, (low, high) in DISEASES[disease].limits.items():
        shares = np.array([patient[name] for patient in drawn])
        assert low <= shares.min()
        assert shares.max() <= high
        assert shares.std() > 0.002
    assert all(abs(sum(patient.values()) - 1) < 1e-9 for patient in drawn)
    with pytest.raises(UsageError, match="no disease"):
        patient_composition("measles", rng)


def test_blocks_are_fields_of_whole_tiles() -> None:
    assert BLOCK % writing.TILE == 0
    assert BLOCK // writing.TILE == 1 << (writing.LOWER - 1)
    assert list(CELL_TRUTH.names)[: len(tables.SCHEMAS["cells"].names)] == tables.SCHEMAS["cells"].names
