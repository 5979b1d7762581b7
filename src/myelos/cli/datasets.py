"""`datasets box`: single-cell images as annotated fields."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from myelos.cli import common

EPILOG = """Example:

myelos datasets box pbc_dib_cells --scheme pbc13 --model blood --type eosinophil --type basophil -o boxed
"""


def add(app: typer.Typer) -> None:
    family = typer.Typer(help="Prepare annotated images.", epilog=EPILOG, no_args_is_help=True)
    family.callback()(lambda: None)
    family.command(epilog=EPILOG)(box)
    app.add_typer(family, name="datasets")


def box(
    folder: Annotated[Path, typer.Argument(help="Folder of single-cell images in class folders.")],
    out: common.Out,
    model: Annotated[str, typer.Option(help="The detector that draws the boxes.")] = "blood",
    scheme: Annotated[str | None, typer.Option(help="Label scheme of the classes, such as pbc13.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--type", help="Only these types and what belongs to them; all without it.")
    ] = None,
    mpp: common.Mpp = None,
    threads: common.Threads = None,
) -> None:
    """Turn single-cell images into annotated fields: a detector draws the box, the class names the cell."""
    from myelos import models, taxonomy
    from myelos.datasets.cells import read_cells
    from myelos.detection.boxing import box_cells

    common.check_mpp(mpp)
    cells, faults = read_cells(folder, scheme=scheme)
    wanted = {narrow for name in kind or () for narrow in taxonomy.narrower(taxonomy.resolve(name))}
    cells = [cell for cell in cells if not wanted or cell.cell_type in wanted]
    with common.progress_bars() as progress:
        number, left_out = box_cells(
            cells,
            models.load(model, threads=threads),
            out,
            mpp=mpp,
            progress=lambda done, total: progress("boxing", done, total),
        )
    typer.echo(f"{number} cells boxed, {len(left_out)} left out, {len(faults)} of unknown class: {out}")
