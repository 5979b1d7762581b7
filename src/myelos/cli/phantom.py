"""`phantom slide|fields|cells`: synthetic smears with complete truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from myelos.cli import common

Need = Annotated[str | None, typer.Option(help="marrow or blood.", metavar="marrow|blood")]
Composition = Annotated[
    str | None,
    typer.Option(help="Which cells how often, such as marrow_aml or blood_normal; an unknown name lists all."),
]
PerMm2 = Annotated[float | None, typer.Option("--cells-per-mm2", help="Density of nucleated cells.")]


def add(app: typer.Typer) -> None:
    family = typer.Typer(
        help="Synthetic smears with complete truth; the same seed gives the same bytes.",
        epilog="Example: myelos phantom slide --specimen marrow -o slide.tif",
        no_args_is_help=True,
    )
    family.callback()(lambda: None)
    family.command(epilog="Example: myelos phantom slide --specimen marrow -o slide.tif")(slide)
    family.command(epilog="Example: myelos phantom fields --specimen blood --count 240 -o synthetic_blood")(fields)
    family.command(epilog="Example: myelos phantom cells --per-type 100 -o cells")(cells)
    app.add_typer(family, name="phantom")


def slide(
    out: Annotated[Path, typer.Option("-o", "--out", help="The TIFF to write; its truth goes beside it.")],
    specimen: Need = None,
    width: Annotated[int, typer.Option(help="Pixels of level 0.")] = 16384,
    height: Annotated[int, typer.Option(help="Pixels of level 0.")] = 12288,
    mpp: Annotated[float, typer.Option(help="µm per pixel.")] = 0.25,
    composition: Composition = None,
    cells_per_mm2: PerMm2 = None,
    seed: common.Seed = 0,
    overwrite: common.Overwrite = False,
) -> None:
    """A whole slide as pyramidal JPEG TIFF."""
    from myelos.phantom.slide import write_slide
    from myelos.smears.calls import check_specimen

    check_specimen(specimen)
    with common.progress_bars() as progress:
        truth = write_slide(
            out,
            width=width,
            height=height,
            mpp=mpp,
            specimen=str(specimen),
            seed=seed,
            composition=composition,
            cells_per_mm2=cells_per_mm2,
            overwrite=overwrite,
            progress=_stage(progress, "blocks"),
        )
    typer.echo(f"{out}\n{truth}")


def fields(
    out: common.Out,
    specimen: Need = None,
    count: Annotated[int, typer.Option(help="How many fields.")] = 100,
    size: Annotated[int, typer.Option(help="Side of a field in pixels.")] = 640,
    mpp: Annotated[float, typer.Option(help="µm per pixel.")] = 0.25,
    seed: common.Seed = 0,
    overwrite: common.Overwrite = False,
) -> None:
    """Camera fields with boxes and types, as training data."""
    from myelos.phantom.dataset import write_fields
    from myelos.smears.calls import check_specimen

    check_specimen(specimen)
    with common.progress_bars() as progress:
        folder = write_fields(
            out,
            count=count,
            specimen=str(specimen),
            size=size,
            mpp=mpp,
            seed=seed,
            overwrite=overwrite,
            progress=_stage(progress, "fields"),
        )
    typer.echo(str(folder))


def cells(
    out: common.Out,
    per_type: Annotated[int, typer.Option(help="Images of each type.")] = 50,
    types: Annotated[
        str | None, typer.Option("--types", help="Names, separated by commas; all of wang19 without.")
    ] = None,
    mpp: Annotated[float, typer.Option(help="µm per pixel.")] = 0.1,
    seed: common.Seed = 0,
    overwrite: common.Overwrite = False,
) -> None:
    """Single cells among neighbours, in a folder for each type."""
    from myelos.phantom.dataset import WANG19, write_cells

    chosen = tuple(name.strip() for name in types.split(",")) if types else WANG19
    with common.progress_bars() as progress:
        folder = write_cells(
            out,
            types=chosen,
            per_type=per_type,
            mpp=mpp,
            seed=seed,
            overwrite=overwrite,
            progress=_stage(progress, "cells"),
        )
    typer.echo(str(folder))


def _stage(progress: common.Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)
