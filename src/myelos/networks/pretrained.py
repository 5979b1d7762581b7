"""Weights of others, safetensors under the names of timm or torchvision: a local file, or fetched where asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from myelos.errors import MissingDependencyError, ModelError

HUB = "hub"  # in the place of a file: the weights that timm names, from the Hugging Face hub
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


def fetched(name: str) -> Path:
    """The weights that timm names for a backbone, in the cache of the Hugging Face hub, downloaded where they are not.

    The hub is the public one, or that of HF_ENDPOINT. Raises ModelError where there are none or the hub cannot be
    reached. Pickles, which hubs also hold, are not taken.
    """
    timm = _timm_with(name)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise ModelError(f"timm knows no weights of {name}", remedy="Pass a safetensors file")
    place = config.hf_hub_id
    try:
        return Path(hf_hub_download(place, "model.safetensors"))
    except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"the weights {place} cannot be fetched",
            why=str(error).strip().splitlines()[0],
            remedy=f"Download model.safetensors of {place} where there is a network, and pass the file",
        ) from error


def local(weights: str | Path, name: str) -> Path:
    """The file that is meant: itself, or for `hub` what timm names for the backbone (`fetched`)."""
    return fetched(name) if str(weights) == HUB else Path(weights)


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


def timm_network(name: str) -> nn.Module:
    """A backbone of timm with random weights and no head; raises ModelError for an unknown name."""
    network: nn.Module = _timm_with(name).create_model(name, pretrained=False, num_classes=0)
    return network


def _timm_with(name: str) -> Any:
    """The library, where it has a backbone of this name."""
    try:
        import timm
    except ImportError as error:
        raise MissingDependencyError("backbones of timm need timm", remedy="pip install timm") from error
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:6])
        raise ModelError(f"timm has no backbone {name!r}", remedy=f"Near it are: {near}" if near else "")
    return timm


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
