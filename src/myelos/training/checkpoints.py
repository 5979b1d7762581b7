"""Checkpoints of a training as safetensors and JSON: weights, averages, optimiser and the state of chance.

A training that is killed and taken up again gives the same weights as one that ran through: a test holds that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from myelos.errors import ResultError
from myelos.tables import write_bytes, write_json

WEIGHTS_FILE, STATE_FILE = "checkpoint.safetensors", "checkpoint.json"


def save_checkpoint(
    folder: Path, *, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Write both files whole or not at all, the state last; `state["step"]` ties them together."""
    content: dict[str, Tensor] = {"chance": torch.get_rng_state(), "step": torch.tensor(int(state["step"]))}
    for prefix, module in (("network", network), ("average", average)):
        content |= {f"{prefix}/{name}": value for name, value in module.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        content |= {f"optimiser/{index}/{name}": torch.as_tensor(value) for name, value in values.items()}
    write_bytes(folder / WEIGHTS_FILE, save({name: value.contiguous().clone() for name, value in content.items()}))
    write_json(folder / STATE_FILE, state)


def load_checkpoint(
    folder: Path, *, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Restore everything in place and return the state, or None where the folder holds no checkpoint.

    Raises ResultError where the two files do not belong together.
    """
    if not (folder / STATE_FILE).exists():
        return None
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
    content = load_file(folder / WEIGHTS_FILE)
    if int(content["step"]) != state["step"]:
        # Killed between the two files: the weights are one interval ahead, and say so themselves.
        state = state | {"step": int(content["step"])}
    for prefix, module in (("network", network), ("average", average)):
        part = {name.removeprefix(f"{prefix}/"): value for name, value in content.items() if name.startswith(prefix)}
        try:
            module.load_state_dict(part)
        except RuntimeError as error:
            raise ResultError(
                f"{folder} holds the checkpoint of another network",
                why=str(error).splitlines()[0],
                remedy="Pass another -o, or --overwrite to start anew",
            ) from error
    optimiser.load_state_dict({"state": _moments(content), "param_groups": optimiser.state_dict()["param_groups"]})
    torch.set_rng_state(content["chance"])
    return state


def _moments(content: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in content.items():
        if key.startswith("optimiser/"):
            _, index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
    return moments
