"""Draws the plan of a glass: label, smears with thick and dilute areas and a feather edge, focus, faults.

A smear is spread from the label (left) to its feather edge (right); particles are dragged along and leave the cells
that they lose behind them, on the side of the label.
"""

from __future__ import annotations

import cv2
import numpy as np

from myelos.phantom.cells import cell_rng
from myelos.phantom.glass.faults import draw_faults
from myelos.phantom.glass.layout import BLOCK, GlassSettings, Layout, Mask, Plan
from myelos.phantom.glass.particles import draw_particles
from myelos.phantom.glass.scanners import scanner
from myelos.phantom.landscape import Region
from myelos.phantom.shapes import Rng, noise

SQUARE = 16.0  # µm, side of a square of the plan
MOST_SQUARES = 2_500_000
DAMAGED = 0.06  # share of cells that spreading has damaged, outside thick and feathered areas


def make_layout(settings: GlassSettings) -> Layout:
    """The same settings give the same layout."""
    columns, rows = settings.blocks
    per_block = max(1, min(round(BLOCK * settings.mpp / SQUARE), int(np.sqrt(MOST_SQUARES / (rows * columns)))))
    shape = (rows * per_block, columns * per_block)
    rng = cell_rng(settings.seed, "glass", settings.specimen)
    layout = Layout(
        step=BLOCK / per_block,
        per_block=per_block,
        cells=np.zeros(shape, np.float32),
        red=np.zeros(shape, np.float32),
        haze=np.zeros(shape, np.float32),
        label=np.zeros(shape, np.uint8),
        blood=np.zeros(shape, bool),
        where=np.full(shape, -1, np.int16),
        damage=np.full(shape, DAMAGED, np.float32),
        focus=np.zeros((rows, columns), np.float32),
    )
    for specimen, top, bottom in _smears(settings):
        _draw_smear(layout, settings, specimen, (top, bottom), rng)
    _draw_label(layout, settings)
    _draw_focus(layout, settings, rng)
    faults = draw_faults((settings.width, settings.height), settings.mpp, cell_rng(settings.seed, "faults"))
    layout.dust, layout.bubbles, layout.scratches = faults
    for bubble in layout.bubbles:
        layout.regions.append(Region("bubble", bubble.outline()))
    for scratch in layout.scratches:
        layout.regions.append(Region("scratch", scratch.outline()))
    return layout


def _smears(settings: GlassSettings) -> list[tuple[str, float, float]]:
    """Specimen, upper and lower edge of each smear as shares of the glass's height."""
    if settings.blood_smear and settings.specimen == "marrow":
        return [("marrow", 0.05, 0.63), ("blood", 0.68, 0.95)]
    return [(settings.specimen, 0.07, 0.93)]


def _draw_smear(layout: Layout, settings: GlassSettings, specimen: str, band: tuple[float, float], rng: Rng) -> None:
    """One smear with everything that belongs to it, into the maps."""
    shape = layout.cells.shape
    used = (settings.width / layout.step, settings.height / layout.step)
    inside, along = _tongue(shape, used, band, rng)
    scale = min(used) / 60
    clouds = noise(rng, shape, 6 * scale)
    thick = inside & (along + 0.05 * clouds < 0.13)
    dilute = inside & (noise(rng, shape, 9 * scale) + 1.2 * (along - 0.6) > 1.35) & ~thick
    feather = inside & (along + 0.025 * clouds > 0.91)
    patchy = np.clip(1 + 0.22 * clouds + 0.15 * noise(rng, shape, 30), 0.2, 2)
    usual = (0.30, 45.0, 0.3) if specimen == "marrow" else (0.55, 60.0, 0.12)
    density = np.full(shape, usual[0], np.float32) + np.float32(0.9) * np.exp(-along / np.float32(0.10))
    cells = np.full(shape, usual[1], np.float32) + np.float32(90) * np.exp(-along / np.float32(0.12))
    streaks = np.clip(0.5 + 0.7 * cv2.blur(noise(rng, shape, 3), (31, 1)), 0.03, 1)
    for mask, r, c in ((thick, 2.2, 1.6), (dilute, 0.3, 0.3), (feather, 0.45 * streaks, 0.5 * streaks)):
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.0)
        density *= 1 + (r - 1) * soft
        cells *= 1 + (c - 1) * soft
    haze = usual[2] * patchy * (1 + np.exp(-along / np.float32(0.15)))
    layout.red += np.where(inside, density * patchy, 0)
    layout.cells += np.where(inside, cells * patchy * (settings.cells_per_mm2 > 0), 0)
    layout.haze += np.where(inside, haze, 0)
    layout.damage[:] += np.float32(0.04) * thick + np.float32(0.3) * feather
    if specimen == "blood":
        layout.blood |= inside
    layout.add("smear", inside)
    for kind, mask in (("thick", thick), ("dilute", dilute), ("feather_edge", feather)):
        layout.add(kind, mask, smallest=40)
    if specimen == "marrow":
        draw_particles(layout, settings, inside, along, rng)


