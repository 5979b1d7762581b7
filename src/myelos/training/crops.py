"""Single cells made ready for a classifier's training: one scale, one white point, and drawn anew at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.datasets.cells import CellRecord
from myelos.detection.prepare import read_rgb
from myelos.errors import InputError, UsageError
from myelos.imaging.appearance import AppearanceSettings, normalise
from myelos.imaging.crops import CELL_APPEARANCE, Image, window
from myelos.imaging.stain import perturbed
from myelos.training.fields import allowed_types

ROOM = 1.45  # of the window's side: what turning and shifting can bring into it


@dataclass(frozen=True, slots=True)
class Crop:
    """One cell as the network may see it.

    image: (H, W, 3) uint8 RGB at the classifier's scale, the cell in its middle, up to `ROOM` windows wide; smaller
    where its image ends. allowed: (T,) bool, the types that its label leaves open.
    """

    image: Image
    allowed: NDArray[np.bool_]
    source: str
    cell_type: str
    name: str


@dataclass(frozen=True, slots=True)
class CropSettings:
    """How a crop is drawn. Ours; `published()` is the augmentation of Matek 2021, `unchanged()` none at all.

    scale: factor of the size, drawn evenly in log. shift: of the side. shear: tangent. stain: strength of
    `imaging.stain.perturbed`. The other colours: see `recoloured`. turn: largest angle in degrees, not mirrored; None
    is any angle, mirrored every second time.
    """

    scale: tuple[float, float] = (0.85, 1.18)
    shift: float = 0.08
    shear: float = 0.1
    saturation: tuple[float, float] = (0.6, 1.4)
    contrast: tuple[float, float] = (0.75, 1.3)
    brightness: tuple[float, float] = (0.88, 1.12)
    tint: float = 0.04
    blur: float = 1.2
    noise: float = 8.0
    erase: float = 0.15  # how often a piece of the window is painted over
    stain: float = 0.0
    turn: float | None = None


def published() -> CropSettings:
    """The augmentation of Matek 2021 (Methods): any turn, mirrored, shifts to 25 %, shear to 20 %, stains perturbed.

    Turning by 0 to 180° with flips both ways is turning by any angle with one. The stains' strength is
    what others give for Tellez et al. (docs/decisions.md); no other change of colour.
    """
    still = (1.0, 1.0)
    return CropSettings(still, 0.25, 0.2, still, still, still, tint=0.0, blur=0.0, noise=0.0, erase=0.0, stain=0.05)


def unchanged() -> CropSettings:
    """Every crop as it is, every time."""
    still = (1.0, 1.0)
    return CropSettings(still, 0.0, 0.0, still, still, still, tint=0.0, blur=0.0, noise=0.0, erase=0.0, turn=0.0)


def load_crops(
    records: Sequence[CellRecord],
    *,
    types: Sequence[str],
    mpp: float,
    side: int,
    scales: Mapping[str, float],
    appearance: AppearanceSettings | None = None,
    allow: Callable[[str], NDArray[np.bool_] | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Crop]:
    """Read, even out and scale all cells; those of a type that the classifier has no name for are left out.

    scales: source → µm/px where the records do not say. allow: label → which types it leaves open, None for none;
    `allowed_types` without it. Raises UsageError where no scale is known.
    """
    crops = []
    for done, record in enumerate(records, 1):
        allowed = allow(record.cell_type) if allow else allowed_types(record.cell_type, types)
        if allowed is not None and allowed.any():
            image = extended(record, mpp=mpp, side=side, scales=scales, appearance=appearance)
            crops.append(Crop(image, allowed, record.source, record.cell_type, record.path.name))
        if progress:
            progress(done, len(records))
    return crops


def extended(
    record: CellRecord,
    *,
    mpp: float,
    side: int,
    scales: Mapping[str, float],
    appearance: AppearanceSettings | None = None,
) -> Image:
    """The surroundings of a cell at the classifier's scale, as far as its image shows them, at most `ROOM` windows."""
    own = record.mpp or scales.get(record.source)
    if own is None:
        raise UsageError(
            f"the scale of {record.source} is not known",
            remedy=f"Pass --mpp with its µm per pixel, or state it in a recipe: [scales] {record.source} = …",
        )
    if record.box is None:
        even = normalise(_read(record.path), appearance or CELL_APPEARANCE)
        height, width = even.shape[:2]
        return _centred(even, (width / 2, height / 2), own / mpp, side)
    x, y, width, height = record.box
    even = _even_field(record.path, appearance or AppearanceSettings())
    return window(even, (x + width / 2, y + height / 2), own / mpp, round(ROOM * side))


def _read(path: Path) -> Image:
    try:
        return read_rgb(path)
    except InputError as error:
        raise InputError(f"{path} cannot be read as an image") from error


@lru_cache(maxsize=4)
def _even_field(path: Path, appearance: AppearanceSettings) -> Image:
    return normalise(_read(path), appearance)


def _centred(rgb: Image, centre: tuple[float, float], factor: float, side: int) -> Image:
    """As `window`, but no wider than the image shows: mirrored borders are made when it is drawn."""
    height, width = rgb.shape[:2]
    most = min(round(ROOM * side), int(min(height, width) * factor))
    return window(rgb, centre, factor, most)


def draw(crop: Crop, side: int, zoom: float, settings: CropSettings, rng: np.random.Generator) -> Image:
    """(side, side, 3): the crop turned by any angle, mirrored, scaled, sheared, shifted and recoloured.

    zoom: pixels of the result per pixel of the crop, below 1 while training runs at a lower resolution.
    """
    turned = None if settings.turn is None else np.radians(settings.turn)
    angle = rng.uniform(0, 2 * np.pi) if turned is None else rng.uniform(-turned, turned)
    factor = zoom * np.exp(rng.uniform(*np.log(settings.scale)))
    mirror = 1.0 if turned is not None or rng.random() < 0.5 else -1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.uniform(-settings.shear, settings.shear)], [0.0, 1.0]])
    linear = factor * turn @ shear @ np.diag([mirror, 1.0])
    goal = side / 2 + rng.uniform(-settings.shift, settings.shift, 2) * side
    height, width = crop.image.shape[:2]
    matrix = np.column_stack([linear, goal - linear @ np.array([width / 2, height / 2])])
    image = cv2.warpAffine(crop.image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return recoloured(image, settings, rng)


def plain(crop: Crop, side: int) -> Image:
    """The window as the classifier sees it in use."""
    height, width = crop.image.shape[:2]
    return window(crop.image, (width / 2, height / 2), 1.0, side)


def recoloured(image: Image, settings: CropSettings, rng: np.random.Generator) -> Image:
    """Stain, blur, saturation, contrast (about the background), brightness, tint, noise and an erased piece."""
    if settings.stain:
        image = perturbed(image, settings.stain, rng)
    if settings.blur and rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, settings.blur))
    saturation, contrast = rng.uniform(*settings.saturation), rng.uniform(*settings.contrast)
    gains = rng.uniform(*settings.brightness) * np.exp(rng.normal(0, settings.tint, 3))
    mixing = saturation * np.eye(3) + (1 - saturation) / 3
    offset = np.full((3, 1), 240 * (1 - contrast))
    image = cv2.transform(image, gains[:, None] * np.hstack([contrast * mixing, offset]))
    if settings.noise and rng.random() < 0.3:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(1, settings.noise)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < settings.erase:
        side = image.shape[0]
        size = rng.integers(side // 8, side // 3, 2)
        top, left = rng.integers(0, side - size)
        image[top : top + size[0], left : left + size[1]] = rng.integers(0, 256, 3)
    return image
