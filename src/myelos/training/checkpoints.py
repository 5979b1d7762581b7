"""Checkpoints of a training as safetensors and JSON: weights, averages, optimiser and the state of chance.

A training that is killed and taken up again gives the same weights as one that ran through: a test holds that.
Settings and data must be the same (`fingerprint`); otherwise it starts anew where that is allowed, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from myelos.errors import ResultError, UsageError
from myelos.models.files import find, read_card, sha256, tensors
from myelos.models.module import settings_of
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.networks.pretrained import colours, fill, local
from myelos.networks.timm_trunk import TIMM
from myelos.tables import RUN_FILE, prepare, write_bytes, write_json
from myelos.training.fingerprint import differences

_TIMM_NAMES = {"resnext50": "resnext50_32x4d"}  # whose weights bear the names of torchvision's
WEIGHTS_FILE, STATE_FILE, CURVE_FILE = "checkpoint.safetensors", "checkpoint.json", "curve.csv"


def prepare_training(folder: Path, *, overwrite: bool) -> None:
    """Make the folder of a training ready: `tables.prepare`, and an overwritten result takes its checkpoint with it.

    The checkpoint of a killed training stays, because the same command goes on with it.
    """
    finished = (folder / RUN_FILE).exists()
    prepare(folder, overwrite=overwrite)
    if finished:
        discard(folder)


def discard(folder: Path) -> None:
    """Remove the checkpoint and the curve that belongs to it, the state first: without it there is no checkpoint."""
    for name in (STATE_FILE, WEIGHTS_FILE, CURVE_FILE):
        (folder / name).unlink(missing_ok=True)


def check_same(folder: Path, fingerprint: dict[str, Any], *, anew: bool) -> None:
    """Raise ResultError where the checkpoint in `folder` is of other settings or data; with `anew`, remove it instead.

    A checkpoint without a fingerprint, as earlier versions wrote it, is accepted.
    """
    path = folder / STATE_FILE
    kept = json.loads(path.read_text(encoding="utf-8")).get("fingerprint") if path.exists() else None
    changed = differences(kept, fingerprint) if kept else []
    if changed and anew:
        discard(folder)
    elif changed:
        raise ResultError(
            f"{folder} holds the checkpoint of another training",
            why="; ".join(changed[:4]) + (f"; and {len(changed) - 4} more" if len(changed) > 4 else ""),
            remedy="Pass --overwrite to start anew, another -o, or what it was begun with to go on",
        )


def earlier_weights(model: str | Path | None) -> dict[str, Tensor] | None:
    """The weights of an earlier model, by its name or file, to begin a training with."""
    return {name: torch.from_numpy(value) for name, value in tensors(find(model)).items()} if model else None


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a training of a classifier begins with. network: its settings, with the colours that the weights are used
    to. weights: of the whole network or a part of it; None for chance. said: file and hash, for the card."""

    network: CellNetworkSettings
    weights: dict[str, Tensor] | None = None
    said: Mapping[str, str] = field(default_factory=dict)


def beginning(network: CellNetworkSettings, start: str | Path | None, pretrained: str | Path | None) -> Beginning:
    """An earlier classifier, a backbone's weights from a file of timm or torchvision, or chance where both are None.

    start: one of the same backbone brings the colours that it is used to. pretrained: "hub" fetches what timm names for
    the backbone. Raises UsageError where both are given or the backbone is our own, and ModelError where a file does
    not fit.
    """
    if start and pretrained:
        raise UsageError("a training begins with --start or with --pretrained", remedy="Leave one of them out")
    if start:
        path = find(start)
        used = settings_of(read_card(path))
        if used.get("backbone", CellNetworkSettings().backbone) == network.backbone:
            network = replace(network, **{name: used[name] for name in ("centre", "spread") if name in used})
        return Beginning(network, earlier_weights(path), {"file": path.name, "sha256": sha256(path)})
    if not pretrained:
        return Beginning(network)
    if network.backbone != "resnext50" and not network.backbone.startswith(TIMM):
        raise UsageError(
            f"there are no pretrained weights for the backbone {network.backbone!r}",
            why="it is our own network",
            remedy="Choose --backbone resnext50 or timm:NAME, or begin with an earlier classifier: --start",
        )
    whole = CellNetwork(1, network)
    path = local(pretrained, _TIMM_NAMES.get(network.backbone, network.backbone.removeprefix(TIMM)))
    fill(whole.body, path)
    centre, spread = colours(whole.body)
    weights = {f"trunk.{name}": value for name, value in whole.trunk.state_dict().items()}
    said = {
        "file": path.name if path == Path(pretrained) else f"{network.backbone} from the hub",
        "sha256": sha256(path),
    }
    return Beginning(replace(network, centre=centre, spread=spread), weights, said)


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
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
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
