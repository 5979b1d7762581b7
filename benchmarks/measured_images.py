"""Images that an instrument measured and a colour ramp paints: parts of a landscape's heights, scans of bodies.

They come with matplotlib and pydicom. Ramps from white to purple give them the colours of stained nuclei.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.drawn_images import SIZES, Image, Random

RAMPS = (
    "viridis", "plasma", "inferno", "magma", "cividis", "Greys", "Purples", "Blues", "Greens", "Oranges", "Reds",
    "YlOrBr", "YlOrRd", "OrRd", "PuRd", "RdPu", "BuPu", "GnBu", "PuBu", "YlGnBu", "PuBuGn", "BuGn", "YlGn",
)  # fmt: skip
HEIGHT_RAMPS = ("terrain", "gist_earth", "BuPu", "RdPu", "viridis")
SCANS = (
    "CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm", "MR_small.dcm", "examples_overlay.dcm",
    "examples_rgb_color.dcm", "examples_ybr_color.dcm", "examples_palette.dcm",
)  # fmt: skip


def relief_maps(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Parts of a measured landscape in the colours of heights."""
    import matplotlib

    heights = np.load(Path(matplotlib.get_data_path()) / "sample_data" / "jacksboro_fault_dem.npz")["elevation"]
    for index in range(count):
        ramp = HEIGHT_RAMPS[index % len(HEIGHT_RAMPS)]
        yield ramp, painted(_part(heights.astype(np.float32), rng), ramp)


def scans(rng: Random, count: int) -> Iterator[tuple[str, Image]]:
    """Held out: computed tomography, magnetic resonance and ultrasound, as stored and in false colours by turns."""
    for index in range(count):
        name = SCANS[index % len(SCANS)]
        plane = _scan(name)
        plane = plane if index < len(SCANS) else _part(plane, rng)
        if index // len(SCANS) % 2 == 0:
            yield name, plane.astype(np.uint8) if plane.ndim == 3 else painted(plane, "gray")
        else:
            grey = plane if plane.ndim == 2 else plane.mean(axis=2)
            yield name, painted(grey, RAMPS[rng.integers(len(RAMPS))])


def painted(plane: NDArray[np.float32], ramp: str) -> Image:
    """A plane (h, w) in the colours of a ramp, from its 1st to its 99th percentile."""
    import matplotlib

    low, high = np.percentile(plane, (1, 99))
    shares = np.clip((plane - low) / max(float(high - low), 1e-6), 0, 1)
    return np.ascontiguousarray((matplotlib.colormaps[ramp](shares)[..., :3] * 255).astype(np.uint8))


def _part(plane: NDArray[np.float32], rng: Random) -> NDArray[np.float32]:
    """A part of random place and extent, enlarged to one of the usual sizes of images."""
    width = SIZES[rng.integers(len(SIZES))][0]
    share = rng.uniform(0.25, 1.0)
    rows, columns = (max(24, int(side * share)) for side in plane.shape[:2])
    top, left = (
        int(rng.integers(0, side - used + 1)) for side, used in zip(plane.shape, (rows, columns), strict=False)
    )
    part = plane[top : top + rows, left : left + columns]
    enlarged = cv2.resize(part, (width, max(32, round(width * rows / columns))), interpolation=cv2.INTER_CUBIC)
    return np.clip(enlarged, part.min(), part.max())


def _scan(name: str) -> NDArray[np.float32]:
    """Pixels (h, w) or RGB (h, w, 3) of one of pydicom's examples, the first frame where there are several."""
    import pydicom
    from pydicom.data import get_testdata_file
    from pydicom.pixels import apply_color_lut

    data = pydicom.dcmread(str(get_testdata_file(name, download=False)))
    pixels = data.pixel_array
    if data.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixels, data)
        pixels = (colours >> 8 if colours.dtype == np.uint16 else colours).astype(np.uint8)
    return (pixels[0] if pixels.ndim == 4 else pixels).astype(np.float32)
