"""Images that show no smear, by kind, made from what is installed and from the two tissue sources of the real data.

Every kind is a function of a random generator and yields (group, image): a group is one photograph, one tissue source
or one way of drawing, so that a cross-validation can leave whole groups out. `HELD_OUT` kinds take part in no tuning;
of the kinds in `FOR_FIT` other images are tuned on than are quoted, made in another way and from other sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.drawn_images import (
    SIZES,
    Image,
    Random,
    charts,
    discs,
    empty,
    gradients,
    noise,
    patterns,
    text,
    through_jpeg,
)
from benchmarks.invented_reliefs import invented_reliefs
from benchmarks.measured_images import relief_maps, scans

PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "hubble_deep_field.jpg", "moon.png", "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip
OTHER_MICROSCOPY = ("ihc.png", "retina.jpg", "cell.png", "microaneurysms.png")


def read(path: Path) -> Image:
    """RGB image of a file."""
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def some_crop(image: Image, rng: Random, *, least: float = 0.25) -> Image:
    """A crop of random place, size and scale; now and then turned, brightened or saved as a JPEG."""
    height, width = image.shape[:2]
    share = rng.uniform(least, 1.0)
    h, w = max(24, int(height * share)), max(24, int(width * share * rng.uniform(0.7, 1.0)))
    y, x = rng.integers(0, height - h + 1) if h < height else 0, rng.integers(0, width - w + 1) if w < width else 0
    crop = image[y : y + h, x : x + w]
    goal = rng.uniform(150, 1100) / np.sqrt(crop.shape[0] * crop.shape[1])
    factor = float(np.clip(goal, 0.2, 3.0))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(crop, (max(32, int(w * factor)), max(32, int(h * factor))), interpolation=method)


def another_camera(image: Image, rng: Random, *, strength: float = 0.15) -> Image:
    """Other gains, gamma and saturation, as another camera and white point would give them."""
    gain, gamma = rng.uniform(1 - strength, 1 + strength, 3), rng.uniform(1 - strength, 1 + strength)
    values = (image.astype(np.float32) / 255) ** gamma * gain
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * rng.uniform(1 - 2 * strength, 1 + 2 * strength)
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def tissue(images: dict[str, Image], rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Tiles of stained sections at several sizes, places and scales, some as another stainer or scanner gives them."""
    names = sorted(images)
    for index in range(count):
        name = names[index % len(names)]
        image = images[name]
        w, h = SIZES[rng.integers(len(SIZES))]
        scale = float(np.exp(rng.uniform(np.log(0.3), np.log(4.0))))
        cut_h, cut_w = (int(np.clip(side / scale, 48, limit)) for side, limit in zip((h, w), image.shape, strict=False))
        y, x = rng.integers(0, image.shape[0] - cut_h + 1), rng.integers(0, image.shape[1] - cut_w + 1)
        tile = image[y : y + cut_h, x : x + cut_w]
        tile = cv2.resize(
            tile,
            (int(cut_w * scale), int(cut_h * scale)),
            interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
        )
        kind = index // len(names) % 3
        if kind == 1:
            tile = another_camera(tile, rng)
        elif kind == 2:
            tile = through_jpeg(tile, int(rng.integers(60, 95)))
        yield name, tile


def slide_pixels(path: Path) -> Image:
    """All pixels of a small slide at full resolution."""
    import openslide

    slide = openslide.OpenSlide(str(path))
    return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


def photographs(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Photographs that come with installed packages: whole, in parts, smaller, larger, in other colours."""
    files = _photograph_files()
    for index in range(count):
        path = files[index % len(files)]
        image = read(path)
        if index >= len(files):
            image = some_crop(image, rng, least=0.15)
            image = another_camera(image, rng, strength=0.3) if rng.random() < 0.5 else image
            image = np.ascontiguousarray(image[..., rng.permutation(3)]) if rng.random() < 0.25 else image
        yield path.stem, image


def _photograph_files() -> list[Path]:
    import matplotlib
    import skimage
    import sklearn

    folder = Path(skimage.__file__).parent / "data"
    others = [Path(sklearn.__file__).parent / "datasets" / "images" / name for name in ("china.jpg", "flower.jpg")]
    others.append(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    return [path for path in [folder / name for name in PHOTOGRAPHS] + others if path.is_file()]


def other_microscopy(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Held out: fundus photographs, phase contrast and immunohistochemistry that come with scikit-image."""
    import skimage

    files = [path for name in OTHER_MICROSCOPY if (path := Path(skimage.__file__).parent / "data" / name).is_file()]
    for index in range(count):
        path = files[index % len(files)]
        yield path.stem, read(path) if index < len(files) else some_crop(read(path), rng, least=0.3)


DRAWN: dict[str, Callable[[Random, int], Iterator[tuple[str, Image]]]] = {
    "photographs": photographs,
    "text and windows": text,
    "noise": noise,
    "gradients": gradients,
    "empty": empty,
    "patterns": patterns,
    "discs": discs,
    "other microscopy": other_microscopy,
    "charts": charts,
    "relief maps": relief_maps,
    "scans": scans,
}
FOR_FIT = {"relief maps": invented_reliefs}
HELD_OUT = frozenset({"other microscopy", "charts", "scans"})


def non_smears(data: Path, kind: str, seed: int, count: int, *, fit: bool = False) -> Iterator[tuple[str, Image]]:
    """`count` images (h, w, 3) of one kind of `KINDS` with their groups; same seed, same images.

    fit: images to tune on; only kinds in `FOR_FIT` show then something else than with another seed.
    """
    rng = np.random.default_rng(seed)
    if kind == "tissue: CMU-1":
        yield from tissue({"CMU-1": slide_pixels(data / "wsi_samples" / "CMU-1-Small-Region.svs")}, rng, count)
    elif kind == "tissue: trephine":
        files = sorted((data / "bm_graz_he" / "images").glob("*.png"))
        yield from tissue({path.stem: read(path) for path in files}, rng, count)
    else:
        yield from (FOR_FIT.get(kind, DRAWN[kind]) if fit else DRAWN[kind])(rng, count)


KINDS = ("tissue: CMU-1", "tissue: trephine", *DRAWN)
