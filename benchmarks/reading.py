"""How fast pixels come: the direct TIFF reader beside OpenSlide, on the same file in the same run, one thread.

    python -m benchmarks.reading                     a synthetic slide
    python -m benchmarks.reading --slide SLIDE.svs   any slide that both can read

OpenSlide is called by itself (`read_region`, pixels as an array of RGBA) and as Myelos calls it (laid over white, RGB).
Both have a cache of tiles; every region is read once a round, and the files are opened anew for each round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.slides import painted
from benchmarks.table import Row, in_turns, parser, ratio, show
from myelos.geometry import Box

Read = Callable[[Box], object]
DIRECT = "direct TIFF reader"
OTHERS = ("OpenSlide by itself", "OpenSlide as Myelos calls it")
ALIGNED = "regions of 1024 px on the grid of tiles"
AS_DETECTED = "tiles of 640 px, 30 µm shared, as detection reads them"


def rows(slide: Path, *, repeats: int = 5, megapixels: float = 50) -> list[Row]:
    """Mpx/s of each reader for two patterns of regions, and the ratio to the direct one within each round."""
    found = []
    for pattern, boxes in regions(slide, megapixels).items():
        jobs = {name: lambda name=name, boxes=boxes: rate(slide, name, boxes) for name in (DIRECT, *OTHERS)}
        rates = {name: values[1:] for name, values in in_turns(jobs, repeats + 1).items()}
        for name, values in rates.items():
            beside = f"direct is {ratio(rates[DIRECT], values):.1f} × as fast" if name != DIRECT else ""
            found.append(Row(f"reading: {name}, {pattern}", statistics.median(values), "Mpx/s", beside))
    return found


def regions(slide: Path, megapixels: float) -> dict[str, list[Box]]:
    """Level-0 regions of each pattern, row by row, together at most about so many pixels."""
    from myelos.detection.tiling import plan
    from myelos.slides import open_slide

    with open_slide(slide) as image:
        bounds, mpp = image.bounds, image.mpp or 0.25
    grid = [
        Box(x, y, min(1024, bounds.width - x), min(1024, bounds.height - y))
        for y in range(0, int(bounds.height), 1024)
        for x in range(0, int(bounds.width), 1024)
    ]
    tiles = [tile.box for tile in plan(bounds, mpp_slide=mpp, detector_mpp=mpp)]
    return {ALIGNED: _first(grid, megapixels), AS_DETECTED: _first(tiles, megapixels)}


def _first(boxes: Sequence[Box], megapixels: float) -> list[Box]:
    """The first boxes, up to so many pixels, one at least."""
    kept, pixels = [], 0.0
    for box in boxes:
        pixels += box.area
        if kept and pixels > 1e6 * megapixels:
            break
        kept.append(box)
    return kept


def rate(slide: Path, reader: str, boxes: Sequence[Box]) -> float:
    """Mpx/s of one reader over all boxes, without the opening of the file."""
    read, close = opened(slide, reader)
    begun = time.perf_counter()
    for box in boxes:
        read(box)
    seconds = time.perf_counter() - begun
    close()
    return sum(box.area for box in boxes) / seconds / 1e6


def opened(slide: Path, reader: str) -> tuple[Read, Callable[[], None]]:
    """A function that reads a level-0 box, and one that closes the file."""
    if reader == OTHERS[0]:
        import numpy as np
        import openslide

        handle = openslide.OpenSlide(str(slide))
        return lambda box: np.asarray(handle.read_region((int(box.x), int(box.y)), 0, _size(box))), handle.close
    from myelos.slides import open_slide

    image = open_slide(slide, reader="tiff" if reader == DIRECT else "openslide")
    return lambda box: image.read_level(0, int(box.x), int(box.y), *_size(box)), image.close


def _size(box: Box) -> tuple[int, int]:
    return int(box.width), int(box.height)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--slide", type=Path, help="a tiled TIFF; without it one is painted")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--megapixels", type=float, default=50, help="read in each round")
    options = made.parse_args()
    repeats, megapixels = (1, 4) if options.quick else (options.repeats, options.megapixels)
    with painted(quick=options.quick, given=options.slide) as slide:
        show(lambda: rows(slide, repeats=repeats, megapixels=megapixels), markdown=options.markdown)


if __name__ == "__main__":
    main()
