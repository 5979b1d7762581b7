"""What a cross-validation after Matek 2021 shows: Table 1 beside ours, Figure 2, Figure 3B, and the models compared."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos.datasets.cell_checks import TWO_LABELS
from myelos.datasets.records import Fault
from myelos.metrics.agreement import confusion_matrix
from myelos.metrics.classification import evaluate
from myelos.metrics.mcnemar import mcnemar
from myelos.networks.pretrained import HUB
from myelos.protocols import matek_external, matek_figures
from myelos.protocols.matek import HANDCRAFTED, SPLIT, Preset, Study, answers_file, paper, preset, read_answers
from myelos.tables import write_bytes, write_json

FIGURES = ("precision", "recall", "tolerant_precision", "tolerant_recall")
WHOLE = ("accuracy", "tolerant_accuracy")
RESEARCH = "For research use only. Not for use in diagnostic procedures."
Answers = tuple[list[str], list[str]]  # truth and answer of the same cells


def write(study: Study, settings: Preset, out: Path) -> dict[str, Any]:
    """All figures from the answers in `out`: writes JSON, Markdown, CSV and PNG, and returns what the JSON holds."""
    by_model = {model: _answers(out, model, settings) for model in settings.models}
    result: dict[str, Any] = {
        "protocol": "Matek 2021",
        "preset": settings.name,
        "published_preset_run": settings == preset("paper"),
        "cells": len(study.records),
        "types": {name: sum(r.cell_type == name for r in study.records) for name in study.types},
        "left_out": study.left_out,
        "set_aside": [_plain(fault) for fault in study.faults if fault.kind != TWO_LABELS],
        "two_labels": [_plain(fault) for fault in study.faults if fault.kind == TWO_LABELS],
        "models": {model: summary(folds, study.types) for model, folds in by_model.items()},
        "mcnemar": compared(by_model),
        "split_70_30": _split(out, settings, study.types),
        "external": matek_external.write_external(study, settings, out),
    }
    for model, folds in by_model.items():
        _matrices(out, model, folds, study.types)
    matek_figures.recalls(out / "figures" / "figure-3b.png", result, published())
    write_json(out / "crossval.json", result)
    write_bytes(out / "crossval.md", page(result, settings).encode())
    return result


def _plain(fault: Fault) -> dict[str, str]:
    return {"file": fault.file.name, "reason": fault.kind, "detail": fault.detail}


def _answers(out: Path, model: str, settings: Preset) -> list[Answers]:
    return [read_answers(answers_file(out, model, f"fold-{fold + 1}")) for fold in range(settings.folds)]


def summary(folds: Sequence[Answers], types: Sequence[str]) -> dict[str, Any]:
    """Mean and standard deviation over folds, as Table 1 has them.

    {"classes": {type: {figure: [mean, deviation, folds where it is defined]}}, "macro", "accuracy", "folds"}. The
    deviation is that of the population, see `matek.toml`. A precision is undefined where nothing was called so.
    """
    single = [evaluate(truth, said, labels=types) for truth, said in folds]
    classes = {
        name: {figure: mean_of([one["classes"][name][figure] for one in single]) for figure in FIGURES}
        for name in types
    }
    return {
        "classes": classes,
        "macro": {figure: mean_of([one["macro"][figure] for one in single]) for figure in (*FIGURES, "f1")},
        **{figure: mean_of([one[figure] for one in single]) for figure in WHOLE},
        "folds": single,
    }


def mean_of(values: Sequence[float | None]) -> list[float | int | None]:
    """[mean, population standard deviation, how many are defined]."""
    known = [value for value in values if value is not None]
    return [float(np.mean(known)), float(np.std(known)), len(known)] if known else [None, None, 0]


def compared(by_model: Mapping[str, Sequence[Answers]]) -> list[dict[str, Any]]:
    """McNemar's test between every two models over all cells of all folds, strict and tolerant."""
    from myelos.taxonomy import tolerated

    pooled = {model: [pair for truth, said in folds for pair in zip(truth, said, strict=True)]
              for model, folds in by_model.items()}  # fmt: skip
    rows = []
    for first, second in combinations(by_model, 2):
        for kind, accepts in (("strict", str.__eq__), ("tolerant", tolerated)):
            right = [[accepts(truth, said) for truth, said in pooled[model]] for model in (first, second)]
            test = mcnemar(*right)
            rows.append({"first": first, "second": second, "evaluation": kind, "both_right": test.both,
                         "first_right": test.first, "second_right": test.second, "neither": test.neither,
                         "p": test.p})  # fmt: skip
    return rows


