"""Maps of single cells as pictures, as in Figure 5 of Matek 2021, and the check of Adebayo 2018 as figures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from myelos.explanation.cells import ExplainedCell
    from myelos.explanation.sanity import SanityCheck

Image = NDArray[np.uint8]
NAMES = {"smooth_grad": "SmoothGrad", "grad_cam": "Grad-CAM"}
_HEAT = 0.5  # share of the heat map in the overlay


def png(image: Image) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", image[..., ::-1])[1])


def as_picture(method: str, found: NDArray[np.float32], crop: Image) -> Image:
    """(S, S, 3): SmoothGrad in grey, the lighter the more; Grad-CAM as a heat map over the cell, red the most."""
    import cv2

    share = brightness(found, 99.0 if method == "smooth_grad" else 100.0)
    grey = (255 * share).astype(np.uint8)
    if method == "smooth_grad":
        return np.repeat(grey[..., None], 3, axis=2)
    heat = cv2.applyColorMap(grey, cv2.COLORMAP_JET)[..., ::-1]
    return ((1 - _HEAT) * crop + _HEAT * heat).astype(np.uint8)


def brightness(found: NDArray[np.float32], top: float) -> NDArray[np.float32]:
    """0 to 1; what lies above the percentile `top` is 1, so that a few pixels do not leave the rest dark
    (Smilkov 2017, section 2.1)."""
    most = float(np.percentile(found, top))
    return np.clip(found / most, 0, 1) if most > 0 else np.zeros_like(found)


def figure_five(cells: Sequence[ExplainedCell], *, most: int = 12) -> bytes:
    """PNG: a column a cell; the image, SmoothGrad and Grad-CAM below each other."""
    shown = cells[:most]
    figure = _canvas(1.25 * len(shown) + 1.0, 4.3)
    axes = figure.subplots(3, len(shown), squeeze=False)
    for column, cell in enumerate(shown):
        kind = taxonomy.cell_type(cell.predicted)
        pictures = [cell.crop, *(as_picture(name, cell.maps[name], cell.crop) for name in NAMES)]
        for row, picture in enumerate(pictures):
            _image(axes[row, column], picture)
        axes[0, column].set_title(kind.label.replace(" ", "\n", 1), fontsize=8)
    for row, name in enumerate(("Image", *NAMES.values())):
        axes[row, 0].set_ylabel(name, fontsize=9)
    return _saved(figure)


def sanity_maps(check: SanityCheck, crops: Sequence[Image], *, most: int = 3) -> bytes:
    """PNG: for the first cells, a row for either method, a column a stage."""
    count = min(most, len(check.stages[0].maps["grad_cam"]))
    figure = _canvas(1.0 * len(check.stages) + 1.9, 1.05 * 2 * count + 0.8)
    axes = figure.subplots(2 * count, len(check.stages) + 1, squeeze=False)
    for cell in range(count):
        for offset, (method, label) in enumerate(NAMES.items()):
            row = axes[2 * cell + offset]
            _image(row[0], crops[cell])
            row[0].set_ylabel(label, fontsize=8)
            for axis, stage in zip(row[1:], check.stages, strict=True):
                _image(axis, as_picture(method, stage.maps[method][cell], crops[cell]))
    for axis, name in zip(axes[0], ("image", *(stage.name for stage in check.stages)), strict=True):
        axis.set_title(name.replace(" of ", "\nof "), fontsize=7)
    return _saved(figure)


def sanity_curves(check: SanityCheck) -> bytes:
    """PNG: how much the maps still resemble those of the trained network, mean and standard deviation over cells."""
    figure = _canvas(9.5, 3.4)
    measures: Mapping[str, str] = {"rank": "Rank correlation (Spearman)", "ssim": "Structural similarity"}
    place = np.arange(len(check.stages))
    axes = figure.subplots(1, 2, sharey=True, squeeze=False)[0]
    for axis, (measure, label) in zip(axes, measures.items(), strict=True):
        for method, colour in zip(NAMES, ("#1d5b8f", "#c4570a"), strict=True):
            values = np.stack([getattr(stage, measure)[method] for stage in check.stages])
            spread = values.std(axis=1)
            axis.errorbar(
                place, values.mean(axis=1), spread, color=colour, marker="o", ms=4, capsize=2, label=NAMES[method]
            )
            if measure == "rank":
                axis.axhline(
                    float(check.edges[method].mean()), color=colour, ls=":", lw=1, label=f"{NAMES[method]}, edges"
                )
        axis.axhline(0, color="#888888", lw=0.6)
        axis.set_xticks(place, [stage.name for stage in check.stages], rotation=40, ha="right", fontsize=7)
        axis.set_title(label, loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7)
    return _saved(figure)


def _canvas(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _image(axis: Any, picture: Image) -> None:
    axis.imshow(picture)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _saved(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()
