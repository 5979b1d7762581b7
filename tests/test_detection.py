"""Tiles, suppression and stitching: hand-counted cases, and slow references for the fast code."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myelos.detection.found import Found
from myelos.detection.pairs import close_pairs
from myelos.detection.stitching import StitchSettings, corner_distance, stitch
from myelos.detection.suppression import SuppressionSettings, keep, suppress
from myelos.detection.tiling import Tile, owners, plan
from myelos.geometry import Box, iou_matrix, overlaps
from myelos.models.types import Boxes


def found(rows: list[tuple[float, ...]], types: int = 3) -> Found:
    """Rows of x, y, width, height, score, type, tile."""
    array = np.array(rows, dtype=float).reshape(-1, 7)
    return Found(array[:, :4], array[:, 4], np.eye(types)[array[:, 5].astype(int)], array[:, 6].astype(np.int64))


def by_index(tiles: list[Tile]) -> dict[int, Tile]:
    return {tile.index: tile for tile in tiles}


# --- tiling ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 9000),
    height=st.integers(1, 4000),
    mpp=st.sampled_from([None, 0.1, 0.23, 0.25, 0.4]),
)
def test_tiles_cover_and_overlap_enough(width: int, height: int, mpp: float | None) -> None:
    tiles = plan(Box(0, 0, width, height), mpp_slide=mpp, detector_mpp=0.25, tile=640, overlap_um=30)
    factor = tiles[0].downsample
    assert tiles[-1].box.right == pytest.approx(max(factor, round(width / factor) * factor))
    assert sum(t.core.area for t in tiles) == pytest.approx(tiles[-1].box.right * tiles[-1].box.bottom)
    rows = {t.row: [u for u in tiles if u.row == t.row] for t in tiles}
    for row in rows.values():
        for left, right in itertools.pairwise(row):
            assert (left.box.right - right.box.x) / factor * 0.25 >= 30 - 1e-6
            assert left.core.right == pytest.approx(right.core.x)
    assert all(max(t.size) <= 640 for t in tiles)


def test_a_small_image_is_one_tile_of_its_own_size() -> None:
    (tile,) = plan(Box(0, 0, 300, 200), mpp_slide=0.25, detector_mpp=0.25)
    assert tile.size == (300, 200)
    assert tile.inner == (False, False, False, False)


def test_without_overlap_the_grid_is_that_of_equation_3() -> None:
    tiles = plan(Box(0, 0, 1500, 700), mpp_slide=0.25, detector_mpp=0.25, overlap_um=0)
    assert [(t.box.x, t.box.y) for t in tiles] == [(640 * i, 640 * j) for j in range(2) for i in range(3)]
    assert tiles[2].size == (220, 640)
    assert all(t.core == t.box for t in tiles)


def test_an_overlap_larger_than_the_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        plan(Box(0, 0, 2000, 2000), mpp_slide=0.25, detector_mpp=0.25, tile=100)


def test_each_centre_has_one_owner() -> None:
    tiles = plan(Box(0, 0, 2000, 1500), mpp_slide=0.5, detector_mpp=0.25)
    points = np.random.default_rng(0).uniform(0, (2000, 1500), (500, 2))
    xywh = np.concatenate([points - 5, np.full((500, 2), 10)], axis=1)
    inside = [[t.index for t in tiles if t.core.contains(*point)] for point in points]
    assert [[o] for o in owners(tiles, xywh)] == inside
    read = tiles[::2]
    expected = [o if any(t.index == o for t in read) else -1 for o in owners(tiles, xywh)]
    assert owners(read, xywh).tolist() == expected


def test_boxes_go_back_to_level_0() -> None:
    tiles = plan(Box(0, 0, 4000, 4000), mpp_slide=0.125, detector_mpp=0.25)
    tile = tiles[-1]
    boxes = Boxes(np.array([[10, 20, 30, 40]], np.float32), np.array([0.9], np.float32), np.ones((1, 1), np.float32))
    rows = Found.gather([(tile, boxes)], 1, threshold=0.5)
    assert rows.xywh.tolist() == [[tile.box.x + 20, tile.box.y + 40, 60, 80]]


# --- pairs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_close_pairs_are_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    xywh = np.concatenate([rng.uniform(0, 900, (200, 2)), rng.lognormal(3, 0.8, (200, 2))], axis=1)
    xywh[0] = (-50, -50, 1500, 1500)  # larger than the grid takes
    xywh[1, 2:] = 0
    inter, _ = overlaps(xywh, xywh)
    expected = [(i, j) for i in range(200) for j in range(i + 1, 200) if inter[i, j] > 0]
    assert list(zip(*(p.tolist() for p in close_pairs(xywh)), strict=True)) == expected


# --- suppression ----------------------------------------------------------------------------------------------------


def slow_keep(xywh: np.ndarray, scores: np.ndarray, cut: np.ndarray, options: SuppressionSettings) -> list[int]:
    """The rule as one reads it: take the best that is left, drop what is the same cell, repeat."""
    inter, _ = overlaps(xywh, xywh)
    iou, area = iou_matrix(xywh, xywh), xywh[:, 2] * xywh[:, 3]
    left = sorted(range(len(scores)), key=lambda i: (bool(cut[i]), -scores[i], xywh[i, 1], xywh[i, 0], *xywh[i, 2:]))
    kept: list[int] = []
    while left:
        best = left.pop(0)
        kept.append(best)

        def same(other: int, best: int = best) -> bool:
            contained = inter[best, other] / min(area[best], area[other])
            covered = inter[best, other] / area[other]
            by_cut = bool(cut[other] and not cut[best]) and covered > options.cut_containment
            return iou[best, other] > options.iou or contained > options.containment or by_cut

        left = [other for other in left if not same(other)]
    return kept


@pytest.mark.parametrize("seed", range(6))
def test_fast_suppression_equals_the_slow_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 400
    xywh = np.concatenate([rng.uniform(0, 500, (n, 2)), rng.uniform(10, 60, (n, 2))], axis=1)
    scores = rng.choice([0.3, 0.5, 0.7, 0.9], n)
    cut = rng.random(n) < 0.2
    options = SuppressionSettings()
    assert keep(xywh, scores, cut, options).tolist() == slow_keep(xywh, scores, cut, options)


def test_a_hundred_thousand_boxes_take_seconds() -> None:
    rng = np.random.default_rng(0)
    n = 100_000
    xywh = np.concatenate([rng.uniform(0, 16_000, (n, 2)), rng.uniform(30, 70, (n, 2))], axis=1)
    start = time.process_time()
    kept = keep(xywh, rng.random(n), np.zeros(n, bool), SuppressionSettings())
    assert 0 < len(kept) < n
    assert time.process_time() - start < 5


GRID = plan(Box(0, 0, 1160, 640), mpp_slide=0.25, detector_mpp=0.25, tile=640, overlap_um=30)  # overlap at x 520–640


def test_two_types_of_one_cell_are_one_cell() -> None:
    cells = suppress(found([(100, 100, 50, 50, 0.6, 0, 0), (102, 98, 50, 52, 0.8, 1, 0)]), by_index(GRID))
    assert (cells.types.tolist(), cells.scores.tolist()) == ([1], [0.8])


def test_neighbouring_cells_stay_two() -> None:
    cells = suppress(found([(100, 100, 50, 50, 0.6, 0, 0), (140, 100, 50, 50, 0.8, 0, 0)]), by_index(GRID))
    assert len(cells) == 2


def test_the_whole_cell_of_the_neighbour_beats_the_surer_cut_one() -> None:
    assert [(t.box.x, t.box.right) for t in GRID] == [(0, 640), (520, 1160)]
    rows = found([(610, 100, 30, 60, 0.95, 0, 0), (610, 100, 60, 60, 0.5, 1, 1)])
    cells = suppress(rows, by_index(GRID))
    assert cells.xywh.tolist() == [[610, 100, 60, 60]]
    assert cells.types.tolist() == [1]


def test_a_cell_larger_than_the_overlap_is_joined() -> None:
    rows = found([(450, 100, 190, 240, 0.7, 2, 0), (520, 98, 200, 245, 0.9, 1, 1)])  # both cut, whole: 450–720
    cells = suppress(rows, by_index(GRID))
    assert cells.xywh.tolist() == [[450, 98, 270, 245]]
    assert (cells.types.tolist(), cells.scores.tolist(), cells.tile.tolist()) == ([1], [0.9], [1])


def test_cut_boxes_of_two_cells_are_not_joined() -> None:
    rows = found([(450, 100, 190, 100, 0.7, 2, 0), (520, 180, 200, 100, 0.9, 1, 1)])
    assert len(suppress(rows, by_index(GRID))) == 2


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_boxes_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        (*rng.integers(0, 600, 2), *rng.integers(20, 80, 2), rng.choice([0.5, 0.9]), rng.integers(3), rng.integers(2))
        for _ in range(300)
    ]
    one = suppress(found(rows), by_index(GRID))
    other = suppress(found([rows[i] for i in rng.permutation(300)]), by_index(GRID))
    for column in ("xywh", "scores", "probabilities", "tile"):
        assert np.array_equal(getattr(one, column), getattr(other, column))


def test_nothing_found_is_no_error() -> None:
    assert len(suppress(found([]), by_index(GRID))) == 0
    assert len(stitch(found([]), by_index(GRID), mpp=0.25)) == 0


# --- stitching ------------------------------------------------------------------------------------------------------

TOUCHING = plan(Box(0, 0, 1280, 1280), mpp_slide=0.25, detector_mpp=0.25, tile=640, overlap_um=0)  # 2 × 2


def test_corner_distance_by_hand() -> None:
    # Halves of one cell: right corners of the first and left corners of the second, 2 px and 4 px apart.
    a = np.array([[600.0, 100, 40, 60]])
    b = np.array([[642.0, 100, 30, 60 - 2 * np.sqrt(3)]])
    assert corner_distance(a, b)[0] == pytest.approx((2 + 4) / 2)


def test_used_corners_are_excluded() -> None:
    # A thin part: its two left corners are both near the one upper right corner of the other box. With that corner
    # used up, the second distance is between the lower corners, 90 px.
    a, b = np.array([[0.0, 0, 100, 100]]), np.array([[103.0, 0, 50, 10]])
    assert corner_distance(a, b)[0] == pytest.approx((3 + np.hypot(3, 90)) / 2)


def test_halves_become_one_cell_with_the_type_of_the_surer() -> None:
    cells = stitch(found([(600, 100, 40, 60, 0.4, 0, 0), (640, 102, 25, 57, 0.6, 1, 1)]), by_index(TOUCHING), mpp=0.25)
    assert cells.xywh.tolist() == [[600, 100, 65, 60]]
    assert (cells.types.tolist(), cells.scores.tolist()) == ([1], [0.6])


def test_equal_types_can_be_asked_for() -> None:
    rows = found([(600, 100, 40, 60, 0.4, 0, 0), (640, 102, 25, 57, 0.6, 1, 1)])
    assert len(stitch(rows, by_index(TOUCHING), mpp=0.25, settings=StitchSettings(equal_types=True))) == 2


def test_a_cell_on_the_corner_of_four_tiles_is_joined_by_a_chain() -> None:
    rows = [
        (610, 615, 30, 25, 0.5, 0, 0),
        (640, 615, 28, 25, 0.6, 0, 1),
        (610, 640, 30, 32, 0.7, 0, 2),
        (640, 640, 28, 32, 0.8, 0, 3),
    ]
    cells = stitch(found(rows), by_index(TOUCHING), mpp=0.25)
    assert cells.xywh.tolist() == [[610, 615, 58, 57]]
    diagonal = stitch(found([rows[0], rows[3]]), by_index(TOUCHING), mpp=0.25)
    assert len(diagonal) == 2, "diagonal tiles are no neighbours"


def test_boxes_of_one_tile_and_weak_ones_are_not_stitched() -> None:
    same_tile = found([(100, 100, 20, 20, 0.5, 0, 0), (121, 100, 20, 20, 0.5, 0, 0)])
    assert len(stitch(same_tile, by_index(TOUCHING), mpp=0.25)) == 2
    weak = found([(600, 100, 40, 60, 0.1, 0, 0), (640, 102, 25, 57, 0.6, 1, 1)])
    assert len(stitch(weak, by_index(TOUCHING), mpp=0.25)) == 1


def test_epsilon_is_a_length() -> None:
    rows = found([(600, 100, 30, 60, 0.5, 0, 0), (650, 100, 25, 60, 0.6, 0, 1)])  # corners 20 px apart
    assert len(stitch(rows, by_index(TOUCHING), mpp=0.25)) == 1  # ε is 25 px
    assert len(stitch(rows, by_index(TOUCHING), mpp=0.5)) == 2  # ε is 12.5 px
