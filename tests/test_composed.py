"""Cells cut out of single-cell images and set into synthetic fields: clean cuts, one look, and a truth that tells."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from myelos import tables
from myelos.datasets.cell_splits import split_cells
from myelos.datasets.cells import read_cells
from myelos.datasets.images import content_hash
from myelos.errors import UsageError
from myelos.phantom.alike import colours
from myelos.phantom.cell_images import CellImagesSettings, read_cut_outs
from myelos.phantom.cut_outs import CUT, CutOuts, in_words, unmixed
from myelos.phantom.cutting import WORKING, CutOut, NotCleanError, cut_out
from myelos.phantom.dataset import write_cells, write_fields
from myelos.phantom.fields import FieldSettings
from myelos.phantom.glass.poses import render_pool, save_pool
from myelos.phantom.glass.real import with_cut_outs, write_origins
from myelos.phantom.glass.scanners import SCANNERS
from myelos.phantom.slide import write_slide
from myelos.phantom.stain import STAINS, standard_stain

TYPES = ("blast", "lymphocyte", "segmented_neutrophil")
SETTINGS = CellImagesSettings(mpp=WORKING, rendered=0.25, fewest=2)
SPARSE = {"red_cells_per_mm2": 2500, "cells_per_mm2": 150, "haze": 0.0, "debris": 0.0, "pool_per_type": 8}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two laboratories that stain differently; both have lymphocytes, one alone has blasts."""
    folder = tmp_path_factory.mktemp("sets")
    result = []
    for name, stain, types in (("here", "may_gruenwald_giemsa", TYPES), ("there", "liu", TYPES[1:])):
        settings = FieldSettings(stain=stain, stain_variation=0.0, **SPARSE)
        write_cells(folder / name, types=types, per_type=7, mpp=WORKING, seed=len(name), settings=settings)
        (folder / name / "manifest.csv").unlink()  # a laboratory's class folders have none
        result.append(folder / name)
    return result


@pytest.fixture(scope="module")
def cut_outs(sets: list[Path]) -> CutOuts:
    return read_cut_outs(sets, mpp=0.25, settings=SETTINGS)


