"""The nucleated cells of a glass, band by band from top to bottom, so that three bands are all that is ever held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cells import cell_rng
from myelos.phantom.compositions import draw_types
from myelos.phantom.features import named, of_type
from myelos.phantom.glass.layout import BLOCK, GlassSettings, Layout
from myelos.phantom.glass.poses import ANGLES, SIZES, Dealer, Pool
from myelos.phantom.placing import FLATTENED, LARGE, spread_out

CELL = np.dtype(
    [
        ("x", "f8"), ("y", "f8"), ("kind", "i2"), ("damage", "i1"), ("sprite", "i4"), ("mirrored", "?"),
        ("angle", "f4"), ("scale", "f4"), ("gain", "f4", 3), ("press", "?"), ("radius", "f4"), ("reach", "f4"),
        ("touching", "?"), ("region", "i4"), ("zone", "i1"), ("number", "i8"),
    ]
)  # fmt: skip
Cells = NDArray[np.void]  # of CELL
ZONES = {"thick": 1, "particle": 2, "feather_edge": 3}  # where cells cannot be judged well; 0 elsewhere
SPACING = 0.97  # of the sum of radii: a few cells touch
TOUCHING = 1.06


Reals = NDArray[np.float64]


class Places:
    """Called with a number, gives so many (count, 2) places in px of a band by its density, none in a fat vacuole."""

    def __init__(
        self, density: Reals, step: float, size: tuple[int, int], fat: Reals, rng: np.random.Generator
    ) -> None:
        self.chance, self.columns, self.step = np.cumsum(density.ravel()), density.shape[1], step
        self.size, self.fat, self.rng = np.array(size, float), fat, rng

    def __call__(self, count: int) -> Reals:
        drawn = self.rng.random(count) * self.chance[-1]
        square = np.minimum(np.searchsorted(self.chance, drawn, side="right"), len(self.chance) - 1)
        rows, columns = np.divmod(square, self.columns)
        places = (np.stack([columns, rows], axis=1) + self.rng.random((count, 2))) * self.step
        for x, y, radius in self.fat:
            away = places - [x, y]
            far = np.hypot(*away.T)
            near = far < radius + 24
            places[near] = [x, y] + away[near] * ((radius + 24) / np.maximum(far[near], 1e-6))[:, None]
        return np.clip(places, 0, self.size - 1)


@dataclass(slots=True)
class Crowd:
    """Draws the cells of each band of BLOCK rows.

    A band depends on the seed and its own number only, but for poses, which are dealt out from top to bottom.
    """

    settings: GlassSettings
    layout: Layout
    pool: Pool

    def bands(self) -> Iterator[tuple[Cells, Cells]]:
        """For each row of blocks: its own cells, and all cells of it and its neighbours, sorted by x."""
        side = np.ceil(1000 / self.settings.mpp / BLOCK) * BLOCK
        dealer = Dealer(self.pool, side, self.settings.seed)
        zones = np.array([ZONES.get(region.kind, 0) for region in self.layout.regions] + [0], np.int8)
        rows = self.settings.blocks[1]
        above, here = np.zeros(0, CELL), self._draw(0, dealer, zones)
        number = 0
        for row in range(rows):
            here["number"] = number + np.arange(len(here))
            number += len(here)
            below = self._draw(row + 1, dealer, zones) if row + 1 < rows else np.zeros(0, CELL)
            below["number"] = number + np.arange(len(below))
            around = np.concatenate([above, here, below])
            self._mark_touching(here, around, len(above))
            around["touching"][len(above) : len(above) + len(here)] = here["touching"]
            yield here, around[np.argsort(around["x"], kind="stable")]
            above, here = here, below

    def _draw(self, row: int, dealer: Dealer, zones: NDArray[np.int8]) -> Cells:
        """Cells of one band, from top to bottom and left to right."""
        s, plan = self.settings, self.layout
        rng = cell_rng(s.seed, "band", row)
        rows = slice(row * plan.per_block, (row + 1) * plan.per_block)
        top = row * BLOCK
        part = self._inside(plan.cells[rows], top)
        square = (plan.step * s.mpp * 1e-3) ** 2
        count = int(rng.poisson(float(part.sum()) * square))
        cells = np.zeros(count, CELL)
        if not count:
            return cells
        draw = Places(part, plan.step, (s.width, min(s.height - top, BLOCK)), self._fat(top), rng)
        blood = self._what(cells, rng, draw, top)
        self._where(cells, draw, top, blood)
        order = np.lexsort((cells["x"], cells["y"]))
        cells = cells[order]
        self._faults(cells, rng, zones)
        self._pose(cells, rng, dealer)
        return cells

    def _inside(self, part: NDArray[np.float32], top: int) -> NDArray[np.float64]:
        """Density without the squares that lie beyond the picture."""
        inside = part.astype(np.float64)
        step = self.layout.step
        inside[:, int(np.ceil(self.settings.width / step)) :] = 0
        inside[int(np.ceil(max(self.settings.height - top, 0) / step)) :] = 0
        return inside

    def _fat(self, top: int) -> NDArray[np.float64]:
        """Fat vacuoles that reach into a band, y from its top."""
        fat = self.layout.fat - [0, top, 0]
        return fat[(fat[:, 1] > -fat[:, 2] - BLOCK) & (fat[:, 1] < 2 * BLOCK + fat[:, 2])]

    def _what(self, cells: Cells, rng: np.random.Generator, draw: Places, top: int) -> NDArray[np.bool_]:
        """Types by the composition of the smear, and radii of what was drawn; returns which are of blood."""
        plan, kinds = self.layout, {name: i for i, name in enumerate(self.pool.types)}
        count = len(cells)
        first = draw(count)
        blood = plan.blood[plan.squares(first + np.array([0, top]))]
        for specimen, mask in (("marrow", ~blood), ("blood", blood)):
            if mask.any():
                names = draw_types(self.settings.shares(specimen), int(mask.sum()), rng)
                cells["kind"][mask] = [kinds[self._with_features(name, rng)] for name in names]
        cells["x"], cells["y"] = first.T
        return blood

    def _with_features(self, cell_type: str, rng: np.random.Generator) -> str:
        possible = of_type(cell_type, self.settings.features)
        return named(cell_type, tuple(name for name, share in possible.items() if rng.random() < share))

    def _where(self, cells: Cells, draw: Places, top: int, blood: NDArray[np.bool_]) -> None:
        """Places in which cells keep their distance; a cell never leaves its smear for one of another specimen."""
        plan = self.layout
        typical = np.array([self._radius(kind) for kind in range(len(self.pool.types))])
        radii = typical[cells["kind"]]
        for specimen in (False, True):
            mine = np.flatnonzero(blood == specimen)
            if not len(mine):
                continue
            waiting = [np.column_stack([cells["x"][mine], cells["y"][mine]])]

            def again(count: int, waiting: list[NDArray[np.float64]] = waiting, specimen: bool = specimen) -> Reals:
                if waiting:
                    return waiting.pop()
                places = draw(count)
                for _ in range(30):
                    wrong = plan.blood[plan.squares(places + np.array([0, top]))] != specimen
                    if not wrong.any():
                        break
                    places[wrong] = draw(int(wrong.sum()))
                return places

            large = LARGE / self.settings.mpp
            places = spread_out(radii[mine].astype(float), again, spacing=SPACING, rounds=12, large=large)
            cells["x"][mine], cells["y"][mine] = places[:, 0], places[:, 1] + top

    def _radius(self, kind: int) -> float:
        return float(self.pool.table["radius"][self.pool.of(kind, 0)].mean())

    def _faults(self, cells: Cells, rng: np.random.Generator, zones: NDArray[np.int8]) -> None:
        plan = self.layout
        squares = plan.squares(np.column_stack([cells["x"], cells["y"]]))
        cells["region"] = plan.where[squares]
        cells["zone"] = zones[cells["region"]]
        hurt = rng.random(len(cells)) < plan.damage[squares]
        worse = rng.random(len(cells)) < 0.35
        cells["damage"] = np.where(hurt, np.where(worse, 2, 1), 0)
        whole = np.array([len(self.pool.of(kind, 1)) == 0 for kind in range(len(self.pool.types))])
        cells["damage"][whole[cells["kind"]]] = 0

    def _pose(self, cells: Cells, rng: np.random.Generator, dealer: Dealer) -> None:
        """A pose of its own for each cell, and a stain of its own."""
        count = len(cells)
        dealt = np.array(
            [
                dealer.deal(int(kind), int(damage), float(x), float(y))
                for kind, damage, x, y in zip(cells["kind"], cells["damage"], cells["x"], cells["y"], strict=True)
            ]
        ).reshape(-1, 4)
        cells["sprite"], cells["mirrored"] = dealt[:, 0], dealt[:, 1] > 0
        cells["angle"] = dealt[:, 2] * (360 / ANGLES) + rng.uniform(-3, 3, count)
        cells["scale"] = np.array(SIZES)[dealt[:, 3]] * rng.uniform(0.985, 1.015, count)
        common = rng.normal(0, 0.07, (count, 1)) + rng.normal(0, 0.035, (count, 3))
        cells["gain"] = np.exp(common)
        cells["press"] = rng.random(count) < FLATTENED
        row = dealer.pool.table[cells["sprite"]]
        cells["radius"] = row["radius"] * cells["scale"]
        cells["reach"] = row["side"] / 2 * cells["scale"] + 3

    def _mark_touching(self, here: Cells, around: Cells, first: int) -> None:
        """Whether a cell lies against another; `here` are the cells of `around` from `first` on."""
        from scipy.spatial import cKDTree  # slow to import

        if len(here) == 0:
            return
        places = np.column_stack([around["x"], around["y"]])
        usual = around["radius"] < LARGE / self.settings.mpp
        mine = np.zeros(len(around), bool)
        mine[first : first + len(here)] = True
        touching = np.zeros(len(around), bool)
        small = np.flatnonzero(usual)
        sets = [(small, small)] + [(np.array([i]), np.arange(len(around))) for i in np.flatnonzero(~usual)]
        for left, right in sets:
            if not len(left) or not len(right):
                continue
            reach = TOUCHING * (around["radius"][left].max() + around["radius"][right].max())
            near = cKDTree(places[left]).sparse_distance_matrix(cKDTree(places[right]), reach, output_type="ndarray")
            a, b = left[near["i"]], right[near["j"]]
            close = (a != b) & (near["v"] < TOUCHING * (around["radius"][a] + around["radius"][b]))
            touching[a[close]] = touching[b[close]] = True
        here["touching"] = touching[mine]
