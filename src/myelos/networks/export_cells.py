"""A trained classifier of single cells as an ONNX graph. A test holds that graph and module give the same answers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from myelos.networks.cells import CellNetwork
from myelos.networks.export import OPSET, finished

INPUT, OUTPUTS = "crops", ("logits", "features")


class _Crops(nn.Module):
    """(N, S, S, 3) uint8 RGB → logits (N, T) and features (N, C)."""

    def __init__(self, network: CellNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(crops.permute(0, 3, 1, 2).float())
        return self.network.head(features), features


def export_classifier(network: CellNetwork, side: int, metadata: Mapping[str, Any]) -> bytes:
    """The graph with a dynamic number of crops, weights stored in half precision, `metadata` as JSON text."""
    buffer: Any = io.BytesIO()  # the exporter takes a file too, its annotation does not say so
    wrapped = _Crops(network.float().to(memory_format=torch.contiguous_format)).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            wrapped,
            (torch.full((2, side, side, 3), 235, dtype=torch.uint8),),
            buffer,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={INPUT: {0: "cells"}} | {name: {0: "cells"} for name in OUTPUTS},
            opset_version=OPSET,
            dynamo=False,
        )
    return finished(buffer.getvalue(), metadata)
