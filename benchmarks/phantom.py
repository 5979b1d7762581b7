"""How fast a whole glass is painted and written, and in what memory: beside plain encoding of the same tiles.

    python -m benchmarks.phantom                          40960 × 30720 px
    python -m benchmarks.phantom --size 218944x103704     the slide of Kockwelp 2022; some minutes, and 8 GB of disk
    python -m benchmarks.phantom --keep SLIDE.tif         leaves the slide and its truth there

Memory is that of this process and all its workers together, sampled five times a second (proportional set size, so that
shared pages count once). For the encoding, tiles of the slide just written are decoded again and encoded as they were,
by one thread; times the number of workers, that is the most that painting could reach if it cost nothing. On a machine
that does other things, too, processor time says more than the rate.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.table import Row, parser, show
from myelos.phantom.glass.layout import GlassSettings
from myelos.phantom.glass.writing import usable_cores, write_glass

SIZE, QUICK_SIZE = "40960x30720", "4096x3072"
SAMPLE = 400  # tiles


class Memory(threading.Thread):
    """Most memory of this process and its children, in MB, while the context lasts; nan where /proc is missing."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self._stop_now = float("nan"), threading.Event()

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_now.set()
        self.join()

    def run(self) -> None:
        while not self._stop_now.wait(0.2):
            self.most = float(np.fmax(self.most, together()))


def together() -> float:
    """MB of this process and all below it."""
    parents, total = {}, float("nan")
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    mine = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in mine} - mine:
        mine |= more
    for process in mine:
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        kilobytes = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        total = float(np.nansum([total, kilobytes / 1e3]))
    return total


def processor() -> float:
    """Seconds that this process and the workers that have ended kept cores busy."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def rows(size: str, threads: int, path: Path) -> list[Row]:
    width, height = (int(word) for word in size.split("x"))
    settings = GlassSettings(width, height, pool_per_type=40 if width * height > 1e8 else 2)
    with Memory() as memory:
        begun, busy = time.perf_counter(), processor()
        write_glass(path, settings, threads=threads, overwrite=True)
        seconds, busy = time.perf_counter() - begun, processor() - busy
    rate = width * height / 1e6 / seconds
    encoding, bits = plain_encoding(path)
    what = f"phantom: a glass of {width} × {height} px"
    return [
        Row(f"{what}, painted and written", rate, "Mpx/s", f"{seconds:.0f} s, {threads} workers"),
        Row(f"{what}, processor time", busy, "s", f"{width * height / 1e6 / busy:.0f} Mpx a second of one core"),
        Row(f"{what}, memory", memory.most, "MB", "most at a time, all processes together"),
        Row(f"{what}, size", path.stat().st_size / 1e9, "GB", f"{bits:.2f} bits a pixel in tiles of the smear"),
        Row(
            "phantom: encoding the same tiles alone",
            encoding,
            "Mpx/s",
            f"one thread; writing reaches {rate / encoding / threads:.2f} of {threads} such threads",
        ),
    ]


def plain_encoding(path: Path) -> tuple[float, float]:
    """Mpx/s of encoding tiles of the smear with one thread, and their bits per pixel."""
    import imagecodecs
    import tifffile

    with tifffile.TiffFile(path) as file, path.open("rb") as raw:
        page = file.pages[0]
        counts = np.array(page.databytecounts)
        smear = np.flatnonzero(counts > 0.5 * np.percentile(counts, 95))
        chosen = smear[:: max(1, len(smear) // SAMPLE)]
        tiles = []
        for number in chosen:
            raw.seek(page.dataoffsets[number])
            tiles.append(imagecodecs.jpeg8_decode(raw.read(counts[number])))
    pixels = tiles[0].shape[0] * tiles[0].shape[1]
    begun = time.perf_counter()
    for tile in tiles:
        imagecodecs.jpeg8_encode(tile, level=94, subsampling="420")
    seconds = time.perf_counter() - begun
    return len(tiles) * pixels / 1e6 / seconds, float(counts[chosen].mean() * 8 / pixels)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--size", help=f"px of level 0; {SIZE} without it")
    made.add_argument("--threads", type=int, default=usable_cores())
    made.add_argument("--keep", type=Path, help="where to leave the slide")
    options = made.parse_args()
    size = options.size or (QUICK_SIZE if options.quick else SIZE)
    with TemporaryDirectory(prefix="myelos-bench-") as folder:
        path = options.keep or Path(folder) / "glass.tif"
        show(lambda: rows(size, options.threads, path), markdown=options.markdown)


if __name__ == "__main__":
    main()
