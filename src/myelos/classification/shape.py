"""Features of shape: outlines of nucleus and cell, their moments and Fourier descriptors, and how the one lies in the
other. Lengths are in pixels of the crop, so that size counts; the descriptors of form do not change with size or turn.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.classification.view import CellView
from myelos.imaging.segmentation import Mask, depth_in

Array = NDArray[np.float64]

BODIES = ("nucleus", "cell")
SCALARS = (
    "area", "perimeter", "form_factor", "diameter", "box_width", "box_height", "extent", "hull_area", "solidity",
    "convexity", "major_axis", "minor_axis", "eccentricity", "elongation", "inscribed_radius", "enclosing_radius",
    "roundness", "compactness", "parts", "largest_part", "holes", "defects", "deepest_defect", "defect_depth",
    "bending", "lobes_at_half", "lobes_at_two_thirds", "necks", "centre_x", "centre_y",
)  # fmt: skip
MOMENTS = ("nu20", "nu11", "nu02", "nu30", "nu21", "nu12", "nu03")
HARMONICS, RADIAL, TURNING, DEPTHS, FEATURES_OF_RADIUS = 12, 12, 12, 8, 6
GAP = ("mean", "deviation", "p5", "p25", "p50", "p75", "p95", "touching")


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """Names of `measure`'s features, in its order."""
    found = ["shape.found"]
    for body in BODIES:
        parts = [*SCALARS, *MOMENTS, *(f"hu_{index}" for index in range(7))]
        parts += [f"fourier_{sign}{index}" for sign in "+-" for index in range(1, HARMONICS + 1)]
        parts += [f"radius_{part}" for part in ("mean", "deviation", "skewness", "kurtosis", "least", "greatest")]
        parts += [f"radius_share_{index}" for index in range(RADIAL)]
        parts += [f"turning_share_{index}" for index in range(TURNING)]
        parts += [f"depth_share_{index}" for index in range(DEPTHS)]
        found += [f"shape.{body}.{part}" for part in parts]
    found += ["shape.nucleus_share", "shape.nucleus_to_cytoplasm", "shape.offset", "shape.relative_offset"]
    found += ["shape.perimeter_ratio", "shape.angle_between", "shape.cytoplasm_area", "shape.cytoplasm_parts"]
    return (*found, *(f"shape.gap_{part}" for part in GAP))


def measure(view: CellView) -> NDArray[np.float32]:
    """(F,) features in the order of `names`; a body without pixels gives 0."""
    nucleus, cell = view.regions["nucleus"], view.regions["cell"]
    parts = [np.array([float(view.found)]), _body(nucleus, view), _body(cell, view), _relation(nucleus, cell)]
    return np.nan_to_num(np.concatenate(parts)).astype(np.float32)


def _body(mask: Mask, view: CellView) -> Array:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = max(outlines, key=cv2.contourArea, default=np.zeros((0, 1, 2), np.int32))
    if len(outer) < 5:
        return np.zeros(len(SCALARS) + 14 + 2 * HARMONICS + FEATURES_OF_RADIUS + RADIAL + TURNING + DEPTHS)
    moments = cv2.moments(mask.astype(np.uint8), True)
    hu = cv2.HuMoments(moments).ravel()
    logs = -np.sign(hu) * np.log10(np.abs(hu) + 1e-30)
    line = _even_steps(outer)
    depth = depth_in(mask)
    middle = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
    return np.concatenate(
        [
            _scalars(mask, outer, line, depth, moments, view),
            [moments[name] for name in MOMENTS],
            logs,
            _fourier(line),
            _radii(line, middle),
            _turning_shares(line),
            _shares(depth[mask] / max(float(depth.max()), 1), DEPTHS),
        ]
    )


def _scalars(
    mask: Mask, outer: NDArray, line: Array, depth: NDArray, moments: dict[str, float], view: CellView
) -> list[float]:
    """In the order of `SCALARS`."""
    area, perimeter = float(mask.sum()), float(cv2.arcLength(outer, True))
    points = np.concatenate(cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0])
    hull = cv2.convexHull(points)
    hull_area, hull_length = float(cv2.contourArea(hull)), float(cv2.arcLength(hull, True))
    _, (width, height), _ = cv2.minAreaRect(hull)
    major, minor = _axes(moments)
    radius = float(cv2.minEnclosingCircle(hull)[1])
    number, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    holes = cv2.connectedComponents(np.pad(~mask, 1, constant_values=True).astype(np.uint8), connectivity=4)[0] - 2
    deep = _defects(outer)
    half, two_thirds = (_parts(depth > level * depth.max()) for level in (0.5, 2 / 3))
    return [
        area, perimeter, 4 * np.pi * area / max(perimeter**2, 1), np.sqrt(4 * area / np.pi), width, height,
        area / max(width * height, 1), hull_area, area / max(hull_area, 1), hull_length / max(perimeter, 1),
        major, minor, np.sqrt(max(0.0, 1 - (minor / max(major, 1e-6)) ** 2)), minor / max(major, 1e-6),
        float(depth.max()), radius, area / max(np.pi * radius**2, 1), float(depth.max()) / max(radius, 1),
        number - 1, float(stats[1:, cv2.CC_STAT_AREA].max()) / area, holes, float((deep > 1.5).sum()),
        float(deep.max(initial=0)), float(deep.sum()), float((_turns(line) ** 2).mean()), half, two_thirds,
        float(half - (number - 1)), view.place[0] + moments["m10"] / area - view.size[1] / 2,
        view.place[1] + moments["m01"] / area - view.size[0] / 2,
    ]  # fmt: skip


