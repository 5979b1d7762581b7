"""`embed`: the features of a frozen network, and how much they know."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from myelos.cli import common
from myelos.errors import ModelError, UsageError
from myelos.wording import number_of

if TYPE_CHECKING:
    from myelos.datasets.cells import CellRecord
    from myelos.models.classify import ModuleClassifier
    from myelos.representation.embeddings import EmbeddedCells, Encoder, Scale

EPILOG = """Examples:

myelos embed pbc_dib_cells --scheme pbc13 --model cells-blood -o embedded

myelos embed pbc_dib_cells --scheme pbc13 --model cells-blood --untrained --no-map -o what_the_shape_knows

myelos embed pbc_dib_cells --scheme pbc13 --model timm:vit_small_patch14_dinov2 --weights dino.safetensors -o embedded
"""
VIEW = 21.6  # µm: the width of what a foreign encoder sees, as that of ours
TIMM = "timm:"


def add(app: typer.Typer) -> None:
    app.command(epilog=EPILOG)(embed)


def embed(
    data: Annotated[Path, typer.Argument(help="Folder of labelled single cells.")],
    out: common.Out,
    model: Annotated[str, typer.Option(help="A shipped classifier's name, a .safetensors file, or timm:NAME.")],
    weights: Annotated[
        str | None,
        typer.Option(help="With timm:NAME: its weights, .safetensors; hub fetches them.", metavar="FILE|hub"),
    ] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Random weights in place of the model's: what its shape alone knows.")
    ] = False,
    scheme: Annotated[str | None, typer.Option(help="Label scheme of the folders' classes, such as pbc13.")] = None,
    mpp: common.Mpp = None,
    poses: Annotated[int, typer.Option(help="Poses of a cell that are averaged.", min=1, max=8)] = 1,
    draw: Annotated[bool, typer.Option("--map/--no-map", help="Draw the map of two dimensions (UMAP).")] = True,
    seed: common.Seed = 0,
    threads: common.Threads = None,
    device: common.Device = "cpu",
    overwrite: common.Overwrite = False,
    as_json: common.AsJson = False,
) -> int:
    """Describe cells by a classifier's features, and say how much these know (needs myelos\\[train]).

    Writes the features as a table, judges them by nearest neighbours and a linear probe on cells that share nothing
    with those they learn from, and draws the map of Matek 2021, Figure 6.
    """
    from myelos import tables
    from myelos.classification.judging import as_aside
    from myelos.datasets.cells import read_cells

    common.check_mpp(mpp)
    tables.refuse_finished(out, overwrite=overwrite)
    records, faults = read_cells(data, scheme=scheme)
    with common.needs_training(), common.progress_bars() as progress:
        source = source_of(model, weights, device=device, threads=threads)
        if untrained:
            source = _untrained(source, seed)
        cells, aside = _embedded(records, source, mpp, poses, progress)
        parts = parts_of(cells)
        figures = _judged(cells, parts)
        places = _places(cells, seed) if draw else None
    tables.prepare(out, overwrite=overwrite)
    _write(out, cells, parts, places, title=f"{data.resolve().name} as {source.name} sees it")
    aside += as_aside(faults)
    settings = {"poses": poses, "scheme": scheme, "mpp": mpp, "seed": seed, "map": draw, "untrained": untrained}
    run = manifest("embed", source, settings, cells=len(cells), set_aside=len(aside)) | {"figures": figures}
    tables.write_run(out, run)
    if as_json:
        common.print_json({"out": str(out), "cells": len(cells), "set_aside": aside, **figures})
    else:
        show(out, figures, len(cells), len(aside))
    return 3 if aside else 0


@dataclass(frozen=True, slots=True)
class Source:
    """What embeds: a network as a callable, and what `run.json` says of it. types: empty where it names none."""

    name: str
    sha256: str
    precision: str
    types: tuple[str, ...]
    scale: Scale
    encoder: Encoder


def source_of(model: str, weights: str | None, *, device: str = "cpu", threads: int | None = None) -> Source:
    """A classifier, or a backbone of timm with its weights. Raises UsageError where only one of the two is stated."""
    if model.startswith(TIMM) != (weights is not None):
        raise UsageError("--weights and timm:NAME belong together", remedy="Pass both, or a classifier alone")
    if weights is None:
        return from_classifier(loaded(model, device=device, threads=threads))
    from myelos.models.files import sha256
    from myelos.networks.encoder import TimmEncoder
    from myelos.networks.pretrained import local
    from myelos.representation.embeddings import Scale

    name = model.removeprefix(TIMM)
    path = local(weights, name)
    encoder = TimmEncoder(name, path, device=device)
    return Source(model, sha256(path), "f32", (), Scale(VIEW / encoder.side, encoder.side), encoder)


def _untrained(source: Source, seed: int) -> Source:
    """The same network with random weights, which name nothing; raises UsageError where it is no classifier."""
    from myelos.networks.encoder import FrozenEncoder, untrained

    if not source.types or not isinstance(source.encoder, FrozenEncoder):
        raise UsageError("--untrained wants the shape of a classifier", remedy="Pass --model cells-marrow, or a file")
    named = f"{source.name}, untrained"
    return replace(source, name=named, sha256="", types=(), encoder=untrained(source.encoder, seed))


def from_classifier(classifier: ModuleClassifier) -> Source:
    from myelos.networks.encoder import FrozenEncoder
    from myelos.representation.embeddings import Scale

    return Source(
        classifier.name,
        classifier.sha256,
        classifier.precision,
        classifier.types,
        Scale(classifier.mpp, classifier.side),
        FrozenEncoder(classifier.network, device=classifier.device),
    )


def loaded(model: str, *, device: str = "cpu", threads: int | None = None) -> ModuleClassifier:
    """A classifier as a torch module, by name or file; raises ModelError where it is none."""
    from myelos.models import find, read_card
    from myelos.models.classify import ModuleClassifier

    card = read_card(find(model))
    if card.kind != "classifier":
        raise ModelError(
            f"{card.name} is no classifier", why=f"it is a {card.kind}", remedy="`myelos models` says more"
        )
    return ModuleClassifier(card, device=device, threads=threads)


def _embedded(
    records: Sequence[CellRecord], source: Source, mpp: float | None, poses: int, progress: common.Progress
) -> tuple[EmbeddedCells, list[dict[str, str]]]:
    from myelos.representation.embeddings import embed_records

    return embed_records(
        records,
        source.encoder,
        source.scale,
        types=source.types,
        mpp=mpp,
        poses=poses,
        progress=lambda done, total: progress("embedding", done, total),
    )


def index_of(
    folder: Path, classifier: ModuleClassifier, scheme: str | None, mpp: float | None, progress: common.Progress
) -> tuple[EmbeddedCells, int]:
    """Cells to look for neighbours among, and the poses that their features are averaged over: what `embed` wrote, or
    a folder of cells. Raises UsageError for embeddings by another model."""
    from myelos import tables
    from myelos.datasets.cells import read_cells
    from myelos.representation.embeddings import read_embeddings

    if not (folder / "embeddings.parquet").exists():
        records = read_cells(folder, scheme=scheme)[0]
        return _embedded(records, from_classifier(classifier), mpp, 1, progress)[0], 1
    run = tables.read_run(folder)
    if run.get("model", {}).get("sha256") != classifier.sha256:
        raise UsageError(
            f"{folder} holds embeddings by another model",
            why=f"they are by {run.get('model', {}).get('name')}",
            remedy="Run `myelos embed` with the model that explains",
        )
    return read_embeddings(folder), int(run["settings"]["poses"])


def parts_of(cells: EmbeddedCells) -> list[str]:
    """train, choose or test, by the split that the recipes of training use."""
    from myelos.datasets.cell_splits import split_cells
    from myelos.datasets.cells import CellRecord

    columns = zip(cells.files, cells.types, cells.sources, cells.groups, strict=True)
    parts = split_cells([CellRecord(file, kind, source, group=group) for file, kind, source, group in columns])
    named = {index: name for name, indices in parts.items() for index in indices}
    return [named[index] for index in range(len(cells))]


def _judged(cells: EmbeddedCells, parts: Sequence[str]) -> dict[str, Any]:
    """Figures of neighbours and probe; empty, with the reason, where the set is too small."""
    from myelos.representation.probe import judge

    indices = {name: [i for i, part in enumerate(parts) if part == name] for name in ("train", "test")}
    try:
        return judge(cells.features, cells.types, indices["train"], indices["test"])
    except UsageError as error:
        return {"not_judged": str(error)}


def _places(cells: EmbeddedCells, seed: int) -> Any:
    from myelos.explanation.projection import ProjectionSettings, project

    return project(cells.features, ProjectionSettings(seed=seed))


def _write(out: Path, cells: EmbeddedCells, parts: Sequence[str], places: Any, *, title: str) -> None:
    from myelos.report.cell_map import CellMap, write_map
    from myelos.representation.embeddings import write_embeddings
    from myelos.representation.neighbours import NeighbourIndex

    if places is not None:
        alike = NeighbourIndex(cells.features).nearest(cells.features, 7)[0][:, 1:]
        note = f"UMAP of {cells.features.shape[1]} features; a point is a cell."
        content = CellMap(places, cells.types, cells.predicted, cells.ids, cells.thumbnails, alike, title, note)
        write_map(out, content)
    write_embeddings(out, cells, parts=parts, places=places)


def write_names(out: Path, column: str, rows: Sequence[tuple[str, Path]]) -> None:
    """`names.csv`: which file is which cell. It stays on this computer."""
    from myelos.tables import write_bytes

    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([column, "file"])
    writer.writerows((name, str(path)) for name, path in rows)
    write_bytes(out / "names.csv", sink.getvalue().encode())


def manifest(command: str, model: Source | ModuleClassifier, settings: Any, **counts: int) -> dict[str, Any]:
    """What `run.json` says of these commands."""
    import myelos

    return {
        "format": "myelos-run-1",
        "command": command,
        "version": myelos.__version__,
        "model": {"name": model.name, "sha256": model.sha256, "precision": model.precision},
        "settings": settings,
        "counts": counts,
    }


def show(out: Path, figures: dict[str, Any], cells: int, aside: int) -> None:
    """The figures as lines."""
    typer.echo(f"{out}: {number_of(cells, 'cell')}" + (f", {aside} set aside" if aside else ""))
    if "not_judged" in figures:
        typer.echo(f"not judged: {figures['not_judged']}")
        return
    parts = figures["parts"]
    for name, label in (("neighbours", "nearest neighbours"), ("probe", "linear probe")):
        own = figures[name]
        typer.echo(
            f"{label}: accuracy {own['accuracy']:.3f}, macro F1 {own['macro_f1']:.3f} "
            f"(learned from {parts['train']}, judged on {number_of(parts['test'], 'cell')})"
        )
    if parts["left_out"]:
        typer.echo("too coarse or too rare: " + ", ".join(f"{name} {n}" for name, n in parts["left_out"].items()))
