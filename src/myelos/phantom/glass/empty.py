"""Encoded blocks; and fields of bare glass, of which there are a few kinds, each painted and encoded once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from myelos.phantom.cells import cell_rng
from myelos.phantom.glass.block import Job, Painter, Truth, block_area, gain_of
from myelos.slides.tiled import encode_tiles, halved

TILE = 512
LOWER = 3  # levels that the workers encode; a block is one tile of the last of them
AROUND = 96  # px; no window reaches farther beyond a block without cells


@dataclass(frozen=True, slots=True)
class Encoded:
    """tiles: by level, rows of columns. small: RGB of the first level that the workers do not encode.

    like: column and row of a block that was the very same, None for the first.
    """

    tiles: list[list[list[bytes]]]
    small: NDArray[np.uint8]
    truth: Truth
    like: tuple[int, int] | None = None


def encode_block(rgb: NDArray[np.uint8], truth: Truth, quality: int) -> Encoded:
    tiles = []
    for _ in range(LOWER):
        tiles.append(encode_tiles(rgb, TILE, quality))
        rgb = halved(rgb)
    return Encoded(tiles, rgb, truth)


class Glass:
    """Bare glass: tells which blocks show nothing else, and gives their tiles."""

    def __init__(self, painter: Painter) -> None:
        self.painter = painter
        self._known: dict[tuple[int, int, float], Encoded] = {}

    def bare(self, job: Job) -> bool:
        """Whether nothing at all lies in a block and around it."""
        g = self.painter.ground
        x1, y1, x2, y2 = block_area(g.settings, job.column, job.row)
        x1, y1, x2, y2 = x1 - AROUND, y1 - AROUND, x2 + AROUND, y2 + AROUND
        rows = slice(max(int(y1 / g.step) - 1, 0), int(y2 / g.step) + 2)
        columns = slice(max(int(x1 / g.step) - 1, 0), int(x2 / g.step) + 2)
        if len(job.cells) or any(plan[rows, columns].any() for plan in (g.red, g.haze, g.label)):
            return False
        window = (x1, y1, x2, y2)
        return not any(
            found.near(window) for found in (self.painter.dust, self.painter.bubbles, self.painter.scratches)
        )

    def encoded(self, job: Job) -> Encoded:
        """The tiles of a bare block; of the same size and exposure they are the same."""
        settings = self.painter.ground.settings
        x1, y1, x2, y2 = block_area(settings, job.column, job.row)
        key = (x2 - x1, y2 - y1, gain_of(settings, job))
        if key in self._known:
            return self._known[key]
        light = np.empty((key[1], key[0], 3), np.uint8)
        light[:] = np.rint(self.painter.white).astype(np.uint8)
        rgb = self.painter.expose(light, key[2], cell_rng(settings.seed, "bare glass"))
        made = encode_block(rgb, Truth(), self.painter.scanner.quality)
        self._known[key] = replace(made, like=(job.column, job.row))
        return made
