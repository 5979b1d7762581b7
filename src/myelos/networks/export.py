"""A trained detector as an ONNX graph, with proposals and pooling inside and the last suppression outside.

The TorchScript-based exporter is used because the newer one stops at the data-dependent shapes of a proposal list.
A test holds that the graph and the module give the same boxes.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from myelos.networks.cascade import CascadeRCNN

INPUT, OUTPUTS = "tile", ("boxes", "scores", "types")
OPSET = 17


class _OneTile(nn.Module):
    """(1, H, W, 3) uint8 RGB, sides multiples of 32 → boxes (P, 4), scores (P,), types (P, T)."""

    def __init__(self, network: CascadeRCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, tile: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.network(tile.permute(0, 3, 1, 2).float())


def export_onnx(network: CascadeRCNN, metadata: Mapping[str, Any]) -> bytes:
    """The graph with dynamic height and width, weights stored in half precision, `metadata` as JSON text."""
    buffer: Any = io.BytesIO()  # the exporter takes a file too, its annotation does not say so
    tile = torch.full((1, 256, 320, 3), 235, dtype=torch.uint8)
    wrapped = _OneTile(network.float().to(memory_format=torch.contiguous_format)).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of every shape that it makes dynamic
        torch.onnx.export(
            wrapped,
            (tile,),
            buffer,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={INPUT: {1: "height", 2: "width"}} | {name: {0: "found"} for name in OUTPUTS},
            opset_version=OPSET,
            dynamo=False,
        )
    return finished(buffer.getvalue(), metadata)


def finished(content: bytes, metadata: Mapping[str, Any]) -> bytes:
    """An exported graph with its weights in half precision and `metadata`, each value as JSON unless it is text."""
    graph = onnx.load_from_string(content)
    _halve(graph.graph)
    for key, value in metadata.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    onnx.checker.check_model(graph)
    return graph.SerializeToString()


def _halve(graph: onnx.GraphProto) -> None:
    """Store float32 weights as float16 and cast them back, which halves the file."""
    casts, kept = [], []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 64:
            kept.append(tensor)
            continue
        half = numpy_helper.to_array(tensor).astype(np.float16)
        kept.append(numpy_helper.from_array(half, f"{tensor.name}.half"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
