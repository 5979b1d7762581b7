"""The table of `benchmarks.external` in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = {"pbc_dib_cells": "Barcelona", "mll_bone_marrow_cells": "Munich", "chula_wbc_fields": "Chula"}
COLUMNS = (
    "trained on", "augmented", "tested on", "remedies", "cells", "not mapped", "refused", "shown", "accuracy",
    "macro F1", "all: accuracy", "all: macro F1", "recall by type",
)  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each network, source and remedy; strict figures with the tolerant ones in brackets."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "| --- | --- | --- | --- |" + " --: |" * 8 + " --- |"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def overview(rows: Sequence[Mapping[str, Any]]) -> str:
    """Macro F1, strict, an answer forced from every mapped cell: networks and sources by remedies."""
    remedies = list(dict.fromkeys(row["remedies"] for row in rows if row["foreign"]))
    places: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        trained, augmented, tested = _cells(row)[:3]
        value = row["of_all"]["macro_f1"]
        places.setdefault((trained, augmented, tested), {})[row["remedies"]] = "–" if value is None else f"{value:.2f}"
    head = ["trained on", "augmented", "tested on", *remedies, "held-out cells of its own"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | --- |" + " --: |" * (len(remedies) + 1)]
    for (trained, augmented, tested), cells in places.items():
        if set(cells) & set(remedies):
            held = ", ".join(
                f"{other} {found['held-out cells']}"
                for (name, kind, other), found in places.items()
                if (name, kind) == (trained, augmented) and "held-out cells" in found
            )
            shown = [cells.get(remedy, "–") for remedy in remedies]
            lines.append("| " + " | ".join([trained, augmented, tested, *shown, held]) + " |")
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, Any]) -> list[str]:
    found = [
        " + ".join(NAMES.get(name, name) for name in row["trained"]),
        {"augmented": "yes", "plain": "no"}.get(row["augmentation"], "–"),
        NAMES.get(row["tested"], row["tested"]),
        row["remedies"],
        *(str(row[key]) for key in ("cells", "not_mapped", "refused", "shown")),
    ]
    for part in ("of_shown", "of_all"):
        found += [_both(row[part], figure) for figure in ("accuracy", "macro_f1")]
    short = (f"{name} {value:.2f}" for name, value in row["of_all"]["recall"].items())
    return [*found, ", ".join(short)]


def _both(figures: Mapping[str, Any], name: str) -> str:
    strict, tolerant = figures[name], figures[f"tolerant_{name}"]
    return "–" if strict is None else f"{strict:.2f} ({tolerant:.2f})"
