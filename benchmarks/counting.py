"""What a count costs: seconds and memory of a whole `myelos count` of 500 cells on a synthetic slide.

    python -m benchmarks.counting [--slide SLIDE] [--model NAME_OR_FILE] [--cells 500]

The whole command in a process of its own, start of the program, report and tables included, files warm. Painting the
slide is no part of it. Memory is the most that was resident, as the system counts it (POSIX only).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.slides import painted
from benchmarks.table import Row, parser, show

# Stands between the benchmark and the program: a process is born with the memory of its parent on its account, and
# the benchmark's own would be counted as the program's. This one is small.
WATCH = """
import json, subprocess, sys, time
try:
    import resource
except ImportError:
    resource = None
begun = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
answer = {"seconds": time.perf_counter() - begun, "code": done.returncode, "out": done.stdout, "err": done.stderr}
if resource is not None:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    answer |= {"memory": used.ru_maxrss * unit, "processor": used.ru_utime + used.ru_stime}
print(json.dumps(answer))
"""


def rows(slide: Path, *, model: str | None = None, cells: int = 500, repeats: int = 3) -> list[Row]:
    """Median seconds, processor seconds and the most memory of any run; one run before them warms the files."""
    from myelos.models import available

    if model is None and "marrow" not in [card.name for card in available()]:
        return [Row("counting", None, "s", "no model of marrow is shipped: pass --model")]
    runs = [watched(slide, model, cells) for _ in range(repeats + 1)][1:]
    counted = json.loads(runs[-1]["out"])["smears"][0]["cells"]
    what = f"counting: myelos count, {cells} cells asked for"
    found = [
        Row(f"{what}, {counted} found", statistics.median(run["seconds"] for run in runs), "s", _spread(runs)),
    ]
    if "memory" not in runs[0]:
        return [*found, Row(f"{what}, memory", None, "MB", "not measured on this system")]
    busy = statistics.median(run["processor"] for run in runs)
    return [
        *found,
        Row(f"{what}, processor time", busy, "s", "of all cores together"),
        Row(f"{what}, memory", max(run["memory"] for run in runs) / 1e6, "MB", "most resident"),
    ]


def _spread(runs: list[dict]) -> str:
    low, high = (pick(run["seconds"] for run in runs) for pick in (min, max))
    return f"{low:.1f} to {high:.1f} s in {len(runs)} runs"


def watched(slide: Path, model: str | None, cells: int) -> dict:
    """One run of the program: seconds, memory in bytes, processor seconds, and what it printed.

    Raises RuntimeError with the program's own words where it failed.
    """
    with tempfile.TemporaryDirectory(prefix="myelos-bench-") as folder:
        program = [sys.executable, "-m", "myelos", "count", str(slide), "--specimen", "marrow", "--cells", str(cells)]
        program += ["-o", str(Path(folder) / "out"), "--json", *(["--model", model] if model else [])]
        command = [sys.executable, "-c", WATCH, *program]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if answer["code"] not in (0, 3):
        raise RuntimeError(f"myelos count ended with {answer['code']}: {answer['err'].strip()}")
    return answer


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--slide", type=Path, help="a slide of marrow; without it one is painted")
    made.add_argument("--model", help="in place of the shipped model of marrow")
    made.add_argument("--cells", type=int, default=500)
    made.add_argument("--repeats", type=int, default=3)
    options = made.parse_args()
    cells, repeats = (20, 1) if options.quick else (options.cells, options.repeats)
    with painted(quick=options.quick, given=options.slide) as slide:
        show(lambda: rows(slide, model=options.model, cells=cells, repeats=repeats), markdown=options.markdown)


if __name__ == "__main__":
    main()
