"""The benchmarks of speed run, and their table holds every figure that is promised. No figure is asserted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("startup", "reading", "detection", "counting", "coverage")


def run(*words: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_figures_are_in_the_table() -> None:
    lines = run("benchmarks", "--quick", "--markdown").splitlines()
    assert "cores" in lines[0]
    assert lines[2].startswith("| what | value | unit | beside |")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    values = {what: float(value) for what, value, _, _ in rows}
    units = {(what.partition(":")[0], unit) for what, _, unit, _ in rows}
    promised = {("start", "ms"), ("reading", "Mpx/s"), ("detection", "fields/s"), ("detection", "tiles/s")}
    assert promised | {("counting", "s")} <= units
    assert all(value > 0 for value in values.values())
    assert any("OpenSlide" in what and "× as fast" in beside for what, _, _, beside in rows)
    if sys.platform != "win32":
        assert ("counting", "MB") in units


def test_every_benchmark_can_be_loaded() -> None:
    """Most take too long for a test; a name that has moved shows all the same."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("__"))
    assert "unlike" in names
    loading = "import importlib, sys; [importlib.import_module(f'benchmarks.{name}') for name in sys.argv[1:]]"
    done = subprocess.run([sys.executable, "-c", loading, *names], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("part", PARTS)
def test_each_part_says_what_it_does(part: str) -> None:
    text = run(f"benchmarks.{part}", "--help")
    assert f"python -m benchmarks.{part}" in text
    assert "--quick" in text


def test_ratios_are_taken_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slows down in the middle changes the rates, not the ratio."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.table import in_turns, number, ratio

    asked: list[str] = []
    found = in_turns({"a": lambda: float(len(asked.append("a") or asked)), "b": lambda: 1.0}, 3)
    assert (asked, found["b"]) == (["a"] * 3, [1.0] * 3)
    assert ratio([100, 10, 1], [50, 5, 0.5]) == 2
    assert [number(value) for value in (1234.5, 56.72, 0.0891)] == ["1234", "56.7", "0.0891"]
