"""Correlations of images with mirrored images, for the price of one product.

Every square image is the sum of four parts, even or odd in y and in x, which are orthogonal; a mirror changes the signs
of two of them. Four products over a quarter of the pixels each therefore give the correlations in all orientations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Stack = NDArray[np.float32]

# Signs of the parts (even-even, even-odd, odd-even, odd-odd in y, x): as it is, mirrored in x, in y, turned by 180°.
ORIENTATIONS = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))
_BLOCK = 1024  # rows compared at a time: bounds the memory


def mirrored(image: Stack, orientation: int) -> Stack:
    """An image in one of `ORIENTATIONS`."""
    return (image, image[:, ::-1], image[::-1], image[::-1, ::-1])[orientation]


def parts(images: Stack) -> list[Stack]:
    """(N, side, side), side even → four (N, side² / 4) whose products add up to the product of the images."""
    half = images.shape[1] // 2
    top, bottom = images[:, :half], images[:, ::-1][:, :half]
    found: list[Stack] = []
    for rows in (top + bottom, top - bottom):
        left, right = rows[:, :, :half], rows[:, :, ::-1][:, :, :half]
        for part in (left + right, left - right):
            found.append((part * np.float32(0.5)).reshape(len(part), -1).astype(np.float32))
    return found


def combined(first: Sequence[Stack], second: Sequence[Stack]) -> Iterator[tuple[int, Stack, Callable[[int, int], int]]]:
    """By blocks of rows of `first`: the first row's number, (rows, M) the highest correlation over orientations, and a
    function that tells the orientation of an entry."""
    for start in range(0, len(first[0]), _BLOCK):
        products = [a[start : start + _BLOCK] @ b.T for a, b in zip(first, second, strict=True)]
        best = np.full(products[0].shape, -1.0, np.float32)
        for a, b, c, d in ORIENTATIONS:
            np.maximum(best, a * products[0] + b * products[1] + c * products[2] + d * products[3], out=best)

        def orientation(row: int, column: int, products: list[Stack] = products) -> int:
            values = [product[row, column] for product in products]
            return int(np.argmax([np.dot(signs, values) for signs in ORIENTATIONS]))

        yield start, best, orientation
