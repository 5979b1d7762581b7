"""Images that show no smear, by kind, made from what is installed and from the two tissue sources of the real data.

Every kind is a function of a random generator and yields (group, image): a group is one photograph, one tissue source
or one way of drawing, so that a cross-validation can leave whole groups out. `HELD_OUT` kinds take part in no tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Random = np.random.Generator
SIZES = ((250, 250), (360, 363), (416, 416), (640, 480), (512, 512), (1024, 1024), (1440, 900), (1280, 720), (120, 120))
PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "hubble_deep_field.jpg", "moon.png", "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip
OTHER_MICROSCOPY = ("ihc.png", "retina.jpg", "cell.png", "microaneurysms.png")
WORDS = [
    "the",
    "cells",
    "of",
    "a",
    "marrow",
    "are",
    "counted",
    "by",
    "kind",
    "and",
    "report",
    "says",
    "how",
    "sure",
    "12",
    "%",
]


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


def through_jpeg(image: Image, quality: int) -> Image:
    """The image after saving and reading as a JPEG."""
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].copy()


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


def text(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Pages and windows: lines of words, boxes, buttons, on paper of several colours."""
    for index in range(count):
        w, h = SIZES[rng.integers(len(SIZES) - 1)]
        window = index % 2 == 1
        paper, ink = rng.integers(200, 256, 3), rng.integers(0, 110, 3)
        if rng.random() < 0.15:
            paper, ink = ink, paper
        image = np.full((h, w, 3), paper, np.uint8)
        if window:
            _draw_window(image, rng)
        _write_lines(image, rng, tuple(int(value) for value in ink))
        yield "window" if window else "page", through_jpeg(image, 85) if rng.random() < 0.5 else image


