"""Weights in whole numbers, rounded so that a convolution's answers change least, not the weights themselves.

Column by column, what rounding one weight changed is made good by the weights after it, as far as what comes in makes
them alike (Frantar et al., ICLR 2023, arXiv:2210.17323, section 3): half the error of rounding each by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST = 4096  # inputs of one output; beyond, the table of their products would fill the memory
_DAMPED = 0.01  # of the mean square of the inputs, added to each, so that the table can be inverted
_TOGETHER = 64  # columns between two updates of all that follow

Weights = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a convolution looks at what comes in: side of its kernel, step, and the border of zeros on each side."""

    kernel: int
    stride: int
    border: int

    def inputs(self, tensor: NDArray[np.float32], most: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(1, C, H, W) → (up to `most`, C × kernel²): what some places of the output are made from."""
        ends = (self.border, self.border)
        padded = np.pad(tensor[0], ((0, 0), ends, ends))
        seen = np.lib.stride_tricks.sliding_window_view(padded, (self.kernel, self.kernel), axis=(1, 2))
        seen = seen[:, :: self.stride, :: self.stride]
        rows, columns = seen.shape[1:3]
        place = rng.permutation(rows * columns)[:most]
        return seen[:, place // columns, place % columns].transpose(1, 0, 2, 3).reshape(len(place), -1)


def shape_of(weights: Weights, attributes: Mapping[str, Any]) -> Shape | None:
    """The shape of a plain square convolution that can be rounded so; None of others, and of very wide ones."""
    height, width = weights.shape[2:]
    borders, strides = set(attributes.get("pads", [0])), set(attributes.get("strides", [1]))
    plain = attributes.get("group", 1) == 1 and set(attributes.get("dilations", [1])) == {1}
    if not plain or height != width or len(borders) > 1 or len(strides) > 1 or weights[0].size > _MOST:
        return None
    return Shape(height, strides.pop(), borders.pop())


def rounded(
    weights: Weights, levels: int, products: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(O, …) weights → whole numbers up to `levels` on each side of zero, and the step of each output.

    products: (I, I), the mean of the products of the inputs with each other; without it each is rounded by itself.
    """
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    steps = np.maximum(np.abs(flat).max(axis=1) / levels, 1e-12)
    if products is None:
        whole = np.round(flat / steps[:, None])
    else:
        whole = _one_by_one(flat, steps, levels, products)
    return whole.reshape(weights.shape).astype(np.int8), steps.astype(np.float32)


def _one_by_one(
    flat: NDArray[np.float64], steps: NDArray[np.float64], levels: int, products: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The strongest inputs first; the error of a column is spread over the columns that follow."""
    size = len(products)
    order = np.argsort(-np.diag(products), kind="stable")
    damped = products[np.ix_(order, order)] + np.eye(size) * max(_DAMPED * np.trace(products) / size, 1e-12)
    spread = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, whole = flat[:, order].copy(), np.zeros_like(flat)
    for first in range(0, size, _TOGETHER):
        last = min(first + _TOGETHER, size)
        errors = np.zeros((len(flat), last - first))
        for column in range(first, last):
            nearest = np.clip(np.round(left[:, column] / steps), -levels, levels)
            whole[:, order[column]] = nearest
            error = (left[:, column] - nearest * steps) / spread[column, column]
            left[:, column + 1 : last] -= np.outer(error, spread[column, column + 1 : last])
            errors[:, column - first] = error
        left[:, last:] -= errors @ spread[first:last, last:]
    return whole
