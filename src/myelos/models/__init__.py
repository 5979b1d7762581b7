"""Models: one safetensors file each with everything needed to run and to judge it, and the ONNX graph beside it.

`available()` lists the shipped models, `load(name_or_path)` gives one as a callable. Nothing is unpickled, ever.
"""

from __future__ import annotations

from pathlib import Path

from myelos.models.files import ModelCard, available, find, read_card, tensors
from myelos.models.types import Boxes, Detector

__all__ = ["Boxes", "Detector", "ModelCard", "available", "find", "load", "read_card", "tensors"]


def load(model: str | Path, *, device: str = "cpu", threads: int | None = None) -> Detector:
    """A detector by the name of a shipped model or by the path of a `.safetensors` file.

    device: `cpu` runs the ONNX graph through OpenVINO and imports no torch; `cuda` or `cuda:N` runs the torch module.
    Raises ModelError for missing, refused and inconsistent files.
    """
    card = read_card(find(model))
    if device == "cpu":
        from myelos.models.graph import GraphDetector

        return GraphDetector(card, threads=threads)
    from myelos.models.module import ModuleDetector

    return ModuleDetector(card, device=device)
