"""Figures 2 and 3B of Matek 2021, drawn from our answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy


def confusion(path: Path, matrix: NDArray[np.int64], types: Sequence[str], title: str) -> None:
    """Figure 2: rows by truth, each divided by its sum; the number of images of each type in a logarithmic plot."""
    from matplotlib.figure import Figure

    labels = [taxonomy.cell_type(name).label for name in types]
    sums = matrix.sum(axis=1)
    shares = matrix / np.maximum(sums, 1)[:, None]
    size = 2.2 + 0.36 * len(types)
    figure = Figure(figsize=(size + 3.4, size + 1.0), layout="constrained")
    square, bars = figure.subplots(1, 2, sharey=True, width_ratios=(size, 1.4))
    square.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for (row, column), share in np.ndenumerate(shares):
        if matrix[row, column]:
            colour = "white" if share > 0.55 else "black"
            square.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=6, color=colour)
    square.set_xticks(range(len(types)), labels, rotation=90, fontsize=8)
    square.set_yticks(range(len(types)), labels, fontsize=8)
    square.set(xlabel="Answer", ylabel="Truth", title=title)
    bars.barh(range(len(types)), sums, color="0.6")
    bars.set(xscale="log", xlabel="Images", xlim=(0.8, max(10, sums.max() * 2)))
    bars.tick_params(labelsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def recalls(path: Path, result: Mapping[str, Any], published: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Figure 3B: tolerant recall of every type and model, with the deviation over folds; ResNeXt-50 as published."""
    from matplotlib.figure import Figure

    models, types = result["models"], list(result["types"])
    figure = Figure(figsize=(2.5 + 0.75 * len(types), 4.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(len(models), 1)
    for place, (model, own) in enumerate(models.items()):
        figures = [own["classes"][name]["tolerant_recall"] for name in types]
        means = [value[0] if value[0] is not None else 0.0 for value in figures]
        spread = [value[1] or 0.0 for value in figures]
        where = np.arange(len(types)) + (place - (len(models) - 1) / 2) * width
        axes.bar(where, means, width, yerr=spread, label=model, capsize=2, error_kw={"linewidth": 0.8})
    known = [index for index, name in enumerate(types) if name in published]
    values = [published[types[index]]["tolerant_recall"][0] for index in known]
    axes.plot(known, values, "k_", markersize=22, label="ResNeXt-50 as published, other cells")
    labels = [taxonomy.cell_type(name).label for name in types]
    axes.set_xticks(range(len(types)), labels, rotation=40, ha="right", fontsize=8)
    axes.set(ylabel="Tolerant recall", ylim=(0, 1.05))
    figure.legend(loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def external(path: Path, found: Mapping[str, Any], title: str) -> None:
    """Figure 4: annotations of the other set by answers, in both schemes' own words; what is right has a frame.

    A dashed frame is tolerated. found: of `metrics.external.summary`. Nothing is drawn where all cells were refused.
    """
    from matplotlib.figure import Figure

    confusion = found["confusion"]
    rows, columns = ([name for name in confusion[side] if name] for side in ("truth", "answers"))
    if not columns:
        return
    matrix = np.array(confusion["matrix"]).reshape(len(rows), len(columns))
    shares = matrix / np.maximum(matrix.sum(axis=1), 1)[:, None]
    figure = Figure(figsize=(3.4 + 0.42 * len(columns), 2.6 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), cells in np.ndenumerate(matrix):
        if cells:
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, str(cells), ha="center", va="center", fontsize=7, color=colour)
        _framed(axes, row, column, found["mapping"][rows[row]]["class"], columns[column], found["classes"])
    axes.set_xticks(range(len(columns)), [taxonomy.cell_type(name).label for name in columns], rotation=90, fontsize=8)
    axes.set_yticks(range(len(rows)), [taxonomy.cell_type(name).label for name in rows], fontsize=8)
    axes.set(xlabel="Answer", ylabel="Annotation", title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _framed(axes: Any, row: int, column: int, target: str | None, answer: str, classes: Sequence[str]) -> None:
    from matplotlib.patches import Rectangle

    said = taxonomy.coarsen(answer, classes) or answer
    if target is None or not taxonomy.tolerated(target, said):
        return
    style = "-" if said == target else "--"
    axes.add_patch(
        Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=0.9, linestyle=style)
    )
