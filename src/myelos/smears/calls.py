"""What a call says, checked: the specimen, how many cells, which model; which images are one smear; what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from myelos.counting import SPECIMENS
from myelos.detection.run import DetectionSettings
from myelos.errors import InputError, NotASmearError, UsageError
from myelos.imaging.appearance import AppearanceSettings
from myelos.models.types import Classifier, Detector
from myelos.smears.inputs import DEFAULT, SetAside
from myelos.smears.looking import Look
from myelos.smears.rows import ReadSettings, StainSettings

Inputs = str | Path | Sequence[str | Path]
DEFAULT_CELLS = {"marrow": 500, "blood": 200}  # of a slide; the hundred of a blood count is read twice over
MADE_ELSEWHERE = (".csv", ".geojson", ".json")


SECOND_OPINIONS = {"blood": "cells-blood", "marrow": "cells-marrow"}  # specimen → shipped classifier


def check_specimen(specimen: str | None) -> None:
    if specimen not in SPECIMENS:
        raise UsageError(
            f"unknown specimen {specimen!r}" if specimen else "the specimen is not stated",
            why="marrow and blood are counted by different rules: what belongs to the hundred and which model reads it",
            remedy="Pass --specimen marrow or --specimen blood",
        )


def as_list(inputs: Inputs) -> list[str | Path]:
    return [inputs] if isinstance(inputs, str | Path) else list(inputs)


def number_of_cells(cells: int | str | None, specimen: str) -> int | None:
    """How many cells of a slide to find; None for all."""
    if cells is None:
        return DEFAULT_CELLS[specimen]
    if cells == "all":
        return None
    try:
        number = int(cells)
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"--cells {cells} is no number of cells", remedy="Pass a number above 0, or all")
    return number


def read_settings(
    appearance: AppearanceSettings,
    specimen: str | None,
    cells: int | str | None,
    *,
    stitch: str,
    common_scale: bool,
    force: bool,
    match_stain: bool,
) -> ReadSettings:
    """How the images of a call are read; where no specimen is stated, as many cells as of marrow."""
    return ReadSettings(
        detection=DetectionSettings(stitch=stitch),
        appearance=appearance,
        common_scale=common_scale,
        cells=number_of_cells(cells, specimen or "marrow"),
        force=force,
        stain=StainSettings(match=match_stain),
    )


def choose_detector(model: str | Path | Detector, *, device: str, threads: int | None) -> Detector:
    if not isinstance(model, str | Path):
        return model
    from myelos.models import load

    return load(model, device=device, threads=threads)


def choose_classifier(
    given: str | Path | Classifier | None,
    *,
    model: object,
    specimen: str | None,
    device: str,
    threads: int | None,
    precise: bool = False,
) -> Classifier | None:
    """Who gives the second opinion: as asked for; else the shipped classifier of the specimen.

    "none" asks for no second opinion. With a detector of one's own only a classifier that is named is asked.
    """
    from myelos.models import available, load_classifier

    if given is None:
        shipped = {card.name for card in available() if card.kind == "classifier"}
        usual = SECOND_OPINIONS.get(str(specimen))
        given = usual if model is None and usual in shipped else "none"
    if not isinstance(given, str | Path):
        return given
    return None if str(given) == "none" else load_classifier(given, device=device, threads=threads, precise=precise)


def into_smears(
    looks: Iterable[Look], smear_of: Callable[[Path], str | None]
) -> tuple[dict[str, list[Look]], list[SetAside]]:
    """Smear → its images, by name: fields by the rule, each slide by itself."""
    smears: dict[str, list[Look]] = {}
    aside: list[SetAside] = []
    looks = list(looks)
    alone = len(looks) == 1
    for look in looks:
        name = smear_of(look.path)
        if name is None:
            error = InputError(f"{look.path.name} belongs to no smear", why="--smear-by says nothing of it")
            aside.append(SetAside.by(error, number=look.number, path=look.path, reason="not grouped"))
            continue
        if look.kind == "slide" and not alone:
            name = look.slide_id if name == DEFAULT else f"{name} {look.slide_id}"
        smears.setdefault(name, []).append(look)
    return dict(sorted(smears.items())), aside


def nothing_left(aside: Sequence[SetAside]) -> InputError:
    """The error of a call of which no input could be counted."""
    reasons = {item.reason for item in aside}
    kind = NotASmearError if reasons == {"no smear"} else InputError
    if len(aside) == 1:
        return kind(aside[0].message.rstrip("."))
    shown = [f"{item.message.rstrip('.')}." for item in sorted(aside, key=lambda item: item.number)[:5]]
    more = [f"And {len(aside) - 5} more."] if len(aside) > 5 else []
    return kind(f"none of {len(aside)} inputs can be counted", why="\n  ".join(["", *shown, *more]))


def made_elsewhere(inputs: Inputs) -> Path | None:
    """The file of a count made by hand or by another program, where that is the one input."""
    items = [Path(item) for item in as_list(inputs)]
    found = [item for item in items if item.suffix.lower() in MADE_ELSEWHERE]
    if found and len(items) > 1:
        raise UsageError(f"{found[0].name} is a count and cannot be mixed with images", remedy="Pass it by itself")
    return found[0] if found else None
