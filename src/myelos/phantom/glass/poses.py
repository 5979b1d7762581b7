"""The rendered cells of a slide on disk, shared by all workers, and who may take which pose.

A pose is one sprite, mirrored or not, at one of 36 angles and three sizes. Poses are dealt out by squares of at least
1 mm in four colours, and a square gives out only the poses of its colour, each once: so the same pose does not return
within 1 mm, however many cells lie there. Angle, size and stain of each cell differ a little more by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cells import Sprite, cell_rng, render_sprite
from myelos.phantom.features import look_with, split
from myelos.phantom.glass.scanners import Scanner, seen
from myelos.phantom.shapes import noise
from myelos.phantom.sprites import softened
from myelos.phantom.stain import DYES, Stain

ANGLES, SIZES, MIRRORS = 36, (0.94, 1.0, 1.06), 2
DAMAGED_PER_TYPE = 6  # sprites of each degree of damage
DEGREES = (0, 1, 2)  # intact; ragged cytoplasm; naked nucleus that has swollen
FEWER = {"megakaryocyte": 8, "macrophage": 10}
MARGIN = 3  # px around a sprite, room for its blur


@dataclass(frozen=True, slots=True)
class Pool:
    """Sprites one behind the other: optical densities (natural log) in R, G, B and the cover.

    data: flat float16. table: a row per sprite, see TABLE. types: their names, with their features.
    """

    data: NDArray[np.float16]
    table: NDArray[np.void]
    types: tuple[str, ...]

    def sprite(self, number: int) -> NDArray[np.float16]:
        """(h, w, 4)."""
        row = self.table[number]
        start, side = int(row["start"]), int(row["side"])
        return self.data[start : start + side * side * 4].reshape(side, side, 4)

    def of(self, kind: int, damage: int) -> NDArray[np.intp]:
        """Numbers of the sprites of a type and a degree of damage."""
        return np.flatnonzero((self.table["kind"] == kind) & (self.table["damage"] == damage))


TABLE = np.dtype([("kind", "i2"), ("damage", "i1"), ("side", "i4"), ("start", "i8"), ("radius", "f4")])  # radius in px


def render_pool(
    name: str, seed: int, mpp: float, stain: Stain, made: Scanner, per_type: int, softness: float = 0.0
) -> list[Rendered]:
    """All sprites of a type with features: intact ones, and some of each degree of damage.

    softness: µm of blur, see `cut_outs.CutOuts`.
    """
    cell_type, features = split(name)
    look = look_with(cell_type, features) if features else None
    whole = FEWER.get(cell_type, per_type)
    degrees = [0] * whole
    if cell_type not in ("smudge_cell", "mitosis"):
        hurt_too = min(DAMAGED_PER_TYPE, whole)
        degrees += [1] * hurt_too + [2] * hurt_too
    found = []
    for number, damage in enumerate(degrees):
        rng = cell_rng(seed, "glass", name, number)
        sprite = render_sprite(cell_type, rng, mpp, look)
        if softness:
            sprite = softened(sprite, softness)
        layers = hurt(sprite, damage, rng) if damage else sprite.layers
        found.append(as_rendered(sprite, layers, damage, stain, made))
    return found


def as_rendered(sprite: Sprite, layers: NDArray[np.float32], damage: int, stain: Stain, made: Scanner) -> Rendered:
    """A sprite, whole or with damaged layers, in the colours of a stain as a scanner shows it."""
    return Rendered(damage, *_densities(layers, stain, made, sprite.mpp), sprite.radius / sprite.mpp)


@dataclass(frozen=True, slots=True)
class Rendered:
    """(side, side, 4) float16 in a form that travels between processes."""

    damage: int
    side: int
    content: bytes
    radius: float


def _densities(layers: NDArray[np.float32], stain: Stain, made: Scanner, mpp: float) -> tuple[int, bytes]:
    side = max(layers.shape[:2]) + 2 * MARGIN
    above, before = (side - layers.shape[0]) // 2, (side - layers.shape[1]) // 2
    full = np.zeros((side, side, layers.shape[2]), np.float32)
    full[above : above + layers.shape[0], before : before + layers.shape[1]] = layers
    full = seen(full, made, mpp)
    matrix = np.asarray(stain.density, np.float32) * np.float32(np.log(10.0))
    density = full[..., : len(DYES)] @ matrix
    return side, np.concatenate([density, np.minimum(full[..., -1:], 1)], axis=2).astype(np.float16).tobytes()


def hurt(sprite: Sprite, damage: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(h, w, 6) layers of a cell damaged by spreading: 1 ragged cytoplasm, 2 hardly any, and a swollen nucleus."""
    layers, nucleus = sprite.layers.copy(), sprite.nucleus
    fray = noise(rng, nucleus.shape, 1.4 / sprite.mpp) + 0.6 * noise(rng, nucleus.shape, 0.6 / sprite.mpp)
    keep = np.clip((fray + (0.35 if damage == 1 else -1.1)) * 2.5 + 0.5, 0, 1)
    near = cv2.GaussianBlur(nucleus, (0, 0), 0.7 / sprite.mpp)
    keep = np.maximum(keep.astype(np.float32), np.clip(2.2 * near, 0, 1))
    layers *= keep[..., None]
    if damage == 2:
        soft = cv2.GaussianBlur(layers, (0, 0), 0.45 / sprite.mpp)
        grown = cv2.dilate(soft, np.ones((5, 5), np.uint8))
        layers = np.float32(0.35) * layers + np.float32(0.6) * grown
        layers[..., -1] = np.clip(layers[..., -1] * 1.1, 0, 1)
    return layers


