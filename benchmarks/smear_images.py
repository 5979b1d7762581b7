"""The real smear images, their halves for tuning and for quoting, and the variants that the fit sees as well."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.drawn_images import Image, Random, through_jpeg
from benchmarks.non_smears import another_camera, read

PATTERNS = {
    "bccd_fields": "JPEGImages/*.jpg",
    "chula_wbc_fields": "images/*.jpg",
    "txl_pbc_fields": "images/*.jpg",
    "pig_wbc_fields": "images/*.jpg",
    "pbc_dib_cells": "images/*/*.jpg",
    "mll_bone_marrow_cells": "images/*/*.jpg",  # the folder `corrupt` holds the damaged ones
    "lmu_aml_cells": "*/*/*.png",
    "wbc_masks_tecom": "images/*.bmp",
}
FIELD_SETS = tuple(name for name in PATTERNS if name.endswith("_fields"))


def smear_files(data: Path, name: str) -> list[Path]:
    """All images of one set, in order of their names."""
    return sorted((data / name).glob(PATTERNS[name]))


def is_for_tuning(path: Path) -> bool:
    """Half of the images, by the parity of the SHA-256 of the file."""
    return hashlib.sha256(path.read_bytes()).digest()[0] % 2 == 0


def variants(data: Path, seed: int, count: int) -> Iterator[tuple[str, Image]]:
    """`count` smears made from images for tuning: parts, other cameras, lower magnification, crowded marrow."""
    rng = np.random.default_rng(seed)
    names = list(PATTERNS)
    files = {name: smear_files(data, name) for name in PATTERNS}
    for index in range(count):
        name = names[index % len(names)]
        image = read(_for_tuning(files[name], rng))
        ways = FIELD_WAYS if name in FIELD_SETS else CELL_WAYS
        image = ways[index // len(names) % len(ways)](image, rng, files[name])
        image = another_camera(image, rng, strength=0.12) if rng.random() < 0.6 else image
        yield name, through_jpeg(image, int(rng.integers(60, 96))) if rng.random() < 0.4 else image


def _for_tuning(files: list[Path], rng: Random) -> Path:
    while not is_for_tuning(path := files[rng.integers(len(files))]):
        pass
    return path


def _whole(image: Image, rng: Random, _: list[Path]) -> Image:
    factor = rng.uniform(0.5, 1.6)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=method)


def _part(image: Image, rng: Random, _: list[Path]) -> Image:
    """The middle, and as much around it as chance gives, in the shape of a screen now and then."""
    height, width = image.shape[:2]
    w = width * rng.uniform(0.7, 1.0)
    h = min(height, w * 9 / 16) if rng.random() < 0.4 else height * rng.uniform(0.7, 1.0)
    top, left = int((height - h) / 2), int((width - w) / 2)
    return image[top : top + int(h), left : left + int(w)]


def _lower(image: Image, rng: Random, _: list[Path]) -> Image:
    """As at a lower magnification: the image smaller, and mirrored around itself."""
    height, width = image.shape[:2]
    if min(height, width) > 400:  # a field: without its vignette
        image = image[height // 5 : -height // 5, width // 5 : -width // 5]
    factor, repeats = rng.uniform(0.3, 0.8), int(rng.integers(2, 4))
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    row = np.hstack([small[:, :: -1 if column % 2 else 1] for column in range(repeats)])
    return np.vstack([row[:: -1 if line % 2 else 1] for line in range(repeats)])


def _crowd(image: Image, rng: Random, files: list[Path]) -> Image:
    """A crowded field of 2 × 2 to 4 × 4 cells of one set, their light backgrounds brought together."""
    side, across = int(rng.integers(90, 260)), int(rng.integers(2, 5))
    white = np.percentile(image.reshape(-1, 3), 95, axis=0)
    tiles = []
    for _ in range(across * across):
        tile = cv2.resize(read(_for_tuning(files, rng)), (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        tiles.append(tile * (white / np.maximum(np.percentile(tile.reshape(-1, 3), 95, axis=0), 1)))
    rows = [np.hstack(tiles[start : start + across]) for start in range(0, across * across, across)]
    return np.clip(np.vstack(rows), 0, 255).astype(np.uint8)


def _lonely(image: Image, rng: Random, _: list[Path]) -> Image:
    """The cell in the middle by itself on empty ground, one to two and a half times as wide."""
    height, width = image.shape[:2]
    shape = [int(side * rng.uniform(1.0, 2.5)) for side in (height, width)]
    ground = np.percentile(image.reshape(-1, 3), 80, axis=0) + rng.normal(0, 1.5, (*shape, 1))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    weight = np.clip((0.9 - np.hypot(x, y)) / 0.2, 0, 1)[..., None]
    top, left = (int(rng.integers(0, room - side + 1)) for room, side in zip(shape, (height, width), strict=True))
    place = np.s_[top : top + height, left : left + width]
    ground[place] = weight * image + (1 - weight) * ground[place]
    return np.clip(ground, 0, 255).astype(np.uint8)


FIELD_WAYS = (_whole, _part, _lower, _lower)
CELL_WAYS = (_whole, _part, _lower, _crowd, _lonely)


def rendered(seed: int, count: int) -> Iterator[tuple[str, Image]]:
    """Fields of the phantom at several scales, and single cells of 20 to 35 µm with a white cell in the middle."""
    from myelos.phantom.fields import FieldSettings, render_field

    rng = np.random.default_rng(seed)
    for index in range(count):
        specimen = ("marrow", "blood")[index % 2]
        mpp, width, height = (
            (0.25, 640, 640), (0.17, 640, 480), (0.1, 360, 360), (0.25, 960, 540), (0.5, 512, 512), (0.1, 800, 600),
            (0.08, 250, 250),
        )[index // 2 % 7]  # fmt: skip
        settings = FieldSettings(width=width, height=height, mpp=mpp, specimen=specimen, pool_per_type=6)
        centre = CENTRES[index % len(CENTRES)] if width < 500 else None
        yield specimen, render_field(settings, rng, centre=centre).rgb


CENTRES = ("segmented_neutrophil", "lymphocyte", "blast", "eosinophil", "monocyte", "promyelocyte", "plasma_cell")
