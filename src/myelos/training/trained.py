"""What a training leaves behind: a model file with its card, the graph beside it, and the faults of its labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from myelos.datasets.records import Fault
from myelos.models.files import ModelCard, save, sha256
from myelos.tables import write_bytes

Progress = Callable[[str, dict[str, Any]], None]  # stage, its numbers


@dataclass(frozen=True, slots=True)
class Trained:
    """path: the model file; card: its card; faults: what was wrong with the images and their labels."""

    path: Path
    card: ModelCard
    faults: tuple[Fault, ...]


def count_steps(tell: Progress, stage: str, done: int, total: int) -> None:
    """Tell how far a stage is as the reports of a training do."""
    tell(stage, {"step": done, "steps": total})


def in_half_precision(network: nn.Module) -> None:
    """Round the weights to what the file stores, so that figures and graph come from the very numbers of the file."""
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half().float())


def metadata_of(card: ModelCard) -> dict[str, Any]:
    """What every graph says of itself; kinds of models add theirs."""
    return {"types": list(card.types), "mpp": card.mpp, "scheme": card.scheme, "threshold": card.threshold}


def write_files(network: nn.Module, graph: bytes, card: ModelCard, out: Path) -> Path:
    """Write `<name>.onnx` and then `<name>.safetensors`, whose card knows the graph's hash; returns the latter."""
    path = out / f"{card.name}.safetensors"
    write_bytes(path.with_suffix(".onnx"), graph)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    save(path, weights, replace(card, onnx_sha256=sha256(path.with_suffix(".onnx"))))
    return path
