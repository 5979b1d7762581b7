"""Made-up patients: repeatable, labelled as their disease allows, and with signs where the settings put them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from myelos import tables
from myelos.errors import ResultError, UsageError
from myelos.phantom import features
from myelos.phantom.cells import cell_rng, render_sprite
from myelos.phantom.glass import cohort
from myelos.phantom.glass.cohort import write_cohort
from myelos.phantom.glass.crowd import Crowd
from myelos.phantom.glass.layout import GlassSettings
from myelos.phantom.patients import ELN, CohortSettings, Sign, draw_patient

MANY = CohortSettings(400, diseases=("aml", "normal"), seed=2)


def test_patients_do_not_depend_on_their_number() -> None:
    assert draw_patient(MANY, 7) == draw_patient(CohortSettings(8, diseases=("aml", "normal"), seed=2), 7)


def test_labels_follow_the_disease() -> None:
    patients = [draw_patient(MANY, number) for number in range(400)]
    aml = [patient for patient in patients if patient.diagnosis == "aml"]
    assert 150 < len(aml) < 250
    assert all((patient.npm1 is None) == (patient.diagnosis != "aml") for patient in patients)
    assert 0.2 < np.mean([patient.npm1 for patient in aml]) < 0.4
    assert {patient.eln for patient in aml} == set(ELN)
    assert all(patient.eln == ("intermediate" if patient.flt3 else "favourable") for patient in aml if patient.npm1)
    assert all(patient.composition["blast"] >= 0.2 for patient in aml)
    assert {patient.sex for patient in patients} == {"female", "male"}


def test_signs_follow_the_labels_and_the_settings() -> None:
    patients = [draw_patient(MANY, number) for number in range(60)]
    for patient in patients:
        assert patient.features["cup"] == (0.35 if patient.npm1 else 0.02)
        assert ("fine" in patient.features) == bool(patient.flt3)
        assert (patient.features["hypogranular"] > 0.3) == (patient.eln == "adverse")
    other = CohortSettings(1, diseases=("aml",), signs={"npm1": (Sign("cup", 0.9, 0.0),)})
    shown = [draw_patient(other, number) for number in range(30)]
    assert all(patient.features == ({"cup": 0.9} if patient.npm1 else {}) for patient in shown)


def test_features_change_what_they_name() -> None:
    assert features.all_names("blast", {"cup": 0.5, "fine": 1.0}) == [
        "blast",
        "blast:cup",
        "blast:fine",
        "blast:cup+fine",
    ]
    assert features.all_names("lymphocyte", {"cup": 0.5}) == ["lymphocyte"]
    assert features.split("blast:cup+fine") == ("blast", ("cup", "fine"))
    shapes = {}
    for name, look in (("usual", None), ("cup", features.look_with("blast", ("cup",)))):
        filled = []
        for number in range(12):
            nucleus = render_sprite("blast", cell_rng(1, name, number), 0.25, look).nucleus > 0.5
            filled.append(_solidity(nucleus))
        shapes[name] = float(np.mean(filled))
    assert shapes["cup"] < shapes["usual"] - 0.02  # a dent takes from the convex hull
    with pytest.raises(UsageError, match="no feature"):
        GlassSettings(4096, 4096, features={"horns": 0.5})


def _solidity(mask: np.ndarray) -> float:
    import cv2

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea)
    return cv2.contourArea(contour) / cv2.contourArea(cv2.convexHull(contour))


def test_a_share_of_cells_has_a_feature() -> None:
    settings = GlassSettings(4096, 4096, features={"cup": 0.4, "fine": 1.0})
    crowd = Crowd.__new__(Crowd)
    crowd.settings = settings
    rng = np.random.default_rng(0)
    drawn = Counter(crowd._with_features("blast", rng) for _ in range(2000))
    assert set(drawn) == {"blast:fine", "blast:cup+fine"}
    assert 0.35 < drawn["blast:cup+fine"] / 2000 < 0.45
    assert crowd._with_features("monocyte", rng) == "monocyte"


def test_a_cohort_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a painter that only leaves the manifest: the first run fails at the third patient."""
    painted: list[str] = []

    def paint(path: Path, glass: GlassSettings, **_: object) -> None:
        if len(painted) == 2 and "again" not in painted:
            painted.append("again")
            raise ResultError("the disk is full")
        painted.append(path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        run = {"settings": cohort.asdict(glass), "version": cohort.myelos.__version__}
        tables.write_run(path.with_name(f"{path.stem}.truth"), run)

    monkeypatch.setattr(cohort, "write_glass", paint)
    settings = CohortSettings(4, 4096, 4096)
    with pytest.raises(ResultError, match="disk is full"):
        write_cohort(tmp_path / "cohort", settings)
    assert not (tmp_path / "cohort" / "run.json").exists()
    folder = write_cohort(tmp_path / "cohort", settings)
    assert painted == ["P0001.tif", "P0002.tif", "again", "P0003.tif", "P0004.tif"]
    rows = list(csv.DictReader((folder / "patients.csv").open(encoding="utf-8")))
    assert [row["patient"] for row in rows] == ["P0001", "P0002", "P0003", "P0004"]
    assert tables.read_run(folder)["patients"] == 4
    with pytest.raises(ResultError, match="already holds"):
        write_cohort(folder, settings)


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"diseases": ("flu",)}, {"signs": {"age": ()}}])
def test_impossible_cohorts_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        CohortSettings(**{"patients": 3} | wrong)
