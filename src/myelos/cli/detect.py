"""`detect`: cells without a count."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from myelos.cli import common


def add(app: typer.Typer) -> None:
    app.command(epilog="Example: myelos detect fields/*.jpg --model blood -o cells")(detect)


def detect(
    inputs: Annotated[list[str], typer.Argument(help="Images, folders or patterns such as fields/*.jpg.")],
    out: common.Out,
    specimen: Annotated[
        str | None, typer.Option(help="marrow or blood: needed without --model.", metavar="marrow|blood")
    ] = None,
    model: common.Model = None,
    classifier: common.Classifier = None,
    mpp: common.Mpp = None,
    cells: Annotated[str, typer.Option(help="Of a slide: how many cells to find, or all of them.")] = "all",
    stitch: common.Stitch = "overlap",
    force: Annotated[bool, typer.Option("--force", help="Read what seems to be no smear.")] = False,
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
    """Find and name cells and write the tables, without counting them."""
    from myelos import pipeline

    common.check_mpp(mpp)
    with common.progress_bars() as progress:
        result = pipeline.detect(
            inputs,
            out,
            specimen=specimen,
            model=model,
            classifier=classifier,
            mpp=mpp,
            cells=cells,
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
    aside = [{"file": item.name, "reason": item.reason, "message": item.message} for item in result.set_aside]
    if as_json:
        common.print_json({"out": str(result.out), "set_aside": aside})
        return result.exit_code
    for item in result.set_aside:
        sys.stderr.write(f"set aside: {common.sentence(item.message)}\n")
    typer.echo(str(result.out / "cells.parquet"))
    return result.exit_code
