"""Labels in doubt: what networks say of training cells that they never saw.

A network that learned a cell repeats its label. So the training cells are dealt into folds, a network is trained
without each of them, and names it; where it is sure of another type, the label is worth a second look.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myelos import __version__
from myelos.datasets.cell_splits import cell_folds
from myelos.datasets.records import Fault
from myelos.errors import UsageError
from myelos.metrics.selective import fit_temperature, softmax
from myelos.tables import write_bytes, write_run
from myelos.training.cell_loop import train_network
from myelos.training.cell_model import view_logits
from myelos.training.cell_recipe import ClassifierRecipe
from myelos.training.checkpoints import beginning
from myelos.training.classifier import begun, crops_of_cells, divided, types_of
from myelos.training.crops import Crop, plain
from myelos.training.trained import Progress, count_steps

TABLE, PICTURE = "doubts.csv", "doubts.png"
_ROWS, _COLUMNS = 5, 8  # of the picture


@dataclass(frozen=True, slots=True)
class DoubtSettings:
    """folds: networks that are trained. seed: of the dealing. sources: whose cells are named, all where empty; cells
    that the network to begin with has learned are named from memory, and should not be. everything: the recipe's
    choosing and held-out cells are learned from and named too."""

    folds: int = 4
    seed: int = 0
    sources: tuple[str, ...] = ()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """A cell and what a network that never saw it says: (T,) float32 probabilities."""

    crop: Crop
    shares: NDArray[np.float32]

    @property
    def label_probability(self) -> float:
        """Of what the label leaves open."""
        return float(self.shares[self.crop.allowed].sum())

    @property
    def agrees(self) -> bool:
        return bool(self.crop.allowed[int(self.shares.argmax())])


@dataclass(frozen=True, slots=True)
class Doubts:
    """table, picture: the files. cells: that were named; agreed: the share whose label the most probable type fits."""

    table: Path
    picture: Path
    cells: int
    agreed: float
    faults: tuple[Fault, ...]


def find_doubts(
    data: Sequence[Path],
    out: Path,
    *,
    recipe: ClassifierRecipe | None = None,
    settings: DoubtSettings | None = None,
    start: str | Path | None = None,
    check: bool = True,
    threads: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Doubts:
    """Train a network without each fold of the recipe's training cells and write what it says of that fold.

    `<out>/doubts.csv` has a row for every cell, the least probable labels first: source, file, label, the type that is
    most probable, the probability of what the label leaves open, and that of each type; `doubts.png` shows the first
    forty. The recipe's choosing and held-out cells stay out of it unless the settings say otherwise. A killed run goes
    on when the same command is given again. Raises UsageError for a recipe of a question and where no cell can be
    named, ResultError for a finished `out`.
    """
    settings, recipe = settings or DoubtSettings(), recipe or ClassifierRecipe()
    if recipe.question:
        raise UsageError(f"{recipe.name} asks {recipe.question}", remedy="Choose a recipe that names types")
    first = beginning(recipe.training.network, start, None)
    recipe = replace(recipe, training=replace(recipe.training, network=first.network))
    tell = progress or (lambda _stage, _values: None)
    records, faults = begun(data, out, check=check, threads=threads, overwrite=overwrite, progress=progress)
    parts = divided(records, recipe)
    train = [*parts["train"], *parts["choose"], *parts["test"]] if settings.everything else parts["train"]
    recipe = replace(recipe, types=recipe.types or types_of(train))
    crops = crops_of_cells(train, recipe, partial(count_steps, tell, "reading train"))
    asked = _asked(crops, settings)
    of_cell = dict(zip(((r.source, r.path.name) for r in train), cell_folds(train, folds=settings.folds), strict=True))
    folds = np.array([of_cell[crop.source, crop.name] for crop in crops])
    named: list[Named] = []
    for fold in range(settings.folds):
        network = train_network(
            [crop for crop, own in zip(crops, folds, strict=True) if own != fold],
            types=len(recipe.types),
            side=recipe.side,
            settings=recipe.training,
            out=out / f"fold-{fold + 1}",
            start=first.weights,
            anew=overwrite,
            device=device,
            report=partial(tell, f"training {fold + 1} of {settings.folds}"),
        )
        own = [crops[i] for i in np.flatnonzero(asked & (folds == fold)).tolist()]
        named += _named(own, view_logits(network, own, recipe))
    named.sort(key=lambda one: one.label_probability)
    _write(out / TABLE, named, recipe.types)
    _draw(out / PICTURE, named[: _ROWS * _COLUMNS], recipe)
    agreed = float(np.mean([one.agrees for one in named]))
    run = {"command": "train doubts", "version": __version__, "types": list(recipe.types), "agreed": agreed}
    write_run(out, run | asdict(settings))
    return Doubts(out / TABLE, out / PICTURE, len(named), agreed, tuple(faults))


def _asked(crops: Sequence[Crop], settings: DoubtSettings) -> NDArray[np.bool_]:
    """(N,) which cells are named. Several of one image, boxes of a field, have no name of their own, and are not."""
    numbers = Counter((crop.source, crop.name) for crop in crops)
    alone = [numbers[crop.source, crop.name] == 1 for crop in crops]
    wanted = [not settings.sources or crop.source in settings.sources for crop in crops]
    asked: NDArray[np.bool_] = np.array(alone, dtype=bool) & np.array(wanted, dtype=bool)
    if not asked.any():
        raise UsageError(
            f"there is no cell of {' or '.join(settings.sources) or 'its own image'} to name",
            why=f"the sets are {', '.join(sorted({crop.source for crop in crops})) or 'empty'}",
            remedy="Pass folders of images of single cells",
        )
    return asked


def _named(crops: Sequence[Crop], logits: NDArray[np.float32]) -> list[Named]:
    """logits: (N, V, T), averaged over the poses at the temperature that fits these labels best."""
    allowed = np.array([crop.allowed for crop in crops])
    shares = softmax(logits, fit_temperature(logits, allowed)).mean(axis=1).astype(np.float32)
    return [Named(crop, row) for crop, row in zip(crops, shares, strict=True)]


def _write(path: Path, named: Sequence[Named], types: Sequence[str]) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["source", "file", "label", "named", "label_probability", *types])
    for one in named:
        shares = [round(share, 5) for share in one.shares.tolist()]
        said = [one.crop.cell_type, types[int(one.shares.argmax())], round(one.label_probability, 5)]
        writer.writerow([one.crop.source, one.crop.name, *said, *shares])
    write_bytes(path, sink.getvalue().encode())


def _draw(path: Path, named: Sequence[Named], recipe: ClassifierRecipe) -> None:
    """Each cell under its label with its probability, what it was named, and its file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = math.ceil(len(named) / _COLUMNS)
    figure = Figure(figsize=(2 * _COLUMNS, 0.4 + 2.4 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for place, one in enumerate(named, 1):
        axes = figure.add_subplot(rows, _COLUMNS, place)
        axes.imshow(plain(one.crop, recipe.side))
        axes.set_axis_off()
        label, name = one.crop.cell_type, recipe.types[int(one.shares.argmax())]
        lines = [f"{label} {100 * one.label_probability:.1f} %", f"{name} {100 * float(one.shares.max()):.0f} %"]
        axes.set_title("\n".join(lines).replace("_", " ") + f"\n{one.crop.name}", fontsize=7)
    figure.suptitle("The label and its probability, and what networks that never saw the cell call it")
    figure.savefig(path)
