"""`crossval`: the protocols of the papers, their tables and ours beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from myelos.cli import common
from myelos.errors import UsageError

if TYPE_CHECKING:
    from myelos.protocols.matek import Preset as ProtocolPreset

EPILOG = """Examples:

myelos crossval matek --data mll_bone_marrow_cells -o crossval --preset two-cores

myelos crossval matek --data cells --models timm:resnet18 --pretrained timm:resnet18=hub -o pretrained
"""


Data = Annotated[list[Path], typer.Option(help="Folder of single cells; may be given several times.")]
Preset = Annotated[str, typer.Option(help="two-cores (up to 90 minutes), paper (days), or glance (minutes).")]
Models = Annotated[
    str | None,
    typer.Option(help="In place of the preset's: resnext50, sequential, residual, timm:NAME, handcrafted; commas."),
]
Pretrained = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL=FILE|hub",
        help="Weights of timm or torchvision that a network begins with, .safetensors; hub fetches them. "
        "May be repeated.",
    ),
]
Scheme = Annotated[str | None, typer.Option(help="Label scheme of the codes, where they do not tell.")]
External = Annotated[
    list[Path] | None, typer.Option(help="Folder of another laboratory's cells, for Figure 4; may be repeated.")
]
Overlaps = Annotated[
    str | None,
    typer.Option(help="Images that show the same cells: together in one fold, discard (as the paper), or off."),
]
Side = Annotated[int | None, typer.Option(help="Pixels of a crop; the part of the cell shown stays.")]
Epochs = Annotated[float | None, typer.Option(help="In place of the preset's length.")]
Batch = Annotated[int | None, typer.Option(help="Not in the paper.")]
Rate = Annotated[float | None, typer.Option(help="Learning rate; not in the paper.")]
Seed = Annotated[int | None, typer.Option(help="Seed of folds and trainings.")]


def add(app: typer.Typer) -> None:
    family = typer.Typer(
        help=r"Run a paper's protocol on your data (needs myelos\[train]).", epilog=EPILOG, no_args_is_help=True
    )
    family.callback()(lambda: None)
    family.command(epilog=EPILOG)(matek)
    app.add_typer(family, name="crossval")


def say(sentence: str) -> None:
    """On standard error, where results are not."""
    typer.echo(sentence, err=True)


def matek(
    data: Data,
    out: common.Out,
    preset: Preset = "two-cores",
    models: Models = None,
    pretrained: Pretrained = None,
    scheme: Scheme = None,
    external: External = None,
    overlaps: Overlaps = None,
    side: Side = None,
    epochs: Epochs = None,
    batch: Batch = None,
    rate: Rate = None,
    seed: Seed = None,
    check_images: common.CheckImages = True,
    threads: common.Threads = None,
    device: common.TrainingDevice = "cpu",
    overwrite: common.Overwrite = False,
    as_json: common.AsJson = False,
) -> int:
    """Matek 2021: stratified fivefold cross-validation, Table 1, Figures 2 and 3B; goes on where it was stopped.

    Its parts are timed first, and it says how long it will take on this machine.
    """
    with common.needs_training():
        from myelos.models.module import use_threads
        from myelos.protocols import matek as protocol

    given = {
        "models": tuple(models.split(",")) if models else None,
        "pretrained": dict(_weights(one) for one in pretrained or ()),
        "batch": batch,
        "rate": rate,
        "seed": seed,
        "overlaps": overlaps,
    }
    settings = _changed(protocol.preset(preset), given, side, epochs)
    use_threads(threads)
    with common.needs_training(), common.progress_bars() as progress:
        result = protocol.crossval(
            data,
            out,
            settings=settings,
            scheme=scheme,
            external=external or (),
            check=check_images,
            device=device,
            overwrite=overwrite,
            progress=progress,
            announce=say,
        )
    if as_json:
        common.print_json(result)
    else:
        typer.echo(str(out / "crossval.md"))
    return 3 if result["set_aside"] else 0


def _changed(settings: ProtocolPreset, given: dict[str, Any], side: int | None, epochs: float | None) -> ProtocolPreset:
    """A preset with what was given in its place; another side shows the same part of the cell."""
    if side is not None:
        given |= {"side": side, "mpp": settings.mpp * settings.side / side}
    if epochs is not None:
        given |= {"epochs": epochs, "images": 0}
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _weights(given: str) -> tuple[str, str]:
    """Model and file of `MODEL=FILE`."""
    from myelos.networks.pretrained import HUB

    model, equals, path = given.partition("=")
    if equals and path == HUB:
        return model, path
    if not equals or not Path(path).is_file():
        raise UsageError(
            f"--pretrained {given}: " + (f"{path} does not exist" if equals else "it names no file"),
            remedy="Write MODEL=FILE or MODEL=hub, such as timm:resnet18=resnet18.safetensors",
        )
    return model, str(Path(path).resolve())
