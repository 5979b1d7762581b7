"""`classify`: names for images of single cells."""

from __future__ import annotations

import csv
import io
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from myelos.cli import common


def add(app: typer.Typer) -> None:
    app.command(epilog="Example: myelos classify cells/*.jpg --model cells-blood --mpp 0.1 -o names.csv")(classify)


def classify(
    inputs: Annotated[list[str], typer.Argument(help="Images of single cells, folders, patterns.")],
    model: Annotated[str, typer.Option(help="A shipped classifier's name or a .safetensors file.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="CSV file to write; without it the names are printed.")
    ] = None,
    mpp: common.Mpp = None,
    stain_like: common.StainLike = None,
    threads: common.Threads = None,
    device: common.Device = "cpu",
    precise: common.Precise = False,
    overwrite: common.Overwrite = False,
    as_json: common.AsJson = False,
) -> int:
    """Name the cell in the middle of each image, with the probability and the runner-up.

    A model of a question (train classifier --question) answers yes or no in place of names.
    """
    from myelos.classification.naming import name_cells
    from myelos.errors import InputError, ResultError
    from myelos.models import find as find_model
    from myelos.models import load_classifier, load_question, read_card
    from myelos.smears.inputs import find
    from myelos.tables import write_bytes

    common.check_mpp(mpp)
    if out is not None and out.exists() and not overwrite:
        raise ResultError(f"{out} exists", remedy="Pass --overwrite to replace it, or another -o")
    paths = find(inputs)
    asked = read_card(find_model(model)).question
    loader = load_question if asked else load_classifier
    classifier = loader(model, device=device, threads=threads, precise=precise)
    with common.progress_bars() as progress:
        step = partial(progress, "naming cells")
        named = name_cells(paths, classifier, mpp=mpp, stain_like=stain_like or (), progress=step)
    rows = named.answers() if asked else named.rows()
    if not rows:
        raise InputError("no image could be read", why="; ".join(item["reason"] for item in named.aside[:3]))
    code = common.told_of_aside(named.aside)
    if as_json:
        common.print_json({"cells": rows, "set_aside": named.aside})
    else:
        sink = io.StringIO()
        writer = csv.DictWriter(sink, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        if out is None:
            typer.echo(sink.getvalue(), nl=False)
        else:
            write_bytes(out, sink.getvalue().encode())
            typer.echo(str(out))
    return code
