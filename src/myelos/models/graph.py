"""A detector on CPUs: the ONNX graph through OpenVINO. Imports no torch.

Each tile runs by itself (batch 1), so that a result depends neither on the batch nor on the order; several requests
run at a time. Precision is float32 unless the card says that less was measured to be harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.errors import ModelError
from myelos.models.files import ModelCard, sha256
from myelos.models.suppress import padded, to_boxes
from myelos.models.types import Boxes


class GraphDetector:
    """Callable: RGB tiles at `mpp` → `Boxes`. See `models.types.Detector`."""

    def __init__(self, card: ModelCard, *, threads: int | None = None) -> None:
        self.card = card
        self.name, self.types, self.mpp, self.tile = card.name, card.types, card.mpp, card.tile
        self.threshold = card.threshold
        self.precision = "f32"
        self.sha256 = _checked(card)
        self._model = _compile(card, threads)
        self.batch = int(self._model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def __call__(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Boxes]:
        """tiles: RGB (H, W, 3) uint8 with sides up to `tile` → one `Boxes` each, in the same order."""
        import openvino as ov

        results: list[Boxes | None] = [None] * len(tiles)

        def store(request: Any, index: int) -> None:
            corners, scores, types = (request.get_output_tensor(i).data.copy() for i in range(3))
            height, width = tiles[index].shape[:2]
            results[index] = to_boxes(corners, scores, types, width=width, height=height)

        queue = ov.AsyncInferQueue(self._model, self.batch)
        queue.set_callback(store)
        for index, tile in enumerate(tiles):
            queue.start_async({0: padded(np.ascontiguousarray(tile))[None]}, index)
        queue.wait_all()
        return [boxes for boxes in results if boxes is not None]


def _checked(card: ModelCard) -> str:
    """SHA-256 of the weights; raises ModelError where the graph is missing or belongs to other weights."""
    if not card.graph.is_file():
        raise ModelError(
            f"{card.graph.name} is missing beside {card.path.name}",
            remedy="`myelos train detector` writes both; keep them together",
        )
    if card.onnx_sha256 and sha256(card.graph) != card.onnx_sha256:
        raise ModelError(
            f"{card.graph.name} does not belong to {card.path.name}",
            why="its SHA-256 is not the one on the card",
            remedy="Install Myelos again, or export the model again",
        )
    return sha256(card.path)


def _compile(card: ModelCard, threads: int | None) -> Any:
    import openvino as ov

    core = ov.Core()
    options: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    try:
        return core.compile_model(core.read_model(card.graph), "CPU", options)
    except RuntimeError as error:
        raise ModelError(f"{card.graph.name} cannot be run", why=str(error).strip().splitlines()[-1]) from error
