"""`datasets`: single-cell sets boxed as annotated fields, checked, and downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from myelos.cli import common
from myelos.wording import number_of

EPILOG = """Example:

myelos datasets box pbc_dib_cells --model blood --type eosinophil --type basophil -o boxed
"""
CHECK = """Example:

myelos datasets check pbc_dib_cells mll_bone_marrow_cells
"""
GET = """Example:

myelos datasets get mll-bone-marrow -o mll_bone_marrow
"""
_SHOWN = 20  # lines of a kind; --json has all


def add(app: typer.Typer) -> None:
    family = typer.Typer(help="Prepare annotated images.", epilog=EPILOG, no_args_is_help=True)
    family.callback()(lambda: None)
    family.command(epilog=EPILOG)(box)
    family.command(epilog=CHECK)(check)
    family.command(epilog=GET)(get)
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
    typer.echo(f"{number_of(number, 'cell')} boxed, {len(left_out)} left out, {len(faults)} of unknown class: {out}")


def check(
    folders: Annotated[list[Path], typer.Argument(help="Folders of single-cell images; their layout is found.")],
    scheme: Annotated[
        str | None, typer.Option(help="Label scheme of the classes, where the folder does not tell.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where images of Parquet tables are written as files.")] = None,
    as_json: common.AsJson = False,
) -> int:
    """Say what a set holds, what its publication has more, and which images are damaged, overlap or have two labels.

    Ends with 3 where images should be left out.
    """
    from myelos.datasets.cell_checks import check_cells

    with common.progress_bars() as progress:
        found = check_cells(folders, scheme=scheme, cache=cache, progress=progress)
    content = found.as_json()
    if as_json:
        common.print_json(content)
    else:
        typer.echo("\n".join(_lines(content)))
    return 3 if found.damaged or found.contradictions or any(entry.faults for entry in found.sets) else 0


def get(
    name: Annotated[str, typer.Argument(help="The set: mll-bone-marrow.")],
    out: common.Out,
    hub: Annotated[str | None, typer.Option(envvar="MYELOS_HUB", help="Address of the hub.")] = None,
    tries: Annotated[int, typer.Option(min=1, help="Tries without a new byte.")] = 5,
) -> int:
    """Download a published set; the same command goes on where an earlier one stopped."""
    from myelos.datasets.get import HUB, HUB_SETS, GetSettings, check_rows
    from myelos.datasets.get import get as download

    settings = GetSettings(hub=hub or HUB, tries=tries)
    with common.progress_bars() as progress:
        files = download(
            name, out, settings=settings, progress=lambda done, total: progress("MB", done >> 20, max(1, total >> 20))
        )
    chosen, faults = HUB_SETS[name], check_rows(name, out)
    typer.echo(f"{len(files)} files in {out}. Licence {chosen.licence}; cite {chosen.cite}")
    for fault in faults:
        typer.echo(str(fault), err=True)
    return 3 if faults else 0


def _lines(content: dict[str, Any]) -> Iterator[str]:
    """The result of a check for people."""
    for entry in content["sets"]:
        scheme = entry["scheme"] or "none"
        yield f"{entry['folder']}: {entry['images']} images, layout {entry['layout']}, scheme {scheme}"
        yield "  " + ", ".join(f"{code} {count}" for code, count in entry["classes"].items())
        if entry["missing"]:
            yield f"  not as published ({entry['published']}): {'; '.join(entry['missing'][:_SHOWN])}"
        yield from _some(f"{fault['file']}: {fault['kind']} ({fault['detail']})" for fault in entry["faults"])
    yield f"damaged: {len(content['damaged'])}"
    yield from _some(f"{fault['file']}: {fault['detail']}" for fault in content["damaged"])
    yield f"overlaps: {len(content['overlaps'])}"
    yield from _some(
        f"{pair['second']} and {pair['first']}: {pair['kind']}, {pair['share']:.0%} of the smaller"
        for pair in content["overlaps"]
    )
    yield f"two labels: {len(content['contradictions'])}"
    yield from _some(f"{fault['file']}: {fault['detail']}" for fault in content["contradictions"])


def _some(lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    yield from (f"  {line}" for line in found[:_SHOWN])
    if len(found) > _SHOWN:
        yield f"  and {len(found) - _SHOWN} more; --json lists all"
