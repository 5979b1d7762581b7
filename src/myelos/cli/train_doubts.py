"""`train doubts`: which labels networks that never saw the cells contradict."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer

from myelos.cli import common, train
from myelos.cli.train import stated, told
from myelos.cli.train_cells import Cells, Epochs, Mpp, Start
from myelos.wording import number_of

EPILOG = """Examples:

myelos train doubts --data cells -o doubts --mpp 0.1 --epochs 30 --everything

myelos train doubts --recipe cells-marrow-144 --data mll_bone_marrow_cells --data pbc_dib_cells -o runs/doubts
"""

_KNOWS = 0.5  # share of labels that networks worth asking agree with

Folds = Annotated[int, typer.Option(min=2, max=20, help="Networks that are trained, each without one part.")]
Everything = Annotated[
    bool, typer.Option("--everything", help="The cells that trainings keep for choosing and testing are named, too.")
]
Source = Annotated[
    list[str] | None,
    typer.Option(help="A set whose cells are named, all without it; not one that --start has learned. Repeatable."),
]


def doubts(
    data: Cells,
    out: common.Out,
    recipe: train.Recipe = None,
    mpp: Mpp = None,
    folds: Folds = 4,
    source: Source = None,
    everything: Everything = False,
    epochs: Epochs = None,
    seed: train.Seed = None,
    start: Start = None,
    check_images: common.CheckImages = True,
    threads: common.Threads = None,
    device: common.TrainingDevice = "cpu",
    overwrite: common.Overwrite = False,
    as_json: common.AsJson = False,
) -> None:
    """Which labels look wrong: networks name training cells that they never saw.

    The cells are dealt into folds, and a network is trained without each of them. Writes doubts.csv, the least
    probable labels first, and doubts.png with forty of them to look at. A killed run goes on when the same command is
    given again.
    """
    with common.needs_training():
        from myelos.training.cell_recipe import ClassifierRecipe, read_classifier_recipe
        from myelos.training.doubts import DoubtSettings, find_doubts

    common.check_mpp(mpp)
    settings = read_classifier_recipe(recipe) if recipe else ClassifierRecipe()
    training = replace(settings.training, **stated({"epochs": epochs, "seed": seed}))
    with common.needs_training(), common.progress_bars() as progress:
        found = find_doubts(
            data,
            out,
            recipe=replace(settings, **stated({"unstated_mpp": mpp}), training=training),
            settings=DoubtSettings(folds=folds, sources=tuple(source or ()), everything=everything),
            start=start,
            check=check_images,
            threads=threads,
            device=device,
            overwrite=overwrite,
            progress=told(progress),
        )
    if as_json:
        files = {"table": str(found.table), "picture": str(found.picture)}
        common.print_json(files | {"cells": found.cells, "agreed": found.agreed, "faults": len(found.faults)})
        return
    if found.faults:
        sys.stderr.write(f"{number_of(len(found.faults), 'fault')} listed in {out / 'faults.txt'}\n")
    if found.agreed < _KNOWS:
        sys.stderr.write(
            "the networks know little, and their doubts say little: train longer (--epochs), or on more cells\n"
        )
    typer.echo(f"{found.cells} cells, {100 * found.agreed:.1f} % named as their label: {found.table}, {found.picture}")
