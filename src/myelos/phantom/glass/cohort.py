"""Writes the slides and the table of made-up patients; a run that was killed goes on where it stopped."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import myelos
from myelos import tables
from myelos.errors import ResultError
from myelos.phantom.cells import cell_rng
from myelos.phantom.glass.layout import GlassSettings
from myelos.phantom.glass.writing import write_glass
from myelos.phantom.patients import COLUMNS, CohortSettings, Patient, draw_patient

Progress = Callable[[str, int, int], None]


def write_cohort(
    out: str | Path,
    settings: CohortSettings,
    *,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write `slides/<patient>.tif` with their truth, `patients.csv`, and `run.json`, last; returns the folder.

    Slides that an earlier run with the same settings has finished are kept, unless `overwrite`. progress(stage, done,
    total) counts patients, and blocks within a slide. Raises ResultError where a finished cohort lies there.
    """
    folder = Path(out)
    tables.prepare(folder, overwrite=overwrite)
    patients = [draw_patient(settings, number) for number in range(settings.patients)]
    for number, patient in enumerate(patients):
        path = folder / "slides" / f"{patient.name}.tif"
        glass = glass_of(settings, patient, number)
        if overwrite or not finished(path, glass):
            blocks = _blocks(progress, patient)
            write_glass(path, glass, threads=threads, overwrite=True, progress=blocks)
        if progress:
            progress("patients", number + 1, len(patients))
    tables.write_bytes(folder / "patients.csv", _as_csv(patients))
    run = {"made_by": "myelos phantom cohort", "version": myelos.__version__, "synthetic": True}
    tables.write_run(folder, run | {"patients": len(patients), "settings": asdict(settings)})
    return folder


def glass_of(settings: CohortSettings, patient: Patient, number: int) -> GlassSettings:
    seed = int(cell_rng(settings.seed, "slide of", number).integers(1 << 31))
    return GlassSettings(
        settings.width,
        settings.height,
        mpp=settings.mpp,
        seed=seed,
        composition=patient.composition,
        stain=patient.stain,
        scanner=patient.scanner,
        pool_per_type=settings.pool_per_type,
        features=patient.features,
    )


def finished(path: Path, glass: GlassSettings) -> bool:
    """Whether a slide lies there whole, with its truth, as these settings make it."""
    try:
        run = tables.read_run(path.with_name(f"{path.stem}.truth"))
    except ResultError:
        return False
    return path.exists() and run.get("settings") == asdict(glass) and run.get("version") == myelos.__version__


def _blocks(progress: Progress | None, patient: Patient) -> Callable[[int, int], None] | None:
    return (lambda done, total: progress(patient.name, done, total)) if progress else None


def _as_csv(patients: list[Patient]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(patient.row() for patient in patients)
    return text.getvalue().encode()
