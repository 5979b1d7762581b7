"""A cell ready to be measured: its channels in several colour spaces, and the regions that features are taken in."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.imaging.segmentation import Compartments, Image, Mask, depth_in, segment
from myelos.imaging.stain import MAY_GRUENWALD_GIEMSA, Separation

CHANNELS = (
    "red", "green", "blue", "hue", "saturation", "value", "lightness", "green_red", "blue_yellow",
    "violet_stain", "pink_stain", "grey",
)  # fmt: skip
REGIONS = (
    "cell", "nucleus", "cytoplasm", "nucleus_rim", "nucleus_core", "cytoplasm_inner", "cytoplasm_outer", "surroundings",
)  # fmt: skip
SIDE = 128  # pixels of the crop that features are measured on
MARGIN = 8  # pixels kept around the cell
DEEP = 2.5  # optical density that a channel of a stain shows as 255


@dataclass(frozen=True, slots=True)
class CellView:
    """channels: (12, h, w) uint8 in the order of `CHANNELS`, cut to the cell and its margin. regions: name → (h, w).

    size: of the crop that it was cut from; place: (x, y) of its corner there.
    """

    channels: NDArray[np.uint8]
    regions: dict[str, Mask]
    found: bool
    size: tuple[int, int]
    place: tuple[int, int]

    def channel(self, name: str) -> NDArray[np.uint8]:
        return self.channels[CHANNELS.index(name)]


def view(rgb: Image, compartments: Compartments | None = None) -> CellView:
    """Cut a cell out of a crop of even light and take its colours apart."""
    found = compartments or segment(rgb)
    y, x = np.nonzero(found.cell)
    top, left = max(0, int(y.min()) - MARGIN), max(0, int(x.min()) - MARGIN)
    part = np.s_[top : int(y.max()) + MARGIN + 1, left : int(x.max()) + MARGIN + 1]
    regions = _regions(found.nucleus[part], found.cell[part])
    return CellView(_channels(np.ascontiguousarray(rgb[part])), regions, found.found, found.cell.shape, (left, top))


def _channels(rgb: Image) -> NDArray[np.uint8]:
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL)
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    stains = Separation(_fixed_stains()).concentrations(rgb)
    levels = np.clip(stains * (255 / DEEP), 0, 255).astype(np.uint8)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return np.concatenate([rgb, hsv, lab, levels, grey[..., None]], axis=-1).transpose(2, 0, 1).copy()


def _fixed_stains() -> NDArray[np.float64]:
    """The same two directions for every cell: fitted ones would differ more between crops than stains do."""
    stains = np.array(MAY_GRUENWALD_GIEMSA)
    return stains / np.linalg.norm(stains, axis=1, keepdims=True)


def _regions(nucleus: Mask, cell: Mask) -> dict[str, Mask]:
    """Compartments, and each divided by depth: the nucleus at half its depth, the cytoplasm at half its width."""
    cytoplasm = cell & ~nucleus
    depth = depth_in(nucleus)
    away = cv2.distanceTransform((~nucleus).astype(np.uint8), cv2.DIST_L2, 3)
    core = depth > 0.5 * (np.percentile(depth[nucleus], 95) if nucleus.any() else 0)
    near = away <= (np.median(away[cytoplasm]) if cytoplasm.any() else 0)
    return {
        "cell": cell,
        "nucleus": nucleus,
        "cytoplasm": cytoplasm,
        "nucleus_rim": nucleus & ~core,
        "nucleus_core": nucleus & core,
        "cytoplasm_inner": cytoplasm & near,
        "cytoplasm_outer": cytoplasm & ~near,
        "surroundings": ~cell,
    }
