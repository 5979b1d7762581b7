"""`evaluate detector`: how good a model or any program's predictions are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from myelos.cli import common, evaluate_cells
from myelos.errors import UsageError
from myelos.wording import number_of

EPILOG = """Examples:

myelos evaluate detector --data bccd_fields --model blood --json

myelos evaluate detector --truth labels --predictions results.json --json
"""


def add(app: typer.Typer) -> None:
    family = typer.Typer(help="How good a model is, on annotated images.", epilog=EPILOG, no_args_is_help=True)
    family.callback()(lambda: None)
    family.command(epilog=EPILOG)(detector)
    family.command(epilog=evaluate_cells.EPILOG)(evaluate_cells.classifier)
    app.add_typer(family, name="evaluate")


def detector(
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of annotated fields, with --model; may be repeated.")
    ] = None,
    model: common.Model = None,
    truth: Annotated[Path | None, typer.Option(help="Annotated folder or COCO file, with --predictions.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Made by any program: result folder, COCO results, or YOLO text files.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Working threshold of the score of --predictions.")] = None,
    scheme: Annotated[
        str | None, typer.Option(help="Label scheme whose codes the labels are, such as wang19; names without it.")
    ] = None,
    mpp: common.Mpp = None,
    stitch: common.Stitch = "overlap",
    flat_field: common.FlatField = True,
    white_point: common.WhitePoint = True,
    threads: common.Threads = None,
    device: common.Device = "cpu",
    as_json: common.AsJson = False,
) -> None:
    """Average precision, precision, recall and F1, for any cell and by type."""
    if bool(data) == bool(truth) or (data and not model) or bool(truth) != bool(predictions):
        raise UsageError(
            "it is not clear what to evaluate", remedy="Pass --data and --model, or --truth and --predictions"
        )
    from myelos.detection.evaluate import evaluate_files, evaluate_model

    if truth and predictions:
        result = evaluate_files(truth, predictions, threshold=0.5 if threshold is None else threshold, scheme=scheme)
    else:
        from myelos.detection.run import DetectionSettings, worker_threads
        from myelos.imaging.appearance import AppearanceSettings
        from myelos.models import load

        common.check_mpp(mpp)
        with common.progress_bars() as progress:
            result = evaluate_model(
                data or [],
                load(str(model), device=device, threads=threads),
                mpp=mpp,
                scheme=scheme,
                settings=DetectionSettings(stitch=stitch),
                appearance=AppearanceSettings(flat_field=flat_field, white_point=white_point),
                threads=worker_threads(threads),
                progress=progress,
            )
    if as_json:
        common.print_json(result)
    else:
        show(result)


def show(result: dict[str, Any]) -> None:
    """The figures as a table."""
    from rich.console import Console
    from rich.table import Table

    images, boxes = number_of(result["images"], "image"), number_of(result["boxes"], "box", "boxes")
    table = Table(title=f"{images}, {boxes}, threshold {result['threshold']:g}")
    columns = ("ap50", "ap", "precision", "recall", "f1")
    for name in ("", "boxes", *columns):
        table.add_column(name, justify="left" if not name else "right")
    rows = {"any cell": result["any_cell"], **result["classes"]}
    rows |= {f"any cell, {source}": own["any_cell"] for source, own in result.get("sources", {}).items()}
    for name, figures in rows.items():
        shown = ["–" if figures[column] is None else f"{figures[column]:.3f}" for column in columns]
        table.add_row(name, str(figures["boxes"]), *shown)
    Console().print(table)
    types = result["types"]
    if types["matched"]:
        matched = number_of(types["matched"], "matched cell")
        typer.echo(f"right type: {types['accuracy']:.3f} of {matched} of stated type")
