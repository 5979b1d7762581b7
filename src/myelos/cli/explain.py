"""`explain cell`: why a network names a cell as it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from myelos.cli import common, embed
from myelos.errors import UsageError

if TYPE_CHECKING:
    from myelos.datasets.cells import CellRecord
    from myelos.explanation.cells import ExplainSettings, Explanation
    from myelos.models.classify import ModuleClassifier

EPILOG = """Examples:

myelos explain cell cell.png --model cells-blood --mpp 0.1 -o why

myelos explain cell --data pbc_dib_cells --scheme pbc13 --model cells-blood --among embedded -o why
"""
UNLABELLED = "haematological_structure"


def add(app: typer.Typer) -> None:
    family = typer.Typer(
        help=r"Why a network says what it says (needs myelos\[train]).", epilog=EPILOG, no_args_is_help=True
    )
    family.callback()(lambda: None)
    family.command(epilog=EPILOG)(cell)
    app.add_typer(family, name="explain")


def cell(
    out: common.Out,
    model: Annotated[str, typer.Option(help="A shipped classifier's name or a .safetensors file.")],
    images: Annotated[list[Path] | None, typer.Argument(help="Images of a single cell each.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of labelled cells: some of every type are taken.")] = None,
    scheme: Annotated[str | None, typer.Option(help="Label scheme of the folders' classes, such as pbc13.")] = None,
    per_type: Annotated[int, typer.Option(help="With --data: cells of every type.", min=1)] = 1,
    among: Annotated[
        Path | None, typer.Option(help="Where to look for similar cells: a folder of cells, or what `embed` wrote.")
    ] = None,
    mpp: common.Mpp = None,
    samples: Annotated[int, typer.Option(help="SmoothGrad: noisy copies of a cell.", min=1)] = 50,
    noise: Annotated[float, typer.Option(help="SmoothGrad: noise, as a share of the image's range.", min=0)] = 0.15,
    neighbours: Annotated[int, typer.Option(help="Similar cells shown with each cell.", min=1)] = 8,
    checked: Annotated[int, typer.Option(help="Cells with which the maps are checked.", min=1)] = 6,
    seed: common.Seed = 0,
    threads: common.Threads = None,
    device: common.Device = "cpu",
    overwrite: common.Overwrite = False,
    as_json: common.AsJson = False,
) -> None:
    """Show what a classifier looks at when it names a cell.

    SmoothGrad and Grad-CAM of single cells, whether these maps depend on what was learned, and the cells that the
    classifier finds most alike.
    """
    from myelos import tables

    common.check_mpp(mpp)
    if bool(images) == bool(data):
        raise UsageError("it is not clear which cells to explain", remedy="Pass images, or --data, not both")
    tables.refuse_finished(out, overwrite=overwrite)
    with common.needs_training(), common.progress_bars() as progress:
        classifier = embed.loaded(model, device=device, threads=threads)
        settings = _settings(samples, noise, neighbours, checked, seed)
        records = chosen_records(images, data, scheme, per_type, classifier, mpp)
        found = _explained(records, classifier, settings, among=among, scheme=scheme, mpp=mpp, progress=progress)
    facts = _write(out, found, records, classifier, settings, overwrite=overwrite)
    if as_json:
        common.print_json(facts)
    else:
        typer.echo(str(out / "explanation.html"))


def _settings(samples: int, noise: float, neighbours: int, checked: int, seed: int) -> ExplainSettings:
    from myelos.explanation.cells import ExplainSettings
    from myelos.explanation.saliency import SmoothGradSettings
    from myelos.explanation.sanity import SanitySettings

    smooth = SmoothGradSettings(samples=samples, noise=noise, seed=seed)
    sanity = SanitySettings(seed=seed, smooth_grad=replace(smooth, samples=min(samples, 20)))
    return ExplainSettings(smooth, sanity, neighbours, checked)


def chosen_records(
    images: list[Path] | None,
    data: Path | None,
    scheme: str | None,
    per_type: int,
    classifier: ModuleClassifier,
    mpp: float | None,
) -> list[CellRecord]:
    """The images as cells without a label, or some of every type that the classifier knows."""
    from myelos.classification.evaluate import predictions
    from myelos.datasets.cells import CellRecord, read_cells
    from myelos.explanation.sampling import candidates, preferred

    if data is None:
        return [CellRecord(path, UNLABELLED) for path in images or ()]
    records = [record for record in read_cells(data, scheme=scheme)[0] if record.cell_type in classifier.types]
    if not records:
        raise UsageError(f"{data} has no cell of a type that {classifier.name} knows")
    few = [records[index] for index in candidates(records, per_type)]
    shares, kept, _ = predictions(few, classifier, mpp=mpp)
    said = [classifier.types[best] for best in shares.argmax(axis=1)]
    best = preferred([few[index].cell_type for index in kept], said, per_type)
    return [few[kept[index]] for index in best]


def _explained(
    records: list[CellRecord],
    classifier: ModuleClassifier,
    settings: ExplainSettings,
    *,
    among: Path | None,
    scheme: str | None,
    mpp: float | None,
    progress: common.Progress,
) -> Explanation:
    from myelos.classification.evaluate import crop_of, scales_of
    from myelos.explanation.cells import explain

    scales = scales_of(records, mpp)
    crops = [
        crop_of(one, mpp=one.mpp or scales[one.source], to_mpp=classifier.mpp, side=classifier.side) for one in records
    ]
    index, poses = (None, 1) if among is None else embed.index_of(among, classifier, scheme, mpp, progress)
    truths = [None if one.cell_type == UNLABELLED else one.cell_type for one in records]
    return explain(
        classifier.network,
        classifier.types,
        crops,
        classifier(crops),
        mpp=classifier.mpp,
        truths=truths,
        among=index,
        poses=poses,
        settings=settings,
    )


def _write(
    out: Path,
    found: Explanation,
    records: list[CellRecord],
    classifier: ModuleClassifier,
    settings: ExplainSettings,
    *,
    overwrite: bool,
) -> dict[str, Any]:
    from myelos import tables
    from myelos.report.cell_explanation import write_explanation

    tables.prepare(out, overwrite=overwrite)
    facts = write_explanation(out, found, model=classifier.name, settings=settings)
    embed.write_names(out, "cell", [(str(number), record.path) for number, record in enumerate(records, 1)])
    tables.write_run(out, embed.manifest("explain cell", classifier, facts["settings"], cells=len(records)))
    return facts
