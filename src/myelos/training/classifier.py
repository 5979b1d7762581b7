"""The recipe of a classifier of single cells: labelled images in, a model file with its card and graph out.

`train` is learned from; on `choose` the temperature and the threshold for "unidentified" are chosen; `test` is what the
card quotes. Where a cell goes depends on its content alone (`datasets.cell_splits`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from myelos import __version__, taxonomy
from myelos.classification.questions import ANSWERS, question
from myelos.datasets.cell_sets import read_cell_sets
from myelos.datasets.cell_splits import split_cells
from myelos.datasets.cells import CellRecord
from myelos.datasets.records import Fault
from myelos.detection.run import worker_threads
from myelos.errors import LabelError
from myelos.models.files import read_card, sha256
from myelos.networks.timm_trunk import TIMM, check_side
from myelos.tables import write_json, write_run
from myelos.training.card import draw_curve, list_faults
from myelos.training.cell_loop import train_network
from myelos.training.cell_model import add_gate_of, judged, write_classifier
from myelos.training.cell_recipe import ClassifierRecipe
from myelos.training.checkpoints import Beginning, beginning, prepare_training
from myelos.training.crops import Crop, load_crops
from myelos.training.distillation import load_teachers
from myelos.training.eight_bit import add_eight_bits_of
from myelos.training.trained import Progress, Trained, count_steps


def train_classifier(
    data: Sequence[Path],
    out: Path,
    *,
    recipe: ClassifierRecipe | None = None,
    start: str | Path | None = None,
    pretrained: str | Path | None = None,
    teachers: Sequence[str | Path] = (),
    test: Sequence[Path] = (),
    check: bool = True,
    threads: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train a classifier and write `<out>/<name>.safetensors`, `.onnx`, `.int8.onnx`, curves and `run.json`.

    start: an earlier classifier to begin with. pretrained: weights of timm or torchvision for the backbone to begin
    with, a safetensors file, or "hub". teachers: earlier classifiers whose answers are learned beside the
    labels (`training.distillation`). test: folders kept out of everything but the quoted figures. check: set
    damaged images aside and report images under two labels before anything is learned.
    A killed training goes on when the same command is given again. Raises LabelError where nothing can be learned,
    ResultError for a finished `out`.
    """
    recipe = recipe or ClassifierRecipe()
    if recipe.training.network.backbone.startswith(TIMM):
        check_side(recipe.training.network.backbone.removeprefix(TIMM), recipe.side)
    first = beginning(recipe.training.network, start, pretrained)
    recipe = replace(recipe, training=replace(recipe.training, network=first.network))
    records, faults = begun(data, out, check=check, threads=threads, overwrite=overwrite, progress=progress)
    if progress:
        progress("labels", {"images": len(records), "faults": len(faults)})
    parts = divided(records, recipe, test)
    return train_cells(
        parts,
        out,
        recipe=recipe,
        first=first,
        teachers=teachers,
        faults=faults,
        anew=overwrite,
        device=device,
        progress=progress,
    )


def begun(
    data: Sequence[Path], out: Path, *, check: bool, threads: int | None, overwrite: bool, progress: Progress | None
) -> tuple[list[CellRecord], list[Fault]]:
    """The cells to learn from and the faults of their images and labels, listed in `out`, which is made ready.

    The parameters, and what is raised: see `train_classifier`.
    """
    if threads is not None:
        torch.set_num_threads(worker_threads(threads))
    prepare_training(out, overwrite=overwrite)
    tell = progress or (lambda _stage, _values: None)
    records, faults = read_cell_sets(data, check=check, progress=lambda *step: count_steps(tell, *step))
    list_faults(out, faults)
    return records, faults


