"""Tiles → boxes: reading ahead in threads, asking the detector in batches, bad tiles set aside with their reason."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from myelos.detection.found import Found
from myelos.detection.stitching import StitchSettings, stitch
from myelos.detection.suppression import SuppressionSettings, suppress
from myelos.detection.tiling import Tile, owners
from myelos.errors import MyelosError, UsageError
from myelos.models.types import Boxes, Detector

Image = NDArray[np.uint8]  # (height, width, 3) RGB
Item = TypeVar("Item")
Result = TypeVar("Result")
STITCHES = ("overlap", "wang")
ROUND = 8  # tiles between two looks at whether enough was found; fixed, so that no batch or thread changes a result


@dataclass(frozen=True)
class DetectionSettings:
    """How tiles become cells. stitch: `overlap` (tiles overlap, doubles are suppressed) or `wang` (they touch, parts
    are united). threshold: lowest score, None for the model's own.
    """

    stitch: str = "overlap"
    overlap_um: float = 30.0
    threshold: float | None = None
    suppression: SuppressionSettings = field(default_factory=SuppressionSettings)
    stitching: StitchSettings = field(default_factory=StitchSettings)

    def __post_init__(self) -> None:
        if self.stitch not in STITCHES:
            raise UsageError(f"unknown stitching {self.stitch!r}", remedy=f"Pass one of {', '.join(STITCHES)}")

    @property
    def overlap(self) -> float:
        """µm that neighbouring tiles share."""
        return self.overlap_um if self.stitch == "overlap" else 0.0


@dataclass(frozen=True)
class Detected:
    """Cells of one image, the tiles that were read, and those that were not, with the reason."""

    cells: Found
    read: tuple[Tile, ...]
    failed: tuple[tuple[Tile, str], ...] = ()

    @property
    def area(self) -> float:
        """Level-0 pixels that were read, each once."""
        return sum(tile.core.area for tile in self.read)


def detect(
    read: Callable[[Tile], Image],
    tiles: Sequence[Tile],
    detector: Detector,
    *,
    settings: DetectionSettings | None = None,
    threads: int = 1,
    enough: Callable[[int], bool] | None = None,
) -> Detected:
    """Read tiles in the order given and find their cells.

    read: RGB of a tile, prepared for the detector; a MyelosError or OSError from it sets the tile aside. enough: asked
    after every `ROUND` tiles with the number of boxes so far (each cell once, near enough); True ends the reading.
    """
    settings = settings or DetectionSettings()
    answers: list[tuple[Tile, Boxes]] = []
    failed: list[tuple[Tile, str]] = []
    number, threshold = 0, _threshold(detector, settings)
    pixels = ahead(lambda tile: _tried(read, tile), tiles, threads=threads, depth=2 * ROUND)
    for group in batches(zip(tiles, pixels, strict=True), ROUND):
        failed += [(tile, image) for tile, image in group if isinstance(image, str)]
        good = [(tile, image) for tile, image in group if not isinstance(image, str)]
        boxes = ask(detector, [image for _, image in good])
        new = list(zip((tile for tile, _ in good), boxes, strict=True))
        answers += new
        number += sum(_owned(tile, found, threshold) for tile, found in new)
        if enough is not None and enough(number):
            break
    pixels.close()
    return Detected(resolve(answers, tiles, detector, settings), tuple(tile for tile, _ in answers), tuple(failed))


def worker_threads(threads: int | None) -> int:
    """Threads that read ahead: as asked for, else one per core, at most 8. Raises UsageError below 1."""
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads} is no number of threads", remedy="Pass 1 or more")
    return threads or min(8, os.cpu_count() or 1)


def ask(detector: Detector, images: Sequence[Image]) -> list[Boxes]:
    """Boxes of every image, asked in the detector's batches."""
    return [boxes for batch in batches(images, max(1, detector.batch)) for boxes in detector(list(batch))]


def resolve(
    answers: Sequence[tuple[Tile, Boxes]],
    plan: Iterable[Tile],
    detector: Detector,
    settings: DetectionSettings | None = None,
) -> Found:
    """Boxes of all tiles that were read → cells, each once and with the tile in whose core its centre lies.

    Cells whose centre belongs to a tile that was not read are left out: tiles then are a fair sample of the area.
    """
    settings = settings or DetectionSettings()
    tiles = {tile.index: tile for tile in plan}
    threshold, types = _threshold(detector, settings), len(detector.types)
    if settings.stitch == "wang":  # parts are weaker than wholes: the working threshold is for what they make together
        factor = next(iter(tiles.values())).downsample if tiles else 1.0
        parts = Found.gather(answers, types, threshold=min(threshold, settings.stitching.threshold))
        cells = stitch(parts, tiles, mpp=detector.mpp / factor, settings=settings.stitching)
        cells = cells.take(cells.scores >= threshold)
    else:
        cells = suppress(Found.gather(answers, types, threshold=threshold), tiles, settings.suppression)
    owner = owners([tile for tile, _ in answers], cells.xywh)
    return Found(cells.xywh, cells.scores, cells.probabilities, owner).take(owner >= 0)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items in order, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, depth: int
) -> Generator[Result, None, None]:
    """function(item) of every item in order, up to `depth` of them begun before they are asked for."""
    if threads <= 1:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _tried(read: Callable[[Tile], Image], tile: Tile) -> Image | str:
    try:
        return read(tile)
    except (MyelosError, OSError) as error:
        return str(error)


def _threshold(detector: Detector, settings: DetectionSettings) -> float:
    return detector.threshold if settings.threshold is None else settings.threshold


def _owned(tile: Tile, boxes: Boxes, threshold: float) -> int:
    """Number of boxes at the threshold whose centre lies in the tile's core."""
    found = Found.gather([(tile, boxes)], boxes.probabilities.shape[1], threshold=threshold)
    return int((owners([tile], found.xywh) >= 0).sum())
