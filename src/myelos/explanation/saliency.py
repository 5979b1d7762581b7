"""Which pixels a decision rests on: SmoothGrad and Grad-CAM, as in Figure 5 of Matek 2021."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from myelos.networks.cells import CellNetwork

Map = NDArray[np.float32]  # (side, side), not below zero


@dataclass(frozen=True, slots=True)
class SmoothGradSettings:
    """samples: noisy copies of an image. noise: standard deviation of what is added, as a share of the image's range.
    Smilkov 2017 (sections 3.1 and 3.2) sees little change beyond 50 samples, and the clearest maps at 10 to 20 %.
    at_once: copies per pass; it changes nothing but memory. seed: of the noise."""

    samples: int = 50
    noise: float = 0.15
    at_once: int = 10
    seed: int = 0


def smooth_grad(
    network: CellNetwork, pixels: Tensor, targets: Tensor, settings: SmoothGradSettings | None = None
) -> Map:
    """(N, S, S): the gradient of the target's logit, averaged over noisy copies (Smilkov 2017, section 3).

    pixels: (N, 3, S, S) RGB, 0 to 255; targets: (N,) type of each. Of the average the absolute values are summed over
    the channels, so that a pixel counts whether it speaks for the type or against it.
    """
    from captum.attr import NoiseTunnel, Saliency

    settings = settings or SmoothGradSettings()
    method = NoiseTunnel(Saliency(network.eval()))
    maps = []
    with torch.random.fork_rng(devices=[]):
        for image, target in zip(pixels, targets, strict=True):
            torch.manual_seed(settings.seed)  # the same noise for every image and every network that is compared
            found = method.attribute(
                image[None],
                nt_type="smoothgrad",
                nt_samples=settings.samples,
                nt_samples_batch_size=min(settings.at_once, settings.samples),
                stdevs=settings.noise * float(image.max() - image.min()),
                target=int(target),
                abs=False,
            )
            maps.append(found[0].detach().abs().sum(dim=0).cpu().numpy())
    return np.stack(maps).astype(np.float32)


def grad_cam(network: CellNetwork, pixels: Tensor, targets: Tensor) -> Map:
    """(N, S, S): the last feature maps, weighted by the mean gradient of the target's logit; what speaks against the
    type is cut off (Selvaraju 2017, equations 1 and 2). Enlarged bilinearly to the pixels of the image.
    """
    from captum.attr import LayerGradCam

    method = LayerGradCam(network.eval(), network.trunk)
    coarse = method.attribute(pixels.requires_grad_(), target=targets, relu_attributions=True)
    size = pixels.shape[-2:]
    fine = torch.nn.functional.interpolate(coarse.detach(), size=size, mode="bilinear", align_corners=False)
    pixels.requires_grad_(False)
    return fine[:, 0].cpu().numpy().astype(np.float32)


METHODS = {"smooth_grad": "SmoothGrad", "grad_cam": "Grad-CAM"}


def both(
    network: CellNetwork, pixels: Tensor, targets: Tensor, settings: SmoothGradSettings | None = None
) -> dict[str, Map]:
    """Maps (N, S, S) by the names of `METHODS`."""
    return {
        "smooth_grad": smooth_grad(network, pixels, targets, settings),
        "grad_cam": grad_cam(network, pixels, targets),
    }


def focus(found: Map, radius: float) -> float | None:
    """The share of one map (S, S) that lies within `radius` pixels of the middle; None where the map is empty.

    To be read beside the share of the area that the disc has: a map that looks anywhere has that share.
    """
    total = float(found.sum())
    return float(found[disc(len(found), radius)].sum()) / total if total > 0 else None


def disc(side: int, radius: float) -> NDArray[np.bool_]:
    """(side, side): True within `radius` pixels of the middle."""
    place = np.arange(side) + 0.5 - side / 2
    return np.hypot(*np.meshgrid(place, place)) <= radius
