"""What only half looks like a smear and shows no cell is set aside; what surely is one is counted as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks import drawn_images as drawn
from benchmarks import plausibility as measured
from numpy.typing import NDArray

from fake_detector import BlobDetector
from myelos import tables
from myelos.detection.found import Found
from myelos.errors import NotASmearError
from myelos.imaging.plausibility import SETTINGS as FIRST
from myelos.imaging.plausibility import judge
from myelos.models import load
from myelos.models.types import Boxes
from myelos.phantom.fields import FieldSettings, render_field
from myelos.phantom.slide import write_slide
from myelos.pipeline import count, detect
from myelos.slides.base import Resolution
from myelos.smears.job import Job, silent
from myelos.smears.looking import Look
from myelos.smears.results import CountResult
from myelos.smears.rows import Reading, ReadSettings
from myelos.smears.second_look import WHY, SecondLookSettings, in_company, second_look
from myelos.smears.whole_slides import read_slide

Image = NDArray[np.uint8]
SETTINGS = SecondLookSettings()


class Finds(BlobDetector):
    """A detector that finds the same cells, none or one, in every tile."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        shares = np.eye(len(self.types), dtype=np.float32)[: len(scores)]
        self.found = Boxes(np.full((len(scores), 4), 20, np.float32), np.array(scores, np.float32), shares)

    def __call__(self, tiles: Sequence[Image]) -> list[Boxes]:
        return [self.found] * len(tiles)


def smears() -> Iterator[Image]:
    for seed in range(20):
        settings = FieldSettings(specimen="blood", width=420, height=320, pool_per_type=2)
        yield render_field(settings, np.random.default_rng(seed)).rgb


def scored(images: Iterator[Image], low: float, high: float, name: str, folder: Path) -> Path:
    """The first image with a score in [low, high), as a file."""
    image = next(image for image in images if low <= judge(np.ascontiguousarray(image), 0.25).score < high)
    cv2.imwrite(str(folder / name), image[..., ::-1])
    return folder / name


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawing of coloured discs that the trees half believe."""
    discs = (image for _, image in drawn.discs(np.random.default_rng(4), 400))
    return scored(discs, FIRST.threshold, SETTINGS.sure, "drawing.png", tmp_path_factory.mktemp("half"))


@pytest.fixture(scope="module")
def smear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered field that looks surely like a smear."""
    return scored(smears(), SETTINGS.sure, 1.01, "field.png", tmp_path_factory.mktemp("smear"))


def run(inputs: object, out: Path, **options: object) -> CountResult:
    given = {"specimen": "blood", "model": Finds(), "mpp": 0.25, "threads": 1} | options
    return count(inputs, out, **given)  # type: ignore[arg-type]


def look(score: float, doubt: str = "") -> Look:
    return Look(1, Path("DOE^JANE.png"), "s1", "f", "field", 640, 640, Resolution(0.25, "file"), None, (), doubt, score)


def found(*scores: float) -> Found:
    number = len(scores)
    return Found(np.full((number, 4), 20.0), np.array(scores), np.ones((number, 1)), np.zeros(number, np.int64))


@pytest.mark.parametrize(
    ("score", "cells", "stays"),
    [
        (0.5, (), False),
        (0.5, (0.7, 0.7, 0.7), False),
        (0.5, (0.7, SETTINGS.sure_cell), True),
        (SETTINGS.sure, (), True),
        (1.0, (), True),
    ],
)
def test_only_half_believed_images_without_a_sure_cell_go(score: float, cells: tuple[float, ...], stays: bool) -> None:
    given = look(score)
    if stays:
        assert second_look(given, found(*cells), SETTINGS, force=False) == given
        assert second_look(given, found(*cells), SETTINGS, force=True).doubt == ""
    else:
        with pytest.raises(NotASmearError, match="sure of no cell"):
            second_look(given, found(*cells), SETTINGS, force=False)
        assert second_look(given, found(*cells), SETTINGS, force=True).doubt == WHY


