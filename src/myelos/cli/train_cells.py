"""`train classifier`: a model from images of single cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from myelos.cli import common, train
from myelos.cli.train import one_test, parts, say, stated, told
from myelos.errors import UsageError

if TYPE_CHECKING:
    from myelos.classification.questions import Question
    from myelos.training.cell_recipe import ClassifierRecipe

EPILOG = """Examples:

myelos train classifier --data cells -o model --epochs 30

myelos train classifier --question blast-character --data mll_bone_marrow_cells --specimen marrow -o blasts

myelos train classifier --one-type basophil --data pbc_dib_cells -o basophils

myelos train classifier --data cells --backbone timm:resnet18 --pretrained hub --rate 5e-4 -o model

myelos train classifier --recipe cells-blood --data pbc_dib_cells --data chula_wbc_fields -o runs/cells-blood
"""


INT8 = "Example: myelos train int8 runs/cells-marrow.safetensors --data mll_bone_marrow_cells --data pbc_dib_cells"
GATE = "Example: myelos train gate runs/cells-marrow.safetensors --data mll_bone_marrow_cells --data pbc_dib_cells"
LOOKS = "Example: myelos train looks runs/cells-marrow.safetensors --data mll_bone_marrow_cells --data pbc_dib_cells"


Cells = Annotated[
    list[Path], typer.Option(help="Folder of images of single cells, or of annotated fields; may be repeated.")
]
Scheme = Annotated[str | None, typer.Option(help="Label scheme whose classes the card quotes.")]
Sensitivity = Annotated[
    float | None,
    typer.Option(help="With a question: what the threshold is to reach; without it sensitivity + specificity."),
]
Mpp = Annotated[float | None, typer.Option(help="µm per pixel of sets that do not state it.")]
Test = Annotated[
    list[Path] | None, typer.Option(help="Folder that is only tested on; the model's card quotes its figures.")
]
Backbone = Annotated[str | None, typer.Option(help="residual (the default), resnext50, sequential, or timm:NAME.")]
Epochs = Annotated[float | None, typer.Option(help="How often each cell is drawn.")]
Start = Annotated[str | None, typer.Option(help="An earlier classifier to begin with.")]
Pretrained = Annotated[
    str | None,
    typer.Option(
        help="Weights of timm or torchvision for the backbone to begin with, .safetensors; hub fetches them.",
        metavar="FILE|hub",
    ),
]
Given = Annotated[Path, typer.Argument(help="A classifier's .safetensors file; its weights stay as they are.")]
Teacher = Annotated[
    list[str] | None,
    typer.Option(help="An earlier classifier, larger or another, whose answers are learned too; may be repeated."),
]


def classifier(
    data: Cells,
    out: common.Out,
    recipe: train.Recipe = None,
    name: train.Name = None,
    specimen: train.For = None,
    scheme: Scheme = None,
    question: common.Question = None,
    one_type: common.OneType = None,
    sensitivity: Sensitivity = None,
    mpp: Mpp = None,
    test: Test = None,
    val_fraction: train.ValFraction = None,
    backbone: Backbone = None,
    epochs: Epochs = None,
    rate: train.Rate = None,
    seed: train.Seed = None,
    start: Start = None,
    pretrained: Pretrained = None,
    teacher: Teacher = None,
    check_images: common.CheckImages = True,
    threads: common.Threads = None,
    device: common.TrainingDevice = "cpu",
    overwrite: common.Overwrite = False,
    as_json: common.AsJson = False,
) -> None:
    """Train a classifier of single cells; a killed training goes on when the same command is given again.

    With --question or --one-type the model answers yes or no in place of naming types.
    """
    with common.needs_training():
        from myelos.training.cell_recipe import ClassifierRecipe, read_classifier_recipe
        from myelos.training.classifier import train_classifier

    one_test(test, val_fraction)
    common.check_mpp(mpp)
    settings = read_classifier_recipe(recipe) if recipe else ClassifierRecipe()
    settings = _asking(settings, common.asked(question, one_type), sensitivity, balanced=not recipe)
    given = {"name": name, "specimen": specimen, "scheme": scheme, "parts": parts(settings.parts, val_fraction)}
    network = replace(settings.training.network, **stated({"backbone": backbone}))
    training = replace(settings.training, **stated({"epochs": epochs, "rate": rate, "seed": seed}), network=network)
    settings = replace(settings, **stated(given | {"unstated_mpp": mpp}), training=training)
    with common.needs_training(), common.progress_bars() as progress:
        trained = train_classifier(
            data,
            out,
            recipe=settings,
            start=start,
            pretrained=pretrained,
            teachers=teacher or (),
            test=test or (),
            check=check_images,
            threads=threads,
            device=device,
            overwrite=overwrite,
            progress=told(progress),
        )
    say(trained, out, as_json=as_json)


def looks(
    model: Given,
    data: Cells,
    mpp: Mpp = None,
    as_json: common.AsJson = False,
) -> int:
    """Write into the card of a classifier how its training cells look: counts bring cells to that stain.

    A training writes it by itself; this is for models that are there. Pass the folders that it was trained on.
    """
    from myelos.classification.looks import add_looks

    common.check_mpp(mpp)
    found, aside = add_looks(model, data, mpp=mpp)
    if as_json:
        common.print_json({"model": str(model), "looks": found, "set_aside": aside})
    else:
        typer.echo(f"{model}: the looks of {', '.join(sorted(found))}")
    return common.told_of_aside(aside)


def int8(
    model: Given,
    data: Cells,
    mpp: Mpp = None,
    threads: common.Threads = None,
    as_json: common.AsJson = False,
) -> int:
    """Write the graph of a classifier in eight-bit whole numbers, about three times as fast, beside the precise one.

    A training writes it by itself; this is for models that are there. Pass the folders that it was trained on. It runs
    by default where it names at least 99.5 % of the held-out cells the same; --precise of other commands avoids it.
    """
    with common.needs_training():
        from myelos.training.eight_bit import quantise_classifier

    common.check_mpp(mpp)
    with common.progress_bars() as progress:
        card, aside = quantise_classifier(model, data, mpp=mpp, threads=threads, progress=progress)
    if as_json:
        graph = str(card.eight_bit)
        common.print_json({"model": str(model), "graph": graph, "int8": dict(card.int8), "set_aside": aside})
    else:
        typer.echo(f"{card.eight_bit}: {common.told_of_int8(card)}")
    return common.told_of_aside(aside)


def gate(
    model: Given,
    data: Cells,
    mpp: Mpp = None,
    as_json: common.AsJson = False,
) -> int:
    """Write into the file of a classifier what its training cells are like: on others it gives no second opinion.

    A training writes it by itself; this is for models that are there. Pass the folders that it was trained on.
    """
    from myelos.classification.gate import add_gate

    common.check_mpp(mpp)
    card, aside = add_gate(model, data, mpp=mpp)
    found = card.unlike
    if as_json:
        common.print_json({"model": str(model), "unlike": dict(found), "set_aside": aside})
    else:
        share = (
            "" if found["flagged"] is None else f", {100 * found['flagged']:.1f} % of {found['judged']} others unlike"
        )
        typer.echo(f"{model}: fitted to {found['fitted']} cells{share}")
    return common.told_of_aside(aside)


def _asking(
    settings: ClassifierRecipe, asked: Question | None, sensitivity: float | None, *, balanced: bool
) -> ClassifierRecipe:
    """The recipe for a question; balanced: the rarer answer is drawn more often, by the root of the numbers."""
    if sensitivity is not None and not (asked and 0 < sensitivity <= 1):
        raise UsageError("--sensitivity is a share that a question's threshold is to reach", remedy="Such as 0.95")
    if asked is None:
        return settings
    training = replace(settings.training, balance=0.5) if balanced else settings.training
    name = asked.name.rpartition(":")[2]
    return replace(settings, name=name, question=asked.name, sensitivity=sensitivity, training=training)
