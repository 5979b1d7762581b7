"""The cell in the middle of a single-cell image, cut out with a soft edge; or why it cannot be cut out cleanly.

Everything is measured at one scale, so that sets of different resolution are treated alike. Light is turned into
optical densities relative to the image's own white point: what is glass there is nothing here, and leaves no patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.imaging.appearance import AppearanceSettings, estimate_illumination
from myelos.imaging.segmentation import Compartments, segment
from myelos.imaging.stain import BACKGROUND

Image = NDArray[np.uint8]  # (height, width, 3) RGB
Reals = NDArray[np.float32]
Mask = NDArray[np.bool_]

WORKING = 0.125  # µm per pixel at which cells are cut out and kept
WINDOW = 25.0  # µm, side of what is looked at around the middle of an image


@dataclass(frozen=True, slots=True)
class CuttingSettings:
    """What counts as a clean cut. Lengths in µm, densities as natural logarithms, summed over R, G and B.

    background: least share of the image that looks like glass. off: farthest that the middle of the cell lies from that
    of the image. border: least distance of the cell from the border of the image. diameter: of the circle of equal
    area, limits where the type's usual diameter is not known; usual: limits relative to that. solid: least area of the
    cell as a share of its convex hull. red_cells: least share of blue, greatest share of green, least and greatest
    density of what is taken for a part of a red cell. trims: radii of the discs with which what hangs on a cell is cut
    off; price: how much rounder and freer the rest must be for each further one. ring: distance of the lines inside and
    outside the edge that are compared; step: least difference of their densities; free: least share of the edge that
    has it. whole: least share of the nucleus that lies in one piece where nuclei of the type are in one. edge: width of
    the soft edge. glass: densities between which what lies at the edge fades.
    """

    background: float = 0.03
    off: float = 2.5
    border: float = 0.4
    diameter: tuple[float, float] = (5.5, 24.0)
    usual: tuple[float, float] = (0.62, 1.45)
    solid: float = 0.92
    red_cells: tuple[float, float, float, float] = (0.22, 0.485, 0.3, 1.15)
    trims: tuple[float, ...] = (0.0, 0.7, 1.2, 1.8, 2.4)
    price: float = 0.012
    ring: float = 0.5
    step: float = 0.12
    free: float = 0.7
    whole: float = 0.9
    edge: float = 0.35
    glass: tuple[float, float] = (0.05, 0.22)


@dataclass(frozen=True, slots=True)
class CutOut:
    """density: (h, w, 3) optical densities, natural logarithm, 0 outside the cell. cover, nucleus: (h, w), 0 to 1."""

    density: Reals
    cover: Reals
    nucleus: Reals


class NotCleanError(Exception):
    """Why a cell could not be cut out: the words of the tally."""


def cut_out(
    rgb: Image,
    mpp: float,
    *,
    diameter: tuple[float, float] | None = None,
    one_nucleus: bool = False,
    settings: CuttingSettings | None = None,
) -> CutOut:
    """The cell in the middle at `WORKING` µm/px. Raises NotCleanError.

    diameter: usual limits of the type in µm. one_nucleus: nuclei of the type are in one piece.
    """
    settings = settings or CuttingSettings()
    density = _densities(_scaled(rgb, mpp), settings)
    found = segment(_seen(density))
    if not found.found:
        raise NotCleanError("no nucleus found")
    if one_nucleus:
        _check_nucleus(found.nucleus, settings)
    body = _without_red_cells(density, found, settings)
    clean: list[tuple[float, Mask]] = []
    first: NotCleanError | None = None
    for number, radius in enumerate(settings.trims):
        cell = _trimmed(body, found.nucleus, radius)
        try:
            _check_place(cell, settings)
            solid = _solidity(cell, diameter, settings)
            free = _free_edge(density, cell, settings)
        except NotCleanError as why:
            first = first or why
        else:
            clean.append((solid + free / 2 - settings.price * number, cell))
    if not clean:
        assert first is not None
        raise first
    return _soft(density, max(clean, key=lambda one: one[0])[1], found.nucleus, settings)


def _without_red_cells(density: Reals, found: Compartments, settings: CuttingSettings) -> Mask:
    """The cell without what has the colour of red cells, which hardly any cytoplasm has: much blue light is taken."""
    blue, green, low, high = settings.red_cells
    smooth = cv2.GaussianBlur(density, (0, 0), 0.25 / WORKING)
    total = smooth.sum(axis=-1)
    share = smooth / np.maximum(total, 0.05)[..., None]
    red = (share[..., 2] > blue) & (share[..., 1] < green) & (total > low) & (total < high)
    near = cv2.dilate(found.nucleus.astype(np.uint8), _disc(0.4)) > 0
    red = cv2.morphologyEx((red & ~near).astype(np.uint8), cv2.MORPH_OPEN, _disc(0.4)) > 0
    return _piece(found.cell & ~red, found.nucleus) if red.any() else found.cell


def _piece(mask: Mask, nucleus: Mask) -> Mask:
    """The part of the mask that holds the nucleus, without holes."""
    _, labels = cv2.connectedComponents((mask | nucleus).astype(np.uint8))
    chosen = (labels == np.bincount(labels[nucleus]).argmax()).astype(np.uint8)
    outlines, _ = cv2.findContours(chosen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(chosen, outlines, -1, 1, -1) > 0)


def _disc(radius: float) -> NDArray[np.uint8]:
    reach = max(1, round(radius / WORKING))
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)).astype(np.uint8)


def _trimmed(body: Mask, nucleus: Mask, radius: float) -> Mask:
    """The cell without what hangs on it by less than two radii; its nucleus stays."""
    if not radius:
        return body
    opened = cv2.morphologyEx(body.astype(np.uint8), cv2.MORPH_OPEN, _disc(radius)) > 0
    near = cv2.dilate(nucleus.astype(np.uint8), _disc(0.25)) > 0
    return _piece(opened | (near & body), nucleus)


def _scaled(rgb: Image, mpp: float) -> Image:
    """The middle of the image at the working scale, at most `WINDOW` wide."""
    factor = mpp / WORKING
    size = max(8, round(rgb.shape[1] * factor)), max(8, round(rgb.shape[0] * factor))
    scaled = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    side = round(WINDOW / WORKING)
    top, left = (max(0, (length - side) // 2) for length in scaled.shape[:2])
    return scaled[top : top + side, left : left + side]


def _densities(rgb: Image, settings: CuttingSettings) -> Reals:
    light = estimate_illumination(rgb, AppearanceSettings(order=0))
    if light.background < settings.background:
        raise NotCleanError("no glass in sight")
    return -np.log((rgb.astype(np.float32) + 1) / (light.white + 1))


def _seen(density: Reals) -> Image:
    """Densities as an image on a white background, for the eyes of `segment`."""
    return np.clip((BACKGROUND + 1) * np.exp(-density) - 1, 0, 255).astype(np.uint8)


def _check_place(cell: Mask, settings: CuttingSettings) -> None:
    near = max(1, round(settings.border / WORKING))
    inner = cell[near:-near, near:-near]
    if inner.sum() < cell.sum():
        raise NotCleanError("touches the border")
    rows, columns = np.nonzero(cell)
    middle = np.array([rows.mean() - cell.shape[0] / 2, columns.mean() - cell.shape[1] / 2])
    if np.hypot(*middle) * WORKING > settings.off:
        raise NotCleanError("not in the middle")


def _solidity(cell: Mask, usual: tuple[float, float] | None, settings: CuttingSettings) -> float:
    """The area as a share of the convex hull's."""
    across = 2 * np.sqrt(cell.sum() / np.pi) * WORKING
    low, high = settings.diameter
    if usual:
        low, high = max(low, settings.usual[0] * usual[0]), settings.usual[1] * usual[1]
    if not low <= across <= high:
        raise NotCleanError("not the size of its type")
    contours, _ = cv2.findContours(cell.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)
    solid = cv2.contourArea(outline) / max(cv2.contourArea(cv2.convexHull(outline)), 1.0)
    if solid < settings.solid:
        raise NotCleanError("several cells, or a ragged one")
    return float(solid)


