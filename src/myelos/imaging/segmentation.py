"""Nucleus and cytoplasm of the cell in the middle of a crop, told apart by colour: what handcrafted features measure.

Chromatin takes the most red light of all that a Romanowsky stain colours; red cells and pink granules hardly any. Three
levels of the red light taken (Otsu, IEEE Trans. SMC 9:62, 1979) give background, cytoplasm and nucleus;
a watershed from the nucleus and from what is surely outside finds the border of the cell. Not learned from any mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.imaging.stain import density

Image = NDArray[np.uint8]  # (height, width, 3) RGB
Mask = NDArray[np.bool_]  # (height, width)


@dataclass(frozen=True, slots=True)
class SegmentationSettings:
    """Lengths are shares of the crop's side, the cell in the middle being about half a side wide.

    smooth: of the density. middle: radius of the disc whose levels count, since neighbours may be darker. join: gap
    between lobes of one nucleus; off: farthest that the middle of a lobe lies from that of the crop; lobe: its least
    area, relative to the largest part. rim: width of what surely belongs to the cell around its nucleus, where it is no
    glass. reach: farthest that cytoplasm lies from the nucleus. glass: density in all channels together below which a
    pixel is background.
    """

    smooth: float = 0.012
    middle: float = 0.38
    join: float = 0.12
    off: float = 0.3
    reach: float = 0.25
    lobe: float = 0.03
    rim: float = 0.04
    glass: float = 0.22


@dataclass(frozen=True, slots=True)
class Compartments:
    """nucleus, cell: masks, the nucleus inside the cell. found: False where a disc in the middle stands in for both."""

    nucleus: Mask
    cell: Mask
    found: bool = True

    @property
    def cytoplasm(self) -> Mask:
        return self.cell & ~self.nucleus


def segment(rgb: Image, settings: SegmentationSettings | None = None) -> Compartments:
    """Compartments of the cell nearest to the middle of a crop with even light; never fails, see `found`."""
    settings = settings or SegmentationSettings()
    optical = cv2.GaussianBlur(density(rgb), (0, 0), settings.smooth * min(rgb.shape[:2]))
    red = 1 - np.exp(-optical[..., 0])  # the light taken: within a dark nucleus densities differ more than light does
    stained = red > _three_levels(red[_within(red.shape, settings.middle)])[1]
    nucleus = _central_nucleus(stained, settings)
    if nucleus is None:
        return _disc(rgb.shape[0], rgb.shape[1])
    cell = _cell(rgb, optical, nucleus, stained, settings)
    return Compartments(nucleus, cell)


def _three_levels(values: NDArray[np.float32]) -> tuple[float, float]:
    """The two thresholds that part values into three classes of highest variance between them."""
    counts, edges = np.histogram(values, bins=64, range=(0.0, 1.0))
    weight = counts / max(counts.sum(), 1)
    mass = np.concatenate([[0], np.cumsum(weight)])
    moment = np.concatenate([[0], np.cumsum(weight * (edges[:-1] + edges[1:]) / 2)])
    share = mass[None, :] - mass[:, None]  # of the bins from row to column
    between = np.where(share > 1e-9, (moment[None, :] - moment[:, None]) ** 2 / np.maximum(share, 1e-9), 0)
    total = between[0, :, None] + between[:, :] + between[:, -1][None, :]  # first cut in rows, second in columns
    total[np.tril_indices(65)] = -1
    first, second = np.unravel_index(int(total.argmax()), total.shape)
    return float(edges[first]), float(edges[second])


def _central_nucleus(stained: Mask, settings: SegmentationSettings) -> Mask | None:
    """The stained part that is large and near the middle, with the lobes close to it; None where there is none."""
    side = min(stained.shape)
    opened = cv2.morphologyEx(stained.astype(np.uint8), cv2.MORPH_OPEN, _round(max(1, round(side * 0.012))))
    number, labels, stats, centres = cv2.connectedComponentsWithStats(opened)
    if number < 2:
        return None
    middle = np.array(stained.shape[::-1]) / 2
    areas = stats[1:, cv2.CC_STAT_AREA].astype(float)
    distance = np.linalg.norm(centres[1:] - middle, axis=1) / side
    seed = int(np.argmax(areas * np.exp(-((distance / 0.2) ** 2)))) + 1
    if areas[seed - 1] < 0.002 * stained.size:
        return None
    gap = cv2.distanceTransform((labels != seed).astype(np.uint8), cv2.DIST_L2, 3)
    keep = [seed]
    for other in range(1, number):
        lobe = areas[other - 1] >= settings.lobe * areas[seed - 1] and distance[other - 1] < settings.off
        if other != seed and lobe and gap[labels == other].min() <= settings.join * side:
            keep.append(other)
    return _filled(np.isin(labels, keep))


def _cell(
    rgb: Image,
    optical: NDArray[np.float32],
    nucleus: Mask,
    stained: Mask,
    settings: SegmentationSettings,
) -> Mask:
    """Nucleus and cytoplasm: a watershed between the nucleus and glass, red cells, other nuclei and what is far off."""
    side = min(nucleus.shape)
    away = cv2.distanceTransform((~nucleus).astype(np.uint8), cv2.DIST_L2, 3)
    others = stained & (away > settings.join * side)
    glass = optical.sum(axis=-1) < settings.glass
    outside = ((glass | others) & (away > 2)) | (away > settings.reach * side)
    outside = cv2.erode(outside.astype(np.uint8), _round(1)) > 0
    inside = (away < max(1.5, settings.rim * side)) & ~glass & ~others | (away < 1.5)
    markers = np.where(inside, 1, np.where(outside, 2, 0)).astype(np.int32)
    smooth = cv2.GaussianBlur(np.ascontiguousarray(rgb), (0, 0), settings.smooth * side)
    cv2.watershed(smooth, markers)
    body = (markers == 1).astype(np.uint8)
    body = cv2.morphologyEx(body, cv2.MORPH_OPEN, _round(max(1, round(side * 0.02)))) > 0
    return _filled(_connected_to(body | nucleus, nucleus))


def depth_in(mask: Mask) -> NDArray[np.float32]:
    """Distance of every pixel of a mask from its border, pixels; what lies beyond the image is no part of it."""
    return cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]


def _connected_to(mask: Mask, seed: Mask) -> Mask:
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    return np.isin(labels, np.unique(labels[seed]))


def _filled(mask: Mask) -> Mask:
    """The mask without holes."""
    around = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, labels = cv2.connectedComponents(around, connectivity=4)
    return ~(labels == labels[0, 0])[1:-1, 1:-1]


def _round(radius: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.uint8)


def _disc(height: int, width: int) -> Compartments:
    return Compartments(_within((height, width), 0.15), _within((height, width), 0.25), found=False)


def _within(shape: tuple[int, ...], radius: float) -> Mask:
    """A disc in the middle, its radius as a share of the side."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(x - shape[1] / 2 + 0.5, y - shape[0] / 2 + 0.5) < radius * min(shape[:2])
