"""Paints fat vacuoles and what lies on the glass into a window of light, in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.phantom.glass.faults import Bubble, Dust, Hole, Scratch
from myelos.phantom.stain import EOSIN, Stain

Bytes = NDArray[np.uint8]
Window = tuple[int, int, int, int]  # x1 y1 x2 y2, level-0 px
STRIP = 128  # rows that are reckoned at a time
FINE = 4  # binary digits of a pixel to which outlines are drawn


def paint_fat(light: Bytes, window: Window, fat: Iterable[Hole], mpp: float, stain: Stain) -> None:
    """Round holes with a thin dark edge."""
    edge = np.float32(np.array(stain.density[EOSIN]) * 0.35 * np.log(10))
    for hole in fat:
        part, (left, top) = _part(light, window, hole.box())
        if part is None:
            continue
        columns = np.arange(part.shape[1], dtype=np.float32) + np.float32(left - hole.x)
        rows = np.arange(part.shape[0], dtype=np.float32)[:, None] + np.float32(top - hole.y)
        deep = (np.float32(hole.radius) - np.hypot(columns, rows)) * np.float32(mpp)
        gone = np.clip(deep / np.float32(0.6) + np.float32(0.5), 0, 1)[..., None] * np.float32(0.97)
        ring = np.exp(-np.exp(-((deep / np.float32(0.6)) ** 2))[..., None] * edge)
        part[:] = (part + (np.array(stain.white, np.float32) - part) * gone) * ring


def paint_dust(light: Bytes, window: Window, dust: Iterable[Dust]) -> None:
    for speck in dust:
        part, corner = _part(light, window, speck.box(), around=4)
        if part is None:
            continue
        mask = np.zeros(part.shape[:2], np.uint8)
        points = [_fixed(speck.points, corner)]
        if speck.width:
            width = max(1, round(speck.width))
            cv2.polylines(mask, points, False, 255, width, cv2.LINE_AA, FINE)
        else:
            cv2.fillPoly(mask, points, 255, cv2.LINE_AA, FINE)
        soft = cv2.GaussianBlur(mask, (0, 0), 1.5).astype(np.float32)[..., None] / np.float32(255)
        part[:] = part * (1 - soft * (1 - np.array(speck.shade, np.float32)))


def paint_scratches(light: Bytes, window: Window, scratches: Iterable[Scratch], white: Sequence[float]) -> None:
    """The smear is gone along the line, and lies heaped up on its banks."""
    for scratch in scratches:
        part, corner = _part(light, window, scratch.box(), around=8)
        if part is None:
            continue
        inner, outer = np.zeros(part.shape[:2], np.uint8), np.zeros(part.shape[:2], np.uint8)
        for offset, width in scratch.lines:
            line = [_fixed(scratch.beside(offset), corner)]
            cv2.polylines(inner, line, False, 255, max(1, round(width)), cv2.LINE_AA, FINE)
            cv2.polylines(outer, line, False, 255, max(1, round(width)) + 6, cv2.LINE_AA, FINE)
        if not outer.any():
            continue
        for rows in _strips(part):
            if outer[rows].any():
                _scrape(part[rows], inner[rows], outer[rows], white)


def _scrape(part: Bytes, inner: Bytes, outer: Bytes, white: Sequence[float]) -> None:
    bank = cv2.subtract(outer, inner).astype(np.float32)[..., None] / np.float32(255)
    gone = inner.astype(np.float32)[..., None] * np.float32(0.85 / 255)
    ridge = 1 - np.array([0.18, 0.25, 0.12], np.float32) * bank
    part[:] = (part + (np.array(white, np.float32) - part) * gone) * ridge


def paint_bubbles(light: Bytes, window: Window, bubbles: Iterable[Bubble]) -> None:
    """Inside a bubble little contrast is left; its rim is dark outside and bright inside."""
    for bubble in bubbles:
        part, (left, top) = _part(light, window, bubble.box())
        if part is None:
            continue
        pale = cv2.GaussianBlur(part, (0, 0), 5)
        for rows in _strips(part):
            _cover(part[rows], pale[rows], bubble, (left, top + rows.start))


def _cover(part: Bytes, pale: Bytes, bubble: Bubble, corner: tuple[int, int]) -> None:
    """pale: the part blurred. corner: px of the slide of its first pixel."""
    columns = np.arange(part.shape[1], dtype=np.float32) + np.float32(corner[0] - bubble.x)
    rows = np.arange(part.shape[0], dtype=np.float32)[:, None] + np.float32(corner[1] - bubble.y)
    far = np.hypot(columns, rows) / np.float32(bubble.radius)
    inside = np.clip((1 - far) * np.float32(bubble.radius / 4), 0, 1)[..., None]
    flat = pale.astype(np.float32) * np.float32(0.5) + np.float32(116)
    rim = np.float32(0.8) * np.exp(-(((far - 1) / np.float32(0.018)) ** 2))
    rim = rim + np.float32(0.25) * np.exp(-(((far - np.float32(0.94)) / np.float32(0.03)) ** 2))
    part[:] = np.clip((part + (flat - part) * inside) * (1 - np.minimum(rim, np.float32(0.95)))[..., None], 0, 255)


def _strips(part: Bytes) -> Iterator[slice]:
    """Rows in strips: what is reckoned in floats for a whole field would fill the cache and the memory."""
    for first in range(0, len(part), STRIP):
        yield slice(first, min(first + STRIP, len(part)))


def _part(
    light: Bytes, window: Window, box: tuple[float, float, float, float], around: int = 0
) -> tuple[Bytes | None, tuple[int, int]]:
    """The part of the window that a box covers, and its upper left corner in px of the slide; None outside."""
    x1, y1 = max(int(box[0]) - around, window[0]), max(int(box[1]) - around, window[1])
    x2, y2 = min(int(box[2]) + 1 + around, window[2]), min(int(box[3]) + 1 + around, window[3])
    if x2 <= x1 or y2 <= y1:
        return None, (0, 0)
    return light[y1 - window[1] : y2 - window[1], x1 - window[0] : x2 - window[0]], (x1, y1)


def _fixed(points: NDArray[np.float64], corner: tuple[int, int]) -> NDArray[np.int32]:
    return np.rint((points - corner) * (1 << FINE)).astype(np.int32)
