"""The card of a classifier of single cells, or of a model that answers a question about them, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from myelos.classification.questions import question
from myelos.models.files import ModelCard
from myelos.training.card import RESEARCH_USE


def cell_card_text(card: ModelCard, remarks: str = "") -> str:
    """The card as Markdown: what it names, what it saw, what it was and was not tested on."""
    lines = [f"# {card.name}", "", RESEARCH_USE, ""]
    if card.synthetic_only:
        lines += ["**Trained on synthetic cells alone. It has not been shown to work on any real one.**", ""]
    lines += [
        f"Names single cells of {card.specimen} smears in windows of {card.tile} pixels at {card.mpp} µm/px, "
        f"{len(card.types)} types, as the mean over {card.views} poses:",
        ", ".join(card.types) + ".",
        "",
        "## Trained on",
        "",
        *(_source_line(row) for row in card.data),
        *_begun_line(card.training),
        "",
        f"## Held-out cells, in the classes of {card.scheme}",
        "",
        "Never trained on; patients, where known, and near-duplicates are kept on one side of the split.",
        "",
        "| source | cells | accuracy | macro F1 | kappa | calibration error |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_figure_line(source, figures) for source, figures in card.metrics.items()),
        "",
        *_by_type(card.metrics),
        f"Probabilities are calibrated (temperature {card.temperature:.2f}); below {card.threshold:.2f} a cell is "
        "unidentified. Both were chosen on other cells.",
        "",
    ]
    return "\n".join(lines + ([remarks.strip(), ""] if remarks.strip() else []))


def question_card_text(card: ModelCard, remarks: str = "") -> str:
    """The card of a model that answers a question with yes or no."""
    asked = question(card.question)
    lines = [f"# {card.name}", "", RESEARCH_USE, ""]
    if card.synthetic_only:
        lines += ["**Trained on synthetic cells alone. It has not been shown to work on any real one.**", ""]
    lines += [
        f"{asked.text} Answered of single cells of {card.specimen} smears in windows of {card.tile} pixels at "
        f"{card.mpp} µm/px, as the mean over {card.views} poses. Yes: {', '.join(asked.yes)}, and what is finer.",
        "",
        "## Trained on",
        "",
        *(_source_line(row) for row in card.data),
        *_begun_line(card.training),
        "",
        "## Held-out cells",
        "",
        "Never trained on; patients, where known, and near-duplicates are kept on one side of the split.",
        "",
        "| source | cells | yes | area under ROC (95 %) | sensitivity (95 %) | specificity (95 %) |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_answer_line(source, figures) for source, figures in card.metrics.items()),
        "",
        f"Yes from a probability of {card.threshold:.3f} on, which was chosen on other cells (temperature "
        f"{card.temperature:.2f}). How often a yes is right hangs on how many such cells there are.",
        "",
    ]
    return "\n".join(lines + ([remarks.strip(), ""] if remarks.strip() else []))


def _answer_line(source: str, figures: Mapping[str, Any]) -> str:
    shown = [_with_interval(figures, key) for key in ("auroc", "sensitivity", "specificity")]
    return f"| {source} | {figures['images']} | {figures['positives']} | {' | '.join(shown)} |"


def _with_interval(figures: Mapping[str, Any], key: str) -> str:
    if figures[key] is None:
        return "–"
    low, high = figures[f"{key}_interval"]
    return f"{figures[key]:.3f} ({low:.3f}–{high:.3f})"


def _source_line(row: Mapping[str, Any]) -> str:
    cells = ", ".join(f"{number} {label}" for label, number in row["cells"].items())
    return f"- {row['source']}: {cells}." + (f" {row['credit']}" if row["credit"] else "")


def _begun_line(training: Mapping[str, Any]) -> list[str]:
    """What the network knew before: weights of others have seen images that this card does not count."""
    begun = training.get("begun_with")
    return ["", f"Begun with the weights of {begun['file']} (SHA-256 {begun['sha256'][:16]}…)."] if begun else []


def _figure_line(source: str, figures: Mapping[str, Any]) -> str:
    shown = [_number(figures[key]) for key in ("accuracy", "macro_f1", "kappa", "ece")]
    return f"| {source} | {figures['images']} | {' | '.join(shown)} |"


def _by_type(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["| source | type | cells | precision | recall | F1 |", "| --- | --- | --- | --- | --- | --- |"]
    for source, figures in metrics.items():
        for name, row in figures["classes"].items():
            shown = [_number(row[key]) for key in ("precision", "recall", "f1")]
            lines.append(f"| {source} | {name} | {row['support']} | {' | '.join(shown)} |")
    return [*lines, ""]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
