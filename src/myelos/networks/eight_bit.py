"""The graph of a classifier with its convolutions in eight-bit whole numbers, about three times as fast on CPUs.

Quantisation after training (Jacob et al., CVPR 2018; Nagel et al., arXiv:2106.08295, sections 2 and 3): weights by
output channel and symmetric, what enters convolutions by tensor, with ranges from cells that were trained on. Written
as QuantizeLinear and DequantizeLinear, which OpenVINO turns into whole-number convolutions; all else, the last layer
too, stays in float32. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from myelos.networks.rounding import Shape, rounded, shape_of

Crops = NDArray[np.uint8]
_THROUGH = ("Conv", "Add", "AveragePool", "MaxPool")  # what can take whole numbers
# Of a weight, on each side of zero: 255 × 63 twice is what sixteen bits hold, in which processors without VNNI add
# pairs of products. With 127 they name an eighth of the cells otherwise.
_LEVELS = 63
_ROOM = 1.4  # of a range, beyond the mean of the cells' extremes: cells of other sources reach further
_PLACES = 64  # of each crop and tensor that tell how inputs go together


@dataclass(slots=True)
class _Convolution:
    """One of the graph. ends: low and high of what enters it; products: see `rounding.rounded`."""

    source: str
    weights: str
    shape: Shape | None
    values: NDArray[np.float32]
    ends: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    products: NDArray[np.float64] | None = None

    def see(self, tensor: NDArray[np.float32], share: float, rng: np.random.Generator) -> None:
        """Take one cell's input, (1, C, H, W), into account; share: one over the number of cells."""
        # The mean of the cells' extremes and some room, not the extreme of all: finer steps for the price of few peaks.
        self.ends = self.ends + share * np.array([min(0.0, tensor.min()), max(0.0, tensor.max())])
        if self.shape is not None:
            rows = self.shape.inputs(tensor, _PLACES, rng)
            own = (rows.T @ rows).astype(np.float64) * (share / len(rows))
            self.products = own if self.products is None else self.products + own


def in_eight_bits(content: bytes, crops: Crops, *, step: Callable[[int, int], None] | None = None) -> bytes:
    """An exported classifier (`export_cells`) with whole-number convolutions. crops: (N, S, S, 3), trained on."""
    model = onnx.load_from_string(content)
    found = _convolutions(model.graph)
    run = _runner(content, list(dict.fromkeys(one.source for one in found)), crops.shape[1])
    rng = np.random.default_rng(0)
    for done, crop in enumerate(crops, 1):
        tensors = run(crop)
        for one in found:
            one.see(tensors[one.source], 1 / len(crops), rng)
        if step:
            step(done, len(crops))
    _rewire(model.graph, found)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _convolutions(graph: onnx.GraphProto) -> list[_Convolution]:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in values:  # stored in half precision
            values[node.output[0]] = values[node.input[0]].astype(np.float32)
    found = []
    for node in graph.node:
        if node.op_type == "Conv":
            attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
            weights = values[node.input[1]]
            found.append(_Convolution(node.input[0], node.input[1], shape_of(weights, attributes), weights))
    return found


def _runner(content: bytes, names: Sequence[str], side: int) -> Callable[[Crops], Mapping[str, NDArray[np.float32]]]:
    """One crop (side, side, 3) → these tensors of the graph, in float32 by OpenVINO."""
    import openvino as ov

    model = onnx.load_from_string(content)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    graph = ov.Core().read_model(model.SerializeToString())
    graph.reshape([1, side, side, 3])
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(crop: Crops) -> Mapping[str, NDArray[np.float32]]:
        answers = compiled(crop[None])
        return {name: answers[name] for name in names}

    return run


def _rewire(graph: onnx.GraphProto, convolutions: Sequence[_Convolution]) -> None:
    """Whole weights in place of the stored ones, and what enters convolutions brought to whole numbers."""
    kept = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for one in convolutions:
        for stale in (one.weights, f"{one.weights}.half"):
            kept.pop(stale, None)
        whole, steps = rounded(one.values, _LEVELS, one.products)
        kept |= _tensors(one.weights, whole=whole, step=steps, zero=np.zeros(len(steps), np.int8))
        nodes.append(_node("Dequantize", one.weights, "whole", one.weights, axis=0))
        kept |= _tensors(one.source, **_levels(*(_ROOM * one.ends)))
    entering, replaced = {one.source for one in convolutions}, {one.weights for one in convolutions}
    for node in graph.node:
        if set(node.output) & replaced:
            continue  # the cast of weights that are gone
        if node.op_type in _THROUGH:
            node.input[:] = [f"{name}.near" if name in entering else name for name in node.input]
        nodes.append(node)
        for name in set(node.output) & entering:
            nodes.append(_node("Quantize", name, "", f"{name}.whole"))
            nodes.append(_node("Dequantize", name, "whole", f"{name}.near"))
    _replace(graph.node, nodes)
    _replace(graph.initializer, list(kept.values()))


def _levels(low: float, high: float) -> dict[str, Any]:
    """Step and zero of 256 levels from low to high, zero itself among them."""
    step = max(high - low, 1e-6) / 255
    return {"step": np.float32(step), "zero": np.uint8(round(-low / step))}


def _tensors(name: str, **values: Any) -> dict[str, onnx.TensorProto]:
    return {f"{name}.{part}": numpy_helper.from_array(np.asarray(v), f"{name}.{part}") for part, v in values.items()}


def _node(kind: str, name: str, part: str, output: str, **options: int) -> onnx.NodeProto:
    source = f"{name}.{part}" if part else name
    return helper.make_node(f"{kind}Linear", [source, f"{name}.step", f"{name}.zero"], [output], **options)


def _replace(field: Any, content: Sequence[Any]) -> None:
    """Give a repeated field of a message new content, some of which may stand in it."""
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in content]
    del field[:]
    field.extend(copies)
