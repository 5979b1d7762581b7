"""External validation after Matek 2021: the networks of a cross-validation asked about a set of another laboratory.

The paper scales every image of Choi et al. to the network's input, counts what was called artefact or not
identifiable as refused, and shows the rest (Figure 4; the sequential model in a supplement). It does not say which of
its networks it asked: ours are those of all folds, their probabilities averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from myelos import taxonomy
from myelos.metrics.external import map_predictions, summary
from myelos.protocols import matek_figures
from myelos.protocols.matek import EXTERNAL, HANDCRAFTED, Preset, Study, answers_file, paper, read_probabilities


def write_external(study: Study, settings: Preset, out: Path) -> dict[str, dict[str, Any]]:
    """Model → what Figure 4 shows; draws the figure of each. Empty where no other set was given."""
    truth = [record.cell_type for record in study.external]
    found: dict[str, dict[str, Any]] = {}
    if not truth:
        return found
    for model in (name for name in settings.models if name != HANDCRAFTED):
        files = [answers_file(out, model, f"{EXTERNAL}-fold-{fold + 1}") for fold in range(settings.folds)]
        shares = np.mean([read_probabilities(path) for path in files], axis=0)
        said = [study.types[best] for best in shares.argmax(axis=1)]
        mapped = map_predictions(truth, said, truth_types=set(truth), predicted_types=study.types)
        found[model] = summary(mapped, truth, said)
        path = out / "figures" / f"figure-4-{model.replace(':', '-')}.png"
        matek_figures.external(path, found[model], f"{model}: {len(mapped.shown)} of {len(truth)} images shown")
    return found


def lines(result: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The part of `crossval.md`; empty where no other set was given."""
    if not result:
        return []
    published = paper()["external"]
    rows = [
        "## External validation (Figure 4)",
        "",
        "Refused is what was called artefact or not identifiable; figures are of the cells shown, in the types that "
        "both schemes can say. Probabilities are means over the networks of all folds.",
        "",
        "| model | images | refused | not mapped | shown | accuracy, tolerant | strict | macro F1, tolerant | strict |",
        "| --- |" + " --: |" * 8,
    ]
    for model, own in result.items():
        figures = own["figures"]
        numbers = (str(own[key]) for key in ("images", "refused", "not_mapped", "shown"))
        values = (figures["tolerant_accuracy"], figures["accuracy"])
        means = (figures["macro"]["tolerant_f1"], figures["macro"]["f1"])
        rows.append("| " + " | ".join([model, *numbers, *map(_number, (*values, *means))]) + " |")
    images, refused, shown = (published[key] for key in ("images", "refused", "shown"))
    rows += [f"| ResNeXt-50 as published, Choi et al. | {images} | {refused} | 0 | {shown} | – | – | – | – |", ""]
    return [*rows, *[line for model, own in result.items() for line in _mapping(model, own)]]


def _mapping(model: str, own: Mapping[str, Any]) -> list[str]:
    head = "| annotated | judged as | cells | refused | shown | right, tolerant | strict |"
    body = [
        f"| {name} | {row['class'] or 'not mapped'} | {row['cells']} | {row['refused']} | {row['shown']} | "
        f"{row['tolerated']} | {row['right']} |"
        for name, row in own["mapping"].items()
    ]
    other = ", ".join(f"{taxonomy.cell_type(name).label} {cells}" for name, cells in own["other"].items())
    note = [f"Answers that no class covers: {other}.", ""] if other else []
    picture = f"![Confusion with the annotations, {model}](figures/figure-4-{model.replace(':', '-')}.png)"
    return [f"### {model}", "", head, "| --- | --- |" + " --: |" * 5, *body, "", *note, picture, ""]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
