"""All figures of speed and memory in one table; `make bench` prints it.

python -m benchmarks                 minutes; wants a machine that does nothing else
python -m benchmarks --quick         seconds: shows that it runs, not how fast
python -m benchmarks --markdown      the same as a table for docs/benchmarks.md
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import counting, detection, reading, startup
from benchmarks.slides import painted
from benchmarks.table import Row, parser, show


def rows(*, quick: bool, model: str | None = None, slide: Path | None = None) -> list[Row]:
    """Processes of their own come first, while this one is still small."""
    with painted(quick=quick, given=slide) as path:
        return [
            *startup.rows(repeats=1 if quick else 9),
            *counting.rows(path, model=model, cells=20 if quick else 500, repeats=1 if quick else 3),
            *reading.rows(path, repeats=1 if quick else 5, megapixels=4 if quick else 50),
            *detection.rows(model=model, fields=2 if quick else 12, repeats=1 if quick else 5),
        ]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", help="in place of the shipped models: a name or a .safetensors file")
    made.add_argument("--slide", type=Path, help="a tiled TIFF of marrow; without it one is painted")
    options = made.parse_args()
    show(lambda: rows(quick=options.quick, model=options.model, slide=options.slide), markdown=options.markdown)


if __name__ == "__main__":
    main()