def _tongue(
    shape: tuple[int, int], used: tuple[float, float], band: tuple[float, float], rng: Rng
) -> tuple[Mask, Plan]:
    """The area of a smear, and how far along it each square lies: 0 at the label's side, 1 at the feather edge."""
    rows, columns = shape
    x = (np.arange(columns, dtype=np.float32) + 0.5) / used[0]
    y = (np.arange(rows, dtype=np.float32) + 0.5) / used[1]
    middle, half = (band[0] + band[1]) / 2, (band[1] - band[0]) / 2
    v = (y - middle) / half
    wave = noise(rng, (rows, 4), rows / 14)[:, 0]
    fingers = noise(rng, (rows, 4), max(rows / 90, 1.5))[:, 0]
    right = 0.955 - 0.10 * np.abs(v) ** 2.4 + 0.008 * wave + 0.010 * fingers * (1 - np.abs(np.clip(v, -1, 1)))
    left = 0.235 + 0.006 * wave + 0.02 * np.abs(v) ** 6
    along = np.clip((x[None] - left[:, None]) / (right - left)[:, None], 0, 1)
    sides = 0.02 * noise(rng, (4, columns), columns / 10)[0] - 0.12 * np.clip(x - 0.4, 0, 1)
    inside = (np.abs(v)[:, None] < (1 + sides)[None]) & (x[None] > left[:, None]) & (x[None] < right[:, None])
    return inside, along


def _draw_label(layout: Layout, settings: GlassSettings) -> None:
    """A paper label on the left with bars and a line that says that nothing here is real."""
    width, height = settings.width / layout.step, settings.height / layout.step
    x1, x2, y1, y2 = (round(v) for v in (0.012 * width, 0.2 * width, 0.05 * height, 0.95 * height))
    layout.label[y1:y2, x1:x2] = 250
    rng = cell_rng(settings.seed, "label")
    side = x2 - x1
    bars = np.repeat(rng.random(-(-side // 3)) < 0.5, 3)[: side * 7 // 10]
    top = y1 + (y2 - y1) // 8
    layout.label[top : top + (y2 - y1) // 6, x1 + side // 8 : x1 + side // 8 + len(bars)][:, bars] = 30
    for i, text in enumerate(("SYNTHETIC", settings.specimen.upper(), f"seed {settings.seed}")):
        size = side / 260
        at = (x1 + side // 8, y1 + round((y2 - y1) * (0.45 + 0.12 * i)))
        cv2.putText(layout.label, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, 40, max(1, round(size * 2)))
    mask = layout.label > 0
    layout.add("label", mask, cells=False)


def _draw_focus(layout: Layout, settings: GlassSettings, rng: Rng) -> None:
    """Fields out of focus: a few areas, and single fields."""
    shape = layout.focus.shape
    made = scanner(settings.scanner)
    slow, single = noise(rng, shape, max(min(shape) / 7, 1.5)), rng.random(shape)
    worse = rng.uniform(0.5, 1.4, shape)
    area = slow > np.quantile(slow, 1 - 0.8 * made.defocused)
    blurred = np.where(area | (single < 0.2 * made.defocused), worse, 0)
    layout.focus = np.where(blurred > 0, blurred, np.clip(0.25 * rng.normal(size=shape), 0, 0.3)).astype(np.float32)
    layout.focus[layout.focus < 0.1] = 0
    mask = np.kron(blurred > 0, np.ones((layout.per_block, layout.per_block), bool))
    layout.add("out_of_focus", mask & (layout.where >= 0), cells=False)
