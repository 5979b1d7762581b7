"""Weights of others, from a local safetensors file under the names of timm or torchvision: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from myelos.errors import MissingDependencyError, ModelError

Colour = tuple[float, float, float]
IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)  # red, green, blue, as torchvision's weights expect them
IMAGENET_SPREAD: Colour = (0.229, 0.224, 0.225)


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; raises ModelError for another kind of file and for a damaged one."""
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path.name} is not opened",
            why="only safetensors are: other files can run code when they are read",
            remedy="Convert it where you trust it: safetensors.torch.save_file(state_dict, 'NAME.safetensors')",
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is not read", why=str(error).splitlines()[0]) from error


def fill(network: nn.Module, path: Path) -> None:
    """Fill a network from a file, which may hold a head beside it; raises ModelError where anything is missing."""
    given, own = read_weights(path), network.state_dict()
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(f"{path.name} does not fit", why=f"{len(missing)} tensors are missing, such as {missing[0]}")
    try:
        network.load_state_dict({name: value for name, value in given.items() if name in own}, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path.name} does not fit", why=str(error).splitlines()[-1].strip()) from error


def timm_network(name: str, **settings: Any) -> nn.Module:
    """A backbone of timm with random weights and no head; raises ModelError for an unknown name."""
    try:
        import timm
    except ImportError as error:
        raise MissingDependencyError("backbones of timm need timm", remedy="pip install timm") from error
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:6])
        raise ModelError(f"timm has no backbone {name!r}", remedy=f"Near it are: {near}" if near else "")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **settings)
    return network


def colours(network: nn.Module) -> tuple[Colour, Colour]:
    """Mean and spread of red, green and blue, 0 to 255, that the weights of a backbone are used to.

    timm's networks say it; the others have torchvision's weights.
    """
    config = _of_timm(network) or {"mean": IMAGENET_MEAN, "std": IMAGENET_SPREAD}
    return _scaled(config["mean"]), _scaled(config["std"])


def input_side(network: nn.Module) -> int:
    """The side in pixels of the images that the weights of a backbone of timm were trained on."""
    return int(_of_timm(network)["input_size"][-1])


def _of_timm(network: nn.Module) -> dict[str, Any]:
    if not hasattr(network, "pretrained_cfg"):
        return {}
    from timm.data import resolve_model_data_config

    config: dict[str, Any] = resolve_model_data_config(network)
    return config


def _scaled(shares: Colour) -> Colour:
    red, green, blue = (255 * share for share in shares)
    return red, green, blue