def _split(out: Path, settings: Preset, types: Sequence[str]) -> dict[str, Any]:
    """The figures of 70/30 and McNemar's test; empty where nothing handcrafted was run."""
    by_model = {
        model: [read_answers(answers_file(out, model, SPLIT))]
        for model in settings.models
        if answers_file(out, model, SPLIT).exists()
    }
    if not by_model:
        return {}
    models = {model: evaluate(*answers[0], labels=types) for model, answers in by_model.items()}
    return {"models": models, "mcnemar": compared(by_model)}


def _matrices(out: Path, model: str, folds: Sequence[Answers], types: Sequence[str]) -> None:
    """Confusion matrix of every fold and of all together, as CSV and PNG."""
    single = [confusion_matrix(truth, said, types)[:, :-1] for truth, said in folds]
    matrices: dict[str, NDArray[np.int64]] = {f"fold-{place + 1}": one for place, one in enumerate(single)}
    matrices["all-folds"] = np.sum(single, axis=0)
    for name, matrix in matrices.items():
        stem = out / "figures" / f"confusion-{model.replace(':', '-')}-{name}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["truth \\ answer", *types])
        writer.writerows([label, *row.tolist()] for label, row in zip(types, matrix, strict=True))
        write_bytes(stem.with_suffix(".csv"), table.getvalue().encode())
        matek_figures.confusion(stem.with_suffix(".png"), matrix, types, f"{model}, {name.replace('-', ' ')}")


def published() -> dict[str, dict[str, list[float]]]:
    """Table 1 as type → figure → [mean, deviation]; `images` → [number]."""
    table = paper()["table1"]
    return {
        name: {column: value if isinstance(value, list) else [value]
               for column, value in zip(table["columns"], row, strict=True)}
        for name, row in table["rows"].items()
    }  # fmt: skip


