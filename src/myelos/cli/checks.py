"""What `myelos doctor` looks at. Nothing here is repaired, and nothing fails: each check says what to do."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from myelos.errors import MyelosError

OPENSLIDE = (4, 0, 1)  # earlier ones have open faults in native decoders
PILLOW = (12, 3)
CORE = ("numpy", "scipy", "opencv-python-headless", "tifffile", "imagecodecs", "pyarrow", "safetensors", "openvino")


@dataclass(frozen=True)
class Check:
    """state: ok, note (works, but slower or less), or missing (the main job fails)."""

    name: str
    state: str
    found: str
    remedy: str = ""


def run_all() -> list[Check]:
    checks: list[Callable[[], Iterator[Check]]] = [python, core, decoders, processor, models, torch, chromium, disk]
    return [check for group in checks for check in group()]


def python() -> Iterator[Check]:
    good = sys.version_info >= (3, 11)
    yield Check(
        "Python", "ok" if good else "missing", platform.python_version(), "" if good else "Install 3.11 or later"
    )


def core() -> Iterator[Check]:
    for name in CORE:
        version = installed(name)
        remedy = "" if version else "Install again: pip install --force-reinstall myelos"
        yield Check(name, "ok" if version else "missing", version or "not installed", remedy)


def decoders() -> Iterator[Check]:
    """Native decoders read files of strangers: their age matters."""
    try:
        import openslide

        version = openslide.__library_version__
        old = numbers(version) < OPENSLIDE
        remedy = "Update: pip install --upgrade openslide-bin" if old else ""
        yield Check("OpenSlide", "note" if old else "ok", version, remedy)
    except (ImportError, OSError) as error:
        yield Check("OpenSlide", "missing", str(error), "Install it: pip install openslide-bin openslide-python")
    pillow = installed("pillow")
    old = pillow is not None and numbers(pillow) < PILLOW
    remedy = "Update: pip install --upgrade pillow" if old or not pillow else ""
    yield Check("Pillow", "missing" if not pillow else "note" if old else "ok", pillow or "not installed", remedy)


def processor() -> Iterator[Check]:
    """Vector instructions decide how fast a detector runs on a CPU."""
    yield Check("processor cores", "ok", str(os.cpu_count()))
    flags = cpu_flags()
    if flags is None:
        yield Check("vector instructions", "ok", "not known on this system")
        return
    wide = "avx512f" in flags
    have = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    remedy = "" if wide or "avx2" in flags else "Detection is slow here: use a newer processor, or --device cuda"
    yield Check("vector instructions", "ok" if not remedy else "note", ", ".join(have) or "none", remedy)


def models() -> Iterator[Check]:
    """Every shipped model with the hash of its graph."""
    from myelos.models import available
    from myelos.models.files import sha256

    try:
        cards = available()
    except MyelosError as error:
        yield Check("models", "missing", str(error), "Install again: pip install --force-reinstall myelos")
        return
    if not cards:
        yield Check("models", "missing", "none is shipped", "Train one: myelos train detector, then pass it to --model")
    for card in cards:
        good = card.graph.is_file() and (not card.onnx_sha256 or sha256(card.graph) == card.onnx_sha256)
        if card.runs_in == "int8":
            good = good and sha256(card.eight_bit) == card.int8["sha256"]
        files = (card.path, card.graph, card.eight_bit)
        size = sum(path.stat().st_size for path in files if path.is_file()) / 1e6
        remedy = "" if good else "Its graph is missing or of other weights: install again"
        yield Check(
            f"model {card.name}", "ok" if good else "missing", f"{size:.1f} MB, {len(card.types)} types", remedy
        )


def torch() -> Iterator[Check]:
    version = installed("torch")
    remedy = "" if version else 'For training and GPUs only: pip install "myelos[train]"'
    yield Check("PyTorch", "ok" if version else "note", version or "not installed", remedy)
    gpu = shutil.which("nvidia-smi") is not None
    unused = gpu and not version
    found = "driver found" if gpu else "none"
    yield Check("NVIDIA GPU", "note" if unused else "ok", found, "Install PyTorch to use it" if unused else "")


def chromium() -> Iterator[Check]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    remedy = "" if found else "Needed by tests of the report page only"
    yield Check("Chromium", "ok" if found else "note", Path(found).name if found else "not found", remedy)


def disk() -> Iterator[Check]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    yield Check("free disk", "ok" if free > 5 else "note", f"{free:.0f} GB", "" if free > 5 else "Results need room")


def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """4.0.1 → (4, 0, 1); what is no number ends it."""
    found: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)


def cpu_flags() -> set[str] | None:
    """Flags of the processor on Linux, None elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), None)
