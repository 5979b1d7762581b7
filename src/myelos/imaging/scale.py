"""µm per pixel from the red cells: nature's ruler in every smear.

A red cell in a dried smear measures 7.2 to 7.8 µm across. Isolated, round, complete ones are outlined in each field,
their diameters pooled over the fields of a smear, and the most frequent one taken: doublets, platelets, fragments
and white cells lie elsewhere. No estimate is more certain than ±8 %: people's red cells differ by that much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.imaging.appearance import AppearanceSettings, Image, normalise

Sizes = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScaleSettings:
    """What a red cell is taken to be.

    diameter_um: mean area-equivalent diameter. smallest, largest: diameters looked for, in pixels; the largest is
    also held under `largest_share` of the shorter side of the field. fewest: red cells without which there is no
    estimate. least_agreement: share, by area, of the round things found that have the typical size.
    least_area: share of all that is dark in a field that they must make up, lest specks be taken for cells.
    least_uncertainty: floor of the relative uncertainty.
    """

    diameter_um: float = 7.5
    smallest: float = 7.0
    largest: float = 300.0
    largest_share: float = 0.6
    solidity: float = 0.93
    roundness: float = 0.70
    fewest: int = 10
    least_agreement: float = 0.3
    least_area: float = 0.02
    most_fields: int = 40
    least_uncertainty: float = 0.08


@dataclass(frozen=True, slots=True)
class ScaleEstimate:
    """mpp: µm per pixel. uncertainty: relative standard error. red_cells measured in how many fields."""

    mpp: float
    uncertainty: float
    red_cells: int
    fields: int

    @property
    def diameter(self) -> float:
        """Of the measured red cells in pixels, if they are 7.5 µm across."""
        return 7.5 / self.mpp


def estimate_mpp(fields: Sequence[Image], *, settings: ScaleSettings | None = None) -> ScaleEstimate | None:
    """Scale of the fields of one smear, taken with one camera; None where too few plausible red cells are seen.

    fields: RGB uint8 (h, w, 3), all at the same unknown scale; of more than `settings.most_fields`, evenly spaced
    ones are measured.
    """
    settings = settings or ScaleSettings()
    if len(fields) > settings.most_fields:
        fields = [fields[i] for i in np.linspace(0, len(fields) - 1, settings.most_fields).round().astype(int)]
    return estimate_from_sizes([round_cells(field, settings) for field in fields], settings)


def estimate_from_sizes(found: Sequence[Sizes], settings: ScaleSettings | None = None) -> ScaleEstimate | None:
    """The estimate from the diameters (pixels) that `round_cells` gave for each field."""
    settings = settings or ScaleSettings()
    sizes = np.concatenate([np.zeros(0), *found])
    if len(sizes) < settings.fewest:
        return None
    owner = np.repeat(np.arange(len(found)), [len(each) for each in found])
    kept = _typical(sizes)
    agreement = np.sum(sizes[kept] ** 2) / np.sum(sizes**2)  # by area: specks in a hundred do not outvote cells
    if kept.sum() < settings.fewest or agreement < settings.least_agreement:
        return None
    diameter, spread = float(np.mean(sizes[kept])), float(np.std(np.log(sizes[kept])))
    chance = max(spread, 0.1) / np.sqrt(kept.sum())
    uncertainty = float(np.hypot(settings.least_uncertainty, 2 * chance))
    return ScaleEstimate(settings.diameter_um / diameter, uncertainty, int(kept.sum()), len(np.unique(owner[kept])))


def round_cells(field: Image, settings: ScaleSettings | None = None) -> Sizes:
    """(N,) area-equivalent diameters in pixels of what looks like a complete, round red cell in the field.

    The field is looked at in full, half and quarter size (a camera may have far more pixels than detail, and noise
    roughens outlines), cut at two levels of darkness (beside many nuclei the first one separates nuclei from the
    rest), as it is and with the cells shrunk from their edges, which parts those that touch. The look that shows the
    largest area of alike, round cells is the one that is believed.
    """
    settings = settings or ScaleSettings()
    best, shrink = np.zeros(0), 1
    even = normalise(field, AppearanceSettings())
    while min(even.shape[:2]) >= 4 * settings.smallest:
        dark = _darkness(even)
        for number, threshold in enumerate(_thresholds(dark)):
            inside = dark > threshold
            least = settings.least_area * np.count_nonzero(inside)
            for depth, sizes in _looks(even, inside, settings):
                plain = depth == 0 and number == 0
                if _area(sizes) > least and _shows_more(sizes * shrink, best, 1.1 if plain else 1.3):
                    best = sizes * shrink
        if shrink == 4:
            break
        shrink *= 2
        even = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return best


def _shows_more(sizes: Sizes, best: Sizes, factor: float) -> bool:
    """Whether one look shows more than the best so far: more cells of the same size, or a larger area of others.

    Counted where the sizes agree, because a lower level of darkness only makes every cell a little larger.
    """
    if len(best) == 0 or len(sizes) == 0:
        return len(sizes) > len(best)
    new, old = sizes[_typical(sizes)], best[_typical(best)]
    if abs(np.log(np.mean(new) / np.mean(old))) < 0.3:
        return len(new) > factor * len(old)
    return float(np.sum(new**2)) > factor * float(np.sum(old**2))


def _area(sizes: Sizes) -> float:
    """Of the cells of typical size."""
    return float(np.sum(sizes[_typical(sizes)] ** 2)) * np.pi / 4


_EDGE = 0.5  # of the way up to Otsu's threshold
_SWELLING = 1.1  # pixels: what a picture's own blur of about a pixel adds to a diameter at that level
_FINE = 700  # pixels a side, above which cells are parted in the reduced pictures only
_DEPTHS = (0.0, 1.5, 2.5, 4.0, 6.5, 10.0)  # pixels; the reduced pictures bring larger cells within their reach


def _looks(rgb: Image, dark: NDArray[np.bool_], settings: ScaleSettings) -> Iterator[tuple[float, Sizes]]:
    """(depth, diameters): cells outlined as they are, then parted by taking `depth` pixels off all edges.

    A disk of diameter d becomes one of d - 2 depth; cells joined by a neck narrower than 2 depth come apart.
    """
    usual = float(np.median(rgb[..., 0][dark])) if dark.any() else 255.0
    mask = np.where(dark, np.uint8(255), np.uint8(0))
    contours, nesting = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    yield 0.0, _outlined(rgb, contours, 0.0, usual, settings)
    if nesting is None or min(rgb.shape[:2]) > _FINE:
        return
    pallors = [contour for contour, (_, _, _, parent) in zip(contours, nesting[0], strict=True) if parent >= 0]
    cv2.drawContours(mask, [hole for hole in pallors if _is_pallor(hole)], -1, 255, cv2.FILLED)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5) - 0.5  # from the edge, not from the next pixel's centre
    for depth in _DEPTHS[1:]:
        cores = np.where(distance > depth, np.uint8(255), np.uint8(0))
        contours, _ = cv2.findContours(cores, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        yield depth, _outlined(rgb, contours, depth, usual, settings)


def _is_pallor(hole: NDArray[np.int32]) -> bool:
    """A pale centre is convex, a gap between touching cells is not."""
    return cv2.contourArea(hole) >= 0.8 * cv2.contourArea(cv2.convexHull(hole))


def _outlined(
    rgb: Image, contours: Sequence[NDArray[np.int32]], depth: float, usual: float, settings: ScaleSettings
) -> Sizes:
    """Diameters, in pixels of this picture, of red cells whose cores, `depth` from the edge, have these outlines."""
    height, width = rgb.shape[:2]
    sizes = [(_diameter(contour, width, height, depth, settings), contour) for contour in contours]
    largest = min(settings.largest, settings.largest_share * min(height, width))
    cells = [(size, contour) for size, contour in sizes if settings.smallest <= size <= largest]
    return np.array([size for size, contour in cells if _red(contour, rgb, usual)], dtype=np.float64)


def _darkness(rgb: Image) -> NDArray[np.uint8]:
    """(h, w) absorbance of haemoglobin: how much darker than the background in green and blue."""
    return cv2.transform(cv2.bitwise_not(rgb), np.array([[0.1, 0.6, 0.3]], np.float32))


def _thresholds(dark: NDArray[np.uint8]) -> list[float]:
    """Levels of darkness that may part cells from the background; none where nothing stands out.

    Otsu's threshold lies half way up the edge, but a red cell thins out towards its rim: lower is nearer to where
    a person sees its edge. The second level is the same within what the first one leaves as background.
    """
    lit = np.minimum(dark[dark < 200], 130)  # nuclei and the surround of an eyepiece shall not draw the threshold
    levels: list[float] = []
    for _ in range(2):
        if lit.size < 100:
            break
        half = _otsu(lit)
        lit = lit[lit <= half]
        if not lit.size:  # a single grey level: Otsu's threshold is 0
            break
        background = float(np.median(lit))
        if half - background < 6:
            break
        levels.append(background + _EDGE * (half - background))
    return levels


def _otsu(values: NDArray[np.uint8]) -> float:
    return float(cv2.threshold(values.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0])


def _diameter(contour: NDArray[np.int32], width: int, height: int, depth: float, settings: ScaleSettings) -> float:
    """Area-equivalent diameter of the cell with this core, if that is round and whole, else 0.

    Holes (pallor) count as inside. A core must be a good part of its cell, or its shape says nothing.
    """
    x, y, w, h = cv2.boundingRect(contour)
    margin = 1 + depth
    least = max(settings.smallest - 2, 2 * depth, 3)
    if min(x, y, width - x - w, height - y - h) <= margin or min(w, h) < least:
        return 0.0
    if cv2.contourArea(contour, oriented=True) > 0:  # a hole runs the other way round
        return 0.0
    # The outline runs through the centres of border pixels; Pick's theorem gives the number of pixels inside.
    area = cv2.contourArea(contour) + 0.5 * len(contour) + 1
    hull = cv2.convexHull(contour)
    perimeter = cv2.arcLength(hull, True)
    hull_area = cv2.contourArea(hull) + 0.5 * perimeter + 1
    if area < settings.solidity * hull_area or 4 * np.pi * hull_area < 0.85 * (perimeter + np.pi) ** 2:
        return 0.0
    _, axes, _ = cv2.minAreaRect(hull)
    longer, shorter = max(axes) + 1 + 2 * depth, min(axes) + 1 + 2 * depth
    return float(np.sqrt(4 * area / np.pi) + 2 * depth - _SWELLING) if shorter >= settings.roundness * longer else 0.0


def _red(contour: NDArray[np.int32], rgb: Image, usual: float) -> bool:
    """No nucleus inside: hardly any pixel absorbs red strongly, in itself or beside what is `usual` in the field.

    usual: median red value of all that is dark in the field, red cells for the most part.
    """
    x, y, w, h = cv2.boundingRect(contour)
    inside = np.zeros((h, w), np.uint8)
    cv2.drawContours(inside, [contour - np.array([x, y])], -1, 255, cv2.FILLED)
    pixels = rgb[y : y + h, x : x + w][inside > 0]
    stained = ((pixels[:, 0] < 120) & (pixels[:, 1] < 110)) | (pixels[:, 0] < 0.8 * usual)
    return bool(stained.mean() < 0.15)


def _typical(sizes: Sizes) -> NDArray[np.bool_]:
    """(N,) which diameters lie within a quarter of the most frequent one, on a logarithmic axis.

    Weighed by area: specks count little; a doublet (1.4 times as wide at the same area each) lies outside.
    """
    if len(sizes) == 0:
        return np.zeros(0, bool)
    log = np.log(sizes)
    grid = np.arange(log.min() - 0.05, log.max() + 0.06, 0.01)
    density = (sizes[:, None] ** 2 * np.exp(-0.5 * ((log[:, None] - grid[None]) / 0.08) ** 2)).sum(axis=0)
    return np.abs(log - grid[density.argmax()]) < 0.25