def _check_nucleus(nucleus: Mask, settings: CuttingSettings) -> None:
    _, _, stats, _ = cv2.connectedComponentsWithStats(nucleus.astype(np.uint8))
    if stats[1:, cv2.CC_STAT_AREA].max() < settings.whole * nucleus.sum():
        raise NotCleanError("several nuclei")


def _free_edge(density: Reals, cell: Mask, settings: CuttingSettings) -> float:
    """Share of the edge where the cell is denser inside than what lies outside."""
    reach = settings.ring / WORKING
    total = cv2.GaussianBlur(density.sum(axis=-1), (0, 0), 0.12 / WORKING)
    signed = signed_distance(cell)
    grown = np.argwhere(cell & (signed < 1.5))
    normal = np.stack(np.gradient(cv2.GaussianBlur(signed, (0, 0), 2.0)), axis=-1)[tuple(grown.T)]
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    inside, outside = (_sampled(total, grown + side * reach * normal) for side in (1.0, -1.4))
    free = float((inside - outside > settings.step).mean())
    if free < settings.free:
        raise NotCleanError("no clear edge")
    return free


def signed_distance(mask: Mask) -> Reals:
    """Pixels to the edge of the mask, positive inside."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    return inside - cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)


def _sampled(values: Reals, places: NDArray[np.float64]) -> Reals:
    rows, columns = (places[:, axis].astype(np.float32).reshape(1, -1) for axis in (0, 1))
    return cv2.remap(values, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]


def _soft(density: Reals, cell: Mask, nucleus: Mask, settings: CuttingSettings) -> CutOut:
    """Cover falls from 1 to 0 over `edge` around the edge, and near it where there is no more than glass."""
    width = settings.edge / WORKING
    signed = signed_distance(cell)
    total = cv2.GaussianBlur(density.sum(axis=-1), (0, 0), 0.15 / WORKING)
    low, high = settings.glass
    there = np.clip((total - low) / (high - low), 0, 1)
    there = np.maximum(there, np.clip(signed / (4 * width) - 0.5, 0, 1))  # vacuoles inside stay
    cover = np.clip(signed / np.float32(width) + np.float32(0.5), 0, 1) * there
    cover = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), 0.8)
    kernel = cv2.GaussianBlur(nucleus.astype(np.float32), (0, 0), 1.0)
    rows, columns = np.nonzero(cover > 0.01)
    part = (slice(max(rows.min() - 1, 0), rows.max() + 2), slice(max(columns.min() - 1, 0), columns.max() + 2))
    return CutOut(np.maximum(density[part], 0) * cover[part][..., None], cover[part], kernel[part])
