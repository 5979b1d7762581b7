"""A detector on CPUs: the ONNX graph through OpenVINO. Imports no torch.

Each tile runs by itself (batch 1), so that a result depends neither on the batch nor on the order; several requests
run at a time. Precision is float32 unless the card says that less was measured to be harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
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
        self.sha256 = checked(card)
        self._model = compiled(card, threads)
        self.batch = int(self._model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        # Plain requests and no callbacks into Python: a thread of OpenVINO that waits for the interpreter's lock to run
        # or to drop a callback never ends while the model is being closed by the thread that holds that lock.
        self._requests = [self._model.create_infer_request() for _ in range(self.batch)]
        self._lock = Lock()

    def __call__(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Boxes]:
        """tiles: RGB (H, W, 3) uint8 with sides up to `tile` → one `Boxes` each, in the same order."""
        results: list[Boxes] = []
        with self._lock:
            for index, tile in enumerate(tiles):
                if index >= self.batch:
                    results.append(self._collect(index - self.batch, tiles))
                pixels = padded(np.ascontiguousarray(tile))[None]
                self._requests[index % self.batch].start_async({0: pixels})
            results += [self._collect(i, tiles) for i in range(max(0, len(tiles) - self.batch), len(tiles))]
        return results

    def _collect(self, index: int, tiles: Sequence[NDArray[np.uint8]]) -> Boxes:
        """The boxes of one tile, once its request is done."""
        request = self._requests[index % self.batch]
        request.wait()
        corners, scores, types = (request.get_output_tensor(output).data.copy() for output in range(3))
        height, width = tiles[index].shape[:2]
        return to_boxes(corners, scores, types, width=width, height=height)


def checked(card: ModelCard, precision: str = "f32") -> str:
    """SHA-256 of the weights; raises ModelError where the graph is missing or belongs to other weights."""
    graph = card.eight_bit if precision == "int8" else card.graph
    digest = str(card.int8["sha256"]) if precision == "int8" else card.onnx_sha256
    if not graph.is_file():
        raise ModelError(
            f"{graph.name} is missing beside {card.path.name}",
            remedy=f"`myelos train {card.kind}` writes both; keep them together",
        )
    if digest and sha256(graph) != digest:
        raise ModelError(
            f"{graph.name} does not belong to {card.path.name}",
            why="its SHA-256 is not the one on the card",
            remedy="Install Myelos again, or export the model again",
        )
    return sha256(card.path)


def compiled(card: ModelCard, threads: int | None, *, batch: int | None = None, precision: str = "f32") -> Any:
    """The graph in OpenVINO; batch: the fixed number of images of a request, as exported where None.

    precision: f32, or int8 for the graph in which whole numbers are a part (what it leaves in float32 runs so).
    """
    import openvino as ov

    core = ov.Core()
    graph = card.eight_bit if precision == "int8" else card.graph
    options: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    try:
        model = core.read_model(graph)
        if batch is not None:
            model.reshape([batch, card.tile, card.tile, 3])
        return core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise ModelError(f"{graph.name} cannot be run", why=str(error).strip().splitlines()[-1]) from error
