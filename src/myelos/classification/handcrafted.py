"""More than 6,000 features of one cell's shape, colour and texture, after the classifier that Matek 2021 compares with.

The paper names its kinds (shape, colour, texture, nucleus and cytoplasm told apart) and their number, not the features
themselves (Krappe et al., SPIE 9785:97853C, 2016): these are ours.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from myelos.classification import colour, shape, texture
from myelos.classification.view import view
from myelos.imaging.segmentation import Compartments, Image


@lru_cache(maxsize=1)
def feature_names() -> tuple[str, ...]:
    """What every feature is: family, compartment or region, channel, figure."""
    return (*shape.names(), *colour.names(), *texture.names())


def features(rgb: Image, compartments: Compartments | None = None) -> NDArray[np.float32]:
    """(F,) features of the cell in the middle of a crop of even light, in the order of `feature_names`.

    rgb: (128, 128, 3) at one scale for all cells that are compared; other sizes work, but are not comparable.
    compartments: found by `segment` where None. Always finite.
    """
    seen = view(rgb, compartments)
    return np.concatenate([shape.measure(seen), colour.measure(seen), texture.measure(seen)])
