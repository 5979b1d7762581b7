"""`count`, `recount` and `demo`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from myelos.cli import common
from myelos.wording import number_of

if TYPE_CHECKING:
    from myelos.smears.results import CountResult

COUNT_EXAMPLES = """Examples:

myelos count fields/*.jpg --specimen blood -o out

myelos count slide.svs --specimen marrow -o out --cells 1000

myelos count photos/ --specimen blood -o out --smear-by "_(\\w+)_"

myelos count tally.csv --specimen marrow -o out
"""


Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Images, folders or patterns such as fields/*.jpg; or a count made elsewhere: one .csv or .geojson."
    ),
]
Cells = Annotated[
    str | None,
    typer.Option(
        help="Of a slide: how many cells to find, or all. Without it 500 in marrow, 200 in blood. "
        "Fields are read in full."
    ),
]
SmearBy = Annotated[
    str | None,
    typer.Option(
        help="Where fields are of several smears: a regular expression whose one group is the smear's part of the "
        "file name, or a CSV with columns file,smear. Without it all fields are one smear."
    ),
]
HeldOut = Annotated[
    Path | None,
    typer.Option(
        help="The classifier's figures on your own held-out cells (JSON of evaluate classifier): "
        "intervals then know its errors."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Count even what seems to be no smear; the report says so.")]


def add(app: typer.Typer) -> None:
    app.command(epilog=COUNT_EXAMPLES)(count)
    app.command(epilog="Example: myelos recount out --corrections corrections.json")(recount)
    app.command(epilog="Example: myelos demo -o demo")(demo)


def count(
    inputs: Inputs,
    out: common.Out,
    specimen: common.Specimen = None,
    mpp: common.Mpp = None,
    cells: Cells = None,
    smear_by: SmearBy = None,
    model: common.Model = None,
    classifier: common.Classifier = None,
    held_out: HeldOut = None,
    stitch: common.Stitch = "overlap",
    force: Force = False,
    flat_field: common.FlatField = True,
    white_point: common.WhitePoint = True,
    common_scale: common.CommonScale = True,
    match_stain: common.MatchStain = True,
    threads: common.Threads = None,
    device: common.Device = "cpu",
    precise: common.Precise = False,
    overwrite: common.Overwrite = False,
    as_json: common.AsJson = False,
) -> int:
    """Count the cells of smears: a report (HTML, JSON, CSV), tables, and a file for QuPath.

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 done with some inputs set aside.
    """
    from myelos import pipeline
    from myelos.smears.calls import check_specimen

    check_specimen(specimen)
    common.check_mpp(mpp)
    with common.progress_bars() as progress:
        result = pipeline.count(
            inputs,
            out,
            specimen=str(specimen),
            mpp=mpp,
            cells=cells,
            smear_by=smear_by,
            model=model,
            classifier=classifier,
            held_out=held_out,
            stitch=stitch,
            force=force,
            flat_field=flat_field,
            white_point=white_point,
            common_scale=common_scale,
            match_stain=match_stain,
            threads=threads,
            device=device,
            precise=precise,
            overwrite=overwrite,
            progress=progress,
        )
    return show(result, as_json=as_json)


def recount(
    out: Annotated[Path, typer.Argument(help="A finished result.")],
    corrections: Annotated[Path, typer.Option(help="The file that the report page saved.")],
    as_json: common.AsJson = False,
) -> None:
    """Count again after people have corrected cells; the first count is kept and both are shown."""
    from myelos.report import PAGE
    from myelos.report import recount as count_again

    folder = count_again(out, corrections)
    if as_json:
        common.print_json({"out": str(folder), "report": str(folder / PAGE)})
    else:
        typer.echo(str(folder / PAGE))


def demo(
    out: common.Out = Path("demo"),
    seed: common.Seed = 0,
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
) -> int:
    """A synthetic marrow slide through the main job; the last line is the path of its report."""
    from myelos.pipeline import demo as run

    with common.progress_bars() as progress:
        result = run(out, seed=seed, threads=threads, overwrite=overwrite, progress=progress)
    return show(result, as_json=False)


def show(result: CountResult, *, as_json: bool) -> int:
    """What was counted and what was set aside; the path of the report comes last. Returns the exit code."""
    if as_json:
        common.print_json(summary(result))
        return result.exit_code
    for item in result.set_aside:
        sys.stderr.write(f"set aside: {common.sentence(item.message)}\n")
    for smear in result.smears:
        name = f"{smear.name}: " if len(result.smears) > 1 else ""
        typer.echo(f"{name}{number_of(smear.count.counted, 'cell')} counted. {smear.count.adequacy.sentence}")
        for warning in smear.warnings:
            typer.echo(f"  {warning}")
    typer.echo(str(result.report))
    return result.exit_code


def summary(result: CountResult) -> dict[str, Any]:
    smears = [
        {
            "smear": smear.name,
            "out": str(smear.folder),
            "report": str(smear.report),
            "counted": smear.count.counted,
            "cells": smear.count.cells,
            "types": {share.name: share.number for share in smear.count.types},
            "adequacy": smear.count.adequacy.sentence,
            "warnings": list(smear.warnings),
        }
        for smear in result.smears
    ]
    aside = [{"file": item.name, "reason": item.reason, "message": item.message} for item in result.set_aside]
    return {"out": str(result.out), "report": str(result.report), "smears": smears, "set_aside": aside}
