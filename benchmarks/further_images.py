"""More kinds that show no smear, for a look beyond the table: what a stranger might pass by mistake.

No choice was made on them. Everything is drawn or comes with an installed package, but for the tissue.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.drawn_images import SIZES, WORDS, Image, Random, fractal, through_jpeg
from benchmarks.measured_images import RAMPS, painted

Limits = tuple[tuple[int, int, int], tuple[int, int, int]]
STOCK = ("color.png", "horse.png", "logo.png", "motorcycle_right.png", "page.png", "phantom.png", "text.png")


def _size(rng: Random) -> tuple[int, int]:
    return SIZES[rng.integers(len(SIZES) - 1)]


def codes(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Matrix codes, printed and photographed: black, coloured, blurred, turned."""
    encoder = cv2.QRCodeEncoder_create()
    for _ in range(count):
        code = encoder.encode(" ".join(rng.choice(WORDS, int(rng.integers(2, 20)))))
        side = int(rng.integers(200, 900))
        level = cv2.resize(code, (side, side), interpolation=cv2.INTER_NEAREST)[..., None] / 255
        image = level * rng.integers(180, 256, 3) + (1 - level) * rng.integers(0, 120, 3)
        if rng.random() < 0.5:
            turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-30, 30), 0.9)
            image = cv2.warpAffine(image, turn, (side, side), borderValue=rng.integers(100, 256, 3).tolist())
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2)) + rng.normal(0, 3, image.shape)
        yield "code", np.clip(image, 0, 255).astype(np.uint8)