def train_cells(
    parts: Mapping[str, Sequence[CellRecord]],
    out: Path,
    *,
    recipe: ClassifierRecipe,
    first: Beginning,
    teachers: Sequence[str | Path] = (),
    faults: Sequence[Fault] = (),
    anew: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Trained:
    """`train_classifier` on a split made elsewhere: records for `train`, `choose` and `test`.

    first: what it begins with, whose settings of the network are the recipe's. anew, device: see
    `cell_loop.train_network`.
    """
    tell = progress or (lambda _stage, _values: None)
    types = ANSWERS if recipe.question else recipe.types or types_of(parts["train"])
    recipe = replace(recipe, types=types)
    steps = {name: partial(count_steps, tell, f"reading {name}") for name in parts}
    crops = {name: crops_of_cells(part, recipe, steps[name]) for name, part in parts.items()}
    _check_any(crops["train"], recipe, out)
    network = train_network(
        _by_answer(crops["train"]) if recipe.question else crops["train"],
        types=len(recipe.types),
        side=recipe.side,
        settings=recipe.training,
        out=out,
        start=first.weights,
        teachers=load_teachers(teachers, types=recipe.types, mpp=recipe.mpp, side=recipe.side),
        anew=anew,
        device=device,
        report=lambda values: tell("training", values),
    )
    draw_curve(out / "curve.csv", out / "curve.png")
    card = judged(network, parts, crops, recipe, begun_with=first.said)
    path = write_classifier(network, card, out)
    add_eight_bits_of(path, crops, progress=partial(count_steps, tell))
    card = add_gate_of(path, crops)
    write_json(out / "card.json", {k: v for k, v in asdict(card).items() if k != "path"})
    names = {name: [record.path.name for record in part] for name, part in parts.items()}
    write_run(
        out,
        {
            "command": "train classifier",
            "version": __version__,
            "model": path.name,
            "sha256": sha256(path),
            "faults": [str(fault) for fault in faults],
            "parts": names,
        },
    )
    return Trained(path, read_card(path), tuple(faults))


def types_of(records: Sequence[CellRecord]) -> tuple[str, ...]:
    """The types of the labels, without coarser words of theirs for several of them."""
    present = {record.cell_type for record in records}
    coarse = {scheme.codes[code] for scheme in taxonomy.SCHEMES.values() for code in scheme.coarse}
    vague = {name for name in coarse & present if len(taxonomy.narrower(name) & present) > 1}
    return tuple(name for name in taxonomy.TYPES if name in present - vague)


def divided(
    records: Sequence[CellRecord], recipe: ClassifierRecipe, test: Sequence[Path] = ()
) -> dict[str, list[CellRecord]]:
    """The split; sources that are learned from whole go to `train`, and cells given for testing stay out of it."""
    split_off = [record for record in records if record.source not in recipe.whole]
    whole = [record for record in records if record.source in recipe.whole]
    if test:
        held, _ = read_cell_sets(test)
        shares = {"train": 1 - recipe.parts["choose"], "choose": recipe.parts["choose"]}
        chosen = split_cells(split_off, fractions=shares, seed=recipe.split_seed)
        parts = {name: [split_off[i] for i in indices] for name, indices in chosen.items()} | {"test": held}
    else:
        chosen = split_cells(split_off, fractions=recipe.parts, seed=recipe.split_seed)
        parts = {name: [split_off[i] for i in indices] for name, indices in chosen.items()}
    return parts | {"train": list(_thinned(parts["train"] + whole, recipe.thinned))}


def _thinned(records: Sequence[CellRecord], thinned: Mapping[str, Sequence[str]]) -> Iterator[CellRecord]:
    seen: Counter[tuple[str, str]] = Counter()
    for record in records:
        key = (record.source, record.cell_type)
        if record.cell_type not in thinned.get(record.source, ()):
            yield record
            continue
        seen[key] += 1
        if seen[key] % 3 == 0:
            yield record


def crops_of_cells(
    records: Sequence[CellRecord], recipe: ClassifierRecipe, step: Callable[[int, int], None]
) -> list[Crop]:
    """The cells at the recipe's scale; those of a type that it has no name for are left out."""
    scales = {record.source: recipe.unstated_mpp for record in records if recipe.unstated_mpp} | dict(recipe.scales)
    allow = question(recipe.question).allowed if recipe.question else None
    return load_crops(
        records, types=recipe.types, mpp=recipe.mpp, side=recipe.side, scales=scales, allow=allow, progress=step
    )


def _check_any(crops: Sequence[Crop], recipe: ClassifierRecipe, out: Path) -> None:
    """Raise LabelError where nothing can be learned, or where all cells answer a question alike."""
    if not crops:
        raise LabelError(
            "nothing to learn from", why="no cell has one of the types", remedy=f"See {out / 'faults.txt'}"
        )
    if recipe.question and len({int(crop.allowed.argmax()) for crop in crops}) < 2:
        raise LabelError(
            f"{recipe.question} cannot be learned from these cells",
            why=f"all {len(crops)} answer {ANSWERS[int(crops[0].allowed.argmax())]}",
            remedy="Pass a further --data with the other kind",
        )


def _by_answer(crops: Sequence[Crop]) -> list[Crop]:
    """The crops with the answer in place of the type: what `balance` draws evenly."""
    return [replace(crop, cell_type=ANSWERS[int(crop.allowed.argmax())]) for crop in crops]
