"""A detector without a network: dark purple blobs are cells, their size says which type."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from myelos.models.types import Boxes


class BlobDetector:
    """See `myelos.models.types.Detector`."""

    name, sha256 = "blobs", "0" * 64
    mpp, tile, threshold = 0.25, 640, 0.5

    def __init__(
        self,
        types: tuple[str, ...] = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte"),
        *,
        batch: int = 2,
        tile: int = 640,
    ) -> None:
        self.types, self.batch, self.tile = types, batch, tile
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Boxes]:
        self.calls.append(tuple(len(tile) for tile in tiles))
        assert len(tiles) <= self.batch
        assert all(max(tile.shape[:2]) <= self.tile for tile in tiles)
        return [self.boxes(tile) for tile in tiles]

    def boxes(self, tile: NDArray[np.uint8]) -> Boxes:
        smooth = cv2.GaussianBlur(tile, (5, 5), 0).astype(int)
        red, green, blue = smooth[..., 0], smooth[..., 1], smooth[..., 2]
        mask = ((red < 205) & (green < 188) & (blue > green + 15)).astype(np.uint8)
        mask = cv2.dilate(mask, np.ones((7, 7), np.uint8))
        _, _, statistics, _ = cv2.connectedComponentsWithStats(mask)
        found = statistics[1:][statistics[1:, cv2.CC_STAT_AREA] > 400]
        area = found[:, cv2.CC_STAT_AREA]
        scores = np.clip(area / 4000 + 0.45, 0, 0.99).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        found, scores, area = found[order], scores[order], area[order]
        shares = np.full((len(found), len(self.types)), 0.3 / (len(self.types) - 1), np.float32)
        shares[np.arange(len(found)), area // 300 % len(self.types)] = 0.7
        return Boxes(found[:, :4].astype(np.float32), scores, shares)
