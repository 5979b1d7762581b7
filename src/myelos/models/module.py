"""A detector as a torch module, on a GPU (or, as the reference of the graph, on a CPU)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from myelos.errors import MissingDependencyError, ModelError
from myelos.models.files import ModelCard, sha256, tensors
from myelos.models.suppress import padded, to_boxes
from myelos.models.types import Boxes

if TYPE_CHECKING:
    from torch import nn

    from myelos.networks.cascade import CascadeRCNN


class ModuleDetector:
    """Callable: RGB tiles at `mpp` → `Boxes`. See `models.types.Detector`."""

    def __init__(self, card: ModelCard, *, device: str = "cpu") -> None:
        self.card, self.device = card, device
        self.name, self.types, self.mpp, self.tile = card.name, card.types, card.mpp, card.tile
        self.threshold, self.batch, self.precision = card.threshold, 1, "f32"
        self.sha256 = sha256(card.path)
        self.network = build(card).to(usable_device(device)).eval()

    def __call__(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Boxes]:
        return [self._one(tile) for tile in tiles]

    def _one(self, tile: NDArray[np.uint8]) -> Boxes:
        import torch

        with torch.inference_mode():
            image = torch.from_numpy(padded(np.ascontiguousarray(tile))).to(self.device)
            found = self.network(image.permute(2, 0, 1)[None].float())
        corners, scores, types = (output.cpu().numpy() for output in found)
        return to_boxes(corners, scores, types, width=tile.shape[1], height=tile.shape[0])


def build(card: ModelCard) -> CascadeRCNN:
    """The network of a detector's card with its weights; raises ModelError where they do not fit each other."""
    with needs_torch():
        from myelos.networks.cascade import CascadeRCNN, CascadeSettings
    network = CascadeRCNN(len(card.types), CascadeSettings(**settings_of(card)))
    fill(network, card)
    return network


@contextmanager
def needs_torch() -> Iterator[None]:
    """Say how to install what is missing."""
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            "this needs PyTorch", why=str(error), remedy="Install it with: pip install 'myelos[train]'"
        ) from error


def settings_of(card: ModelCard) -> dict[str, Any]:
    """The architecture of a card, its lists as tuples."""
    return {key: _tuples(value) for key, value in card.architecture.items()}


def fill(network: nn.Module, card: ModelCard) -> None:
    """Load the card's weights into the network; raises ModelError where they do not fit."""
    import torch

    weights = {name: torch.from_numpy(value) for name, value in tensors(card.path).items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{card.path.name} does not fit its own card", why=str(error).splitlines()[0]) from error


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def use_threads(threads: int | None) -> None:
    """Threads of PyTorch, for the whole process; all cores where None."""
    if threads:
        import torch

        torch.set_num_threads(threads)


def usable_device(name: str) -> str:
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MissingDependencyError(
            f"--device {name} is not there",
            why="PyTorch sees no CUDA GPU",
            remedy="Leave --device out to run on the CPU; `myelos doctor` says what is installed",
        )
    return name
