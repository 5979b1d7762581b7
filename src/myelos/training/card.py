"""What people read of a trained model: its card in words, and its loss curve as a picture."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from myelos.datasets.records import Fault
from myelos.models.files import ModelCard
from myelos.tables import write_bytes
from myelos.wording import number_of

RESEARCH_USE = "For research use only. Not for use in diagnostic procedures."


def card_text(card: ModelCard, remarks: str = "") -> str:
    """The card as Markdown: what it does, what it saw, what it was and was not tested on."""
    lines = [f"# {card.name}", "", RESEARCH_USE, ""]
    if card.synthetic_only:
        lines += ["**Trained on synthetic smears alone. It has not been shown to work on any real one.**", ""]
    lines += [
        f"Finds nucleated cells in {card.specimen} smears at {card.mpp} µm/px and names {len(card.types)} types:",
        ", ".join(card.types) + ".",
        "",
        "## Trained on",
        "",
        *(_source_line(row) for row in card.data),
        "",
        "## Held-out fields",
        "",
        "Never trained on; near-duplicates and samples are kept on one side of the split.",
        "",
        "| source | fields | cells | AP50 | AP | precision | recall |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_figure_line(source, figures) for source, figures in card.metrics.items()),
        "",
        f"Precision and recall at the working threshold {card.threshold}, which was chosen on other fields.",
        "",
    ]
    return "\n".join(lines + ([remarks.strip(), ""] if remarks.strip() else []))


def _source_line(row: object) -> str:
    assert isinstance(row, dict)
    boxes = ", ".join(f"{number} {label}" for label, number in row["boxes"].items()) or "no cells"
    credit = f" {row['credit']}" if row["credit"] else ""
    return f"- {row['source']}: {number_of(row['fields'], 'field')} with {boxes}.{credit}"


def _figure_line(source: str, figures: dict) -> str:
    cells = figures["any_cell"]
    numbers = [cells[key] for key in ("ap50", "ap", "precision", "recall")]
    shown = " | ".join("–" if number is None else f"{number:.3f}" for number in numbers)
    return f"| {source} | {figures['images']} | {cells.get('boxes', '–')} | {shown} |"


def list_faults(out: Path, faults: Sequence[Fault]) -> None:
    """Write `faults.txt`: how many of each kind, then every one with its place."""
    counts = Counter(fault.kind for fault in faults)
    head = [f"{number} × {kind}" for kind, number in counts.most_common()] or ["no faults"]
    write_bytes(out / "faults.txt", "\n".join([*head, "", *map(str, faults), ""]).encode())


def draw_curve(table: Path, picture: Path) -> None:
    """The terms of the loss over the steps as a PNG, smoothed over a fiftieth of the training."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps = np.array([int(row["step"]) for row in rows])
    width = max(1, len(rows) // 50)
    for name in [key for key in rows[0] if key != "step"]:
        values = np.convolve([float(row[name]) for row in rows], np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], values, label=name, linewidth=2.2 if name == "loss" else 1.0)
    axes.set(xlabel="optimiser step", ylabel="loss", yscale="log")
    axes.legend(ncols=3, fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)
