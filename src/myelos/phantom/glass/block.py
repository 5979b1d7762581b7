"""Paints one block of a glass: a field of the scanner, in light that passes, with the truth of the cells in it.

What a worker needs is in `Ground`, made once and sent to all: so the pixels do not depend on who paints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cells import cell_rng
from myelos.phantom.features import split
from myelos.phantom.glass.carpet import HB_UNIT, Bytes, Carpet, chosen_places, red_cells
from myelos.phantom.glass.crowd import Cells
from myelos.phantom.glass.faults import Bubble, Dust, Found, Hole, Scratch
from myelos.phantom.glass.faults_painting import paint_bubbles, paint_dust, paint_fat, paint_scratches
from myelos.phantom.glass.grades import grade_of
from myelos.phantom.glass.layout import BLOCK, HAZE_UNIT, GlassSettings
from myelos.phantom.glass.poses import Pool
from myelos.phantom.glass.scanners import scanner
from myelos.phantom.painting import HAZE
from myelos.phantom.stain import DYES, HAEMOGLOBIN, Stain

Window = tuple[int, int, int, int]  # x1 y1 x2 y2, level-0 px
MARGIN = 28  # px painted around a block, so that blurring and seams know their neighbours
PLATELETS = 0.1  # for each red cell, about
GAINS = (-1, 0, 1)
WEAVE = 768  # px, after which the unevenness of the plasma repeats
NOISE_ZERO = 12  # value of the noise that changes nothing
VISIBLE = 0.3  # a cell has a truth if at least this share of it is seen


@dataclass(frozen=True, slots=True)
class Ground:
    """What all blocks share. noise, weave, shade: see `ground.make_ground`. Maps as in `Layout`."""

    settings: GlassSettings
    stain: Stain
    carpet: Carpet
    step: float
    red: Bytes
    haze: Bytes
    label: Bytes
    focus: NDArray[np.float32]
    fat: NDArray[np.float64]
    dust: list[Dust]
    bubbles: list[Bubble]
    scratches: list[Scratch]
    noise: Bytes
    weave: Bytes
    shade: Bytes | None


@dataclass(frozen=True, slots=True)
class Job:
    """One block. cells: all that reach into it, in the order in which they are laid. owned: whose centre is in it."""

    column: int
    row: int
    cells: Cells
    owned: NDArray[np.bool_]


@dataclass(slots=True)
class Truth:
    """Cells seen in a block. boxes: x y width height in px of the slide. outlines: flat x y in px of the slide."""

    numbers: list[int] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    outlines: list[NDArray[np.float32]] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    grades: list[int] = field(default_factory=list)


class Painter:
    def __init__(self, ground: Ground, pool: Pool) -> None:
        self.ground, self.pool = ground, pool
        self.scanner = scanner(ground.settings.scanner)
        self.haze_light, self.red_light, self.clear = _tables(ground.stain)
        self.white = np.array(ground.stain.white, np.float32)
        self.fat = Found([Hole(*hole) for hole in ground.fat.tolist()])
        self.scratches, self.bubbles, self.dust = Found(ground.scratches), Found(ground.bubbles), Found(ground.dust)

    def paint(self, job: Job) -> tuple[Bytes, Truth]:
        """(h, w, 3) RGB of the block, and the truth of its cells."""
        g = self.ground
        area = block_area(g.settings, job.column, job.row)
        rng = cell_rng(g.settings.seed, "field", job.column, job.row)
        jitter = rng.integers(-self.scanner.jitter, self.scanner.jitter + 1, 2)
        window = self._window(area, jitter, job)
        light = self._smear(window)
        truth = self._cells(light, window, job, jitter)
        paint_fat(light, window, self.fat.near(window), g.settings.mpp, g.stain)
        paint_scratches(light, window, self.scratches.near(window), g.stain.white)
        paint_bubbles(light, window, self.bubbles.near(window))
        self._label(light, window)
        paint_dust(light, window, self.dust.near(window))
        blur = float(g.focus[job.row, job.column]) / g.settings.mpp
        if blur > 0.2:
            light = cv2.GaussianBlur(light, (0, 0), blur)
        left, top = area[0] + int(jitter[0]) - window[0], area[1] + int(jitter[1]) - window[1]
        width, height = area[2] - area[0], area[3] - area[1]
        return self.expose(light[top : top + height, left : left + width], gain_of(g.settings, job), rng), truth

    def expose(self, light: Bytes, gain: float, rng: np.random.Generator) -> Bytes:
        """The camera: light of the field, exposure, noise of the sensor."""
        g, (height, width) = self.ground, light.shape[:2]
        if g.shade is not None:
            light = cv2.multiply(light, g.shade[:height, :width], scale=gain / 255)
        reach = len(g.noise) - BLOCK
        x, y = (int(v) for v in rng.integers(0, reach + 1, 2))
        grain = g.noise[y : y + height, x : x + width]
        return np.asarray(cv2.add(cv2.subtract(light, (NOISE_ZERO,) * 4), grain), np.uint8)

    def _window(self, area: Window, jitter: NDArray[np.int64], job: Job) -> Window:
        reach = float(job.cells["reach"][job.owned].max(initial=0))
        margin = int(max(MARGIN, np.ceil(reach) + 6))
        dx, dy = int(jitter[0]), int(jitter[1])
        return area[0] + dx - margin, area[1] + dy - margin, area[2] + dx + margin, area[3] + dy + margin

    def _smear(self, window: Window) -> Bytes:
        """Dried plasma, red cells and platelets."""
        g = self.ground
        x1, y1, x2, y2 = window
        amount = _zoom(g.haze, g.step, window)
        side = WEAVE
        weave = g.weave[y1 % side : y1 % side + y2 - y1, x1 % side : x1 % side + x2 - x1]
        amount = cv2.multiply(amount, weave, scale=1 / 128)
        red = red_cells(g.carpet, g.red, g.step, window)
        amount = cv2.multiply(amount, cv2.LUT(red, self.clear), scale=1 / 255)
        light = cv2.LUT(cv2.cvtColor(amount, cv2.COLOR_GRAY2RGB), self.haze_light)
        through = cv2.LUT(cv2.cvtColor(red, cv2.COLOR_GRAY2RGB), self.red_light)
        light = cv2.multiply(light, through, scale=1 / 255)
        places, numbers = chosen_places(g.carpet, g.red, g.step, window, 2, PLATELETS)
        for (x, y), number in zip(np.rint(places - [x1, y1]).astype(int).tolist(), numbers, strict=True):
            patch = g.carpet.platelets[number % len(g.carpet.platelets)]
            h, w = patch.shape[:2]
            part = light[max(y - h // 2, 0) : y - h // 2 + h, max(x - w // 2, 0) : x - w // 2 + w]
            if part.shape == patch.shape:
                cv2.multiply(part, patch, dst=part, scale=1 / 255)
        return np.asarray(light, np.uint8)

    def _cells(self, light: Bytes, window: Window, job: Job, jitter: NDArray[np.int64]) -> Truth:
        cover, truth, g = np.zeros(light.shape[:2], np.float32), Truth(), self.ground
        sharp = self.scanner.blur / float(np.hypot(self.scanner.blur, g.focus[job.row, job.column]))
        bubbles = self.bubbles.near(window)
        for cell, owned in zip(job.cells, job.owned.tolist(), strict=True):
            laid = self._lay(light, cover, cell, window)
            if laid is None or not owned:
                continue
            seen, whole, left, top = laid
            shift = np.array([left + window[0] - jitter[0], top + window[1] - jitter[1]], np.float32)
            blurred = sharp * (0.3 if any(b.holds(cell["x"], cell["y"]) for b in bubbles) else 1)
            _note(truth, cell, (seen, whole), shift, blurred, self.pool)
        return truth

    def _lay(
        self, light: Bytes, cover: NDArray[np.float32], cell: np.void, window: Window
    ) -> tuple[NDArray[np.float32], float, int, int] | None:
        """One cell over what is there; the cover that is seen, the area of all of it, and where its corner is."""
        patch, left, top = _turned(self.pool.sprite(cell["sprite"]), cell, window)
        height, width = cover.shape
        a, b = max(left, 0), max(top, 0)
        c, d = min(left + patch.shape[1], width), min(top + patch.shape[0], height)
        if c <= a or d <= b:
            return None
        part = patch[b - top : d - top, a - left : c - left]
        below = cover[b:d, a:c]
        own = part[..., 3]
        free = 1 - np.float32(0.95 if cell["press"] else 0.0) * below
        passes = cv2.exp(part[..., :3] * (-cell["gain"] * np.float32(1)) * free[..., None])
        # Red cells and plasma give way to the cell; another cell does not.
        push = (np.minimum(np.float32(1.3) * own, np.float32(0.97)) * (1 - below))[..., None]
        there = light[b:d, a:c].astype(np.float32)
        there += (self.white - there) * push
        light[b:d, a:c] = there * passes
        seen = own * free
        np.maximum(below, own, out=below)
        return seen, float(patch[..., 3].sum()), a, b

    def _label(self, light: Bytes, window: Window) -> None:
        g = self.ground
        x1, y1, x2, y2 = window
        rows = slice(max(int(y1 / g.step) - 1, 0), int(y2 / g.step) + 2)
        columns = slice(max(int(x1 / g.step) - 1, 0), int(x2 / g.step) + 2)
        if g.label[rows, columns].any():
            grey = _zoom(g.label, g.step, window)
            cv2.copyTo(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), (grey > 20).astype(np.uint8), light)


def block_area(settings: GlassSettings, column: int, row: int) -> Window:
    x, y = column * BLOCK, row * BLOCK
    return x, y, min(x + BLOCK, settings.width), min(y + BLOCK, settings.height)


def gain_of(settings: GlassSettings, job: Job) -> float:
    """Exposure of a field: one of three, so that empty fields are few."""
    rng = cell_rng(settings.seed, "gain", job.column, job.row)
    return 1 + scanner(settings.scanner).gain * GAINS[int(rng.integers(3))]


def _tables(stain: Stain) -> tuple[Bytes, Bytes, Bytes]:
    """(1, 256, 3) light by haze, light by haemoglobin relative to 255, and how much haze is left over a red cell."""
    levels = np.arange(256, dtype=np.float32)
    haze = np.zeros((1, 256, len(DYES)), np.float32)
    for dye, strength, _ in HAZE:
        haze[0, :, dye] = levels / np.float32(HAZE_UNIT) * np.float32(strength)
    red = np.zeros((1, 256, len(DYES)), np.float32)
    red[0, :, HAEMOGLOBIN] = levels / np.float32(HB_UNIT)
    through = stain.transmit(red) * (255 / np.array(stain.white, np.float32))
    clear = 255 * (1 - 0.8 * np.clip(levels / np.float32(HB_UNIT), 0, 1))
    return _bytes(stain.transmit(haze)), _bytes(through), _bytes(clear)


def _bytes(values: NDArray[Any]) -> Bytes:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _zoom(plan: Bytes, step: float, window: Window) -> Bytes:
    """A plan's values at the pixels of a window, smooth between squares."""
    x1, y1, x2, y2 = window
    first_row, last_row = max(int(y1 / step) - 2, 0), int(y2 / step) + 3
    first, last = max(int(x1 / step) - 2, 0), int(x2 / step) + 3
    part = np.ascontiguousarray(plan[first_row:last_row, first:last])
    off = ((x1 + 0.5) / step - 0.5 - first, (y1 + 0.5) / step - 0.5 - first_row)
    matrix = np.array([[1 / step, 0, off[0]], [0, 1 / step, off[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(part, matrix, (x2 - x1, y2 - y1), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _turned(sprite: NDArray[np.float16], cell: np.void, window: Window) -> tuple[NDArray[np.float32], int, int]:
    """(n, n, 4) sprite in its pose, and its upper left corner in px of the window; placed to a fraction of a pixel."""
    layers = sprite.astype(np.float32)
    if cell["mirrored"]:
        layers = np.ascontiguousarray(layers[:, ::-1])
    side = len(layers)
    scale = float(cell["scale"])
    n = int(np.ceil(side * scale)) + 2
    x, y = float(cell["x"]) - window[0], float(cell["y"]) - window[1]
    left, top = round(x - n / 2), round(y - n / 2)
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), float(cell["angle"]), scale)
    matrix[:, 2] += [x - left - 0.5 - (side - 1) / 2, y - top - 0.5 - (side - 1) / 2]
    return cv2.warpAffine(layers, matrix, (n, n), flags=cv2.INTER_LINEAR), left, top


def _note(
    truth: Truth,
    cell: np.void,
    seen: tuple[NDArray[np.float32], float],
    shift: NDArray[np.float32],
    sharpness: float,
    pool: Pool,
) -> None:
    """Remember a cell of which enough is seen.

    seen: (h, w) cover from `shift` px on, and the area of the whole cell.
    """
    mask = (seen[0] > 0.5).astype(np.uint8)
    area = int(mask.sum())
    if area < max(VISIBLE * seen[1], 4):
        return
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    outline = max(contours, key=len).reshape(-1, 2)
    x, y, width, height = cv2.boundingRect(mask)
    truth.numbers.append(int(cell["number"]))
    truth.boxes.append((float(x + shift[0]), float(y + shift[1]), float(width), float(height)))
    truth.outlines.append((outline + shift).astype(np.float32).ravel())
    truth.sharpness.append(sharpness)
    smudge = split(pool.types[int(cell["kind"])])[0] == "smudge_cell"
    crowded = area < 0.75 * seen[1]
    truth.grades.append(
        grade_of(3 if smudge else int(cell["damage"]), bool(cell["touching"]), crowded, int(cell["zone"]), sharpness)
    )