def _axes(moments: dict[str, float]) -> tuple[float, float]:
    """Length of the axes of the ellipse with the same second moments."""
    area = moments["m00"]
    spread = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]]) / area
    low, high = np.linalg.eigvalsh(spread)
    return 4 * float(np.sqrt(max(high, 0))), 4 * float(np.sqrt(max(low, 0)))


def _defects(outer: NDArray) -> Array:
    """Depths of the bays between outline and hull, pixels."""
    hull = cv2.convexHull(outer, returnPoints=False)
    if len(hull) < 4:
        return np.zeros(0)
    hull[::-1].sort(axis=0)
    try:
        found = cv2.convexityDefects(outer, hull)
    except cv2.error:  # an outline that crosses itself
        return np.zeros(0)
    return found.reshape(-1, 4)[:, 3] / 256.0 if found is not None else np.zeros(0)


def _parts(mask: NDArray[np.bool_]) -> float:
    return float(cv2.connectedComponents(mask.astype(np.uint8))[0] - 1)


def _even_steps(outline: NDArray, number: int = 128) -> Array:
    """(128, 2) points at equal steps along a closed outline, smoothed over three."""
    points = outline.reshape(-1, 2).astype(float)
    closed = np.vstack([points, points[:1]])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    goal = np.linspace(0, along[-1], number, endpoint=False)
    line = np.stack([np.interp(goal, along, closed[:, axis]) for axis in (0, 1)], axis=1)
    return (np.roll(line, 1, axis=0) + line + np.roll(line, -1, axis=0)) / 3


def _fourier(line: Array) -> Array:
    """(24,) sizes of the first twelve harmonics either way, relative to the first: of no size, place, turn or start."""
    terms = np.abs(np.fft.fft(line[:, 0] + 1j * line[:, 1]))
    base = max(float(max(terms[1], terms[-1])), 1e-6)
    ahead, back = terms[1 : HARMONICS + 1], terms[-1 : -HARMONICS - 1 : -1]
    if terms[1] < terms[-1]:  # the outline runs the other way round
        ahead, back = back, ahead
    return np.concatenate([ahead, back]) / base


def _radii(line: Array, middle: Array) -> Array:
    """Six figures of the distance from the middle, relative to its mean, and a histogram of it."""
    radius = np.linalg.norm(line - middle, axis=1)
    relative = radius / max(float(radius.mean()), 1e-6)
    scaled = (relative - 1) / max(float(relative.std()), 1e-6)
    figures = [radius.mean(), relative.std(), (scaled**3).mean(), (scaled**4).mean(), relative.min(), relative.max()]
    return np.concatenate([figures, _shares(relative / 2, RADIAL)])


def _turns(line: Array) -> Array:
    """(128,) turning of the outline at every point, radians, over eight steps."""
    ahead, back = np.roll(line, -4, axis=0) - line, line - np.roll(line, 4, axis=0)
    cross = back[:, 0] * ahead[:, 1] - back[:, 1] * ahead[:, 0]
    return np.arctan2(cross, (back * ahead).sum(axis=1))


def _turning_shares(line: Array) -> Array:
    return _shares((_turns(line) + 1.5) / 3, TURNING)


def _shares(values: NDArray, bins: int) -> Array:
    """Shares of values from 0 to 1 in bins of equal width; what lies beyond is in the last ones."""
    place = np.clip((values * bins).astype(int), 0, bins - 1)
    return np.bincount(place, minlength=bins) / max(len(values), 1)


def _relation(nucleus: Mask, cell: Mask) -> Array:
    """How the nucleus lies in the cell: 8 figures, and 8 of the cytoplasm's width along the border of the nucleus."""
    cytoplasm = cell & ~nucleus
    if not nucleus.any() or not cell.any():
        return np.zeros(16)
    both = [cv2.moments(mask.astype(np.uint8), True) for mask in (nucleus, cell)]
    middles = [np.array([m["m10"], m["m01"]]) / m["m00"] for m in both]
    offset = float(np.linalg.norm(middles[0] - middles[1]))
    angles = [0.5 * np.arctan2(2 * m["mu11"], m["mu20"] - m["mu02"]) for m in both]
    depths = [depth_in(mask) for mask in (nucleus, cell)]
    rims = [(depth > 0) & (depth < 1.5) for depth in depths]
    width = depths[1][rims[0]]
    share = nucleus.sum() / cell.sum()
    figures = [
        share, nucleus.sum() / max(cytoplasm.sum(), 1), offset, offset / np.sqrt(cell.sum()),
        rims[0].sum() / max(rims[1].sum(), 1), abs(np.cos(angles[0] - angles[1])), cytoplasm.sum(), _parts(cytoplasm),
        width.mean(), width.std(), *np.percentile(width, (5, 25, 50, 75, 95)), (width < 2.5).mean(),
    ]  # fmt: skip
    return np.array(figures, dtype=float)
