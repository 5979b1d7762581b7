"""The settings of a glass slide, and the plan of what lies where on it.

The plan has squares of about 16 µm, coarser on very large slides, so that its memory is bounded whatever their size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.errors import UsageError
from myelos.phantom.compositions import COMPOSITIONS
from myelos.phantom.features import check
from myelos.phantom.glass.faults import Bubble, Dust, Scratch
from myelos.phantom.glass.scanners import scanner
from myelos.phantom.landscape import Region
from myelos.phantom.stain import STAINS

BLOCK = 2048  # px, a field of the scanner and a unit of work: 4 × 4 tiles
SMALLEST, LARGEST = 2048, 1_000_000  # px
RED_UNIT, HAZE_UNIT = 100.0, 60.0  # plans in uint8: this value is 1

Plan = NDArray[np.float32]  # (rows, columns) of squares
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class GlassSettings:
    """width, height: px of level 0. cells_per_mm2: nucleated cells in a trail where it leaves its particle.

    Raises UsageError for impossible values.
    """

    width: int
    height: int
    mpp: float = 0.25
    specimen: str = "marrow"
    blood_smear: bool = False  # a second smear, of blood, on the same glass
    seed: int = 0
    composition: str | dict[str, float] | None = None  # of COMPOSITIONS, or shares by type
    cells_per_mm2: float = 1300.0
    stain: str = "may_gruenwald_giemsa"
    stain_variation: float = 0.5
    scanner: str = "area_camera"
    pool_per_type: int = 40
    features: dict[str, float] = field(default_factory=dict)  # of features.FEATURES, in which share of their cells

    def __post_init__(self) -> None:
        if not min(self.width, self.height) >= SMALLEST or max(self.width, self.height) > LARGEST:
            raise UsageError(
                f"no glass of {self.width} × {self.height} px can be painted",
                remedy=f"Each side must have {SMALLEST} to {LARGEST} px",
            )
        if not 0.05 <= self.mpp <= 1:
            raise UsageError(f"no glass is scanned at {self.mpp:g} µm/px", remedy="Pass 0.05 to 1")
        if self.specimen not in ("marrow", "blood"):
            raise UsageError(f"no specimen '{self.specimen}'", remedy="Choose marrow or blood")
        if self.stain not in STAINS:
            raise UsageError(f"no stain '{self.stain}'", remedy=f"Choose one of {', '.join(STAINS)}")
        if isinstance(self.composition, str) and self.composition not in COMPOSITIONS:
            raise UsageError(f"no composition '{self.composition}'", remedy=f"Choose one of {', '.join(COMPOSITIONS)}")
        if self.cells_per_mm2 < 0:
            raise UsageError(f"a density of {self.cells_per_mm2} cells per mm² is impossible")
        scanner(self.scanner)
        check(self.features)

    def shares(self, specimen: str) -> dict[str, float]:
        """The composition of one of the smears; what is set holds for the main one."""
        chosen = self.composition if specimen == self.specimen else None
        if isinstance(chosen, dict):
            return chosen
        return COMPOSITIONS[chosen or f"{specimen}_normal"]

    @property
    def blocks(self) -> tuple[int, int]:
        """Columns and rows of blocks."""
        return -(-self.width // BLOCK), -(-self.height // BLOCK)


@dataclass(slots=True)
class Layout:
    """The plan of one glass. Maps are (rows, columns) of squares of `step` px, `per_block` squares to a block's side.

    cells: nucleated cells per mm². red: red cells, 1 is about 16,000 per mm². haze: dried matter, relative.
    label: grey of the label, 0 where there is none. blood: squares of a blood smear. where: number of the region, -1.
    damage: chance that a cell is damaged. focus: (rows, columns) of blocks, µm of blur beyond the scanner's own.
    fat: (M, 3) x, y, radius in px.
    """

    step: float
    per_block: int
    cells: Plan
    red: Plan
    haze: Plan
    label: NDArray[np.uint8]
    blood: Mask
    where: NDArray[np.int16]
    damage: Plan
    focus: Plan
    fat: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    regions: list[Region] = field(default_factory=list)
    dust: list[Dust] = field(default_factory=list)
    bubbles: list[Bubble] = field(default_factory=list)
    scratches: list[Scratch] = field(default_factory=list)

    def squares(self, places: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the squares of (N, 2) places in px."""
        found = np.floor(places / self.step).astype(np.intp)
        rows, columns = self.cells.shape
        return np.clip(found[:, 1], 0, rows - 1), np.clip(found[:, 0], 0, columns - 1)

    def in_bytes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """red and haze as the painter takes them: RED_UNIT and HAZE_UNIT are 1."""
        red, haze = np.rint(self.red * RED_UNIT), np.rint(self.haze * HAZE_UNIT)
        return np.clip(red, 0, 255).astype(np.uint8), np.clip(haze, 0, 255).astype(np.uint8)

    def add(self, kind: str, mask: Mask, *, smallest: int = 6, cells: bool = True) -> None:
        """Regions around the parts of a mask; `cells` says that its cells are told to lie in it."""
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for contour in contours:
            if cv2.contourArea(contour) < smallest:
                continue
            outline = cv2.approxPolyDP(contour, 0.75, True).reshape(-1, 2)
            if cells:
                cv2.fillPoly(self.where, [contour], len(self.regions))
            self.regions.append(Region(kind, (outline + 0.5) * self.step))