def _image(*discs: tuple[int, int, int], side: int = 200) -> np.ndarray:
    """Cells as discs (x, y, radius in px) with a nucleus on pale glass."""
    rgb = np.full((side, side, 3), (244, 236, 240), np.uint8)
    for x, y, radius in discs:
        cv2.circle(rgb, (x, y), radius, (190, 180, 225), -1, cv2.LINE_AA)
        cv2.circle(rgb, (x, y), radius * 2 // 3, (90, 60, 150), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(rgb, (0, 0), 1.0)


def test_a_disc_is_cut_out_at_its_edge_and_nothing_of_the_glass_stays() -> None:
    found = cut_out(_image((100, 100, 50)), WORKING)
    across = 2 * np.sqrt((found.cover > 0.5).sum() / np.pi)
    assert abs(across - 100) < 5
    assert not found.density[found.cover == 0].any()
    rim = (found.cover > 0) & (found.cover < 0.5)
    assert found.density[rim].mean() < 0.1
    light = np.array([190, 180, 225]) + 1
    ring = (found.cover > 0.99) & (found.nucleus < 0.01)
    wanted = -np.log(light / np.array([245, 237, 241]))
    assert np.allclose(np.median(found.density[ring], axis=0), wanted, atol=0.03)


@pytest.mark.parametrize(
    ("rgb", "why"),
    [
        (_image((30, 100, 45)), "border|middle"),
        (_image((140, 100, 45)), "middle"),
        (_image((70, 100, 42), (142, 100, 42)), "several cells|middle|border"),
        (_image((100, 100, 14)), "size"),
        (_image(), "nucleus|size|edge"),
        (np.full((200, 200, 3), 128, np.uint8), "nucleus|edge|border|size"),
    ],
)
def test_what_cannot_be_cut_cleanly_says_why(rgb: np.ndarray, why: str) -> None:
    with pytest.raises(NotCleanError, match=why):
        cut_out(rgb, WORKING)


def test_a_red_cell_that_touches_is_cut_off() -> None:
    rgb = _image((100, 100, 48))
    touched = rgb.copy()
    cv2.circle(touched, (168, 100), 28, (222, 202, 196), -1, cv2.LINE_AA)
    cv2.circle(touched, (100, 100), 47, (190, 180, 225), -1, cv2.LINE_AA)
    cv2.circle(touched, (100, 100), 32, (90, 60, 150), -1, cv2.LINE_AA)
    alone, beside = (cut_out(image, WORKING).cover > 0.5 for image in (rgb, touched))
    assert beside.sum() < 1.12 * alone.sum()


def test_every_image_is_accounted_for(sets: list[Path], cut_outs: CutOuts) -> None:
    outcomes = cut_outs.about["outcomes"]
    assert set(outcomes) == {"here", "there"}
    for folder in sets:
        for kind in outcomes[folder.name]:
            assert sum(outcomes[folder.name][kind].values()) == 7
    kept = {(s, k): len(own) for k, by in cut_outs.cells.items() for s, own in by.items()}
    assert sum(kept.values()) > 0.5 * 35
    assert all(outcomes[s][k][CUT] == n for (s, k), n in kept.items())
    assert "blast" in cut_outs.about["of_one_source"]
    assert "lymphocyte" not in cut_outs.about["of_one_source"]
    words = in_words(cut_outs)
    assert "cells cut out cleanly" in words
    assert "blast" in words.splitlines()[-1]


def test_sources_take_equal_shares_and_some_are_rendered(cut_outs: CutOuts) -> None:
    rng = np.random.default_rng(0)
    picked = [cut_outs.pick("lymphocyte", int(n)) for n in rng.integers(0, 1 << 30, 4000)]
    shares = Counter(kept.source if kept else "rendered" for kept in picked)
    assert abs(shares["rendered"] / 4000 - 0.25) < 0.03
    assert abs(shares["here"] - shares["there"]) < 0.06 * 4000
    used = {kept.cut_from for kept in picked if kept}
    assert len(used) == sum(len(own) for own in cut_outs.cells["lymphocyte"].values())
    assert cut_outs.pick("eosinophil", 1) is None


def test_stains_are_brought_together(sets: list[Path], cut_outs: CutOuts) -> None:
    """Colours of the shared type by source, before and after."""
    before = {}
    for folder in sets:
        records, _ = read_cells(folder)
        paths = [r.path for r in records if r.cell_type == "lymphocyte"]
        before[folder.name] = colours([c for p in paths if (c := _cut(p)) is not None])
    after = {}
    matrix = np.array(STAINS["may_gruenwald_giemsa"]) * np.log(10)
    for source, own in cut_outs.cells["lymphocyte"].items():
        images = [kept.image.astype(np.float32) for kept in own]
        after[source] = colours([CutOut(i[..., :5] @ matrix, i[..., 5], i[..., 6]) for i in images])
    apart = [np.abs(c["here"] - c["there"])[0].mean() for c in (before, after)]  # of the nuclei
    assert apart[1] < 0.5 * apart[0]


def test_sources_may_keep_their_own_stain(sets: list[Path]) -> None:
    own = read_cut_outs(sets[1:], mpp=0.25, settings=replace(SETTINGS, alike=False)).about
    assert own["sources"]["there"]["stain_map"] == np.eye(3).tolist()
    assert own["sources"]["there"]["blur_um"] == own["rendered_blur_um"] == 0


def _cut(path: Path) -> CutOut | None:
    try:
        return cut_out(cv2.imread(str(path))[..., ::-1], WORKING)
    except NotCleanError:
        return None


def test_colours_become_dyes_that_give_them_again() -> None:
    dyes = np.random.default_rng(1).uniform(0, 0.6, (12, 12, 5)).astype(np.float32)
    matrix = np.array(STAINS["may_gruenwald_giemsa"], np.float32)
    density = dyes @ matrix
    found = unmixed(density)
    assert found.min() >= 0
    assert np.abs(found @ matrix - density).max() < 0.03


def test_fields_say_where_each_cell_comes_from(cut_outs: CutOuts, sets: list[Path], tmp_path: Path) -> None:
    settings = FieldSettings(**(SPARSE | {"cells_per_mm2": 1500}))
    words = {"specimen": "blood", "size": 320, "seed": 3, "settings": settings, "mix": {"cell_images": 1.0}}
    out = write_fields(tmp_path / "a", count=3, cut_outs=cut_outs, **words)
    cells = {row["cell_id"]: row for row in tables.read_table(out, "cells").to_pylist()}
    with (out / "cell_sources.csv").open(newline="", encoding="utf-8") as file:
        sources = {row["cell_id"]: row for row in csv.DictReader(file)}
    assert set(sources) == set(cells)
    assert {row["source"] for row in sources.values()} == {"here", "there", "rendered"}
    images = {content_hash(r.path)[:12]: r.cell_type for folder in sets for r in read_cells(folder)[0]}
    for name, row in sources.items():
        assert (row["source"] == "rendered") == (row["image"] == "")
        if row["image"]:
            assert images[row["image"]] == cells[name]["cell_type"]
    run = tables.read_run(out)
    assert run["synthetic"] is True
    assert run["cell_images"]["cells"]["lymphocyte"].keys() == {"here", "there"}
    again = write_fields(tmp_path / "b", count=3, cut_outs=cut_outs, **words)
    for path in sorted((out / "images").iterdir()):
        assert path.read_bytes() == (again / "images" / path.name).read_bytes()


def test_the_boxes_hold_the_cells(cut_outs: CutOuts, tmp_path: Path) -> None:
    """Glass around each lone cell, and a dark nucleus in its box."""
    settings = FieldSettings(
        **(SPARSE | {"cells_per_mm2": 300, "red_cells_per_mm2": 0, "visible": 0.0, "platelets_per_mm2": 0})
    )
    only = replace(cut_outs, rendered=0.0)
    out = write_fields(
        tmp_path, count=2, specimen="blood", size=400, settings=settings, mix={"cell_images": 1.0}, cut_outs=only
    )
    names = {row["slide_id"]: row["file"] for row in csv.DictReader((out / "names.csv").open(encoding="utf-8"))}
    found = 0
    for slide, file in names.items():
        rgb = cv2.imread(str(out / file)).astype(int)
        rows = [row for row in tables.read_table(out, "cells").to_pylist() if row["slide_id"] == slide]
        empty = np.ones(rgb.shape[:2], bool)
        for row in rows:
            x, y, w, h = (int(row[k]) for k in ("x", "y", "width", "height"))
            empty[max(y - 4, 0) : y + h + 4, max(x - 4, 0) : x + w + 4] = False
            if min(w, h) > 20:
                assert rgb[y : y + h, x : x + w, 1].min() < 0.75 * np.median(rgb[..., 1])
                found += 1
        glass = cv2.GaussianBlur(rgb[..., 1].astype(np.float32), (0, 0), 2)[empty]
        assert glass.min() > 0.6 * np.median(glass)  # nothing of a patch beyond the boxes
    assert found > 3


def test_a_slide_is_made_of_them_too(cut_outs: CutOuts, tmp_path: Path) -> None:
    shares = {"lymphocyte": 1.0, "blast": 1.0}
    path = tmp_path / "slide.tif"
    truth = write_slide(path, width=700, height=500, specimen="blood", composition=shares, cut_outs=cut_outs,
                        red_cell_truth=False, cells_per_mm2=2500)  # fmt: skip
    cells = {row["cell_id"]: row["cell_type"] for row in tables.read_table(truth, "cells").to_pylist()}
    with (truth / "cell_sources.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["cell_id"] for row in rows} == set(cells)
    assert {row["source"] for row in rows} == {"here", "there", "rendered"}
    assert all(cells[row["cell_id"]] == "lymphocyte" for row in rows if row["source"] == "there")
    assert tables.read_run(truth)["cell_images"]["of_one_source"] == ["blast"]


def test_the_sprites_of_a_glass_come_from_all_sources_alike(cut_outs: CutOuts, tmp_path: Path) -> None:
    words = {"stain": standard_stain(), "made": SCANNERS["area_camera"], "mpp": 0.25}
    rendered = render_pool("lymphocyte", 1, 0.25, words["stain"], words["made"], 12, cut_outs.softness)
    sprites, origins = with_cut_outs("lymphocyte", rendered, cut_outs, **words)
    shares = Counter(source for (source, _), one in zip(origins, sprites, strict=True) if not one.damage)
    assert shares["here"] == shares["there"] == min(map(len, cut_outs.cells["lymphocyte"].values()))
    assert abs(shares["rendered"] / sum(shares.values()) - 0.25) < 0.1
    damaged = [source for (source, _), one in zip(origins, sprites, strict=True) if one.damage]
    assert set(damaged) == {"rendered"}
    assert len(damaged) == sum(one.damage > 0 for one in rendered)
    assert with_cut_outs("lymphocyte", rendered, None, **words)[0] == rendered
    pool = save_pool(tmp_path, [("lymphocyte", sprites)])
    write_origins(tmp_path, pool.types, [origins])
    with (tmp_path / "sprites.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(pool.table)
    for number in (0, len(rows) // 2):
        assert pool.sprite(number)[..., 3].max() > 0.9
        assert not pool.sprite(number)[0].any()


def test_settings_that_leave_nothing_are_refused(sets: list[Path]) -> None:
    with pytest.raises(UsageError, match="part"):
        CellImagesSettings(part="dev")
    with pytest.raises(UsageError, match="rendered"):
        CellImagesSettings(rendered=1.0)
    with pytest.raises(UsageError, match="cleanly"):
        read_cut_outs(sets[:1], mpp=0.25, settings=CellImagesSettings(mpp=0.02))


def test_the_command_composes_fields(sets: list[Path], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from myelos.cli import app

    call = ["phantom", "fields", "--specimen", "marrow", "--count", "1", "--size", "200", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*call, "--cell-images", str(sets[1]), "--cell-mpp", str(WORKING)])
    assert done.exit_code == 0, done.output
    assert "cells cut out cleanly" in done.output
    assert (tmp_path / "out" / "cell_sources.csv").is_file()


def test_real_cells_are_cut_out(data: Path) -> None:
    """Most of the cells of a blood set, and cells of the asked part alone."""
    folder = data / "pbc_dib_cells"
    cut_outs = read_cut_outs([folder], mpp=0.25, settings=CellImagesSettings(per_type=5, fewest=1))
    outcomes = cut_outs.about["outcomes"]["pbc_dib_cells"]
    tried = sum(sum(row.values()) for row in outcomes.values())
    assert "platelet" not in outcomes
    assert sum(row.get(CUT, 0) for row in outcomes.values()) > 0.6 * tried
    assert set(cut_outs.drawable) >= {"eosinophil", "lymphocyte", "segmented_neutrophil", "erythroblast"}
    assert all(
        kept.image.min() >= 0 and kept.image[..., 5].max() > 0.99
        for kept in cut_outs.cells["eosinophil"]["pbc_dib_cells"]
    )


def test_only_cells_of_the_part_are_used(sets: list[Path]) -> None:
    found = read_cut_outs(sets, mpp=0.25, settings=replace(SETTINGS, part="train", fewest=1))
    records = [record for folder in sets for record in read_cells(folder)[0]]
    allowed = {content_hash(records[i].path)[:12] for i in split_cells(records)["train"]}
    used = {kept.cut_from for by in found.cells.values() for own in by.values() for kept in own}
    assert used
    assert used <= allowed
    assert len(allowed) < len(records)
