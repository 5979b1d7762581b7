"""`train detector`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from myelos.cli import common

EPILOG = """Examples:

myelos train detector --data fields -o model

myelos train detector --recipe blood --data chula --data bccd -o runs/blood
"""


def add(app: typer.Typer) -> None:
    family = typer.Typer(help="Train a model from annotated images (needs myelos[train]).", no_args_is_help=True)
    family.callback()(lambda: None)
    family.command(epilog=EPILOG)(detector)
    app.add_typer(family, name="train")


def detector(
    data: Annotated[list[Path], typer.Option(help="Folder of annotated fields; may be given several times.")],
    out: common.Out,
    recipe: Annotated[str | None, typer.Option(help="A shipped recipe's name or a .toml file.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    specimen: common.Specimen = None,
    scheme: Annotated[str | None, typer.Option(help="Label scheme whose types the detector names.")] = None,
    test: Annotated[
        list[Path] | None, typer.Option("--test", "--val", help="Folder kept out of everything but the figures.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="light, resnet50 or resnet101.")] = None,
    soft_sampling: Annotated[str | None, typer.Option(help="off, box or background (equations 14 and 15).")] = None,
    canvases: Annotated[int | None, typer.Option(help="Training images in all; an epoch is one per field.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.")] = None,
    start: Annotated[str | None, typer.Option("--start", "--init", help="An earlier detector to begin with.")] = None,
    pretrained: Annotated[Path | None, typer.Option(help="ImageNet weights of the backbone, .safetensors.")] = None,
    overwrite: common.Overwrite = False,
    as_json: common.AsJson = False,
) -> None:
    """Train a cell detector; a killed training goes on when the same command is given again."""
    with common.needs_training():
        from myelos.training.detector import DetectorRecipe, read_recipe, train_detector

    given = {"name": name, "specimen": specimen, "scheme": scheme}
    training = {"canvases": canvases, "rate": rate, "seed": seed}
    architecture = {"backbone": backbone, "soft_sampling": soft_sampling}
    settings = read_recipe(recipe) if recipe else DetectorRecipe()
    built = replace(settings.training.architecture, **stated(architecture))
    settings = replace(
        settings, **stated(given), training=replace(settings.training, **stated(training), architecture=built)
    )
    with common.needs_training(), common.progress_bars() as progress:
        trained = train_detector(
            data,
            out,
            recipe=settings,
            start=start,
            pretrained=pretrained,
            test=test or (),
            overwrite=overwrite,
            progress=_told(progress),
        )
    if as_json:
        metrics = dict(trained.card.metrics)
        common.print_json({"model": str(trained.path), "faults": len(trained.faults), "metrics": metrics})
        return
    if trained.faults:
        sys.stderr.write(f"{len(trained.faults)} faults of the labels are listed in {out / 'faults.txt'}\n")
    typer.echo(str(trained.path))


def stated(options: dict[str, Any]) -> dict[str, Any]:
    """The options that the call has a value for."""
    return {name: value for name, value in options.items() if value is not None}


def _told(progress: common.Progress) -> Callable[[str, dict[str, Any]], None]:
    """The recipe's reports as steps of a progress bar."""

    def tell(stage: str, values: dict[str, Any]) -> None:
        if "steps" in values:
            progress(stage, int(values["step"]), int(values["steps"]))

    return tell
