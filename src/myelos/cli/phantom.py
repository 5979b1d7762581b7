"""`phantom slide|cohort|fields|cells`: synthetic smears with complete truth."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from myelos.cli import common
from myelos.errors import UsageError

if TYPE_CHECKING:
    from myelos.phantom.cut_outs import CutOuts

Tell = Callable[[int, int], None]

Need = Annotated[str | None, typer.Option(help="marrow or blood.", metavar="marrow|blood")]
Composition = Annotated[
    str | None,
    typer.Option(help="Which cells how often, such as marrow_aml or blood_normal; an unknown name lists all."),
]
CellImages = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder of labelled single-cell images, whose cells are cut out and set among rendered ones; repeatable."
    ),
]
Part = Annotated[
    str | None,
    typer.Option(
        help="Of --cell-images only the cells of one part of the shipped classifiers' split; none learned from test.",
        metavar="train|choose|test",
    ),
]
CellMpp = Annotated[float | None, typer.Option(help="µm per pixel of --cell-images that do not say it.")]
PerType = Annotated[int, typer.Option(help="Images of --cell-images tried of each type and source, 0 for all.")]
Scheme = Annotated[str | None, typer.Option(help="Label scheme of --cell-images that do not tell, such as mll21.")]
PerMm2 = Annotated[float | None, typer.Option("--cells-per-mm2", help="Density of nucleated cells.")]


FIELDS = """Examples:

myelos phantom fields --specimen blood --count 240 -o synthetic_blood

myelos phantom fields --specimen marrow --cell-images mll_bone_marrow_cells --cell-images pbc_dib_cells -o composed
"""


def add(app: typer.Typer) -> None:
    family = typer.Typer(
        help="Synthetic smears with complete truth; the same seed gives the same bytes.",
        epilog="Example: myelos phantom slide --specimen marrow -o slide.tif",
        no_args_is_help=True,
    )
    family.callback()(lambda: None)
    family.command(
        epilog="Examples: myelos phantom slide --specimen marrow --size 218944x103704 -o slide.tif\n\n"
        "myelos phantom slide --specimen marrow --size 24576x16384 --show glass --format dicom -o slide"
    )(slide)
    family.command(epilog="Example: myelos phantom cohort --patients 30 --diseases aml,normal -o cohort")(cohort)
    family.command(epilog=FIELDS)(fields)
    family.command(epilog="Example: myelos phantom cells --per-type 100 -o cells")(cells)
    app.add_typer(family, name="phantom")


def slide(
    out: Annotated[Path, typer.Option("-o", "--out", help="TIFF or DICOM folder to write; its truth goes beside it.")],
    specimen: Need = None,
    size: Annotated[str, typer.Option(help="Pixels of level 0.", metavar="WIDTHxHEIGHT")] = "16384x12288",
    mpp: Annotated[float, typer.Option(help="µm per pixel.")] = 0.25,
    show: Annotated[
        str | None,
        typer.Option(
            help="glass: the whole glass with label, smear, particles and trails. section: a piece of smear. "
            "Without it the glass from 10 mm on.",
            metavar="glass|section",
        ),
    ] = None,
    composition: Composition = None,
    cells_per_mm2: PerMm2 = None,
    blood_smear: Annotated[bool, typer.Option("--blood-smear", help="A blood smear on the same glass.")] = False,
    stain: Annotated[str | None, typer.Option(help="may_gruenwald_giemsa, wright_giemsa or liu.")] = None,
    scanner: Annotated[str | None, typer.Option(help="area_camera, line_camera or old_camera.")] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="tiff, or dicom: a folder in the form of the public marrow slides, annotated by made-up examiners.",
            metavar="tiff|dicom",
        ),
    ] = "tiff",
    cell_images: CellImages = None,
    part: Part = None,
    cell_mpp: CellMpp = None,
    per_type: PerType = 200,
    scheme: Scheme = None,
    threads: common.Threads = None,
    seed: common.Seed = 0,
    overwrite: common.Overwrite = False,
) -> None:
    """A slide as pyramidal JPEG TIFF or as DICOM, of any size up to a whole glass."""
    from myelos.smears.calls import check_specimen

    check_specimen(specimen)
    width, height = _size(size)
    chosen = show or ("glass" if max(width, height) * mpp >= 10_000 else "section")
    common_to_both = {"mpp": mpp, "specimen": str(specimen), "seed": seed, "composition": composition, "form": form}
    if cells_per_mm2 is not None:
        common_to_both["cells_per_mm2"] = cells_per_mm2
    only_glass = {"blood_smear": blood_smear or None, "stain": stain, "scanner": scanner}
    given = {name: value for name, value in only_glass.items() if value is not None}
    with common.progress_bars() as progress:
        tell = _stage(progress, "blocks")
        if cell_images:
            wanted = {"part": part, "mpp": cell_mpp, "per_type": per_type, "scheme": scheme}
            common_to_both["cut_outs"] = _cut_outs(cell_images, mpp, wanted, progress)
        if chosen == "glass":
            truth = _write_glass(out, width, height, common_to_both | given, threads, overwrite, tell)
        else:
            truth = _write_section(out, chosen, (width, height), common_to_both, given, overwrite, tell)
    typer.echo(f"{out}\n{truth}")


def _size(text: str) -> tuple[int, int]:
    """UsageError for what is not WIDTHxHEIGHT."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--size {text} is no size", remedy="Pass WIDTHxHEIGHT in pixels, as 218944x103704")
    return int(width), int(height)


