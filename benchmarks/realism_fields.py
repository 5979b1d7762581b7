"""Fields for `benchmarks.realism`: a detector that has seen rendered fields alone, tested on real ones by halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.realism_cells import HALVES, Tell, key
from myelos import models
from myelos.datasets.layouts import read_fields
from myelos.datasets.records import FieldRecord
from myelos.datasets.splits import split
from myelos.detection.evaluate import evaluate_records
from myelos.phantom.dataset import write_fields
from myelos.phantom.fields import FieldSettings
from myelos.tables import RUN_FILE
from myelos.training.detector import train_detector
from myelos.training.detector_recipe import DetectorRecipe
from myelos.training.loop import TrainingSettings

FIELDS = FieldSettings(specimen="blood", stain_variation=1.2)
MIX = {"blood_normal": 0.5, "blood_even": 0.5}
NAME = "rendered-only"
LOWERED = 0.7  # about the share of the training after which its rate is lowered


@dataclass(frozen=True, slots=True)
class FieldRun:
    """fields: rendered ones. canvases: training images in all. seed: of both."""

    fields: int = 160
    canvases: int = 1600
    size: int = 560
    mpp: float = 0.25
    seed: int = 1


def real_field_halves(folder: Path) -> dict[str, list[FieldRecord]]:
    """Annotated fields in two halves by the SHA-256 of their group of near-duplicates."""
    records, _ = read_fields(folder)
    parts = split(records, fractions=HALVES, rule="hashed")
    return {name: [records[i] for i in indices] for name, indices in parts.items()}


def detector(run: FieldRun, out: Path, tell: Tell, *, threads: int) -> Path:
    """The model file of the detector trained on rendered fields alone; what is there already is not made again."""
    shown = key(run.fields, run.size, run.mpp, run.seed, FIELDS, MIX)
    rendered, folder = out / f"fields-{shown}", out / f"detector-{key(shown, run)}"
    if (folder / RUN_FILE).exists():
        return folder / f"{NAME}.safetensors"
    if not (rendered / RUN_FILE).exists():

        def say(done: int, total: int) -> None:
            tell("rendering fields", done, total, -1.0)

        given = {"size": run.size, "mpp": run.mpp, "seed": run.seed, "settings": FIELDS, "mix": MIX}
        write_fields(rendered, count=run.fields, specimen="blood", overwrite=True, progress=say, **given)  # type: ignore[arg-type]
    recipe = DetectorRecipe(
        name=NAME,
        mpp=run.mpp,
        parts={"train": 0.9, "choose": 0.05, "test": 0.05},
        scales={rendered.name: run.mpp},
        synthetic=True,
        training=TrainingSettings(canvases=run.canvases, step=LOWERED * run.canvases / run.fields, seed=run.seed),
    )

    def told(stage: str, values: dict[str, Any]) -> None:
        tell(f"detector, {stage}", values.get("step", 0), values.get("steps", 0), values.get("left", -1.0))

    return train_detector([rendered], folder, recipe=recipe, threads=threads, progress=told).path


def field_figures(model: Path, records: Sequence[FieldRecord], tell: Tell, *, threads: int) -> dict[str, Any]:
    """Figures for white cells of any type on real fields, prepared as a count prepares them: the scale is estimated."""

    def say(_stage: str, done: int, total: int) -> None:
        tell("testing on real fields", done, total, -1.0)

    found = evaluate_records(records, models.load(str(model), threads=threads), threads=threads, progress=say)
    return {"fields": found["images"]} | found["any_cell"]