@pytest.mark.parametrize(
    ("others", "believed"),
    [([], 0.5), ([1.0], 0.5), ([1.0, 0.97], 0.97), ([1.0, 0.4], 0.5), ([1.0, 1.0, 0.9], 0.9), ([0.1] * 9, 0.5)],
)
def test_fields_of_one_size_speak_for_each_other(others: list[float], believed: float) -> None:
    group = in_company([look(0.5), *(look(score) for score in others)], SETTINGS)
    assert group[0].score == believed
    assert [one.score >= score for one, score in zip(group[1:], others, strict=True)] == [True] * len(others)
    strangers = [replace(look(score), width=9) for score in others]
    assert in_company([look(0.5), *strangers], SETTINGS)[0].score == 0.5


def test_a_first_doubt_that_was_forced_is_kept() -> None:
    assert second_look(look(0.0, "text"), found(), SETTINGS, force=True).doubt == "text"


def test_it_is_set_aside_with_its_reason_and_the_others_are_counted(half: Path, smear: Path, tmp_path: Path) -> None:
    result = run([half, smear], tmp_path / "out", model=Finds())
    assert result.exit_code == 3
    (aside,) = result.set_aside
    assert (Path(aside.name).name, aside.reason) == ("drawing.png", "no smear")
    assert WHY in aside.message
    assert "--force" in aside.message
    (row,) = tables.read_table(tmp_path / "out", "set_aside").to_pylist()
    assert (row["reason"], "drawing" in row["detail"]) == ("no smear", False)
    assert WHY in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    manifest = tables.read_run(tmp_path / "out")
    assert (manifest["read"], manifest["cells"], manifest["set_aside"]) == (1, 0, {"no smear": 1})
    assert len(tables.read_table(tmp_path / "out", "slides")) == 1


def test_alone_it_is_an_error_and_force_counts_it(half: Path, tmp_path: Path) -> None:
    with pytest.raises(NotASmearError, match=r"drawing\.png") as caught:
        run(half, tmp_path / "out")
    assert caught.value.exit_code == 1
    assert not (tmp_path / "out" / tables.RUN_FILE).exists()
    with pytest.raises(NotASmearError):
        detect(half, tmp_path / "found", specimen="blood", model=Finds(), mpp=0.25, threads=1)
    forced = run(half, tmp_path / "out", force=True)
    assert (forced.exit_code, forced.smears[0].count.cells) == (0, 0)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["forced"] is True


def test_with_a_sure_cell_in_it_the_same_image_is_counted(half: Path, tmp_path: Path) -> None:
    assert run(half, tmp_path / "out", model=Finds(0.99)).smears[0].count.cells >= 1


def test_a_clear_smear_without_any_cell_was_read_all_the_same(smear: Path, tmp_path: Path) -> None:
    result = run(smear, tmp_path / "out")
    assert (result.exit_code, result.set_aside) == (0, ())
    assert tables.read_run(tmp_path / "out")["read"] == 1
    assert json.loads((tmp_path / "out" / "report.json").read_text())["forced"] is False


def test_a_slide_without_cells_goes_where_its_tiles_are_only_half_believed(tmp_path: Path) -> None:
    path = tmp_path / "marrow.tif"
    write_slide(path, width=1536, height=1024, specimen="marrow", seed=1, red_cell_truth=False)
    given = replace(look(1.0), path=path, kind="slide", width=1536, height=1024)

    def read(sure: float, *, force: bool = False) -> Reading:
        settings = ReadSettings(second_look=SecondLookSettings(sure), force=force)
        return read_slide(given, Finds(), settings=settings, threads=1)

    assert read(0.0).cells == []
    with pytest.raises(NotASmearError, match="sure of no cell"):
        read(1.01)
    assert read(1.01, force=True).look.doubt == WHY


@pytest.mark.parametrize("kind", ["charts", "other microscopy", "scans", "relief maps"])
def test_kinds_that_the_trees_never_saw_are_refused(kind: str) -> None:
    """Three took part in no tuning; of relief maps the trees know other landscapes in other colours.

    By the whole chain and the shipped detector, as `myelos count` runs it on each image by itself.
    """
    job = Job("blood", load("blood", threads=1), ReadSettings(), 1, silent)
    images = (image for _, image in measured.non_smears(Path(), kind, 20_077, 24))
    assert np.mean([counted for _, counted in measured.refused(images, [job]).answers]) >= 0.95
