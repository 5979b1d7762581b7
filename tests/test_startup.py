"""The program starts quickly and counts without PyTorch: what is imported when, seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {  # without pydantic: newer versions of Typer import it themselves
    "torch",
    "torchvision",
    "openvino",
    "cv2",
    "pyarrow",
    "matplotlib",
    "scipy",
    "numpy",
    "openslide",
    "tifffile",
    "imagecodecs",
    "jinja2",
    "onnx",
    "skimage",
    "sklearn",
    "pandas",
}
# Stands before the program in a process of its own: every attempt to import torch fails, as in a plain install.
WITHOUT_TORCH = """
import sys


class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "onnx", "timm", "lightning"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


sys.meta_path.insert(0, Refusal())
from myelos.cli import main

sys.argv = ["myelos", *sys.argv[1:]]
sys.exit(main())
"""


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def imported(*arguments: str) -> set[str]:
    """Top-level names of the modules that a call of the program imports, as Python itself reports them."""
    script = "import sys; from myelos.cli import main; sys.argv = ['myelos', *sys.argv[1:]]; sys.exit(main())"
    result = run("-X", "importtime", "-c", script, *arguments)
    assert result.returncode == 0, result.stderr
    lines = (line for line in result.stderr.splitlines() if line.startswith("import time:") and "|" in line)
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", [("--help",), ("count", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    names = imported(*arguments)
    assert "myelos" in names
    assert "typer" in names, "the list of imports was not read"
    assert names & HEAVY == set()


def test_the_package_alone_imports_nothing_heavy() -> None:
    script = f"import sys, myelos; print(sorted(set(sys.modules) & {HEAVY!r}))"
    result = run("-c", script)
    assert result.stdout.strip() == "[]", result.stderr


def test_count_works_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    """The demo is the main job from slide to report: a synthetic slide, the shipped model, the page."""
    result = run("-c", WITHOUT_TORCH, "demo", "-o", tmp_path / "demo")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "demo" / "run.json").is_file()
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000


def test_fields_are_counted_where_torch_cannot_be_imported(data: Path, tmp_path: Path) -> None:
    fields = sorted((data / "bccd_fields" / "JPEGImages").glob("*.jpg"))[:3]
    result = run("-c", WITHOUT_TORCH, "count", *fields, "--specimen", "blood", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "out" / "cells.parquet").is_file()


def test_the_block_works(tmp_path: Path) -> None:
    """The stand-in for a plain install does refuse torch: what trains says so, with the remedy, and no traceback."""
    result = run("-c", WITHOUT_TORCH, "train", "detector", "--data", tmp_path, "-o", tmp_path / "model")
    assert result.returncode in {1, 2}
    assert "myelos[train]" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
