"""A classifier of single cells: the ONNX graph through OpenVINO on CPUs (no torch), or the torch module on a GPU.

All poses of one cell are one request of fixed size, so that a result depends neither on the batch nor on the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from myelos.imaging.crops import views
from myelos.models.files import ModelCard, beside, sha256
from myelos.models.graph import checked, compiled

if TYPE_CHECKING:
    from myelos.networks.cells import CellNetwork

Row = tuple[NDArray[np.float32], NDArray[np.float32]]  # probabilities and features


class _Carded:
    """What both forms take from the card. See `models.types.Classifier`."""

    precision = "f32"

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self.decides = False
        self.name, self.types, self.scheme = card.name, card.types, card.scheme
        self.mpp, self.side, self.views, self.threshold = card.mpp, card.tile, card.views, card.threshold
        self.beside = beside(card.path)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(views, T) logits of one cell → (T,) mean of the calibrated probabilities."""
        scaled = logits / self.card.temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return (powers / powers.sum(axis=1, keepdims=True)).mean(axis=0)

    def together(self, rows: Sequence[Row]) -> Row:
        """The rows of several cells as two arrays."""
        if not rows:
            return np.zeros((0, len(self.types)), np.float32), np.zeros((0, 0), np.float32)
        probabilities, features = zip(*rows, strict=True)
        return np.stack(probabilities), np.stack(features)


class GraphClassifier(_Carded):
    """Callable: crops (side, side, 3) → (N, T) probabilities, through OpenVINO.

    In int8 where the card says that this was measured to be harmless and the graph is there; precise: never.
    """

    def __init__(self, card: ModelCard, *, threads: int | None = None, precise: bool = False) -> None:
        super().__init__(card)
        self.precision = "f32" if precise else card.runs_in
        self.sha256 = checked(card, self.precision)
        self._model = compiled(card, threads, batch=card.views, precision=self.precision)
        self.batch = int(self._model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._requests = [self._model.create_infer_request() for _ in range(self.batch)]
        self._lock = Lock()

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self.with_features(crops)[0]

    def with_features(self, crops: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(N, T) probabilities, and (N, C) what the last layer sees, in the mean over the poses."""
        rows = []
        with self._lock:
            for index, crop in enumerate(crops):
                if index >= self.batch:
                    rows.append(self._collect(index - self.batch))
                self._requests[index % self.batch].start_async({0: np.stack(views(crop, self.views))})
            rows += [self._collect(index) for index in range(max(0, len(crops) - self.batch), len(crops))]
        return self.together(rows)

    def _collect(self, index: int) -> Row:
        request = self._requests[index % self.batch]
        request.wait()
        logits, features = (request.get_output_tensor(output).data for output in range(2))
        return self.probabilities(logits), features.mean(axis=0)


class ModuleClassifier(_Carded):
    """The same as a torch module, on a GPU or, as the reference of the graph, on a CPU."""

    def __init__(self, card: ModelCard, *, device: str = "cpu", threads: int | None = None) -> None:
        from myelos.models.module import usable_device, use_threads

        super().__init__(card)
        use_threads(threads)
        self.device, self.sha256 = device, sha256(card.path)
        self.network = build_classifier(card).to(usable_device(device)).eval()

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self.with_features(crops)[0]

    def with_features(self, crops: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As of `GraphClassifier`."""
        return self.together([self._one(crop) for crop in crops])

    def _one(self, crop: NDArray[np.uint8]) -> Row:
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(views(crop, self.views))).to(self.device)
            features = self.network.features(pixels.permute(0, 3, 1, 2).float())
            logits = self.network.head(features)
        return self.probabilities(logits.cpu().numpy()), features.mean(dim=0).cpu().numpy()


def build_classifier(card: ModelCard) -> CellNetwork:
    """The network of a classifier's card with its weights; raises ModelError where they do not fit each other."""
    from myelos.models.module import fill, needs_torch, settings_of

    with needs_torch():
        from myelos.networks.cells import CellNetwork, CellNetworkSettings
    network = CellNetwork(len(card.types), CellNetworkSettings(**settings_of(card)))
    fill(network, card)
    return network
