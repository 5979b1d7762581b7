"""One cell: a type and a random generator in, a map of dye concentrations out.

Shapes are drawn in µm at twice the asked resolution and shrunk by area. The patch is just large enough for the cell.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.errors import LabelError
from myelos.phantom.looks import LOOKS, VARIANTS, CellLook, Granules, Range
from myelos.phantom.shapes import MARGIN, NUCLEI, Array, Field, Rng, fit_nucleus, grid, noise, polar
from myelos.phantom.stain import AZURE, BLUE, CHROMATIN, DYES, EOSIN, HAEMOGLOBIN, Stain

__all__ = ["LOOKS", "VARIANTS", "CellLook", "Granules", "Sprite", "cell_rng", "look_of", "render_cell", "render_sprite"]

SUPERSAMPLE = 2
MEMBRANE: Range = (0.08, 0.28)  # denser chromatin along the nuclear membrane


@dataclass(frozen=True, slots=True)
class Sprite:
    """A rendered cell of one type.

    layers: (h, w, 6) float32, the concentrations of DYES and the cover of the cell, 0 to 1.
    nucleus: (h, w) float32, cover of the nucleus. source: where it comes from; cut_from: of which image, if of one.
    """

    cell_type: str
    mpp: float
    layers: NDArray[np.float32]
    nucleus: NDArray[np.float32]
    source: str = "rendered"
    cut_from: str = ""

    @property
    def cover(self) -> NDArray[np.float32]:
        return self.layers[..., len(DYES)]

    @property
    def radius(self) -> float:
        """Of the circle with the area of the cell, in µm."""
        return float(np.sqrt((self.cover > 0.5).sum() / np.pi) * self.mpp)


def cell_rng(seed: int, *parts: int | str) -> Rng:
    """A generator that depends on the seed and on what it is for, not on the order of work."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in parts]
    return np.random.default_rng([seed, *words])


def look_of(cell_type: str, rng: Rng) -> tuple[str, CellLook]:
    """The type that is drawn (coarse labels pick one) and its look; LabelError for a type without one."""
    if cell_type in VARIANTS:
        cell_type = str(rng.choice(VARIANTS[cell_type]))
    if cell_type not in LOOKS:
        raise LabelError(f"no look for cell type '{cell_type}'", remedy=f"Known: {', '.join([*LOOKS, *VARIANTS])}")
    return cell_type, LOOKS[cell_type]


