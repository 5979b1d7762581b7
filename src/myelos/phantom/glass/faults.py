"""What lies on the glass beside the smear: dust, fibres, bubbles, scratches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (N, 2) x y in level-0 px
Corners = tuple[float, float, float, float]  # x1 y1 x2 y2, level-0 px


@dataclass(frozen=True, slots=True)
class Dust:
    """A speck (closed outline) or a fibre (line of `width` px). shade: light that passes in R, G and B, 0 to 1."""

    points: Points
    width: float  # px, 0 for a speck
    shade: tuple[float, float, float]

    def box(self) -> Corners:
        """x1 y1 x2 y2."""
        low, high = self.points.min(axis=0) - self.width, self.points.max(axis=0) + self.width
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


@dataclass(frozen=True, slots=True)
class Bubble:
    """Air under the cover: a dark rim, and inside it a picture without contrast."""

    x: float
    y: float
    radius: float  # px

    def box(self) -> Corners:
        reach = self.radius * 1.05
        return self.x - reach, self.y - reach, self.x + reach, self.y + reach

    def holds(self, x: float, y: float) -> bool:
        return (x - self.x) ** 2 + (y - self.y) ** 2 < self.radius**2

    def outline(self) -> Points:
        angle = np.arange(48) * (2 * np.pi / 48)
        return np.column_stack([self.x + self.radius * np.cos(angle), self.y + self.radius * np.sin(angle)])


@dataclass(frozen=True, slots=True)
class Scratch:
    """Lines close together along which the smear was scraped off. width: px of all. lines: offset and width of each."""

    points: Points
    width: float
    lines: tuple[tuple[float, float], ...]

    def box(self) -> Corners:
        low, high = self.points.min(axis=0) - self.width, self.points.max(axis=0) + self.width
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def beside(self, offset: float) -> Points:
        """The line moved sideways by `offset` px."""
        along = np.gradient(self.points, axis=0)
        return self.points + np.column_stack([-along[:, 1], along[:, 0]]) / np.hypot(*along.T)[:, None] * offset

    def outline(self) -> Points:
        """Both banks of the scratch."""
        return np.concatenate([self.beside(self.width / 2), self.beside(-self.width / 2)[::-1]])


@dataclass(frozen=True, slots=True)
class Hole:
    """A fat vacuole of a particle: x, y and radius in px."""

    x: float
    y: float
    radius: float

    def box(self) -> Corners:
        reach = self.radius + 4
        return self.x - reach, self.y - reach, self.x + reach, self.y + reach


class Boxed(Protocol):
    def box(self) -> Corners: ...


Thing = TypeVar("Thing", bound=Boxed)


class Found(Generic[Thing]):
    """Things that are quickly found by place."""

    def __init__(self, things: Sequence[Thing]) -> None:
        self.things = list(things)
        self._boxes = np.array([thing.box() for thing in things], float).reshape(-1, 4)

    def near(self, window: tuple[float, float, float, float], around: float = 8) -> list[Thing]:
        """Those whose box touches the window x1 y1 x2 y2, in their order."""
        left, top, right, bottom = self._boxes.T
        x1, y1, x2, y2 = window
        touching = (left < x2 + around) & (right > x1 - around) & (top < y2 + around) & (bottom > y1 - around)
        return [self.things[i] for i in np.flatnonzero(touching)]


def draw_faults(
    size: tuple[int, int], mpp: float, rng: np.random.Generator
) -> tuple[list[Dust], list[Bubble], list[Scratch]]:
    """Faults for a glass of `size` px; their number goes by its area in mm²."""
    extent = np.array(size, float)
    area = float(extent.prod()) * mpp**2 * 1e-6
    dust = [_speck(rng, extent, mpp) for _ in range(max(2, int(area * 0.45)))]
    dust += [_fibre(rng, extent, mpp) for _ in range(max(1, int(area * 0.03)))]
    largest = min(900.0, 0.04 * float(extent.min()) * mpp)
    bubbles = [_bubble(rng, extent, largest / mpp) for _ in range(max(1, int(area * 0.006)))]
    scratches = [_scratch(rng, extent, mpp) for _ in range(max(1, min(12, int(area * 0.006))))]
    return dust, bubbles, scratches


def _bubble(rng: np.random.Generator, extent: Points, largest: float) -> Bubble:
    x, y = extent * rng.uniform(0.05, 0.95, 2)
    return Bubble(float(x), float(y), float(rng.uniform(0.25, 1) * largest))


def _speck(rng: np.random.Generator, extent: Points, mpp: float) -> Dust:
    corners = int(rng.integers(5, 11))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = np.exp(rng.normal(np.log(9), 0.6)) / mpp * rng.uniform(0.5, 1.2, corners)
    points = extent * rng.random(2) + np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None]
    dark = rng.uniform(0.12, 0.6)
    return Dust(points, 0.0, (dark, dark * rng.uniform(0.85, 1.0), dark * rng.uniform(0.75, 1.0)))


def _fibre(rng: np.random.Generator, extent: Points, mpp: float) -> Dust:
    """A thread of cloth or paper."""
    turn = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12, 40))
    step = min(rng.uniform(120, 900), 0.2 * float(extent.min()) * mpp) / 40 / mpp
    points = extent * rng.random(2) + np.cumsum(np.column_stack([np.cos(turn), np.sin(turn)]) * step, axis=0)
    dark = rng.uniform(0.3, 0.65)
    return Dust(points, float(rng.uniform(3, 9) / mpp), (dark, dark, min(1.0, dark * 1.15)))


def _scratch(rng: np.random.Generator, extent: Points, mpp: float) -> Scratch:
    start = extent * rng.uniform([0.22, 0.05], [0.85, 0.95])
    angle, reach = rng.uniform(-0.5, 0.5), rng.uniform(0.06, 0.35) * extent[0]
    along = np.linspace(0, 1, 160)
    wobble = np.cumsum(rng.normal(0, 0.0012, 160)) * reach
    points = start + np.column_stack([np.cos(angle) * along * reach, np.sin(angle) * along * reach + wobble])
    width = float(rng.uniform(5, 26) / mpp)
    fine = np.sort(rng.uniform(-0.5, 0.5, int(rng.integers(2, 7))))
    lines = tuple((float(at * width), float(rng.uniform(0.08, 0.3) * width)) for at in fine)
    return Scratch(points, width, lines)
