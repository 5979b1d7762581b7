"""A canvas of dye concentrations on which cells are laid, and the boxes of what stays visible."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.shapes import noise
from myelos.phantom.stain import AZURE, BLUE, CHROMATIN, DYES, EOSIN, HAEMOGLOBIN

Layers = NDArray[np.float32]
GAP = 0.35  # µm between a red cell and the nucleated cell that pushes it aside


class Painting:
    """dyes: (h, w, 5) concentrations. boxes: x y width height in px of what has a truth, types: their names.

    `margin` px are painted all around and cut off by `inner`, for blocks of a larger picture.
    """

    def __init__(self, width: int, height: int, *, visible: float = 0.3) -> None:
        self.dyes: Layers = np.zeros((height, width, len(DYES)), np.float32)
        self.cover: Layers = np.zeros((height, width), np.float32)
        self.red: Layers = np.zeros((height, width), np.float32)
        self.visible = visible
        self.boxes: list[tuple[float, float, float, float]] = []
        self.types: list[str] = []

    def add_cell(self, layers: Layers, x: float, y: float, cell_type: str, *, press: bool = True) -> None:
        """Lay a nucleated cell with its centre at (x, y) px; `press` flattens it against cells laid before."""
        spot = self._spot(layers, x, y)
        if spot is None:
            return
        target, source = spot
        part = layers[source]
        below = self.cover[target]
        free = 1 - np.float32(0.95 if press else 0.0) * below
        self.dyes[target] += part[..., : len(DYES)] * free[..., None]
        seen = part[..., -1] * free
        np.maximum(below, part[..., -1], out=below)
        self._note(seen, target, float(layers[..., -1].sum()), cell_type)

    def add_red_cell(self, layers: Layers, x: float, y: float, *, truth: bool) -> None:
        """Lay a red cell; red cells shine through each other and give way to nucleated cells."""
        spot = self._spot(layers, x, y)
        if spot is None:
            return
        target, source = spot
        self.red[target] += layers[source][..., HAEMOGLOBIN]
        if truth:
            seen = layers[source][..., -1] * (1 - self.cover[target])
            self._note(seen, target, float(layers[..., -1].sum()), "erythrocyte")

    def settle_red_cells(self, mpp: float) -> None:
        """Add the red cells where no nucleated cell pushes them aside."""
        wide = cv2.dilate(self.cover, np.ones((3, 3), np.uint8)) if mpp <= 2 * GAP else self.cover
        pushed = cv2.GaussianBlur(wide, (0, 0), max(0.3, GAP / mpp))
        self.dyes[..., HAEMOGLOBIN] += self.red * (1 - np.clip(1.3 * np.maximum(pushed, self.cover), 0, 0.97))

    def add_platelet(self, layers: Layers, x: float, y: float, truth: bool) -> None:
        spot = self._spot(layers, x, y)
        if spot is None:
            return
        target, source = spot
        free = 1 - np.float32(0.9) * self.cover[target]
        self.dyes[target] += layers[source][..., : len(DYES)] * free[..., None]
        if truth:
            self._note(layers[source][..., -1] * free, target, float(layers[..., -1].sum()), "platelet")

    def finish(self, rng: np.random.Generator, *, haze: float, debris: float, mpp: float) -> None:
        """Dried plasma between the cells, and specks that are no cells."""
        shape = self.cover.shape
        open_glass = 1 - 0.8 * np.clip(self.cover + self.red, 0, 1)
        for dye, amount, size in ((BLUE, 0.10, 30.0), (EOSIN, 0.12, 22.0), (AZURE, 0.03, 14.0)):
            level = noise(rng, shape, size / mpp) + np.float32(0.5) * noise(rng, shape, max(1.0, 2.0 / mpp))
            self.dyes[..., dye] += np.float32(haze * amount) * np.clip(0.7 + 0.6 * level, 0, None) * open_glass
        self._specks(rng, debris, mpp)

    def _specks(self, rng: np.random.Generator, debris: float, mpp: float) -> None:
        """Free granules and grains of precipitated stain, in loose clouds."""
        shape = self.cover.shape
        cloud = np.clip(noise(rng, shape, 12.0 / mpp) - 0.3, 0, 3)
        chance = np.float32(0.02 * debris * mpp**2) * cloud * (1 - self.cover)
        seeds = (rng.random(shape, np.float32) < chance).astype(np.float32)
        if not seeds.any():
            return
        sigma = max(0.4, 0.16 / mpp)
        spots = cv2.GaussianBlur(seeds, (0, 0), sigma) * np.float32(2 * np.pi * sigma**2)
        self.dyes[..., AZURE if rng.random() < 0.7 else CHROMATIN] += np.float32(rng.uniform(0.2, 0.9)) * spots

    def _spot(self, layers: Layers, x: float, y: float) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """Slices of the canvas and of the patch that fall on each other; None outside."""
        height, width = layers.shape[:2]
        left, top = round(x - width / 2), round(y - height / 2)
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = min(left + width, self.cover.shape[1]), min(top + height, self.cover.shape[0])
        if x2 <= x1 or y2 <= y1:
            return None
        target = (slice(y1, y2), slice(x1, x2))
        return target, (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))

    def _note(self, seen: Layers, target: tuple[slice, slice], whole: float, cell_type: str) -> None:
        """Remember the box around what is seen, if enough of the cell is."""
        mask = seen > 0.5
        if mask.sum() < self.visible * whole:
            return
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        x, y = target[1].start + columns[0], target[0].start + rows[0]
        box = (float(x), float(y), float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1))
        self.boxes.append(box)
        self.types.append(cell_type)