def render_cell(
    cell_type: str, rng: Rng, mpp: float, stain: Stain
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """One cell on empty glass: (h, w, 3) RGB, (h, w) cover 0 to 1, (M, 2) outline in pixels x y of the patch."""
    sprite = render_sprite(cell_type, rng, mpp)
    rgb = np.clip(np.rint(stain.transmit(sprite.layers[..., : len(DYES)])), 0, 255).astype(np.uint8)
    return rgb, sprite.cover, outline_of(sprite.cover)


def outline_of(cover: NDArray[np.float32]) -> NDArray[np.float32]:
    """(M, 2) x y of the longest contour at half cover."""
    contours, _ = cv2.findContours((cover > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.zeros((0, 2), np.float32)
    return max(contours, key=len).reshape(-1, 2).astype(np.float32)


def render_sprite(cell_type: str, rng: Rng, mpp: float, look: CellLook | None = None) -> Sprite:
    """Concentrations of a cell of `cell_type` at `mpp` µm per pixel; with `look` instead of the type's own."""
    drawn, usual = look_of(cell_type, rng)
    look = look or usual
    fine = mpp / SUPERSAMPLE
    canvas = _Canvas(look, rng, fine)
    painter = {"erythrocyte": _paint_red_cell, "platelet": _paint_platelet, "smudge_cell": _paint_smudge}
    painter.get(drawn, _paint_nucleated)(canvas)
    layers = np.concatenate([canvas.dyes, canvas.cover[..., None]], axis=2)
    return Sprite(drawn, mpp, _shrink(layers), _shrink(canvas.nucleus))


def _shrink(image: Array) -> Array:
    height, width = image.shape[0] // SUPERSAMPLE, image.shape[1] // SUPERSAMPLE
    parts = image.reshape(height, SUPERSAMPLE, width, SUPERSAMPLE, -1).mean(axis=(1, 3), dtype=np.float32)
    return parts.reshape(height, width, *image.shape[2:])


class _Canvas:
    """What the painters share: the grid in µm, the cell's distance field, and the layers they fill."""

    def __init__(self, look: CellLook, rng: Rng, fine: float) -> None:
        self.look, self.rng, self.fine = look, rng, fine
        self.radius = rng.uniform(*look.diameter) / 2
        shape = polar(rng, self.radius, irregular=look.outline, elongation=rng.uniform(*look.elongation))
        self.cell: Field = shape
        reach = float(shape.table.max()) * self.radius + 0.6
        # The patch's side is a multiple of the supersampling, so that it shrinks without a remainder.
        self.x, self.y = grid(np.ceil(reach / (fine * SUPERSAMPLE)) * fine * SUPERSAMPLE, fine)
        self.inside = shape(self.x, self.y)
        frayed = self.draw(look.fringe)
        if frayed:
            self.inside += np.float32(frayed) * np.clip(
                np.float32(0.6) * self.noise(0.55) + np.float32(0.8) * self.noise(1.6), -2, 1.2
            )
        self.cover = self.edge(self.inside, 0.25)
        self.dyes = np.zeros((*self.x.shape, len(DYES)), np.float32)
        self.nucleus = np.zeros(self.x.shape, np.float32)

    def edge(self, distance: Array, width: float) -> Array:
        """Cover from a distance field: 0 outside, 1 inside, a smooth step of `width` µm."""
        return np.clip(distance / np.float32(max(width, self.fine)) + np.float32(0.5), 0, 1)

    def draw(self, limits: Range) -> float:
        return float(self.rng.uniform(*limits)) if limits[1] > limits[0] else limits[0]

    def noise(self, size: float) -> Array:
        """Smooth noise with grains of `size` µm."""
        return noise(self.rng, self.x.shape, size / self.fine)


def _paint_nucleated(c: _Canvas) -> None:
    look, rng = c.look, c.rng
    shape = str(rng.choice(look.nucleus))
    field = NUCLEI[shape](rng, c.radius)
    ratio = c.draw(look.ratio)
    room = c.radius * (1 - np.sqrt(ratio)) * c.draw(look.eccentric)
    angle = rng.uniform(0, 2 * np.pi)
    shift = (float(room * np.cos(angle)), float(room * np.sin(angle)))
    scale = fit_nucleus(field, c.cell, c.radius, shift, ratio)
    lumpy = np.float32(c.radius / 6 * (0.4 if shape == "round" else 1.0))
    wobble = lumpy * (np.float32(0.09) * c.noise(0.9) + np.float32(0.11) * c.noise(2.6))
    deep = np.minimum(field(c.x - shift[0], c.y - shift[1], scale) + wobble, c.inside - np.float32(MARGIN))
    c.nucleus = c.edge(deep, 0.22)
    _paint_cytoplasm(c, deep, angle)
    _paint_chromatin(c, deep)
    for granules in look.granules:
        _paint_granules(c, granules)
    _paint_vacuoles(c)


def _paint_cytoplasm(c: _Canvas, deep: Array, angle: float) -> None:
    look = c.look
    body = c.cover * (1 - c.nucleus)
    texture = 1 + look.grain * (0.6 * c.noise(0.5) + 0.6 * c.noise(1.6))
    texture += np.float32(2.2 * look.rim) * np.exp(-np.clip(c.inside, 0, None) / np.float32(0.07 * c.radius + 0.2))
    pale = np.float32(c.draw(look.halo)) * np.exp(np.minimum(deep, 0) / np.float32(0.5))
    hof = c.draw(look.hof)
    if hof:  # the Golgi area lies on the side to which the nucleus gives room
        reach = c.radius * 0.22
        far = np.hypot(c.x + np.cos(angle) * reach, c.y + np.sin(angle) * reach) / np.float32(0.36 * c.radius)
        pale = np.maximum(pale, np.float32(hof) * np.exp(-(far**4)))
    basic = np.clip(texture, 0.1, 2.5) * (1 - np.float32(0.75) * pale)
    for dye, limits in ((BLUE, look.blue), (EOSIN, look.eosin), (AZURE, look.azure), (HAEMOGLOBIN, look.haemoglobin)):
        amount = c.draw(limits)
        if amount:
            even = dye == HAEMOGLOBIN
            c.dyes[..., dye] += np.float32(amount) * body * (1 if even else basic)
    # Some cytoplasm lies above and below the nucleus, too.
    c.dyes[..., BLUE] += np.float32(0.25 * c.draw(look.blue)) * c.nucleus


def _paint_chromatin(c: _Canvas, deep: Array) -> None:
    look = c.look
    size, contrast = c.draw(look.texture), c.draw(look.contrast)
    pattern = _strands(c, size)
    # Clumps lie between a net of pale lines.
    net = np.exp(-((c.noise(size * 1.6) / np.float32(0.35)) ** 2))
    clumps = np.float32(0.8) + np.float32(0.5) * c.noise(size) - np.float32(2.6) * net
    texture = (1 - look.clumped) * pattern + look.clumped * clumps
    density = 1 + np.float32(contrast) * texture
    membrane, depth = np.float32(c.draw(MEMBRANE)), np.float32(0.22)
    density += membrane * np.exp(-(((deep - depth) / depth) ** 2))
    density -= np.float32(0.10) * np.exp(-np.clip(deep, 0, None) / np.float32(0.8))  # thinner towards its edge
    for _ in range(int(c.rng.integers(look.nucleoli[0], look.nucleoli[1] + 1))):
        _paint_nucleolus(c, density)
    amount = np.float32(c.draw(look.chromatin)) * (1 + np.float32(0.05) * c.noise(c.radius))
    # The clear spots are pinker.
    c.dyes[..., AZURE] += np.float32(0.3) * np.clip(1 - density, 0, 1) * c.nucleus
    c.dyes[..., CHROMATIN] += amount * np.clip(density, 0.25, 1.7) * c.nucleus


def _strands(c: _Canvas, size: float) -> Array:
    """Dark strands with small clear spots between them."""
    spots = np.clip(c.noise(size * 0.65) - np.float32(0.7), 0, np.float32(1.3))
    return np.float32(0.5) + 0.4 * c.noise(size) + 0.4 * c.noise(size * 2.4) - np.float32(3.0) * spots


def _paint_nucleolus(c: _Canvas, density: Array) -> None:
    """A paler, bluer disc with a darker ring of chromatin."""
    ys, xs = np.nonzero(c.nucleus > 0.9)
    if not len(ys):
        return
    pick = int(c.rng.integers(len(ys)))
    radius = np.float32(c.rng.uniform(0.5, 1.1))
    far = np.hypot(c.x - c.x[0, xs[pick]], (c.y - c.y[ys[pick], 0]) * np.float32(c.rng.uniform(0.8, 1.25))) - radius
    disc = np.clip(0.5 - far / np.float32(0.4), 0, 1)
    density += np.float32(0.10) * np.exp(-((far / np.float32(0.3)) ** 2)) - np.float32(c.rng.uniform(0.14, 0.3)) * disc
    c.dyes[..., BLUE] += np.float32(0.22) * disc * c.nucleus


def _paint_granules(c: _Canvas, granules: Granules) -> None:
    """Discs at random places of the cytoplasm; where they crowd they cover, they do not pile up."""
    chance = c.draw(granules.density) * c.fine**2
    where = (c.inside > 0.25) * (1 - c.nucleus * np.float32(1 - granules.over_nucleus))
    patchy = np.clip(1 + np.float32(granules.patchy) * c.noise(2.5), 0.1, None)
    seeds = (c.rng.random(c.x.shape, np.float32) < chance * where * patchy).astype(np.float32)
    seeds *= c.rng.uniform(0.55, 1.0, c.x.shape).astype(np.float32)
    radius = c.draw(granules.diameter) / 2 / c.fine
    side = 2 * int(np.ceil(radius + 1)) + 1
    axis = np.arange(side) - side // 2
    disc = np.clip(radius + 0.5 - np.hypot(*np.meshgrid(axis, axis)), 0, 1).astype(np.float32)
    spread = np.clip(cv2.filter2D(seeds, -1, disc, borderType=cv2.BORDER_CONSTANT), 0, np.float32(1.2))
    spread = cv2.GaussianBlur(spread, (0, 0), max(0.3, 0.07 / c.fine)) * (1 + np.float32(0.15) * c.noise(0.35))
    c.dyes[..., granules.dye] += np.float32(c.draw(granules.strength)) * spread * c.cover


def _paint_vacuoles(c: _Canvas) -> None:
    for _ in range(int(c.rng.integers(c.look.vacuoles[0], c.look.vacuoles[1] + 1))):
        angle, reach = c.rng.uniform(0, 2 * np.pi), c.radius * np.sqrt(c.rng.random())
        radius = c.rng.uniform(0.3, 0.8) * (c.radius / 8) ** 0.5
        far = np.hypot(c.x - np.cos(angle) * reach, c.y - np.sin(angle) * reach) - np.float32(radius)
        over = np.float32(0.6 if c.rng.random() < 0.3 else 1.0)  # some lie before the nucleus
        hole = np.clip(0.5 - far / np.float32(0.25), 0, 1) * (c.inside > 0.5) * (1 - over * c.nucleus)
        c.dyes *= (1 - np.float32(0.92) * hole)[..., None]


def _paint_red_cell(c: _Canvas) -> None:
    rng = c.rng
    middle = c.radius * rng.uniform(0.25, 0.6)
    off = rng.normal(0, 0.06 * c.radius, 2)
    squeeze = rng.uniform(0.85, 1.18)
    far = np.hypot((c.x - off[0]) * squeeze, (c.y - off[1]) / squeeze)
    pallor = rng.uniform(0.3, 1.0) if rng.random() < 0.8 else rng.uniform(0.0, 0.2)
    profile = 1 - np.float32(pallor) * np.clip(0.5 - (far - middle) / np.float32(rng.uniform(0.9, 2.0)), 0, 1)
    rim = np.float32(rng.uniform(0.0, 0.25)) * np.exp(-(((c.inside - np.float32(0.35)) / np.float32(0.3)) ** 2))
    amount = c.draw(c.look.haemoglobin)
    c.dyes[..., HAEMOGLOBIN] = np.float32(amount) * (profile + rim + np.float32(0.02) * c.noise(1.5)) * c.cover


def _paint_platelet(c: _Canvas) -> None:
    body = c.cover * np.clip(1 + np.float32(c.look.grain) * c.noise(0.6), 0.2, None)
    middle = np.clip(c.inside / np.float32(c.radius), 0, 1)
    c.dyes[..., BLUE] = np.float32(c.draw(c.look.blue)) * body
    c.dyes[..., AZURE] = np.float32(c.draw(c.look.azure)) * body * (np.float32(0.4) + middle)
    for granules in c.look.granules:
        _paint_granules(c, granules)


def _paint_smudge(c: _Canvas) -> None:
    """A burst nucleus: smeared chromatin in strands with gaps, without cytoplasm, its edge frayed."""
    frayed = c.inside + np.float32(0.12 * c.radius) * (c.noise(1.2) + np.float32(0.6) * c.noise(0.5))
    bare = c.rng.random() < 0.4
    c.cover = c.edge(c.inside if bare else np.minimum(frayed, c.inside + 0.3), 0.4 if bare else 1.2)
    c.nucleus = c.cover.copy()
    strands = np.clip(1 - np.abs(c.noise(c.draw(c.look.texture) * 1.5)), -0.5, 1)
    gaps = 1.0 if bare else np.clip(0.65 + np.float32(0.7) * strands - np.float32(0.25) * (c.noise(2.5) > 1), 0.1, 1.4)
    texture = 1 + np.float32(c.draw(c.look.contrast)) * c.noise(c.draw(c.look.texture))
    amount = c.draw(c.look.chromatin)
    c.dyes[..., CHROMATIN] = np.float32(amount) * gaps * np.clip(texture, 0.2, 2) * c.cover
    c.dyes[..., AZURE] = np.float32(0.35 * amount) * gaps * c.cover
