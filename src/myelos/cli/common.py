"""What the commands share: options, progress bars, and how results and errors are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from myelos.errors import MissingDependencyError, MyelosError, UsageError

if TYPE_CHECKING:
    from myelos.classification.questions import Question as Question_
    from myelos.models.files import ModelCard

Progress = Callable[[str, int, int], None]

Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the result.")]
Specimen = Annotated[
    str | None,
    typer.Option(help="marrow or blood. Required: the two are counted by different rules.", metavar="marrow|blood"),
]
Mpp = Annotated[float | None, typer.Option(help="µm per pixel, where the file does not state it or is wrong.")]
Model = Annotated[str | None, typer.Option(help="A shipped model's name or a .safetensors file.")]
Classifier = Annotated[
    str | None,
    typer.Option(
        help="Who gives a second opinion on each cell: a shipped model's name, a .safetensors file, or none. "
        "Without it the shipped one of the specimen, unless --model is given."
    ),
]
Question = Annotated[
    str | None, typer.Option(help="Yes or no in place of types: blast-character, healthy-smear or type:NAME.")
]
OneType = Annotated[str | None, typer.Option(help="The same as --question type:NAME, for rare types: basophil.")]
Precise = Annotated[
    bool,
    typer.Option("--precise", help="Classifiers in float32, even where int8 was measured to name cells the same."),
]
StainLike = Annotated[
    list[Path] | None,
    typer.Option(help="Labelled cells to whose stain these are brought, such as a model's training cells."),
]
CheckImages = Annotated[
    bool, typer.Option(help="Before anything is learned: set damaged images aside, report images under two labels.")
]
Threads = Annotated[int | None, typer.Option(help="Threads to use; all cores without it.")]
Stitch = Annotated[
    str, typer.Option(help="How cells at the borders of tiles are joined: overlap, or wang (as in Wang 2022).")
]
FlatField = Annotated[bool, typer.Option(help="Even out uneven light across a field before the model sees it.")]
WhitePoint = Annotated[bool, typer.Option(help="Bring the background to white before the model sees it.")]
CommonScale = Annotated[bool, typer.Option(help="Bring images to the µm per pixel that the model was trained at.")]
MatchStain = Annotated[
    bool, typer.Option(help="Bring cells to the stain that the classifier was taught before it is asked about them.")
]
Device = Annotated[str, typer.Option(help="cpu, or cuda where PyTorch is installed.")]
TrainingDevice = Annotated[str, typer.Option(help="cpu; cuda for all GPUs that PyTorch sees, cuda:1 for that one.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a result that is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same bytes.")]


def fail(error: MyelosError) -> int:
    """Print an error as one sentence; returns its exit code."""
    sys.stderr.write(f"myelos: {sentence(str(error))}\n")
    return error.exit_code


def sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "?", "!")) else f"{text}."


def print_json(content: Any) -> None:
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def told_of_int8(card: ModelCard) -> str:
    """Which form of a classifier runs on CPUs, and what was measured."""
    if not card.int8:
        return "runs in float32"
    same = f"int8 names {100 * card.int8['same']:.2f} % of {card.int8['cells']} held-out cells as float32 does"
    if not card.int8["default"]:
        return f"runs in float32: {same}"
    if card.runs_in == "f32":
        return f"runs in float32: {card.eight_bit.name} is not there"
    return f"runs in int8 (--precise: float32): {same}"


def told_of_aside(aside: Sequence[Mapping[str, str]]) -> int:
    """Say on stderr which files were set aside and why; the exit code, 3 where there are any."""
    for item in aside:
        sys.stderr.write(f"set aside: {item['file']}: {sentence(item['reason'])}\n")
    return 3 if aside else 0


def check_mpp(mpp: float | None) -> None:
    """Raise UsageError for a resolution that no microscope has."""
    from myelos.slides.base import MPP_RANGE

    if mpp is not None and not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        raise UsageError(
            f"--mpp {mpp} is no resolution of a microscope",
            why=f"between {MPP_RANGE[0]} and {MPP_RANGE[1]} µm per pixel are believed",
            remedy="Oil immersion is near 0.1, a 40× scan near 0.25",
        )


def asked(name: str | None, one_type: str | None) -> Question_ | None:
    """The question that a call asks; None where it asks none. Raises UsageError."""
    from myelos.classification.questions import ONE_TYPE, question

    if name and one_type:
        raise UsageError("--question and --one-type both say what is asked", remedy="Pass one of them")
    name = name or (ONE_TYPE + one_type if one_type else None)
    return question(name) if name else None


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Progress bars with the time left on standard error; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # The time left follows from the last ten minutes: a step of a training may take longer than Rich's 30 seconds.
    with Bars(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=600) as bars:
        tasks: dict[str, Any] = {}

        def step(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, completed=done)  # what was there before has no speed
            bars.update(tasks[stage], completed=done, total=total)

        yield step


@contextmanager
def needs_training() -> Iterator[None]:
    """Missing packages of the extra `train` become an error that names it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in {"torch", "torchvision", "onnx", "timm", "captum", "skimage", "sklearn", "umap"}:
            raise
        raise MissingDependencyError(
            f"this needs {package}, which is not installed", remedy='Install it with: pip install "myelos[train]"'
        ) from error
