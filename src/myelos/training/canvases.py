"""Training images: canvases filled with turned, scaled and recoloured cut-outs of fields.

Fields differ in size by a factor of ten once they are at one scale. A large field gives a whole canvas, small ones
share it, four to a canvas. Every canvas follows from the seed and its number alone, whoever asks for it and when, so a
training that was killed goes on with the very images it would have seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.training.fields import Field

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CanvasSettings:
    """Augmentation. Rotation, contrast, saturation and brightness are those of Wang 2022, section 3.2; each of the
    others is ours. A range of (1, 1) or (0, 0) switches one off."""

    side: int = 384  # pixels of a canvas
    rotation: bool = True  # any angle, and mirrored
    contrast: tuple[float, float] = (0.75, 1.3)
    saturation: tuple[float, float] = (0.5, 1.5)
    brightness: tuple[float, float] = (0.8, 1.15)
    tint: float = 0.05  # spread of the three channels' gains: stains and cameras differ in hue
    scale: tuple[float, float] = (0.75, 1.33)  # the scale of a field is known to ±8 % at best
    blur: float = 1.2  # largest standard deviation of a Gaussian, in pixels
    noise: float = 6.0  # largest standard deviation, in grey levels
    near_cell: float = 0.7  # share of cut-outs that are placed to hold a given cell
    least_visible: float = 0.5  # a cell of which less is on the canvas is neither cell nor background


@dataclass(frozen=True, slots=True)
class Canvas:
    """image (S, S, 3) uint8 RGB; boxes (G, 4) x1 y1 x2 y2; allowed (G, T) bool; ignored (I, 4)."""

    image: NDArray[np.uint8]
    boxes: Floats
    allowed: NDArray[np.bool_]
    ignored: Floats


class CanvasSource:
    """`source[number]` is the canvas of that number. Rare types and small sources come up more often than their share.

    Fields are drawn with a weight of 1 / √n, n being the number of fields of the same source and type.
    """

    def __init__(
        self, fields: Sequence[Field], settings: CanvasSettings, *, seed: int, weights: dict[str, float] | None = None
    ) -> None:
        self.fields, self.settings, self.seed = list(fields), settings, seed
        sizes = Counter(field.bucket for field in fields)
        weight = np.array([(weights or {}).get(f.source, 1.0) / np.sqrt(sizes[f.bucket]) for f in fields])
        half = settings.side // 2
        small = np.array([max(f.image.shape[:2]) <= half * 1.3 for f in fields], dtype=bool)
        self._pools = [
            (np.flatnonzero(member), weight[member] / weight[member].sum(), float(share))
            for member, share in ((small, weight[small].sum() / 4), (~small, weight[~small].sum()))
            if member.any()
        ]
        self._small_first = bool(small.any())

    def __getitem__(self, number: int) -> Canvas:
        rng = np.random.default_rng([self.seed, number])
        shares = np.array([share for *_, share in self._pools])
        index = int(rng.choice(len(shares), p=shares / shares.sum()))
        members, weight, _ = self._pools[index]
        per_side = 2 if self._small_first and index == 0 else 1
        side = self.settings.side // per_side
        parts = []
        for place in range(per_side**2):
            field = self.fields[int(rng.choice(members, p=weight))]
            part = cut_out(field, side, self.settings, rng)
            parts.append((part, (place % per_side) * side, (place // per_side) * side))
        return _join(parts, self.settings.side)


def _join(parts: list[tuple[Canvas, int, int]], side: int) -> Canvas:
    image = np.empty((side, side, 3), np.uint8)
    for part, x, y in parts:
        height, width = part.image.shape[:2]
        image[y : y + height, x : x + width] = part.image
    shifts = [np.array([x, y, x, y], np.float32) for _, x, y in parts]
    return Canvas(
        image,
        np.concatenate([part.boxes + shift for (part, *_), shift in zip(parts, shifts, strict=True)]),
        np.concatenate([part.allowed for part, *_ in parts]),
        np.concatenate([part.ignored + shift for (part, *_), shift in zip(parts, shifts, strict=True)]),
    )


def cut_out(field: Field, side: int, settings: CanvasSettings, rng: np.random.Generator) -> Canvas:
    """A square of `side` pixels out of a field: turned, mirrored, scaled, recoloured; outside is white."""
    matrix = _placement(field, side, settings, rng)
    image = cv2.warpAffine(field.image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=(240, 240, 240))
    boxes, visible = _move(field.boxes, matrix, side)
    ignored, _ = _move(field.ignored, matrix, side)
    whole = visible >= settings.least_visible
    return Canvas(
        recolour(image, settings, rng),
        boxes[whole],
        field.allowed[whole],
        np.concatenate([ignored, boxes[~whole & (visible > 0.05)]]),
    )


def _placement(field: Field, side: int, settings: CanvasSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """The 2 × 3 matrix from the field to the cut-out: some point of the field comes to lie near its middle."""
    height, width = field.image.shape[:2]
    factor = np.exp(rng.uniform(*np.log(settings.scale)))
    angle = rng.uniform(0, 2 * np.pi) if settings.rotation else 0.0
    if settings.rotation and rng.random() < 0.5:  # quarter turns keep the pixels sharp
        angle = np.pi / 2 * rng.integers(4)
    mirror = -1.0 if settings.rotation and rng.random() < 0.5 else 1.0
    linear = factor * np.array(
        [[np.cos(angle) * mirror, -np.sin(angle)], [np.sin(angle) * mirror, np.cos(angle)]], np.float64
    )
    centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    if len(field.boxes) and rng.random() < settings.near_cell:
        box = field.boxes[rng.integers(len(field.boxes))]
        centre = (box[:2] + box[2:]) / 2
    goal = rng.uniform(0.25, 0.75, 2) * side
    if max(height, width) * factor <= side:  # the whole field fits: keep it all, anywhere
        room = side - 0.7 * factor * min(height, width)
        centre, goal = np.array([width / 2, height / 2]), side / 2 + rng.uniform(-0.5, 0.5, 2) * room
    return np.column_stack([linear, goal - linear @ centre])


def _move(boxes: Floats, matrix: NDArray[np.float64], side: int) -> tuple[Floats, Floats]:
    """Boxes after `matrix`, cut to the canvas, and the visible share of each.

    Cells are round: the new box is that of the turned ellipse inside the old one, not of its turned corners.
    """
    if not len(boxes):
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    radii = (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = np.sqrt(radii**2 @ (matrix[:, :2] ** 2).T)
    moved = np.concatenate([centres - reach, centres + reach], axis=1)
    cut = np.clip(moved, 0, side)
    area = np.prod(moved[:, 2:] - moved[:, :2], axis=1)
    visible = np.prod(cut[:, 2:] - cut[:, :2], axis=1) / np.maximum(area, 1e-6)
    return cut.astype(np.float32), visible.astype(np.float32)


def recolour(image: NDArray[np.uint8], settings: CanvasSettings, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur, saturation, contrast, brightness, tint and noise, each drawn anew; the colours as one 3 × 4 matrix."""
    if settings.blur and rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, settings.blur))
    saturation, contrast = rng.uniform(*settings.saturation), rng.uniform(*settings.contrast)
    gains = rng.uniform(*settings.brightness) * np.exp(rng.normal(0, settings.tint, 3))
    mixing = saturation * np.eye(3) + (1 - saturation) / 3
    offset = np.full((3, 1), 240 * (1 - contrast))  # contrast turns about the background, which stays what it is
    matrix = gains[:, None] * np.hstack([contrast * mixing, offset])
    image = cv2.transform(image, matrix)
    if settings.noise and rng.random() < 0.4:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(1, settings.noise)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image
