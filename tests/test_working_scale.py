"""Fields of unknown scale are read where the detector sees cells: synthetic fields of known scale, and real ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from myelos import models
from myelos.detection.prepare import prepare, rescale
from myelos.detection.working_scale import WorkingScaleSettings, merit, working_mpp
from myelos.models.types import Boxes
from myelos.phantom.fields import FieldSettings, render_field


def test_merit_by_hand() -> None:
    settings = WorkingScaleSettings(cell_um=12.5, spread=0.5)
    fitting = Boxes(np.array([[0, 0, 50, 50]], np.float32), np.array([0.8], np.float32), np.ones((1, 1), np.float32))
    double = Boxes(fitting.xywh * 2, fitting.scores, fitting.probabilities)
    assert merit(fitting, 0.25, settings) == pytest.approx(0.8)
    assert merit(double, 0.25, settings) == pytest.approx(0.8 * np.exp(-((np.log(2) / 0.5) ** 2) / 2), rel=1e-5)
    nothing = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 1), np.float32))
    assert merit(nothing, 0.25, settings) == 0


@pytest.mark.parametrize("mpp", [0.08, 0.25])
def test_cells_of_rendered_fields_are_found_without_a_scale(mpp: float) -> None:
    """At the scale it chose, the detector finds nearly as many cells as at the true one."""
    rng = np.random.default_rng(5)
    settings = FieldSettings(specimen="blood", composition="blood_even")
    fields = [rescale(render_field(settings, rng).rgb, 0.25 / mpp) for _ in range(4)]
    detector = models.load("blood")

    def found(scale: float) -> int:
        answers = detector([prepare(field, factor=scale / detector.mpp) for field in fields])
        return sum(int((boxes.scores >= detector.threshold).sum()) for boxes in answers)

    chosen = working_mpp(fields, detector)
    assert chosen is not None
    assert 0.5 < chosen / mpp < 2
    assert found(mpp) >= 8
    assert found(chosen) >= 0.75 * found(mpp)


@pytest.mark.data
def test_scale_of_single_real_fields_is_near_that_of_all(data: Path) -> None:
    """Eight BCCD fields one by one: the scale is good enough to find cells in at least six."""
    paths = sorted((data / "bccd_fields" / "JPEGImages").glob("*.jpg"))[::36][:8]
    detector = models.load("blood")
    found = [working_mpp([cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)], detector) for path in paths]
    assert sum(one is not None and 0.6 < one / 0.08 < 1.6 for one in found) >= 6, found


def test_empty_fields_have_none() -> None:
    assert working_mpp([np.full((300, 400, 3), 240, np.uint8)], models.load("blood")) is None
