"""Images that a program draws: text, noise, gradients, even grounds, patterns, discs, charts."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Random = np.random.Generator
SIZES = ((250, 250), (360, 363), (416, 416), (640, 480), (512, 512), (1024, 1024), (1440, 900), (1280, 720), (120, 120))
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


def through_jpeg(image: Image, quality: int) -> Image:
    """The image after saving and reading as a JPEG."""
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].copy()


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
            field = np.stack([fractal(h, w, rng.uniform(0.5, 2.0), rng) for _ in range(planes)], axis=2)
        else:
            coarse = 1 if way != "coarse" else int(rng.integers(2, 24))
            field = rng.normal(size=(h // coarse + 2, w // coarse + 2, planes))
            field = np.where(np.abs(field) > 2, field, 0) if way == "salt" else field
            field = cv2.resize(field, (w, h), interpolation=cv2.INTER_CUBIC).reshape(h, w, planes)
        image = rng.integers(40, 250, 3) + field * rng.uniform(8, 70, 3)
        yield way, np.clip(image, 0, 255).astype(np.uint8)


def fractal(h: int, w: int, slope: float, rng: Random) -> NDArray[np.float64]:
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