def save_pool(folder: Path, parts: list[tuple[str, list[Rendered]]]) -> Pool:
    """Write the sprites of all types to `folder`, and open them as the workers do."""
    rows, start = [], 0
    with (folder / "sprites.f16").open("wb") as file:
        for kind, (_, rendered) in enumerate(parts):
            for one in rendered:
                rows.append((kind, one.damage, one.side, start, one.radius))
                file.write(one.content)
                start += len(one.content) // 2
    np.save(folder / "sprites.npy", np.array(rows, TABLE))
    (folder / "types.txt").write_text("\n".join(name for name, _ in parts), encoding="utf-8")
    return open_pool(folder)


def open_pool(folder: Path) -> Pool:
    types = tuple((folder / "types.txt").read_text(encoding="utf-8").split("\n"))
    data = np.memmap(folder / "sprites.f16", np.float16, mode="r")
    return Pool(data, np.load(folder / "sprites.npy"), types)


class Dealer:
    """Deals out poses; asked in any order within a row of squares, and rows from top to bottom.

    side: px of a square, at least 1 mm.
    """

    def __init__(self, pool: Pool, side: float, seed: int) -> None:
        self.pool, self.side = pool, side
        self.lists = {
            (kind, damage): self._order(pool.of(kind, damage), seed, kind, damage)
            for kind in range(len(pool.types))
            for damage in DEGREES
        }
        self.given: dict[tuple[int, int, int], int] = {}
        self.row = -1

    def _order(self, sprites: NDArray[np.intp], seed: int, kind: int, damage: int) -> NDArray[np.int64]:
        """(P, 4) sprite, mirrored, angle, size of all poses of a type, shuffled."""
        grid = np.meshgrid(sprites, range(MIRRORS), range(ANGLES), range(len(SIZES)), indexing="ij")
        poses = np.stack([axis.ravel() for axis in grid], axis=1).astype(np.int64)
        return cell_rng(seed, "poses", kind, damage).permutation(poses)

    def deal(self, kind: int, damage: int, x: float, y: float) -> NDArray[np.int64]:
        """The next pose of a type for a cell at x, y px."""
        column, row = int(x // self.side), int(y // self.side)
        if row != self.row:
            self.given, self.row = {}, row
        poses = self.lists[kind, damage]
        colour = (column & 1) + 2 * (row & 1)
        share = len(poses) // 4
        key = (column, kind, damage)
        number = self.given.get(key, 0)
        self.given[key] = number + 1
        return poses[colour * share + number % share]
