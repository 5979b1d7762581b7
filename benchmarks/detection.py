"""How fast cells are found: fields and tiles per second of the shipped models, and what preparing a field costs.

    python -m benchmarks.detection [--model NAME_OR_FILE]

Fields are rendered, 1280 × 960 px at 0.125 µm/px, near what a camera on an oil objective gives; at the scale of a
model with 0.25 µm/px each is one tile of 640 × 480. A field is everything between its pixels and its cells: common
scale, even light, tiles, network, suppression. Reading files, crops and the report belong to `benchmarks.counting`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchmarks.table import Row, in_turns, parser, show

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from myelos.models.types import Detector

    Image = NDArray[np.uint8]

WIDTH, HEIGHT, MPP = 1280, 960, 0.125  # of a field, px and µm/px


def rows(*, model: str | None = None, fields: int = 12, repeats: int = 5) -> list[Row]:
    """Preparation of a field in ms; fields and tiles per second of `model`, or of every shipped one."""
    from myelos.models import available

    images = [rendered(seed, WIDTH, HEIGHT, MPP) for seed in range(min(fields, 4))]
    found = preparation(images[0], repeats=3 * repeats)
    names = [model] if model else [card.name for card in available() if card.kind == "detector"]
    for name in names:
        found += of_model(name, [images[i % len(images)] for i in range(fields)], repeats)
    return found or [Row("detection", None, "fields/s", "no model is shipped: pass --model")]


def rendered(seed: int, width: int, height: int, mpp: float) -> Image:
    import numpy as np

    from myelos.phantom.fields import FieldSettings, render_field

    settings = FieldSettings(width=width, height=height, mpp=mpp, specimen="blood", pool_per_type=3)
    return render_field(settings, np.random.default_rng(seed)).rgb


def preparation(image: Image, *, repeats: int) -> list[Row]:
    """Milliseconds to even out the light of a field as it is and at the scale of a detector; one thread or more."""
    from myelos.detection.prepare import prepare
    from myelos.imaging.appearance import normalise

    small = prepare(image, factor=0.5)
    jobs = {
        f"normalising a field of {WIDTH} × {HEIGHT} px": lambda: seconds(lambda: normalise(image)),
        f"the same at half scale, {small.shape[1]} × {small.shape[0]} px": lambda: seconds(lambda: normalise(small)),
        "half scale and normalising, as counting does": lambda: seconds(lambda: prepare(image, factor=0.5)),
    }
    timed = in_turns(jobs, repeats + 1)
    return [Row(name, 1e3 * statistics.median(values[1:]), "ms") for name, values in timed.items()]


def of_model(name: str, images: Sequence[Image], repeats: int) -> list[Row]:
    """Fields and tiles per second, in turns; the first round, in which OpenVINO settles, is left out."""
    from myelos.detection.run import ask
    from myelos.models import load

    detector = load(name)
    tiles = [rendered(seed, detector.tile, detector.tile, detector.mpp) for seed in range(min(4, len(images)))]
    many = [tiles[i % len(tiles)] for i in range(len(images))]
    jobs: dict[str, Callable[[], float]] = {
        "fields": lambda: seconds(lambda: read_fields(detector, images)),
        "tiles": lambda: seconds(lambda: ask(detector, many)),
    }
    timed = in_turns(jobs, repeats + 1)
    rate = {kind: len(images) / statistics.median(values[1:]) for kind, values in timed.items()}
    return [
        Row(f"detection: {detector.name}, fields of {WIDTH} × {HEIGHT} px", rate["fields"], "fields/s"),
        Row(f"detection: {detector.name}, tiles of {detector.tile} px", rate["tiles"], "tiles/s", "the network alone"),
    ]


def read_fields(detector: Detector, images: Sequence[Image]) -> int:
    """All cells of the fields, asked four fields at a time, as the main path does; returns their number."""
    from myelos.detection.prepare import prepare
    from myelos.detection.run import ask, batches, resolve
    from myelos.detection.tiling import plan
    from myelos.geometry import Box

    cells = 0
    for group in batches(images, 4):
        ready = [prepare(image, factor=MPP / detector.mpp) for image in group]
        plans = [
            plan(Box(0, 0, WIDTH, HEIGHT), mpp_slide=MPP, detector_mpp=detector.mpp, tile=detector.tile) for _ in group
        ]
        answers = iter(ask(detector, [t.cut(image) for image, ts in zip(ready, plans, strict=True) for t in ts]))
        cells += sum(len(resolve([(tile, next(answers)) for tile in ts], ts, detector).scores) for ts in plans)
    return cells


def seconds(job: Callable[[], object]) -> float:
    begun = time.perf_counter()
    job()
    return time.perf_counter() - begun


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", help="a shipped model's name or a file; without it every shipped model")
    made.add_argument("--fields", type=int, default=12, help="in each round")
    made.add_argument("--repeats", type=int, default=5)
    options = made.parse_args()
    fields, repeats = (2, 1) if options.quick else (options.fields, options.repeats)
    show(lambda: rows(model=options.model, fields=fields, repeats=repeats), markdown=options.markdown)


if __name__ == "__main__":
    main()
