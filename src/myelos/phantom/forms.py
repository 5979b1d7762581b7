"""The forms in which a synthetic slide can be written: a TIFF, or a folder of DICOM files with annotations.

A DICOM folder is filled under a name that begins with a dot and gets its own when all is in it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import myelos
from myelos.errors import ResultError, UsageError
from myelos.phantom.annotating import AnnotationSettings, annotate
from myelos.phantom.cut_outs import CutOuts
from myelos.slides.dicom_study import Study, pydicom_or_remedy
from myelos.slides.dicom_write import DicomPyramid, write_dicom
from myelos.slides.tiled import TiledTiff
from myelos.slides.write import Rows, write_tiff

TIFF, DICOM = "tiff", "dicom"
FORMS = (TIFF, DICOM)
OURS = re.compile(r"level-\d+\.dcm|annotations/(regions|unlabelled|session-\d+|consensus)\.dcm")
STAINS = {"may_gruenwald_giemsa": "May-Grünwald-Giemsa", "wright_giemsa": "Wright-Giemsa", "liu": "Liu"}


def check(path: Path, form: str, *, overwrite: bool) -> None:
    """Before anything is painted: UsageError for an unknown form, ResultError where something lies in the way.

    MissingDependencyError where DICOM is asked for and pydicom is not installed.
    """
    if form not in FORMS:
        raise UsageError(f"--format {form} is unknown", remedy=f"Choose {' or '.join(FORMS)}")
    if form == DICOM:
        pydicom_or_remedy()
    if not path.exists():
        return
    if not overwrite:
        raise ResultError(f"{path} already exists", remedy="Pass --overwrite to replace it, or another name")
    if path.is_dir() != (form == DICOM) or (path.is_dir() and _foreign(path)):
        why = "it holds other files than a slide's" if path.is_dir() == (form == DICOM) else "it is of another form"
        raise ResultError(f"{path} is not replaced", why=why, remedy="Choose another name, or remove it yourself")


def _foreign(folder: Path) -> bool:
    """Whether a folder holds anything under a name that `annotating` and `dicom_write` do not give."""
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())
    return not all(OURS.fullmatch(name) for name in names)


@contextmanager
def begun(path: Path, form: str) -> Iterator[Path]:
    """Where the slide is to be written; in the end it has its name, and after an error nothing is left."""
    if form == TIFF:  # its writer does the same by itself
        yield path
        return
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def pyramid(
    place: Path, form: str, sizes: list[tuple[int, int]], *, mpp: float, study: Study, tile: int
) -> TiledTiff | DicomPyramid:
    """What takes the encoded tiles of a slide."""
    if form == DICOM:
        return DicomPyramid(place, sizes, mpp=mpp, study=study, tile=tile)
    return TiledTiff(place, sizes, mpp=mpp, tile=tile)


def write_image(place: Path, form: str, rows: Rows, *, mpp: float, study: Study, quality: int) -> None:
    """A slide that comes in strips."""
    if form == DICOM:
        write_dicom(place, rows, mpp=mpp, study=study, quality=quality)
    else:
        write_tiff(place, rows, mpp=mpp, quality=quality)


def annotated(
    place: Path, form: str, truth: Path, study: Study, *, seed: int, settings: AnnotationSettings | None
) -> dict[str, Any]:
    """What `run.json` tells of the annotations, which are written here; a TIFF has none."""
    return {"annotations": annotate(place, truth, study, seed=seed, settings=settings)} if form == DICOM else {}


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def study_of(
    settings: Mapping[str, Any],
    *,
    label: bool,
    cut_outs: CutOuts | None = None,
    annotations: AnnotationSettings | None = None,
) -> Study:
    """What the DICOM files of a slide share. All that decides how they look goes into the identifiers."""
    about = dict(cut_outs.about) if cut_outs else None
    decided = {"version": myelos.__version__, "annotations": asdict(annotations or AnnotationSettings())}
    key = json.dumps(decided | {"cell_images": about} | dict(settings), sort_keys=True, default=str)
    name = f"synthetic-{Study(key, '', '', '').uid('name')[-8:]}"
    what = f"Synthetic {settings['specimen']} smear, {STAINS.get(settings['stain'], settings['stain'])}"
    return Study(key, name, what, f"phantom {settings.get('scanner', '')}".strip(), label)
