"""Images that are parts of others: cut out, enlarged, mirrored, and so recoloured that grey values say little.

Whole thumbnails of such copies correlate like strangers do: of the images of TXL-PBC called BCD, 63 correlate above
0.97 with the BCCD field that they were made from, and 44 more are crops of one. So every whole image is compared with
84 windows of every other, on thumbnails whose contrast is normalised locally; what looks alike is aligned by an affine
map (Evangelidis and Psarakis, IEEE TPAMI 30:1858, 2008) at a higher resolution and compared again, because at 16 pixels
two round fields of view on black are alike too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.datasets.mirrors import combined, mirrored, parts
from myelos.geometry import FloatArray

Stack = NDArray[np.float32]  # (N, side, side)
_BLACK = 24  # grey values below show the tube of a microscope, not a smear


@dataclass(frozen=True, slots=True)
class CropSettings:
    """windows: (share of the side, positions along a side). candidate, correlation: least correlation at `coarse` and,
    aligned, at `fine` pixels. blur: share of the side over which contrast is normalised."""

    windows: tuple[tuple[float, int], ...] = ((1.0, 1), (0.92, 3), (0.84, 5), (0.76, 7))
    coarse: int = 16
    fine: int = 48
    candidate: float = 0.7
    correlation: float = 0.8
    blur: float = 1 / 8
    steps: int = 25


def find(thumbnails: Stack, settings: CropSettings) -> list[tuple[int, int, float]]:
    """(first, second, correlation) of images one of which shows a part of the other; first < second."""
    best: dict[tuple[int, int], tuple[float, int, tuple[int, int], NDArray[np.float32]]] = {}
    middle = _level(thumbnails, thumbnails.shape[1] // 2, settings)
    whole = parts(_window(middle, (1.0, 0.0, 0.0), settings.coarse))
    for window in _windows(settings):
        inside = parts(_window(middle, window, settings.coarse))
        for row, column, orientation, value in _alike(inside, whole, settings.candidate):
            key = (min(row, column), max(row, column))
            if value > best.get(key, (0.0,))[0]:
                best[key] = (value, orientation, (row, column), _start(window, settings.fine))
    fine = _level(thumbnails, settings.fine, settings)
    found = []
    for (first, second), (_, orientation, (row, column), start) in sorted(best.items(), key=lambda item: item[0]):
        value = _aligned(mirrored(fine[column], orientation), fine[row], start, settings.steps)
        if value >= settings.correlation:
            found.append((first, second, value))
    return found


def _windows(settings: CropSettings) -> list[tuple[float, float, float]]:
    """(share, x, y) in shares of the side."""
    return [
        (share, float(x), float(y))
        for share, count in settings.windows
        for x in np.linspace(0, 1 - share, count)
        for y in np.linspace(0, 1 - share, count)
    ]


def _window(images: Stack, window: tuple[float, float, float], side: int) -> Stack:
    """A window of every image, made smaller by averaging, with mean 0 and length 1."""
    share, x, y = window
    rows, columns = (_averaging(images.shape[1], start, share, side) for start in (y, x))
    small = rows @ images @ columns.T
    small -= small.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((small**2).sum(axis=(1, 2), keepdims=True))
    return (small / np.maximum(length, 1e-6)).astype(np.float32)


def _averaging(size: int, start: float, share: float, side: int) -> NDArray[np.float32]:
    """(side, size) weights that average a stretch of `size` pixels, given in shares, down to `side` pixels."""
    edges = (start + share * np.linspace(0, 1, side + 1)) * size
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(covered, 0, None) * side / (share * size)).astype(np.float32)


def _start(window: tuple[float, float, float], side: int) -> NDArray[np.float32]:
    """The affine map from the pixels of a whole image of `side` to the window of another that it resembles."""
    share, x, y = window
    return np.array([[share, 0, x * side], [0, share, y * side]], np.float32)


def _level(thumbnails: Stack, side: int, settings: CropSettings) -> Stack:
    """Thumbnails at a smaller side with local mean 0 and local contrast 1, of length 1 as a whole."""
    return np.stack([_contrast(thumbnail, side, settings.blur * side) for thumbnail in thumbnails])


def _contrast(thumbnail: NDArray[np.float32], side: int, sigma: float) -> NDArray[np.float32]:
    """One thumbnail of `_level`. Black surroundings of a round field take no part: their edge would outweigh all."""

    def smaller(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)

    def around(image: FloatArray) -> FloatArray:
        return cv2.GaussianBlur(image * lit, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) / share

    seen = (thumbnail > _BLACK).astype(np.float32)
    lit = smaller(seen)
    share = np.maximum(cv2.GaussianBlur(lit, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), 1e-3)
    grey = smaller(thumbnail * seen) / np.maximum(lit, 1e-3)
    high = (grey - around(grey)) * lit
    floor = 0.3 * float(np.mean(high**2)) + 1e-6  # flat parts must not be blown up to noise
    local = high / np.sqrt(around(high**2) + floor) * lit
    return (local / max(float(np.linalg.norm(local)), 1e-3)).astype(np.float32)


def _alike(inside: Sequence[Stack], whole: Sequence[Stack], threshold: float) -> list[tuple[int, int, int, float]]:
    """(row, column, orientation, correlation) of pairs above the threshold, by the best orientation."""
    found = []
    for start, values, orientations in combined(inside, whole):
        for row, column in np.argwhere(values > threshold):
            if start + row != column:
                found.append(
                    (start + int(row), int(column), int(orientations(row, column)), float(values[row, column]))
                )
    return found


def _aligned(
    template: NDArray[np.float32], image: NDArray[np.float32], start: NDArray[np.float32], steps: int
) -> float:
    """Correlation after alignment, 0 where none is found."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-4)
    scale = float(template.shape[0])  # lengths of 1 over thousands of pixels are too small for the solver
    try:
        value, _ = cv2.findTransformECC(
            np.ascontiguousarray(template) * scale, image * scale, start.copy(), cv2.MOTION_AFFINE, criteria, None, 3
        )
    except cv2.error:  # did not converge: nothing alike
        return 0.0
    return float(value)
