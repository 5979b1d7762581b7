"""One box per cell over a whole image whose tiles overlap: suppression that does not ask for the type.

Two tiles see a cell of their overlap twice, and a detector may give one cell two boxes of two types. Both end here:

1. A box that touches an edge of its tile with a neighbour behind it is *cut*. All uncut boxes come first, then the
   cut ones, each by falling score; boxes that overlap one already taken are dropped.
2. A cut box is dropped when an uncut one of the neighbour covers most of it, whatever their scores.
3. Two cut boxes remain of a cell larger than the overlap (a megakaryocyte). Where they agree in the strip that both
   tiles saw, they become one box, with type and score of the surer part.

The order of the rows changes nothing: ties are broken by the boxes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.detection.found import Found
from myelos.detection.pairs import close_pairs, groups, intersections, unite
from myelos.detection.tiling import Tile


@dataclass(frozen=True)
class SuppressionSettings:
    """iou: two boxes above it are one cell. containment: so are two of which one lies in the other by this share.
    cut_containment: share of a cut box that an uncut one must cover. agreement: IoU of two cut boxes within the strip
    that both tiles saw. edge_px: a box within so many tile pixels of an inner edge is cut.
    """

    iou: float = 0.5
    containment: float = 0.8
    cut_containment: float = 0.5
    agreement: float = 0.5
    edge_px: float = 1.5


def suppress(found: Found, tiles: dict[int, Tile], settings: SuppressionSettings | None = None) -> Found:
    """The cells among the boxes found, sorted top to bottom and left to right."""
    settings = settings or SuppressionSettings()
    found = found.ordered()
    cut = is_cut(found, tiles, settings.edge_px)
    kept = keep(found.xywh, found.scores, cut, settings, tile=found.tile)
    found = found.take(kept)
    found, cut = _join_cut(found, cut[kept], tiles, settings)
    return found.take(keep(found.xywh, found.scores, cut, settings)).sorted_by_place()


def is_cut(found: Found, tiles: dict[int, Tile], edge_px: float) -> NDArray[np.bool_]:
    """(N,) whether a box touches an edge of its tile behind which another tile of the plan lies."""
    result = np.zeros(len(found), bool)
    for index in np.unique(found.tile):
        tile = tiles[int(index)]
        rows = np.flatnonzero(found.tile == index)
        x, y, width, height = found.xywh[rows].T
        near = edge_px * tile.downsample
        left, top, right, bottom = tile.inner
        result[rows] = (
            (left & (x <= tile.box.x + near))
            | (top & (y <= tile.box.y + near))
            | (right & (x + width >= tile.box.right - near))
            | (bottom & (y + height >= tile.box.bottom - near))
        )
    return result


def keep(
    xywh: NDArray[np.floating],
    scores: NDArray[np.floating],
    cut: NDArray[np.bool_],
    settings: SuppressionSettings,
    *,
    tile: NDArray[np.integer] | None = None,
) -> NDArray[np.intp]:
    """Indices of the boxes that stay, uncut ones first, each group by falling score.

    xywh: (N, 4); scores: (N,); cut: (N,) bool; tile: (N,), where given, cut boxes of different tiles do not suppress
    each other (they may be parts). Time grows with the number of overlapping pairs, not with N².
    """
    rank = priority(xywh, scores, cut)
    place = np.empty(len(rank), np.intp)
    place[rank] = np.arange(len(rank))
    first, second = close_pairs(xywh)
    swap = place[first] > place[second]  # let `first` be the one that is asked earlier
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    same = one_cell(xywh, first, second, cut, settings)
    if tile is not None:
        same &= ~(cut[first] & cut[second] & (tile[first] != tile[second]))
    return _greedy(rank, first[same], second[same])


def priority(xywh: NDArray[np.floating], scores: NDArray[np.floating], cut: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Order in which boxes are asked: uncut before cut, by falling score; equal ones by their place and size."""
    x, y, width, height = np.asarray(xywh).reshape(-1, 4).T
    return np.lexsort((height, width, x, y, -np.asarray(scores), cut))


def one_cell(
    xywh: NDArray[np.floating],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    cut: NDArray[np.bool_],
    settings: SuppressionSettings,
) -> NDArray[np.bool_]:
    """Whether each pair is one cell; `second` is the later in `priority`, the one that would be dropped."""
    inter = intersections(xywh[first], xywh[second])
    area_first, area_second = np.prod(xywh[first, 2:], axis=1), np.prod(xywh[second, 2:], axis=1)
    same = inter > settings.iou * (area_first + area_second - inter)
    same |= inter > settings.containment * np.minimum(area_first, area_second)
    covered = inter > settings.cut_containment * area_second
    return same | (cut[second] & ~cut[first] & covered)


def _greedy(rank: NDArray[np.intp], winner: NDArray[np.intp], loser: NDArray[np.intp]) -> NDArray[np.intp]:
    """Boxes in order of `rank`, without those that lose to one already taken."""
    order = np.argsort(winner, kind="stable")
    winner, loser = winner[order], loser[order]
    begin = np.searchsorted(winner, np.arange(len(rank)), side="left")
    end = np.searchsorted(winner, np.arange(len(rank)), side="right")
    dropped = np.zeros(len(rank), bool)
    for box in rank[(end > begin)[rank]]:  # the others suppress nothing
        if not dropped[box]:
            dropped[loser[begin[box] : end[box]]] = True
    return rank[~dropped[rank]]


def _join_cut(
    found: Found, cut: NDArray[np.bool_], tiles: dict[int, Tile], settings: SuppressionSettings
) -> tuple[Found, NDArray[np.bool_]]:
    """Unite cut boxes of one cell that is larger than the overlap of its tiles; the flags of the rows follow."""
    rows = np.flatnonzero(cut)
    first, second = close_pairs(found.xywh[rows])
    first, second = rows[first], rows[second]
    agree = [_agree(found, int(i), int(j), tiles, settings) for i, j in zip(first, second, strict=True)]
    mask = np.array(agree, dtype=bool)
    group = groups(len(found), first[mask], second[mask])
    return unite(found, group), cut[np.unique(group)]


def _agree(found: Found, i: int, j: int, tiles: dict[int, Tile], settings: SuppressionSettings) -> bool:
    """Whether two cut boxes of two tiles are the same in the strip that both tiles saw."""
    if found.tile[i] == found.tile[j]:
        return False
    boxes = [tiles[int(found.tile[i])].box, tiles[int(found.tile[j])].box]
    low = np.max([(b.x, b.y) for b in boxes], axis=0)
    high = np.min([(b.right, b.bottom) for b in boxes], axis=0)
    parts = []
    for row in (i, j):
        x, y, width, height = found.xywh[row]
        upper_left, lower_right = np.maximum((x, y), low), np.minimum((x + width, y + height), high)
        parts.append(np.concatenate([upper_left, np.clip(lower_right - upper_left, 0, None)]))
    inter = intersections(parts[0][None], parts[1][None])[0]
    union = parts[0][2] * parts[0][3] + parts[1][2] * parts[1][3] - inter
    return bool(union > 0 and inter > settings.agreement * union)