def _draw_window(image: Image, rng: Random) -> None:
    h, w = image.shape[:2]
    cv2.rectangle(image, (0, 0), (w, h // 14), rng.integers(30, 230, 3).tolist(), -1)
    for _ in range(rng.integers(3, 12)):
        x, y = int(rng.integers(0, w)), int(rng.integers(h // 14, h))
        corner = (x + int(rng.integers(20, w // 2)), y + int(rng.integers(10, h // 3)))
        cv2.rectangle(image, (x, y), corner, rng.integers(60, 256, 3).tolist(), int(rng.choice([-1, 1, 2])))


def _write_lines(image: Image, rng: Random, ink: tuple[int, ...]) -> None:
    h, w = image.shape[:2]
    size = rng.uniform(0.3, 1.4)
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX]))
    pitch = int(size * rng.uniform(26, 45))
    for y in range(pitch, int(h * rng.uniform(0.5, 1.0)), pitch):
        line = " ".join(rng.choice(WORDS, 30))
        cv2.putText(
            image, line[: max(3, int(w / (size * 17) * rng.uniform(0.4, 1)))], (10, y), font, size, ink, 1, cv2.LINE_AA
        )


def noise(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """White, coarse and 1/f noise, grey and in colours, dense and sparse, some in the colours of stains."""
    for index in range(count):
        w, h = SIZES[rng.integers(len(SIZES))]
        way = ("white", "coarse", "fractal", "salt")[index % 4]
        planes = 1 if rng.random() < 0.3 else 3
        if way == "fractal":
            field = np.stack([_fractal(h, w, rng.uniform(0.5, 2.0), rng) for _ in range(planes)], axis=2)
        else:
            coarse = 1 if way != "coarse" else int(rng.integers(2, 24))
            field = rng.normal(size=(h // coarse + 2, w // coarse + 2, planes))
            field = np.where(np.abs(field) > 2, field, 0) if way == "salt" else field
            field = cv2.resize(field, (w, h), interpolation=cv2.INTER_CUBIC).reshape(h, w, planes)
        image = rng.integers(40, 250, 3) + field * rng.uniform(8, 70, 3)
        yield way, np.clip(image, 0, 255).astype(np.uint8)


def _fractal(h: int, w: int, slope: float, rng: Random) -> NDArray[np.float64]:
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    frequency[0, 0] = 1.0
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(h, w))) / frequency**slope, (h, w))
    return (field - field.mean()) / field.std()


def gradients(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Linear, radial and many-coloured gradients, some with a little noise."""
    for index in range(count):
        w, h = SIZES[rng.integers(len(SIZES))]
        y, x = np.mgrid[0:h, 0:w] / max(h, w)
        way = ("linear", "radial", "wave")[index % 3]
        angle = rng.uniform(0, 2 * np.pi)
        ramp = np.cos(angle) * x + np.sin(angle) * y
        if way == "radial":
            ramp = np.hypot(x - rng.random(), y - rng.random())
        elif way == "wave":
            ramp = np.sin(ramp * rng.uniform(2, 9) + angle)
        ramp = (ramp - ramp.min()) / max(float(np.ptp(ramp)), 1e-6)
        image = ramp[..., None] * rng.uniform(0, 255, 3) + (1 - ramp[..., None]) * rng.uniform(0, 255, 3)
        image = image + rng.normal(0, rng.choice([0, 0, 2, 5]), image.shape)
        yield way, np.clip(image, 0, 255).astype(np.uint8)


def empty(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """One colour, white and black and those of stains among them, with the noise of a camera or without; no cells."""
    named = (
        (255, 255, 255),
        (0, 0, 0),
        (230, 200, 220),
        (120, 60, 150),
        (250, 235, 210),
        (128, 128, 128),
        (240, 240, 245),
    )
    for index in range(count):
        w, h = SIZES[rng.integers(len(SIZES))]
        colour = named[index % len(named)] if index % 3 else tuple(rng.integers(0, 256, 3))
        image = np.full((h, w, 3), colour, np.float32)
        if index % 4 >= 2:
            image += rng.normal(0, rng.uniform(0.5, 4), image.shape).astype(np.float32)
        if index % 8 >= 5:
            y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
            image *= (1 - rng.uniform(0.02, 0.3) * (x * x + y * y))[..., None].astype(np.float32)
        yield ("clean", "noisy")[index % 4 >= 2], np.clip(image, 0, 255).astype(np.uint8)


def patterns(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Checkerboards, stripes, dots on a grid, waves: what repeats itself."""
    for index in range(count):
        w, h = SIZES[rng.integers(len(SIZES))]
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        angle, pitch = rng.choice([0, rng.uniform(0, np.pi)]), rng.uniform(0.02, 0.25) * min(h, w)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        way = ("checker", "stripes", "dots", "waves")[index % 4]
        wave_u, wave_v = np.sin(2 * np.pi * u / pitch), np.sin(2 * np.pi * v / pitch)
        mask = {"checker": wave_u * wave_v > 0, "stripes": wave_u > 0, "dots": wave_u + wave_v > 1.0, "waves": wave_u}[
            way
        ]
        level = np.asarray(mask, np.float32)[..., None] * (0.5 if way == "waves" else 1) + (
            0.5 if way == "waves" else 0
        )
        image = (
            level * rng.uniform(0, 255, 3)
            + (1 - level) * rng.uniform(0, 255, 3)
            + rng.normal(0, rng.choice([0, 3]), (h, w, 3))
        )
        image = np.clip(image, 0, 255).astype(np.uint8)
        yield way, cv2.GaussianBlur(image, (0, 0), 1.5) if rng.random() < 0.3 else image


def discs(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Hard: discs, rings and ellipses in any colours, flat or shaded, on a light ground."""
    for index in range(count):
        w, h = SIZES[rng.integers(len(SIZES) - 1)]
        image = np.full(
            (h, w, 3), rng.integers(200, 256, 3) if rng.random() < 0.8 else rng.integers(0, 256, 3), np.uint8
        )
        palette = rng.integers(0, 256, (int(rng.integers(1, 12)), 3))
        largest = rng.uniform(0.03, 0.2) * min(h, w)
        for _ in range(int(rng.integers(4, 80))):
            centre = (int(rng.integers(0, w)), int(rng.integers(0, h)))
            axes = (rng.uniform(0.3, 1, 2) * largest + 2).astype(int).tolist() if index % 3 else [int(largest)] * 2
            colour = palette[rng.integers(len(palette))].tolist()
            cv2.ellipse(
                image, centre, axes, rng.uniform(0, 180), 0, 360, colour, -1 if rng.random() < 0.8 else 2, cv2.LINE_AA
            )
        if index % 4 == 3:
            image = through_jpeg(cv2.GaussianBlur(image, (0, 0), 1.2), 85)
        yield ("discs", "ellipses", "ellipses")[index % 3], image


def charts(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Held out: bar, line, scatter and pie charts and maps of numbers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for index in range(count):
        figure = Figure(figsize=(rng.uniform(4, 9), rng.uniform(3, 6)), dpi=int(rng.choice([72, 100, 140])))
        axes = figure.add_subplot()
        way = ("bars", "lines", "points", "pie", "map")[index % 5]
        values = rng.gamma(2, 2, 12)
        if way == "bars":
            axes.bar(range(12), values, color=f"C{rng.integers(10)}")
        elif way == "lines":
            axes.plot(rng.normal(size=(60, int(rng.integers(1, 6)))).cumsum(axis=0))
        elif way == "points":
            axes.scatter(
                *rng.normal(size=(2, 150)),
                c=rng.random(150),
                s=float(rng.uniform(10, 300)),
                alpha=0.7,
                cmap=str(rng.choice(["viridis", "plasma", "Purples"])),
            )
        elif way == "pie":
            axes.pie(values[:6], labels=[f"kind {number}" for number in range(6)])
        else:
            axes.imshow(rng.random((8, 8)), cmap=str(rng.choice(["viridis", "magma", "PuRd"])))
        axes.set_title("Share of cells by kind")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        yield way, np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


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
}
HELD_OUT = frozenset({"other microscopy", "charts"})


def non_smears(data: Path, kind: str, seed: int, count: int) -> Iterator[tuple[str, Image]]:
    """`count` images (h, w, 3) of one kind of `KINDS` with their groups; same seed, same images."""
    rng = np.random.default_rng(seed)
    if kind == "tissue: CMU-1":
        yield from tissue({"CMU-1": slide_pixels(data / "wsi_samples" / "CMU-1-Small-Region.svs")}, rng, count)
    elif kind == "tissue: trephine":
        files = sorted((data / "bm_graz_he" / "images").glob("*.png"))
        yield from tissue({path.stem: read(path) for path in files}, rng, count)
    else:
        yield from DRAWN[kind](rng, count)


KINDS = ("tissue: CMU-1", "tissue: trephine", *DRAWN)
