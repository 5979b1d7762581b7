"""`evaluate classifier`: how well a model, or any program, names single cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from myelos.cli import common
from myelos.errors import UsageError
from myelos.wording import number_of

EPILOG = """Examples:

myelos evaluate classifier --data pbc_dib_cells --scheme pbc13 --model cells-blood --json

myelos evaluate classifier --truth truth.csv --predictions said.csv --scheme mll21 --json
"""


def classifier(
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of single cells, or of annotated fields; may be repeated."),
    ] = None,
    model: common.Model = None,
    scheme: Annotated[str | None, typer.Option(help="Label scheme in whose classes to judge.")] = None,
    truth: Annotated[Path | None, typer.Option(help="CSV with columns file,label; with --predictions.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="CSV with columns file,label made by any program.")] = None,
    mpp: common.Mpp = None,
    threads: common.Threads = None,
    device: common.Device = "cpu",
    as_json: common.AsJson = False,
) -> int:
    """Accuracy, precision, recall and F1 by type, strict and tolerant, kappa and calibration."""
    if bool(data) == bool(truth) or (data and not model) or bool(truth) != bool(predictions):
        raise UsageError(
            "it is not clear what to evaluate", remedy="Pass --data and --model, or --truth and --predictions"
        )
    from myelos.classification.judging import judge_files, judge_model

    if truth and predictions:
        result = judge_files(truth, predictions, scheme=scheme)
    else:
        from myelos.models import load_classifier

        common.check_mpp(mpp)
        with common.progress_bars() as progress:
            result = judge_model(
                data or [],
                load_classifier(str(model), device=device, threads=threads),
                scheme=scheme,
                mpp=mpp,
                progress=lambda done, total: progress("naming cells", done, total),
            )
    if as_json:
        common.print_json(result)
    else:
        show(result)
    return 3 if result["set_aside"] else 0


def show(result: dict[str, Any]) -> None:
    """The figures as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{number_of(result['images'], 'cell')} in the classes of {result['scheme']}")
    columns = ("precision", "recall", "f1")
    for name in ("", "cells", *columns, *(f"tolerant {column}" for column in columns)):
        table.add_column(name, justify="left" if not name else "right")
    for name, row in result["classes"].items():
        tolerant = result["tolerant"]["classes"][name]
        shown = [_number(row[column]) for column in columns] + [_number(tolerant[column]) for column in columns]
        table.add_row(name, str(row["support"]), *shown)
    Console().print(table)
    for key in ("accuracy", "macro_f1", "weighted_f1", "kappa", "ece"):
        typer.echo(f"{key}: {_number(result[key])}")
    if result["set_aside"]:
        typer.echo(f"set aside: {len(result['set_aside'])} (--json names them)")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