def documents(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Program text in colours, pages with tables and headings, as a screen shows them."""
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    for index in range(count):
        w, h = _size(rng)
        dark, size = rng.random() < 0.4, int(rng.integers(10, 28))
        paper = tuple(rng.integers(20, 60, 3).tolist() if dark else rng.integers(225, 256, 3).tolist())
        picture = Picture.new("RGB", (w, h), paper)
        draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
        for line in range(0, h, int(size * 1.4)):
            x = int(rng.integers(0, 6)) * size
            while index % 2 == 0 and x < w * 0.8 and rng.random() < 0.9:
                word, colour = str(rng.choice(WORDS)), rng.integers(140, 256, 3) if dark else rng.integers(0, 160, 3)
                draw.text((x, line), word, fill=tuple(colour.tolist()), font=font)
                x += int(draw.textlength(word + " ", font=font))
            if index % 2:
                draw.line((0, line, w, line), fill=(128, 128, 128))
                for column in range(5):
                    draw.text((column * w / 5 + 4, line), f"{rng.gamma(2, 50):.2f}", fill=(90, 90, 90), font=font)
        yield ("program", "table")[index % 2], np.asarray(picture)


def street_maps(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Roads, houses, parks and water in the pale colours of maps."""
    for _ in range(count):
        w, h = _size(rng)
        image = np.full((h, w, 3), rng.integers(225, 250, 3), np.uint8)
        for colour in ((170, 210, 223), (200, 230, 180), (240, 220, 200)):
            for _ in range(int(rng.integers(0, 4))):
                points = rng.integers(-50, max(w, h), 2) + rng.integers(0, 250, (int(rng.integers(4, 9)), 2))
                cv2.fillPoly(image, [cv2.convexHull(points.astype(np.int32))], colour, cv2.LINE_AA)
        for _ in range(int(rng.integers(20, 120))):
            place, size = rng.integers(0, (w, h)), rng.integers(5, 25, 2)
            cv2.rectangle(image, place.tolist(), (place + size).tolist(), (217, 208, 201), -1)
        for _ in range(int(rng.integers(8, 40))):
            line = np.cumsum(rng.normal(0, w / 8, (6, 2)), axis=0) + rng.integers(0, (w, h))
            wide = int(rng.integers(2, 9))
            cv2.polylines(image, [line.astype(np.int32)], False, (160, 160, 160), wide + 2, cv2.LINE_AA)
            fill = ((255, 255, 255), (250, 210, 140), (230, 150, 160))[int(rng.integers(3))]
            cv2.polylines(image, [line.astype(np.int32)], False, fill, wide, cv2.LINE_AA)
        yield "map", through_jpeg(image, 85) if rng.random() < 0.5 else image


def cartoons(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Even shapes with dark outlines: heads with eyes and mouths, balloons, suns, hills."""
    for _ in range(count):
        w, h = _size(rng)
        image = np.full((h, w, 3), rng.integers(120, 256, 3), np.uint8)
        cv2.ellipse(image, (w // 2, h), (w, h // 3), 0, 0, 360, rng.integers(0, 256, 3).tolist(), -1)
        for _ in range(int(rng.integers(1, 6))):
            x, y, size = int(rng.integers(0, w)), int(rng.integers(0, h)), int(rng.uniform(0.06, 0.25) * min(w, h))
            skin = rng.integers(60, 256, 3).tolist()
            cv2.ellipse(image, (x, y), (size, int(size * 1.2)), 0, 0, 360, skin, -1, cv2.LINE_AA)
            cv2.ellipse(image, (x, y), (size, int(size * 1.2)), 0, 0, 360, (20, 20, 20), 3, cv2.LINE_AA)
            for side in (-1, 1):
                cv2.circle(image, (x + side * size // 3, y - size // 4), size // 6, (255, 255, 255), -1, cv2.LINE_AA)
                cv2.circle(image, (x + side * size // 3, y - size // 4), size // 12, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.ellipse(image, (x, y + size // 3), (size // 2, size // 4), 0, 0, 180, (60, 0, 40), 3, cv2.LINE_AA)
        yield "cartoon", image


def fractal_sets(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Julia sets in the ramps of plots."""
    for _ in range(count):
        w, h = _size(rng)
        w, h = w // 2, h // 2
        y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j] * rng.uniform(0.1, 1.4)
        z, c = x + 1j * y, 0.7885 * np.exp(1j * rng.uniform(0, 2 * np.pi))
        steps = np.zeros((h, w), np.float32)
        for _ in range(60):
            inside = np.abs(z) < 4
            z = np.where(inside, z * z + c, z)
            steps += inside
        yield "julia", painted(np.log1p(steps), RAMPS[rng.integers(len(RAMPS))])


def stained_textures(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """The same textures in purple or blue on a pale ground: hard."""
    return textures(rng, count, ((30, 0, 60), (150, 110, 190)), ((200, 180, 200), (255, 245, 255)))


def textures(
    rng: Random, count: int, dark: Limits = ((0, 0, 0), (255, 255, 255)), light: Limits = ((0, 0, 0), (255, 255, 255))
) -> Iterator[tuple[str, Image]]:
    """Marble, wood, walls of polygons as in plants, and spots, between two colours."""
    for index in range(count):
        w, h = _size(rng)
        w, h = w // 2, h // 2
        y, x = np.mgrid[0:h, 0:w].astype(np.float32) / max(w, h)
        cloud = fractal(h, w, 1.6, rng)
        way = ("marble", "wood", "polygons", "spots")[index % 4]
        if way == "marble":
            plane = np.abs(np.sin(rng.uniform(5, 20) * (x + y) + rng.uniform(1, 3) * cloud))
        elif way == "wood":
            plane = np.sin(rng.uniform(20, 80) * np.hypot(x - rng.random(), (y - rng.random()) / 4) + 0.5 * cloud)
        elif way == "polygons":
            plane = _walls(h, w, int(rng.integers(20, 300)), rng)
        else:
            plane = _spots(h, w, rng)
        plane = ((plane - plane.min()) / max(float(np.ptp(plane)), 1e-6))[..., None]
        first, second = rng.uniform(*dark), rng.uniform(*light)
        first, second = (first, second) if rng.random() < 0.5 else (second, first)
        image = plane * first + (1 - plane) * second + rng.uniform(0, 12) * cloud[..., None]
        yield way, np.clip(image, 0, 255).astype(np.uint8)


def _walls(h: int, w: int, number: int, rng: Random) -> NDArray[np.float32]:
    """Distance between the two nearest of some points, cut off: a net of walls."""
    from scipy.spatial import cKDTree

    points = rng.uniform(0, (h, w), (number, 2))
    near = cKDTree(points).query(np.indices((h, w)).reshape(2, -1).T, k=2)[0]
    return np.minimum((near[:, 1] - near[:, 0]).reshape(h, w), rng.uniform(3, 15)).astype(np.float32)


def _spots(h: int, w: int, rng: Random) -> NDArray[np.float32]:
    """A band of frequencies of noise, pushed to its ends: the coat of a leopard or a maze."""
    noise, wide = rng.normal(size=(h, w)).astype(np.float32), rng.uniform(3, 14)
    band = cv2.GaussianBlur(noise, (0, 0), wide) - cv2.GaussianBlur(noise, (0, 0), 1.6 * wide)
    return np.tanh(rng.uniform(1, 6) * (band / band.std() - rng.uniform(-0.5, 1.5)))


def stock(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Parts of pictures of scikit-image that nothing else uses, and walls of small faces."""
    import skimage
    from non_smears import read, some_crop

    folder = Path(skimage.__file__).parent / "data"
    faces = np.load(folder / "lfw_subset.npy")
    for index in range(count):
        if index % (len(STOCK) + 1) == len(STOCK):
            rows = [np.hstack(faces[rng.integers(0, len(faces), 8)]) for _ in range(6)]
            grey = (255 * np.clip(np.vstack(rows), 0, 1)).astype(np.uint8)
            yield "faces", cv2.applyColorMap(cv2.resize(grey, None, fx=2, fy=2), int(rng.integers(22)))
        else:
            name = STOCK[index % (len(STOCK) + 1)]
            yield name, some_crop(read(folder / name), rng)


FURTHER = {
    "matrix codes": codes,
    "documents": documents,
    "street maps": street_maps,
    "cartoons": cartoons,
    "Julia sets": fractal_sets,
    "textures": textures,
    "textures, stain colours": stained_textures,
    "other stock pictures": stock,
}
