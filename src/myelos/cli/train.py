"""`train`: a model from annotated images; here the detector."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from myelos.cli import common
from myelos.errors import UsageError
from myelos.wording import number_of

if TYPE_CHECKING:
    from myelos.training.trained import Trained

EPILOG = """Examples:

myelos train detector --data fields -o model --epochs 30 --val-fraction 0.2

myelos train detector --recipe blood --data chula --data bccd -o runs/blood
"""


Fields = Annotated[
    list[Path],
    typer.Option(
        help="Folder of annotated fields: YOLO, Pascal VOC, COCO, QuPath GeoJSON or Myelos tables. May be repeated."
    ),
]
Recipe = Annotated[str | None, typer.Option(help="A shipped recipe's name or a .toml file.")]
Name = Annotated[str | None, typer.Option(help="Name of the model.")]
For = Annotated[str | None, typer.Option(help="marrow or blood: what the model is for.", metavar="marrow|blood")]
Scheme = Annotated[
    str | None, typer.Option(help="Label scheme whose types the detector names, such as wbc5 or wang19.")
]
Test = Annotated[
    list[Path] | None,
    typer.Option("--test", "--val", help="Folder that is only tested on; the model's card quotes its figures."),
]
ValFraction = Annotated[
    float | None, typer.Option(help="Without --test: share of --data that is only tested on, such as 0.2.")
]
Backbone = Annotated[str | None, typer.Option(help="light, resnet50 or resnet101.")]
SoftSampling = Annotated[
    str | None,
    typer.Option(
        help="How boxes missing in the labels are dealt with (Wang 2022, equations 14, 15): off, box or background."
    ),
]
Epochs = Annotated[
    float | None,
    typer.Option(help="Length of the training: how many training images are cut of each field, on average."),
]
Canvases = Annotated[int | None, typer.Option(help="In place of --epochs: training images in all.")]
Rate = Annotated[float | None, typer.Option(help="Learning rate.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the training.")]
Start = Annotated[str | None, typer.Option("--start", "--init", help="An earlier detector to begin with.")]
Pretrained = Annotated[Path | None, typer.Option(help="ImageNet weights of the backbone, .safetensors.")]


def add(app: typer.Typer) -> None:
    from myelos.cli import train_cells, train_doubts  # which share options with this file

    family = typer.Typer(
        help=r"Train a model from annotated images (needs myelos\[train]).", epilog=EPILOG, no_args_is_help=True
    )
    family.callback()(lambda: None)
    family.command(epilog=EPILOG)(detector)
    family.command(epilog=train_cells.EPILOG)(train_cells.classifier)
    family.command(epilog=train_doubts.EPILOG)(train_doubts.doubts)
    family.command(epilog=train_cells.LOOKS)(train_cells.looks)
    family.command(epilog=train_cells.INT8)(train_cells.int8)
    family.command(epilog=train_cells.GATE)(train_cells.gate)
    app.add_typer(family, name="train")


def detector(
    data: Fields,
    out: common.Out,
    recipe: Recipe = None,
    name: Name = None,
    specimen: For = None,
    scheme: Scheme = None,
    test: Test = None,
    val_fraction: ValFraction = None,
    backbone: Backbone = None,
    soft_sampling: SoftSampling = None,
    epochs: Epochs = None,
    canvases: Canvases = None,
    rate: Rate = None,
    seed: Seed = None,
    start: Start = None,
    pretrained: Pretrained = None,
    threads: common.Threads = None,
    overwrite: common.Overwrite = False,
    as_json: common.AsJson = False,
) -> None:
    """Train a cell detector; a killed training goes on when the same command is given again."""
    with common.needs_training():
        from myelos.training.detector import train_detector
        from myelos.training.detector_recipe import DetectorRecipe, read_recipe

    one_test(test, val_fraction)
    settings = read_recipe(recipe) if recipe else DetectorRecipe()
    given = {"name": name, "specimen": specimen, "scheme": scheme, "parts": parts(settings.parts, val_fraction)}
    training = {"rate": rate, "seed": seed} | amount(epochs, canvases)
    architecture = {"backbone": backbone, "soft_sampling": soft_sampling}
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
            threads=threads,
            overwrite=overwrite,
            progress=told(progress),
        )
    say(trained, out, as_json=as_json)


def one_test(test: list[Path] | None, fraction: float | None) -> None:
    """Raise UsageError where both folders and a share are to be tested on."""
    if fraction is not None and test:
        raise UsageError("--val-fraction and --test both say what to test on", remedy="Pass one of them")


def say(trained: Trained, out: Path, *, as_json: bool) -> None:
    """The model's path, or its figures as JSON; where the faults of the labels are listed."""
    if as_json:
        metrics = dict(trained.card.metrics)
        common.print_json({"model": str(trained.path), "faults": len(trained.faults), "metrics": metrics})
        return
    if trained.faults:
        kinds = Counter(fault.kind for fault in trained.faults).most_common()
        found = number_of(len(trained.faults), "fault of images and labels is", "faults of images and labels are")
        named = ", ".join(f"{number} × {kind}" for kind, number in kinds)
        sys.stderr.write(f"{found} listed in {out / 'faults.txt'}: {named}\n")
    typer.echo(str(trained.path))


def parts(usual: Mapping[str, float], fraction: float | None) -> dict[str, float] | None:
    """The split with another share for testing; None where the call states none. Raises UsageError."""
    if fraction is None:
        return None
    if not 0 < fraction < 1 - usual["choose"]:
        raise UsageError(
            f"--val-fraction {fraction:g} leaves nothing to train on or to test on",
            why=f"a share of {usual['choose']:g} is kept for choosing the threshold",
            remedy="Pass a share such as 0.2",
        )
    return {"train": 1 - usual["choose"] - fraction, "choose": usual["choose"], "test": fraction}


def amount(epochs: float | None, canvases: int | None) -> dict[str, Any]:
    """How long to train; what the call states takes the place of what the recipe does. Raises UsageError."""
    if epochs is not None and canvases is not None:
        raise UsageError("--epochs and --canvases both say how long to train", remedy="Pass one of them")
    if min(value for value in (epochs, canvases, 1) if value is not None) <= 0:
        raise UsageError("a training needs at least one image", remedy="Pass more --epochs or --canvases")
    return {"epochs": epochs} if epochs is not None else {} if canvases is None else {"canvases": canvases, "epochs": 0}


def stated(options: dict[str, Any]) -> dict[str, Any]:
    """The options that the call has a value for."""
    return {name: value for name, value in options.items() if value is not None}


def told(progress: common.Progress) -> Callable[[str, dict[str, Any]], None]:
    """The recipe's reports as steps of a progress bar."""

    def tell(stage: str, values: dict[str, Any]) -> None:
        if "steps" in values:
            progress(stage, int(values["step"]), int(values["steps"]))

    return tell