def page(result: Mapping[str, Any], settings: Preset) -> str:
    """`crossval.md`."""
    lines = [
        "# Cross-validation after Matek 2021",
        "",
        f"Preset `{settings.name}`: {settings.folds} folds, {result['cells']} cells of {len(result['types'])} types, "
        f"crops of {settings.side} × {settings.side} px at {settings.mpp:g} µm/px. " + _drawn(settings),
        "",
        *[f"{model} began with weights of {_weights(file)}.\n" for model, file in settings.pretrained.items()],
        *_not_run(settings),
        *_left_out(result),
        *[line for model in settings.models for line in _table(result, model)],
        *_split_lines(result),
        *_tests("McNemar's test, all folds", result["mcnemar"]),
        *matek_external.lines(result["external"]),
        *_better(result),
        "## Figures",
        "",
        *[f"![Confusion matrix of {model}](figures/confusion-{model.replace(':', '-')}-all-folds.png)\n"
          for model in settings.models],
        "![Tolerant recall by type](figures/figure-3b.png)",
        "",
        "Matrices of single folds lie beside them, as PNG and CSV; the answer for every cell is in `answers/`.",
        "",
        RESEARCH,
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _weights(given: str) -> str:
    return "the hub, as timm names them" if given == HUB else Path(given).name


def _better(result: Mapping[str, Any]) -> list[str]:
    """What Figure 3B is there to show: where handcrafted features find more than every network does."""
    models = result["models"]
    if HANDCRAFTED not in models or len(models) < 2:
        return []

    def found(model: str, name: str) -> float:
        return float(models[model]["classes"][name]["tolerant_recall"][0] or 0.0)

    networks = [model for model in models if model != HANDCRAFTED]
    ours = [n for n in result["types"] if all(found(HANDCRAFTED, n) > found(model, n) for model in networks)]
    theirs = ", ".join(paper()["figure3"]["features_better"])
    lines = f"Types of which handcrafted features find more (tolerant recall): {', '.join(ours) or 'none'}."
    return ["## Handcrafted features and networks (Figure 3B)", "", f"{lines} As published: {theirs}.", ""]


def _drawn(settings: Preset) -> str:
    if settings.images:
        return f"{settings.images} images drawn for each network."
    raised = f", classes raised to {settings.images_per_class} images" if settings.images_per_class else ""
    return f"{settings.epochs:g} epochs{raised}."


def _not_run(settings: Preset) -> list[str]:
    """What the published protocol has and this run has not."""
    if settings == preset("paper"):
        return []
    full = paper()["presets"]["paper"]
    return [
        f"Preset `paper` ({', '.join(full['models'])}; {full['epochs']} epochs at {full['side']} × {full['side']} px, "
        f"{full['images_per_class']} images per class): **not run**. The published columns come from that protocol on "
        "171,374 cells; beside them stands what this preset gave on the cells at hand, which is no reproduction.",
        "",
    ]


def _left_out(result: Mapping[str, Any]) -> list[str]:
    aside = f"{len(result['set_aside'])} images were set aside, with their reasons in `crossval.json`."
    lines = [aside, ""] if result["set_aside"] else []
    if result["two_labels"]:
        lines += [f"{len(result['two_labels'])} images show a cell that another one shows under another label.", ""]
    if not result["left_out"]:
        return lines
    named = ", ".join(f"{name} ({count})" for name, count in result["left_out"].items())
    return [*lines, f"Types with too few independent images to be in every fold, left out: {named}.", ""]


def _table(result: Mapping[str, Any], model: str) -> list[str]:
    """Table 1 of one model: ours, and the published figures of ResNeXt-50 behind a stroke."""
    own, beside = result["models"][model], published()
    lines = [
        f"## {model}",
        "",
        "| type | images | precision tolerant | recall tolerant | precision strict | recall strict | ResNeXt-50 as "
        "published: images "
        "| precision tolerant | recall tolerant | precision strict | recall strict |",
        "| --- |" + " --: |" * 10,
    ]
    order = ("tolerant_precision", "tolerant_recall", "precision", "recall")
    for name, figures in own["classes"].items():
        ours = [shown(figures[figure]) for figure in order]
        theirs = beside.get(name)
        other = [f"{theirs['images'][0]}", *(shown(theirs[figure]) for figure in order)] if theirs else ["–"] * 5
        lines.append("| " + " | ".join([name, str(result["types"][name]), *ours, *other]) + " |")
    macro = " · ".join(f"{figure.replace('_', ' ')} {shown(own['macro'][figure])}" for figure in (*FIGURES, "f1"))
    whole = f"Accuracy {shown(own['accuracy'])}, tolerant {shown(own['tolerant_accuracy'])}."
    return [*lines, "", f"Means over types: {macro}. {whole}", ""]


def shown(figure: Sequence[float | int | None]) -> str:
    """Mean ± deviation, – where it is nowhere defined."""
    return "–" if figure[0] is None else f"{figure[0]:.2f} ± {figure[1]:.2f}"


def _split_lines(result: Mapping[str, Any]) -> list[str]:
    split = result["split_70_30"]
    if not split:
        return []
    models = split["models"]
    lines = ["## Split 70/30: handcrafted features and their control", "",
             "| type | " + " | ".join(f"{model}: recall tolerant | strict" for model in models) + " |",
             "| --- |" + " --: | --: |" * len(models)]  # fmt: skip
    for name in result["types"]:
        cells = [
            "–" if (value := models[model]["classes"][name][figure]) is None else f"{value:.2f}"
            for model in models
            for figure in ("tolerant_recall", "recall")
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    accuracy = ", ".join(f"{model} {figures['accuracy']:.3f}" for model, figures in models.items())
    return [*lines, "", f"Accuracy: {accuracy}.", "", *_tests("McNemar's test, split 70/30", split["mcnemar"])]


def _tests(title: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    head = "| first | second | evaluation | both right | only first | only second | neither | p |"
    keys = ("first", "second", "evaluation", "both_right", "first_right", "second_right", "neither")
    body = ["| " + " | ".join(str(row[key]) for key in keys) + f" | {row['p']:.2g} |" for row in rows]
    return [f"## {title}", "", head, "| --- | --- | --- |" + " --: |" * 5, *body, ""]