def _write_glass(
    out: Path, width: int, height: int, words: dict[str, Any], threads: int | None, overwrite: bool, tell: Tell
) -> Path:
    from myelos.phantom.glass.layout import GlassSettings
    from myelos.phantom.glass.writing import write_glass

    given = {name: words.pop(name) for name in ("form", "cut_outs") if name in words}
    settings = GlassSettings(width, height, **words)
    return write_glass(out, settings, **given, threads=threads, overwrite=overwrite, progress=tell)


def _write_section(
    out: Path,
    chosen: str,
    size: tuple[int, int],
    words: dict[str, Any],
    given: dict[str, Any],
    overwrite: bool,
    tell: Tell,
) -> Path:
    from myelos.phantom.slide import write_slide

    if chosen != "section":
        raise UsageError(f"--show {chosen} is unknown", remedy="Choose glass or section")
    if given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{named} is for a whole glass", remedy="Add --show glass")
    return write_slide(out, width=size[0], height=size[1], **words, overwrite=overwrite, progress=tell)


def cohort(
    out: common.Out,
    patients: Annotated[int, typer.Option(help="How many patients, with a slide each.")] = 10,
    diseases: Annotated[str | None, typer.Option(help="Names, separated by commas; all without.")] = None,
    size: Annotated[str, typer.Option(help="Pixels of level 0.", metavar="WIDTHxHEIGHT")] = "24576x16384",
    mpp: Annotated[float, typer.Option(help="µm per pixel.")] = 0.25,
    scanners: Annotated[str, typer.Option(help="Of which one is drawn for each patient.")] = "area_camera",
    stains: Annotated[str, typer.Option(help="Of which one is drawn for each patient.")] = "may_gruenwald_giemsa",
    threads: common.Threads = None,
    seed: common.Seed = 0,
    overwrite: common.Overwrite = False,
) -> None:
    """Patients with a slide each and a table of their labels; what shows where is told in docs/phantom.md."""
    from myelos.phantom.glass.cohort import write_cohort
    from myelos.phantom.patients import CohortSettings

    width, height = _size(size)
    settings = CohortSettings(patients, width, height, mpp, seed, scanners=_names(scanners), stains=_names(stains))
    if diseases:
        settings = replace(settings, diseases=_names(diseases))
    with common.progress_bars() as progress:
        folder = write_cohort(out, settings, threads=threads, overwrite=overwrite, progress=progress)
    typer.echo(str(folder))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def fields(
    out: common.Out,
    specimen: Need = None,
    count: Annotated[int, typer.Option(help="How many fields.")] = 100,
    size: Annotated[int, typer.Option(help="Side of a field in pixels.")] = 640,
    mpp: Annotated[float, typer.Option(help="µm per pixel.")] = 0.25,
    composition: Composition = None,
    cell_images: CellImages = None,
    part: Part = None,
    cell_mpp: CellMpp = None,
    per_type: PerType = 200,
    scheme: Scheme = None,
    seed: common.Seed = 0,
    overwrite: common.Overwrite = False,
) -> None:
    """Camera fields with boxes and types, as training data."""
    from myelos.phantom.dataset import write_fields
    from myelos.smears.calls import check_specimen

    check_specimen(specimen)
    with common.progress_bars() as progress:
        given = {"part": part, "mpp": cell_mpp, "per_type": per_type, "scheme": scheme}
        cut_outs = _cut_outs(cell_images, mpp, given, progress) if cell_images else None
        folder = write_fields(
            out,
            count=count,
            specimen=str(specimen),
            size=size,
            mpp=mpp,
            seed=seed,
            mix={composition: 1.0} if composition else None,
            cut_outs=cut_outs,
            overwrite=overwrite,
            progress=_stage(progress, "fields"),
        )
    typer.echo(str(folder))


def _cut_outs(folders: list[Path], mpp: float, given: dict[str, Any], progress: common.Progress) -> CutOuts:
    """The cells of `--cell-images`; says how many could be cut out cleanly, and why others could not."""
    from myelos.phantom.cell_images import CellImagesSettings, read_cut_outs
    from myelos.phantom.cut_outs import in_words

    tell = _stage(progress, "cutting out cells")
    cut_outs = read_cut_outs(folders, mpp=mpp, settings=CellImagesSettings(**given), progress=tell)
    sys.stderr.write(in_words(cut_outs))
    return cut_outs


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
