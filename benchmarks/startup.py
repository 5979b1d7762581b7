"""How long the program takes to start: whole processes, beside Python that does nothing.

python -m benchmarks.startup [--repeats 9]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.table import Row, in_turns, parser, show

NOTHING = "python -c pass"
PROCESSES: dict[str, tuple[str, ...]] = {
    NOTHING: ("-c", "pass"),
    "import myelos": ("-c", "import myelos"),
    "myelos --help": ("-m", "myelos", "--help"),
    "myelos count --help": ("-m", "myelos", "count", "--help"),
    "import all that counting needs": ("-c", "import myelos.pipeline, openvino"),
}


def rows(*, repeats: int = 9) -> list[Row]:
    """Median milliseconds of each process, and what it takes beyond Python itself; the first round warms the disk."""
    found = in_turns({name: lambda words=words: seconds(words) for name, words in PROCESSES.items()}, repeats + 1)
    kept = {name: values[1:] for name, values in found.items()}
    beyond = {name: _beyond(values, kept[NOTHING]) for name, values in kept.items()} | {NOTHING: ""}
    return [Row(f"start: {name}", 1e3 * statistics.median(values), "ms", beyond[name]) for name, values in kept.items()]


def _beyond(values: Sequence[float], nothing: Sequence[float]) -> str:
    more = statistics.median(value - base for value, base in zip(values, nothing, strict=True))
    return f"{1e3 * more:.0f} ms more than {NOTHING}"


def seconds(words: Sequence[str]) -> float:
    """Wall time of a process of this Python, from its birth to its end."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--repeats", type=int, default=9)
    options = made.parse_args()
    show(lambda: rows(repeats=1 if options.quick else options.repeats), markdown=options.markdown)


if __name__ == "__main__":
    main()
