"""`evaluate classifier`: how well a model, or any program, names single cells."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from myelos.cli import common
from myelos.errors import UsageError
from myelos.wording import number_of

if TYPE_CHECKING:
    from myelos.classification.judging import JudgedCells
    from myelos.classification.questions import Question

EPILOG = """Examples:

myelos evaluate classifier --data pbc_dib_cells --scheme pbc13 --model cells-blood --json

myelos evaluate classifier --question blast-character --data mll_bone_marrow_cells --part test --model cells-marrow

myelos evaluate classifier --external --data lmu_aml_cells --model cells-marrow

myelos evaluate classifier --data my_fields --detector marrow --model cells-marrow --match-stain --json

myelos evaluate classifier --truth truth.csv --predictions said.csv --scheme mll21 --json
"""


Data = Annotated[
    list[Path] | None, typer.Option(help="Folder of single cells, or of annotated fields; may be repeated.")
]
Scheme = Annotated[str | None, typer.Option(help="Label scheme in whose classes to judge.")]
Truth = Annotated[Path | None, typer.Option(help="CSV with columns file,label; with --predictions.")]
Predictions = Annotated[Path | None, typer.Option(help="CSV with columns file,label made by any program.")]
Threshold = Annotated[float | None, typer.Option(help="With a question: the probability from which the answer is yes.")]
Part = Annotated[
    str | None, typer.Option(help="Only the cells that the split of the recipes puts there: train, choose or test.")
]
External = Annotated[
    bool, typer.Option("--external", help="Cells labelled in another scheme: what is shown, refused, not mapped.")
]
MatchStain = Annotated[
    bool,
    typer.Option("--match-stain", help="Bring cells to the nearest stain that the model was taught, as counts do."),
]
Detector = Annotated[
    str | None,
    typer.Option(help="Annotated fields read as a count reads them: found or missed by this detector, then named."),
]


def classifier(
    data: Data = None,
    model: common.Model = None,
    scheme: Scheme = None,
    truth: Truth = None,
    predictions: Predictions = None,
    question: common.Question = None,
    one_type: common.OneType = None,
    threshold: Threshold = None,
    part: Part = None,
    external: External = False,
    stain_like: common.StainLike = None,
    match_stain: MatchStain = False,
    detector: Detector = None,
    mpp: common.Mpp = None,
    threads: common.Threads = None,
    device: common.Device = "cpu",
    precise: common.Precise = False,
    as_json: common.AsJson = False,
) -> int:
    """Accuracy, precision, recall and F1 by type, strict and tolerant, kappa and calibration.

    With --external: counted as Figure 4 of Matek 2021. With --question or --one-type, or a model of one: area under the
    ROC curve, sensitivity, specificity.
    """
    if bool(data) == bool(truth) or (data and not model) or bool(truth) != bool(predictions):
        raise UsageError(
            "it is not clear what to evaluate", remedy="Pass --data and --model, or --truth and --predictions"
        )
    asked = common.asked(question, one_type)
    if truth and predictions:
        result = _of_files(truth, predictions, asked, scheme)
    else:
        from myelos.classification.judging import JudgedCells

        common.check_mpp(mpp)
        cells = JudgedCells(tuple(data or ()), scheme, part, mpp, tuple(stain_like or ()), match_stain)
        way = {"device": device, "threads": threads, "precise": precise}
        if detector:
            result = _found(cells, str(model), detector, way)
        else:
            result = _by_model(cells, str(model), asked, external=external, threshold=threshold, way=way)
    if as_json:
        common.print_json(result)
    else:
        (show_answers if "question" in result else show_external if external else show)(result)
    return 3 if result["set_aside"] else 0


def _of_files(truth: Path, predictions: Path, asked: Question | None, scheme: str | None) -> dict[str, Any]:
    from myelos.classification.judging import judge_files

    if asked:
        raise UsageError("two files hold types and no answer to a question", remedy="Pass --data and --model")
    return judge_files(truth, predictions, scheme=scheme)


def _found(cells: JudgedCells, model: str, detector: str, way: dict[str, Any]) -> dict[str, Any]:
    from myelos.models import load, load_classifier
    from myelos.protocols.found_cells import judge_found

    loaded = load(detector, device=way["device"], threads=way["threads"])
    given = {"scheme": cells.scheme, "mpp": cells.mpp, "match_stain": cells.match_stain, "threads": way["threads"]}
    with common.progress_bars() as progress:
        return judge_found(cells.folders, loaded, load_classifier(model, **way), **given, progress=progress)


def _by_model(
    cells: JudgedCells,
    model: str,
    asked: Question | None,
    *,
    external: bool,
    threshold: float | None,
    way: dict[str, Any],
) -> dict[str, Any]:
    from myelos.classification.asking import own_question
    from myelos.classification.judging import judge, judge_external
    from myelos.models import find, load_classifier, load_question, read_card

    card = read_card(find(model))
    asked = own_question(card, asked)
    if asked and (external or cells.stain_like or cells.match_stain):
        raise UsageError("--external, --stain-like and --match-stain judge types, and a question has none")
    loaded = (load_question if card.question else load_classifier)(model, **way)
    with common.progress_bars() as progress:
        step = partial(progress, "naming cells")
        if external:
            return judge_external(cells, loaded, progress=step)
        return judge(cells, loaded, asked, threshold=threshold, progress=step)


def show_answers(result: dict[str, Any]) -> None:
    """The figures of a question as lines, and who was said yes as a table."""
    from rich.console import Console
    from rich.table import Table

    typer.echo(f"{result['text']} {number_of(result['images'], 'cell')}, {result['positives']} yes")
    for key in ("auroc", "sensitivity", "specificity", "precision", "negative_predictive_value"):
        low, high = result[f"{key}_interval"] or (None, None)
        typer.echo(f"{key.replace('_', ' ')}: {_number(result[key])} (95 % {_number(low)} to {_number(high)})")
    typer.echo(f"yes from {result['threshold']:.3f} on")
    table = Table("", "cells", "is", "said yes")
    for name, row in result["types"].items():
        table.add_row(name, str(row["cells"]), "yes" if row["truth"] else "no", str(row["yes"]))
    Console().print(table)
    _show_aside(result)


def show_external(result: dict[str, Any]) -> None:
    """What became of the cells of each label, as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("annotated", "judged as", "cells", "refused", "shown", "right", "right, tolerant")
    for name, row in result["mapping"].items():
        numbers = (str(row[key]) for key in ("cells", "refused", "shown", "right", "tolerated"))
        table.add_row(name, row["class"] or "not mapped", *numbers)
    Console().print(table)
    typer.echo(
        f"{number_of(result['images'], 'cell')}: {result['shown']} shown, {result['refused']} refused, "
        f"{result['not_mapped']} not mapped; of the shown"
    )
    figures = result["figures"]
    for key, value in (("accuracy", figures["accuracy"]), ("macro F1", figures["macro"]["f1"]),
                       ("accuracy, tolerant", figures["tolerant_accuracy"]),
                       ("macro F1, tolerant", figures["macro"]["tolerant_f1"])):  # fmt: skip
        typer.echo(f"{key}: {_number(value)}")
    _show_aside(result)


def show(result: dict[str, Any]) -> None:
    """The figures as a table."""
    from rich.console import Console
    from rich.table import Table

    said = f"{number_of(result['images'], 'cell')} in the classes of {result['scheme']}"
    table = Table(title=f"{said}; tolerant in brackets where it differs")
    table.add_column("", overflow="fold")
    for name in ("cells", "precision", "recall", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in result["classes"].items():
        tolerant = result["tolerant"]["classes"][name]
        table.add_row(name, str(row["support"]), *(_both(row[k], tolerant[k]) for k in ("precision", "recall", "f1")))
    Console().print(table)
    for key in ("accuracy", "macro_f1", "weighted_f1", "kappa", "ece"):
        typer.echo(f"{key}: {_number(result[key])}")
    _show_aside(result)


def _show_aside(result: dict[str, Any]) -> None:
    if result["set_aside"]:
        typer.echo(f"set aside: {len(result['set_aside'])} (--json names them)")


def _both(strict: float | None, tolerant: float | None) -> str:
    """The strict number, and the tolerant one in brackets where it shows another."""
    first, second = _number(strict), _number(tolerant)
    return first if first == second else f"{first} ({second})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
