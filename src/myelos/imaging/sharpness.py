"""How sharp a field or tile is, so that blurred ones can be told apart within a slide."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

REFERENCE_MPP = 0.25  # µm/px at which tiles are compared where their scale is known


def sharpness(rgb: NDArray[np.uint8], mpp: float | None = None) -> float:
    """Variance of the Laplacian over the variance of the picture: 0 where nothing is seen, larger where sharper.

    rgb: uint8 (h, w, 3). mpp: µm per pixel; where it is known and finer than 0.25, the picture is first reduced to
    0.25, so that tiles read at several resolutions compare. Dividing by the contrast makes it independent of
    exposure and, for the most part, of how strongly a tile is stained. Comparable between tiles of one slide (same
    camera, same objective), not between cameras: noise and sharpening raise it too. Noise is damped by a slight blur
    (3 × 3) and a floor of 4 grey levels squared under the contrast, below which a tile shows nothing but noise.
    """
    if rgb.size == 0:
        return 0.0
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if mpp is not None and mpp < REFERENCE_MPP:
        scale = mpp / REFERENCE_MPP
        size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (3, 3), 0)
    return float(cv2.Laplacian(smooth, cv2.CV_32F, ksize=1).var() / (smooth.var() + 4.0))
