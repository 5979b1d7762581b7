"""THE MAIN PATH: slide → regions → tiles → cells → classes → count → report.

    find inputs → look at each → smears → read: tiles → boxes → cells → count → report → run.json

`count` is that sentence. Bad inputs are set aside with their reason and never stop the others; a folder without
`run.json` holds no result.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from myelos import counting, tables
from myelos.detection.run import worker_threads
from myelos.errors import UsageError
from myelos.imaging.appearance import AppearanceSettings
from myelos.models.types import Classifier, Detector
from myelos.report.elsewhere import report_elsewhere
from myelos.report.index import write_index
from myelos.report.input import ModelNote, Picture, ReportInput
from myelos.report.write import write as write_report
from myelos.smears import record
from myelos.smears.calls import (
    Inputs,
    as_list,
    check_specimen,
    choose_classifier,
    choose_detector,
    into_smears,
    made_elsewhere,
    nothing_left,
    read_settings,
)
from myelos.smears.held_out import confusion_for, deciding, matched_as_measured
from myelos.smears.inputs import DEFAULT, SetAside, find, folder_names, grouping
from myelos.smears.job import Job, Progress, silent
from myelos.smears.looking import Look, look_at, with_scale, with_working_scale
from myelos.smears.reading import read_all
from myelos.smears.results import CountResult, SmearResult
from myelos.smears.rows import Reading
from myelos.smears.second_opinion import known_types, unasked

DEMO_SIZE = (8192, 6144)  # pixels of the demonstration's slide: about two thousand cells


def count(
    inputs: Inputs,
    out: str | Path,
    *,
    specimen: str,
    mpp: float | None = None,
    model: str | Path | Detector | None = None,
    classifier: str | Path | Classifier | None = None,
    held_out: str | Path | None = None,
    smear_by: str | Path | None = None,
    stitch: str = "overlap",
    cells: int | str | None = None,
    threads: int | None = None,
    device: str = "cpu",
    precise: bool = False,
    overwrite: bool = False,
    force: bool = False,
    flat_field: bool = True,
    white_point: bool = True,
    common_scale: bool = True,
    match_stain: bool = True,
    synthetic: bool = False,
    progress: Progress | None = None,
) -> CountResult:
    """Count the cells of smears and write one report each.

    inputs: image files, folders and patterns, or one `tally.csv` or QuPath `.geojson` of a count made elsewhere.
    Fields are one smear unless `smear_by` (a regular expression with one group over the name, or a CSV file,smear)
    tells them apart; a slide is a count by itself. cells: of a slide, how many to find, or "all". model: the name of
    a shipped model, a file, or any `Detector`. classifier: who gives the second opinion on each cell, "none" for
    nobody; without it the shipped one of the specimen where no `model` is given. held_out: its figures on your own
    held-out cells (JSON of `evaluate classifier`), from which the deciding intervals know its errors. match_stain:
    cells are brought to the stain of the classifier's training cells before it is asked; with held_out, as when that
    was measured. synthetic: the images are, and the report says so.

    Raises UsageError for wrong options, ResultError where `out` holds a result and `overwrite` is false, InputError
    where nothing can be counted.
    """
    check_specimen(specimen)
    if (made := made_elsewhere(inputs)) is not None:
        counted = report_elsewhere(made, Path(out), specimen=specimen, overwrite=overwrite)
        return CountResult(Path(out), (SmearResult(DEFAULT, Path(out), counted, ()),))
    appearance, match = AppearanceSettings(flat_field, white_point), matched_as_measured(match_stain, held_out)
    settings = read_settings(
        appearance, specimen, cells, stitch=stitch, common_scale=common_scale, force=force, match_stain=match
    )
    smear_of, paths = grouping(smear_by), find(as_list(inputs))
    tables.refuse_finished(Path(out), overwrite=overwrite)
    workers = worker_threads(threads)
    detector = choose_detector(model or specimen, device=device, threads=threads)
    given = "none" if classifier is None and synthetic else classifier  # the shipped ones were taught on real cells
    second = choose_classifier(given, model=model, specimen=specimen, device=device, threads=threads, precise=precise)
    confusion = confusion_for(second, held_out, specimen, detector.types, detector=detector.name)
    job = Job(specimen, detector, settings, workers, progress or silent, synthetic, second, confusion)
    looks, aside = look_at(paths, mpp=mpp, force=force, threads=workers, step=job.steps("looking", len(paths)))
    smears, ungrouped = into_smears(looks, smear_of)
    return count_smears(smears, Path(out), job, [*aside, *ungrouped], overwrite=overwrite)


def count_smears(
    smears: dict[str, list[Look]], out: Path, job: Job, aside: list[SetAside], *, overwrite: bool
) -> CountResult:
    """Count each smear: one into `out` itself, several into a folder each with a list of all."""
    if not smears:
        raise nothing_left(aside)
    record.withdraw_smears(out)
    tables.prepare(out, overwrite=overwrite)
    folders = {name: out / folder for name, folder in folder_names(list(smears)).items()} if len(smears) > 1 else {}
    results: list[SmearResult] = []
    for name, looks in smears.items():
        result, failed = count_smear(name, looks, folders.get(name, out), job, aside=[] if folders else aside)
        results += [result] if result else []
        aside = [*aside, *failed]
    if not results:
        raise nothing_left(aside)
    if folders:
        finish_several(out, results, smears, aside, job)
    return CountResult(out, tuple(results), tuple(sorted(aside, key=lambda item: item.number)))


def scaled(looks: list[Look], job: Job) -> list[Look]:
    """Every field of a smear with a scale to be read at: stated, of its red cells, or else of its white cells."""
    looks = with_scale(looks)
    return with_working_scale(looks, job.detector, job.settings.appearance) if job.settings.common_scale else looks


def count_smear(
    name: str, looks: list[Look], folder: Path, job: Job, *, aside: Sequence[SetAside]
) -> tuple[SmearResult | None, list[SetAside]]:
    """One smear from its images to its report; also returns the images that failed while they were read."""
    begun = time.monotonic()
    looks = scaled(looks, job)
    readings, failed = read_smear(looks, job, f"reading {name}" if name != DEFAULT else "reading")
    if not readings:
        return None, failed
    tables.prepare(folder, overwrite=True)
    everything = [*aside, *failed]
    crops = record.kept_crops(readings, job.settings.crops)
    stored = record.write_tables(folder, name, job.specimen, readings, everything, crops=crops)
    counted = counting.count(
        stored["cells"],
        specimen=str(job.specimen),
        evidence=record.evidence(readings, everything),
        known=known_types(job, readings),
        tested_on=model_note(job.detector).tested_on,
        unit="tile" if any(reading.look.by_tiles for reading in readings) else "field",
        **deciding(job, readings, stored),
    )
    warnings = record.warnings(readings, job) + unasked(job, readings)
    run = record.manifest("count", name, job, readings, everything, seconds=time.monotonic() - begun)
    write_report(
        folder,
        ReportInput(
            title=f"{str(job.specimen).capitalize()} smear" + (f" {name}" if name != DEFAULT else ""),
            count=counted,
            **stored,
            run=run,
            crops=crops,
            pictures={one.look.slide_id: Picture(one.picture, one.picture_scale) for one in readings if one.picture},
            models=tuple(model_note(model) for model in job.models),
            synthetic=job.synthetic,
            forced=any(reading.look.doubt for reading in readings),
            warnings=warnings,
        ),
    )
    record.write_names(folder, {name: looks}, everything)
    tables.write_run(folder, run)
    return SmearResult(name, folder, counted, warnings, run["status"] == "partial"), failed


def read_smear(looks: Sequence[Look], job: Job, stage: str) -> tuple[list[Reading], list[SetAside]]:
    """Readings in the order of `slide_id`, and what failed."""
    step = job.steps(stage, len(looks))
    answers = list(
        read_all(looks, job.detector, settings=job.settings, threads=job.threads, step=step, classifier=job.classifier)
    )
    readings = [item for item in answers if isinstance(item, Reading)]
    return sorted(readings, key=lambda one: one.look.slide_id), [item for item in answers if isinstance(item, SetAside)]


def finish_several(
    out: Path, results: Sequence[SmearResult], smears: dict[str, list[Look]], aside: Sequence[SetAside], job: Job
) -> None:
    """The list of all smears, what was set aside before it belonged to one, and `run.json`."""
    write_index(out, [(result.name, result.folder.name, result.count) for result in results])
    tables.write_table(out, "set_aside", record.set_aside_rows(aside))
    record.write_names(out, smears, aside)
    counted = {result.name: result.folder.name for result in results}
    tables.write_run(out, record.manifest_of_several("count", counted, job, aside))


def detect(
    inputs: Inputs,
    out: str | Path,
    *,
    specimen: str | None = None,
    mpp: float | None = None,
    model: str | Path | Detector | None = None,
    classifier: str | Path | Classifier | None = None,
    stitch: str = "overlap",
    cells: int | str | None = "all",
    threads: int | None = None,
    device: str = "cpu",
    precise: bool = False,
    overwrite: bool = False,
    force: bool = False,
    flat_field: bool = True,
    white_point: bool = True,
    common_scale: bool = True,
    match_stain: bool = True,
    progress: Progress | None = None,
) -> CountResult:
    """Find and name cells without counting them: the same tables as `count`, without a report."""
    if model is None and specimen is None:
        raise UsageError("neither a model nor a specimen was given", remedy="Pass --model, or --specimen marrow|blood")
    if specimen is not None:
        check_specimen(specimen)
    appearance = AppearanceSettings(flat_field=flat_field, white_point=white_point)
    settings = read_settings(
        appearance, specimen, cells, stitch=stitch, common_scale=common_scale, force=force, match_stain=match_stain
    )
    folder, paths, workers = Path(out), find(as_list(inputs)), worker_threads(threads)
    tables.refuse_finished(folder, overwrite=overwrite)
    detector = choose_detector(model or str(specimen), device=device, threads=threads)
    second = choose_classifier(
        classifier, model=model, specimen=specimen, device=device, threads=threads, precise=precise
    )
    job = Job(specimen, detector, settings, workers, progress or silent, classifier=second)
    looks, aside = look_at(paths, mpp=mpp, force=force, threads=workers, step=job.steps("looking", len(paths)))
    begun = time.monotonic()
    readings, failed = read_smear(scaled(looks, job), job, "reading")
    if not readings:
        raise nothing_left([*aside, *failed])
    tables.prepare(folder, overwrite=overwrite)
    aside = sorted([*aside, *failed], key=lambda item: item.number)
    crops = record.kept_crops(readings, settings.crops)
    record.write_tables(folder, DEFAULT, specimen, readings, aside, crops=crops)
    record.write_names(folder, {DEFAULT: looks}, aside)
    seconds = time.monotonic() - begun
    run = record.manifest("detect", DEFAULT, job, readings, aside, seconds=seconds)
    tables.write_run(folder, run)
    return CountResult(folder, (), tuple(aside))


def demo(
    out: str | Path,
    *,
    seed: int = 0,
    model: str | Path | Detector | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CountResult:
    """A synthetic marrow slide through the main job; the slide and its truth stay in `slide/` of the result."""
    from myelos.phantom.slide import write_slide

    out, tell = Path(out), progress or silent
    tables.refuse_finished(out, overwrite=overwrite)
    slide = out / "slide" / "marrow.tif"
    write_slide(
        slide,
        width=DEMO_SIZE[0],
        height=DEMO_SIZE[1],
        specimen="marrow",
        seed=seed,
        red_cell_truth=False,
        overwrite=True,
        progress=lambda done, total: tell("painting the slide", done, total),
    )
    return count(
        slide,
        out,
        specimen="marrow",
        model=model,
        threads=threads,
        overwrite=overwrite,
        synthetic=True,
        progress=progress,
    )


def model_note(model: Detector | Classifier) -> ModelNote:
    """What the model's card says of it; a model without a card has a name only."""
    card = getattr(model, "card", None)
    if card is None:
        return ModelNote(model.name, model.sha256)
    tested = tuple(str(name) for name in card.metrics)
    return ModelNote(model.name, model.sha256, card.kind, card.text, tested, card.synthetic_only)
