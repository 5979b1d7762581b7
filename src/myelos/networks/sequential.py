"""The plain sequential network that Matek 2021 compares with: convolutions one after the other, no shortcuts.

The text gives its number of parameters with 22 outputs, 303,694, and says that the drawing is in supplemental Figure 5,
which the text does not hold. That number alone leaves the widths open: a search over plain stacks finds many. This one
has it exactly, with the most regular shape found: six convolutions of 3 × 3 in pairs of 32, 48 and 146 channels,
each followed by a batch normalisation (so without a bias), the mean over the map, and one linear layer:

    convolutions    9 · (3·32 + 32·32 + 32·48 + 48·48 + 48·146 + 146·146)      = 299,556
    normalisations  2 · (32 + 32 + 48 + 48 + 146 + 146)                        =     904
    linear          146 · 22 + 22                                              =   3,234

Maps are halved after each convolution but the last; that costs no parameter and is ours too.
"""

from __future__ import annotations

from torch import nn

WIDTHS = (32, 32, 48, 48, 146, 146)


def sequential() -> tuple[nn.Module, int]:
    """(N, 3, S, S) → (N, 146, ⌊S/32⌋, ⌊S/32⌋), and the 146."""
    layers: list[nn.Module] = []
    inward = 3
    for index, outward in enumerate(WIDTHS):
        layers += [nn.Conv2d(inward, outward, 3, 1, 1, bias=False), nn.BatchNorm2d(outward), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] if index < len(WIDTHS) - 1 else []
        inward = outward
    return nn.Sequential(*layers), inward
