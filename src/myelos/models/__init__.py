"""Models: one safetensors file each with everything needed to run and to judge it, and the ONNX graph beside it.

`available()` lists the shipped models, `load(name_or_path)` gives one as a callable. Nothing is unpickled, ever.
"""

from __future__ import annotations

from pathlib import Path

from myelos.errors import ModelError
from myelos.models.files import ModelCard, available, find, read_card, tensors
from myelos.models.types import Boxes, Classifier, Detector

__all__ = [
    "Boxes",
    "Classifier",
    "Detector",
    "ModelCard",
    "available",
    "find",
    "load",
    "load_classifier",
    "load_question",
    "read_card",
    "tensors",
]


def load(model: str | Path, *, device: str = "cpu", threads: int | None = None) -> Detector:
    """A detector by the name of a shipped model or by the path of a `.safetensors` file.

    device: `cpu` runs the ONNX graph through OpenVINO and imports no torch; `cuda` or `cuda:N` runs the torch module.
    Raises ModelError for missing, refused and inconsistent files.
    """
    card = _of_kind("detector", model)
    if device == "cpu":
        from myelos.models.graph import GraphDetector

        return GraphDetector(card, threads=threads)
    from myelos.models.module import ModuleDetector

    return ModuleDetector(card, device=device)


def load_classifier(
    model: str | Path, *, device: str = "cpu", threads: int | None = None, precise: bool = False
) -> Classifier:
    """A classifier of single cells, by name or path; devices and errors as for `load`.

    precise: in float32 even where the card says that int8 names cells the same (on CPUs; a GPU runs no int8).
    """
    return _classifier(_of_kind("classifier", model), device, threads, precise)


def load_question(
    model: str | Path, *, device: str = "cpu", threads: int | None = None, precise: bool = False
) -> Classifier:
    """A model that answers a question with no or yes, which are its two types; all else as for `load_classifier`."""
    return _classifier(_of_kind("question", model), device, threads, precise)


def _classifier(card: ModelCard, device: str, threads: int | None, precise: bool) -> Classifier:
    if device == "cpu":
        from myelos.models.classify import GraphClassifier

        return GraphClassifier(card, threads=threads, precise=precise)
    from myelos.models.classify import ModuleClassifier

    return ModuleClassifier(card, device=device)


def _of_kind(kind: str, model: str | Path) -> ModelCard:
    card = read_card(find(model))
    if card.kind != kind:
        names = ", ".join(other.name for other in available() if other.kind == kind) or "none"
        what = f"it answers the question {card.question}" if card.kind == "question" else f"it is a {card.kind}"
        raise ModelError(f"{card.name} is no {kind}", why=what, remedy=f"Shipped {kind}s: {names}")
    return card
