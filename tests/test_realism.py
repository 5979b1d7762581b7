"""The parts of the benchmark that judges how real the phantom looks."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks import realism, realism_cells, realism_fields, realism_gap

from myelos.datasets.cells import CellRecord
from myelos.datasets.images import content_hash
from myelos.training.crops import Crop

SMALL = realism_cells.CellSettings(per_type=2, side=48, mpp=0.4, epochs=1.0, widths=(8, 8, 8, 8))


def _set_of_cells(folder: Path, data: Path, each: int) -> Path:
    """`each` real cells of four folders, and every first one again under another name and at another quality."""
    for kind in ("basophil", "eosinophil", "lymphocyte", "monocyte"):
        (folder / kind).mkdir(parents=True)
        for number, path in enumerate(sorted((data / "pbc_dib_cells" / "images" / kind).glob("*.jpg"))[:each]):
            shutil.copy(path, folder / kind / path.name)
            if not number:
                copy = folder / kind / f"{path.stem.split('_')[0]}_9{number}.jpg"
                cv2.imwrite(str(copy), cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return folder


def test_halves_share_no_group_of_near_duplicates_and_know_no_names(tmp_path: Path, data: Path) -> None:
    folder = _set_of_cells(tmp_path / "set", data, 6)
    halves = realism_cells.real_halves(folder)
    seen = {part: {record.path.name for record in records} for part, records in halves.items()}
    assert not seen["tune"] & seen["quote"]
    assert sum(map(len, seen.values())) == 28
    for copy in folder.rglob("*_90.jpg"):
        original = next(p for p in sorted(copy.parent.glob("*.jpg")) if p != copy)
        assert len({part for part, names in seen.items() if {copy.name, original.name} & names}) == 1
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    again = realism_cells.real_halves(moved)
    for part, records in halves.items():
        assert {content_hash(r.path) for r in records} == {content_hash(r.path) for r in again[part]}


def test_fields_are_halved_without_overlap(data: Path) -> None:
    halves = realism_fields.real_field_halves(data / "bccd_fields")
    names = {part: {record.path.name for record in records} for part, records in halves.items()}
    assert not names["tune"] & names["quote"]
    assert 0.4 < len(names["tune"]) / sum(map(len, names.values())) < 0.6


def test_finer_labels_are_of_one_of_the_five_types_or_none() -> None:
    given = ("band_neutrophil", "segmented_neutrophil", "neutrophil", "monocyte", "platelet", "erythroblast")
    assert [realism_cells.coarse(name) for name in given] == ["neutrophil"] * 3 + ["monocyte", None, None]


def _crops(rng: np.random.Generator, count: int, source: str, shade: float) -> list[Crop]:
    """Discs of random size and colour; `shade` is added to all."""
    y, x = np.mgrid[:58, :58]
    crops = []
    for number in range(count):
        image = np.full((58, 58, 3), 235.0)
        image[np.hypot(x - 29, y - 29) < rng.uniform(8, 14)] = rng.uniform(80, 160, 3)
        image = np.clip(image + rng.normal(0, 6, image.shape) - shade, 0, 255).astype(np.uint8)
        allowed = np.array([source != "rendered", source == "rendered"])
        crops.append(Crop(image, allowed, source, "lymphocyte", f"lymphocyte-{number}"))
    return crops


@pytest.mark.parametrize(("shade", "low", "high"), [(0.0, 0.35, 0.65), (40.0, 0.95, 1.0)])
def test_equal_sets_cannot_be_told_apart_and_darker_ones_can(shade: float, low: float, high: float) -> None:
    rng = np.random.default_rng(4)
    learned = _crops(rng, 100, "real", 0.0) + _crops(rng, 100, "rendered", shade)
    judged = _crops(rng, 100, "real", 0.0) + _crops(rng, 100, "rendered", shade)
    assert low <= realism_gap.by_measures(learned, judged, 48)["colours"] <= high


def test_sides_of_the_rendered_cells_come_from_different_pools() -> None:
    per_type = 2 * realism_cells.CELLS_A_POOL
    crops = [
        Crop(np.zeros((2, 2, 3), np.uint8), np.ones(2, bool), "rendered", "monocyte", f"monocyte-{i}")
        for i in range(per_type)
    ]
    sides = {side: realism_gap.of_side(crops, side, per_type) for side in ("learn", "judge")}
    pools = [{int(c.name.split("-")[1]) // realism_cells.CELLS_A_POOL for c in crops} for crops in sides.values()]
    assert not pools[0] & pools[1]
    assert per_type == realism.GAP_CELLS


def test_types_of_real_cells_are_even(tmp_path: Path, data: Path) -> None:
    folder = _set_of_cells(tmp_path / "set", data, 8)
    records: list[CellRecord] = [r for part in realism_cells.real_halves(folder).values() for r in part]
    for side in realism_gap.real_sides(records, 4).values():
        assert max(Counter(record.cell_type for record in side).values()) <= 2


def test_rendering_goes_on_after_a_kill_with_the_same_pixels(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []

    def tell(what: str, done: int, total: int, _left: float) -> None:
        heard.append((what, done, total))

    first = realism_cells.rendered_crops(realism_cells.ANY, 2, SMALL, tmp_path, tell, seed=5)
    assert heard[-1] == ("rendering cells", 5, 5)
    lost = tmp_path / "monocyte-00000.npy"
    lost.unlink()
    (tmp_path / "basophil-00000.partial").write_bytes(b"cut off")
    again = realism_cells.rendered_crops(realism_cells.ANY, 2, SMALL, tmp_path, tell, seed=5)
    assert [crop.cell_type for crop in again] == [crop.cell_type for crop in first]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert first[0].image.shape == (58, 58, 3)


def test_the_key_follows_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    before = realism_cells.key(SMALL)
    assert before == realism_cells.key(SMALL) != realism_cells.key(replace(SMALL, seed=2))
    realism_cells.drawn.cache_clear()
    monkeypatch.setattr(realism_cells, "ANY", replace(realism_cells.ANY, haze=0.9))
    assert realism_cells.key(SMALL) != before
    realism_cells.drawn.cache_clear()


def test_figures_and_lines_say_half_and_target() -> None:
    logits = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 3]]
    figures = realism_cells.type_figures(realism_cells.TYPES, logits)
    assert figures["confusion"][4] == [0, 0, 0, 1, 0]
    assert figures["macro_f1"] == pytest.approx((3 + 2 / 3) / 5)
    text = "\n".join(realism.lines("cells", "quote", figures))
    assert text.startswith("cells (quote half): macro_f1 0.733 (target 0.60: met)")
    assert "missed" in realism.lines("cells", "tune", figures | {"macro_f1": 0.5})[0]
