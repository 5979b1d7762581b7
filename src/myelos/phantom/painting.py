"""A canvas of dye concentrations on which cells are laid, and the boxes of what stays visible."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.placing import Bodies, Cells
from myelos.phantom.shapes import noise
from myelos.phantom.sprites import SpritePool, flip, turn
from myelos.phantom.stain import AZURE, BLUE, CHROMATIN, DYES, EOSIN, HAEMOGLOBIN

Layers = NDArray[np.float32]
Spot = tuple[tuple[slice, slice], tuple[slice, slice]]  # on the canvas, on the patch
GAP = 0.35  # µm between a red cell and the nucleated cell that pushes it aside
HAZE = ((BLUE, 0.10, 30.0), (EOSIN, 0.12, 22.0), (AZURE, 0.03, 14.0))  # dye, concentration, size of clouds in µm


class Painting:
    """dyes: (h, w, 5) concentrations of the canvas whose upper left corner lies at `origin` px of the picture.

    boxes: x y width height in px of the picture, types: their names, for every cell that is noted as truth and of
    which at least the share `visible` is seen on the canvas. origins: (source, image) of each, see `cells.Sprite`.
    """

    def __init__(
        self, width: int, height: int, pool: SpritePool, *, visible: float = 0.3, origin: tuple[int, int] = (0, 0)
    ) -> None:
        self.pool, self.visible, self.origin = pool, visible, origin
        self.dyes: Layers = np.zeros((height, width, len(DYES)), np.float32)
        self.cover: Layers = np.zeros((height, width), np.float32)
        self.boxes: list[tuple[float, float, float, float]] = []
        self.types: list[str] = []
        self.origins: list[tuple[str, str]] = []

    def add_cells(self, cells: Cells, which: Iterable[int], noted: NDArray[np.bool_] | None = None) -> None:
        """Lay nucleated cells in the order given; `noted` (N,) says which have a truth, all where None."""
        for i in which:
            sprite = self.pool.sprite(cells.types[i], int(cells.numbers[i]))
            layers = turn(sprite.layers, float(cells.angles[i]), float(cells.scales[i]), bool(cells.flips[i]))
            spot = self._spot(layers, *cells.centres[i])
            if spot is None:
                continue
            seen = self._lay(layers, spot, cells.gains[i], press=bool(cells.press[i]))
            if noted is None or noted[i]:
                origin = (sprite.source, sprite.cut_from)
                self._note(seen, spot, float(layers[..., -1].sum()), cells.types[i], origin)

    def _lay(self, layers: Layers, spot: Spot, gains: Layers, *, press: bool) -> Layers:
        """Add one cell and return the cover of what is seen of it; `press` flattens it against cells laid before."""
        target, source = spot
        part, below = layers[source], self.cover[target]
        free = 1 - np.float32(0.95 if press else 0.0) * below
        self.dyes[target] += part[..., : len(DYES)] * gains * free[..., None]
        seen = part[..., -1] * free
        np.maximum(below, part[..., -1], out=below)
        return seen

    def add_red_cells(self, cells: Bodies, which: Iterable[int], noted: NDArray[np.bool_] | None) -> None:
        """Lay red cells: they shine through each other and give way to the nucleated cells."""
        red = np.zeros_like(self.cover)
        for i in which:
            layers = flip(self.pool.sprite(cells.cell_type, int(cells.numbers[i])).layers, int(cells.positions[i]))
            spot = self._spot(layers, *cells.centres[i])
            if spot is None:
                continue
            red[spot[0]] += layers[spot[1]][..., HAEMOGLOBIN]
            if noted is not None and noted[i]:
                seen = layers[spot[1]][..., -1] * (1 - self.cover[spot[0]])
                self._note(seen, spot, float(layers[..., -1].sum()), cells.cell_type)
        gap = GAP / self.pool.mpp
        wide = cv2.dilate(self.cover, np.ones((3, 3), np.uint8)) if gap > 0.7 else self.cover
        pushed = np.maximum(cv2.GaussianBlur(wide, (0, 0), max(0.3, gap)), self.cover)
        self.dyes[..., HAEMOGLOBIN] += red * (1 - np.minimum(np.float32(1.3) * pushed, np.float32(0.97)))

    def add_platelets(self, cells: Bodies, which: Iterable[int], noted: NDArray[np.bool_] | None) -> None:
        for i in which:
            layers = flip(self.pool.sprite(cells.cell_type, int(cells.numbers[i])).layers, int(cells.positions[i]))
            spot = self._spot(layers, *cells.centres[i])
            if spot is None:
                continue
            target, source = spot
            free = 1 - np.float32(0.9) * self.cover[target]
            self.dyes[target] += layers[source][..., : len(DYES)] * free[..., None]
            if noted is not None and noted[i]:
                self._note(layers[source][..., -1] * free, spot, float(layers[..., -1].sum()), cells.cell_type)

    def open_glass(self) -> Layers:
        """(h, w) 1 where no cell lies, 0.2 where one does."""
        return 1 - np.float32(0.8) * np.clip(self.cover + self.dyes[..., HAEMOGLOBIN], 0, 1)

    def add_haze(self, rng: np.random.Generator, amount: float) -> None:
        """Dried plasma between the cells, in clouds."""
        glass, shape, mpp = self.open_glass(), self.cover.shape, self.pool.mpp
        fine = np.float32(0.3) * noise(rng, shape, 2.0 / mpp) + np.float32(0.7)
        for dye, strength, size in HAZE:
            level = np.clip(np.float32(0.6) * noise(rng, shape, size / mpp) + fine, 0, None)
            self.dyes[..., dye] += np.float32(amount * strength) * level * glass

    def add_specks(self, rng: np.random.Generator, amount: float) -> None:
        """Free granules and grains of precipitated stain, in loose clouds: what is dark and no cell."""
        height, width = self.cover.shape
        mpp = self.pool.mpp
        count = rng.poisson(0.006 * amount * height * width * mpp**2)
        cloud = rng.random((6, 2)) * [height, width]
        places = cloud[rng.integers(0, 6, count)] + rng.normal(0, 14 / mpp, (count, 2))
        rows, columns = np.rint(places).astype(int).T if count else np.zeros((2, 0), int)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        seeds = np.zeros((height, width), np.float32)
        seeds[rows[inside], columns[inside]] = rng.uniform(0.3, 1.0, int(inside.sum()))
        sigma = max(0.4, rng.uniform(0.1, 0.25) / mpp)
        spots = cv2.GaussianBlur(seeds, (0, 0), sigma) * np.float32(2 * np.pi * sigma**2) * (1 - self.cover)
        self.dyes[..., AZURE if rng.random() < 0.7 else CHROMATIN] += np.float32(rng.uniform(0.2, 0.9)) * spots

    def _spot(self, layers: Layers, x: float, y: float) -> Spot | None:
        """Slices of the canvas and of the patch that fall on each other; None outside."""
        height, width = layers.shape[:2]
        left, top = round(x - width / 2) - self.origin[0], round(y - height / 2) - self.origin[1]
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = min(left + width, self.cover.shape[1]), min(top + height, self.cover.shape[0])
        if x2 <= x1 or y2 <= y1:
            return None
        target = (slice(y1, y2), slice(x1, x2))
        return target, (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))

    def _note(
        self, seen: Layers, spot: Spot, whole: float, cell_type: str, origin: tuple[str, str] = ("rendered", "")
    ) -> None:
        """Remember the box around what is seen, if enough of the cell is."""
        mask = seen > 0.5
        if mask.sum() < max(self.visible * whole, 1):
            return
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        x = spot[0][1].start + columns[0] + self.origin[0]
        y = spot[0][0].start + rows[0] + self.origin[1]
        self.boxes.append((float(x), float(y), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)))
        self.types.append(cell_type)
        self.origins.append(origin)
