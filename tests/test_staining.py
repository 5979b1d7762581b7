"""The second opinion in the stain that the classifier was taught: what waits, what is matched, what a card holds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Some

import cv2
import numpy as np
import pytest

from fake_detector import BlobDetector
from myelos import pipeline, taxonomy
from myelos.classification.evaluate import scheme_classes, taught
from myelos.classification.judging import JudgedCells, judge
from myelos.classification.looks import add_looks, few_of_each, looks_of_crops
from myelos.datasets.layouts import read_fields
from myelos.errors import UsageError
from myelos.imaging.matching import Look, apart, look_of
from myelos.models import available
from myelos.models.files import WEIGHTS, read_card, sha256
from myelos.phantom.dataset import write_fields
from myelos.protocols.found_cells import judge_found
from myelos.smears.held_out import confusion_for, matched_as_measured
from myelos.smears.rows import StainSettings
from myelos.smears.staining import SmearOpinion, Stain, stain_of_slide
from myelos.tables import read_run, read_table

SIDE = 64


def crop(strength: float = 1.0) -> np.ndarray:
    """A cell of two dyes on plain glass, stained so strongly."""
    densities = np.zeros((SIDE, SIDE, 3))
    for radius, dye in ((20, (0.2, 0.5, 0.1)), (12, (0.7, 0.9, 0.15))):
        disc = cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (SIDE // 2, SIDE // 2), radius, 1, -1)
        densities[disc > 0] = dye
    return np.clip(np.rint(241 * np.exp(-strength * densities) - 1), 0, 255).astype(np.uint8)


DEEP, PALE = 1.0, 0.6


def near(image: np.ndarray, strength: float) -> bool:
    return bool(np.abs(image.astype(int) - crop(strength)).max() <= 6)


class Shown:
    """A classifier that keeps what it was shown."""

    name, sha256, types, scheme = "shown", "0" * 64, ("neutrophil", "lymphocyte"), "wbc5"
    mpp, side, views, threshold, decides = 0.25, SIDE, 1, 0.5, False

    def __init__(self, looks: dict[str, dict[str, list[float]]] | None = None) -> None:
        data = ({"source": "few", "cells": {"neutrophil": 3}}, {"source": "many", "cells": {"neutrophil": 9}})
        self.card = Some(looks=looks or {}, data=data, specimen="blood", kind="classifier", text="", metrics={},
                         synthetic_only=False)  # fmt: skip
        self.crops: list[np.ndarray] = []

    def __call__(self, crops: list[np.ndarray]) -> np.ndarray:
        self.crops += list(crops)
        return np.tile(np.array([0.9, 0.1], np.float32), (len(crops), 1))


def reading(number: int, cells: int) -> list[dict[str, object]]:
    named = {"slide_id": str(number), "cell_type": "leukocyte", "probability": 0.9}
    return [{"cell_id": f"{number}-{i}", **named} for i in range(cells)]


def looks() -> dict[str, dict[str, list[float]]]:
    return {"few": look_of([crop(0.2)]).as_dict(), "many": look_of([crop(DEEP)]).as_dict()}


def test_a_look_travels_in_twelve_numbers() -> None:
    look = look_of([crop(DEEP)])
    again = Look.of(look.as_dict())
    assert again.moments == pytest.approx(look.moments, abs=1e-5)
    assert again.white == pytest.approx(look.white, abs=0.1)
    assert taught(Shown()) == ()
    assert taught(object()) == ()  # type: ignore[arg-type]


def test_cells_come_in_the_nearest_stain_that_was_taught() -> None:
    classifier, windows = Shown(looks()), [crop(PALE)] * 20
    assert taught(classifier)[1].moments == pytest.approx(Look.of(looks()["many"]).moments)
    assert apart(*taught(classifier)) == pytest.approx(apart(*reversed(taught(classifier))), rel=1e-3)
    assert apart(taught(classifier)[0], taught(classifier)[0]) == pytest.approx(0, abs=1e-6)
    settings = StainSettings()
    stain = Stain.of(windows, taught(classifier), settings)
    assert near(stain.brought(lambda _: windows[0])({}), DEEP)
    alike = Stain.of([crop(0.9)] * 20, taught(classifier), settings)
    assert 0 < alike.apart < 0.5 < stain.apart
    assert near(alike.brought(lambda _: crop(0.9))({}), 0.9), "stained as the training cells: left as it is"
    assert stain.brought(lambda _: None)({}) is None
    assert Stain.of(windows[:7], taught(classifier), settings) is None, "too few cells"
    assert Stain.of(windows, taught(classifier), replace(settings, match=False)) is None
    assert Stain.of([], taught(classifier), replace(settings, fewest=0)) is None, "no glass"
    cells = reading(0, 40)
    assert stain_of_slide(cells, lambda _: windows[0], Shown(), settings) is None
    assert stain_of_slide(cells, lambda _: windows[0], classifier, settings).own.moments == pytest.approx(
        stain.own.moments
    )


def test_the_first_fields_wait_and_the_order_stays() -> None:
    from myelos.smears.rows import Reading

    def field(number: int, cells: int) -> tuple[Reading, dict[str, np.ndarray]]:
        rows = reading(number, cells)
        empty = Reading(Some(slide_id=str(number)), rows, [], [], [], {}, b"", 1.0, 1.0)
        return empty, {row["cell_id"]: crop(PALE) for row in rows}

    classifier = Shown(looks())
    opinion = SmearOpinion(classifier, StainSettings(cells=25, fewest=5))
    assert opinion.add(*field(0, 10)) == []
    assert opinion.add(*field(1, 0)) == []
    ready = opinion.add(*field(2, 20))
    assert [one.look.slide_id for one in ready] == ["0", "1", "2"]
    assert [len(one.opinions) for one in ready] == [10, 0, 20]
    assert [one.look.slide_id for one in opinion.add(*field(3, 2))] == ["3"], "the stain is known: nothing waits"
    assert opinion.rest() == []
    assert all(near(image, DEEP) for image in classifier.crops)
    assert all(row["cell_type"] == "neutrophil" for one in ready for row in one.cells), "a finer word"
    plain = Shown()
    alone = SmearOpinion(plain, StainSettings())
    assert len(alone.add(*field(0, 3))) == 1, "without a look nothing waits"
    assert (plain.crops[0] == crop(PALE)).all()
    few = SmearOpinion(Shown(looks()), StainSettings())
    few.add(*field(0, 3))
    assert few.rest()[0].stain_apart is None
    assert ready[0].stain_apart == pytest.approx(np.log(1 / 0.6), abs=0.6)


def test_a_count_says_whether_it_matched(tmp_path: Path, data: Path) -> None:
    fields = [str(path) for path in sorted((data / "bccd_fields" / "JPEGImages").glob("*.jpg"))[:3]]
    for match in (True, False):
        classifier, out = Shown(looks()), tmp_path / str(match)
        detector = BlobDetector(("leukocyte", "eosinophil"))
        given = {"specimen": "blood", "mpp": 0.13, "force": True, "model": detector, "classifier": classifier}
        pipeline.count(fields, out, **given, match_stain=match)
        run = read_run(out)
        cells = read_table(out, "cells").num_rows
        assert run["stain_matched"] == (3 if match and cells >= 8 else 0)
        assert run["settings"]["stain"]["match"] is match
        assert read_table(out, "opinions").num_rows == 2 * cells


def test_the_looks_of_training_cells_are_written_into_a_card(tmp_path: Path, data: Path) -> None:
    assert few_of_each(["a", "b", "a"]) == {"a": [0, 2], "b": [1]}
    assert list(looks_of_crops({"a": [crop(DEEP)], "b": []})) == ["a"]
    card = next(card for card in available() if card.name == "cells-marrow")
    for path in WEIGHTS.glob(f"{card.name}*"):
        shutil.copy(path, tmp_path)
    copy = tmp_path / f"{card.name}.safetensors"
    cells = tmp_path / "mll_bone_marrow_cells"
    shutil.copytree(data / "lmu_aml_cells", tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="trained on"):
        add_looks(copy, [tmp_path / "elsewhere"])
    for code in ("BLA", "LYT"):
        (cells / code).mkdir(parents=True)
        for path in sorted((data / "mll_bone_marrow_cells" / "images" / code).rglob("*.jpg"))[:25]:
            shutil.copy(path, cells / code)
    (cells / "BLA" / "torn.jpg").write_bytes(b"no image")
    found, aside = add_looks(copy, [cells], mpp=0.086)
    assert [row["file"] for row in aside] == ["torn.jpg"]
    again = read_card(copy)
    assert again.looks == {**(card.looks or {}), **found}
    assert set(found) == {cells.name}
    assert again.types == card.types
    assert sha256(again.graph) == card.onnx_sha256


def test_cells_are_matched_as_when_the_errors_were_measured(tmp_path: Path) -> None:
    path = tmp_path / "held-out.json"
    for stored, expected in (('{"stain_matched": true}', True), ('{"stain_matched": false}', False), ("{}", False)):
        path.write_text(stored)
        assert matched_as_measured(not expected, path) is expected
    assert matched_as_measured(True, None)
    assert not matched_as_measured(True, tmp_path / "none.json")


def test_evaluate_matches_as_a_count_does(tmp_path: Path) -> None:
    for kind in ("neutrophil", "lymphocyte"):
        (tmp_path / "cells" / kind).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "cells" / kind / "1.png"), crop(PALE + 0.1 * (kind == "lymphocyte"))[..., ::-1])
    classifier = Shown(looks())
    cells = JudgedCells((tmp_path / "cells",), mpp=0.25, match_stain=True)
    assert judge(cells, classifier)["stain_matched"] is True
    assert all(image.min() < crop(PALE).min() - 20 for image in classifier.crops), "darker, as what it was taught"
    with pytest.raises(UsageError, match="does not say"):
        judge(cells, Shown())
    with pytest.raises(UsageError, match="another"):
        judge(replace(cells, stain_like=(tmp_path,)), classifier)


def test_the_whole_way_is_measured_on_annotated_fields(tmp_path: Path) -> None:
    """Found by the detector or missed, then named; only a count with the same detector takes such a file."""
    write_fields(tmp_path / "fields", count=3, specimen="blood", size=(640, 480), mpp=0.25, seed=3)
    truth = [kind for field in read_fields(tmp_path / "fields")[0] for kind in field.types]
    detector, classifier = BlobDetector(("leukocyte", "plasma_cell")), Shown()
    result = judge_found([tmp_path / "fields"], detector, classifier, mpp=0.25)
    assert not classifier.decides
    matrix = np.array(result["confusion"]["matrix"])
    assert (
        result["images"]
        == matrix.sum()
        == sum(taxonomy.coarsen(kind, scheme_classes("wbc5")) is not None for kind in truth)
    )
    neutrophil = result["confusion"]["classes"].index("neutrophil")
    assert matrix[:, :-1].sum() == matrix[:, neutrophil].sum() > 0, "all that is found and not kept apart"
    assert result["missed"] == matrix[:, -1].sum() > 0
    path = tmp_path / "held-out.json"
    path.write_text(json.dumps(result))
    own = confusion_for(Shown(), path, "blood", detector.types, detector="blobs")
    assert own.alone == ("plasma_cell",)
    with pytest.raises(UsageError, match="found by blobs"):
        confusion_for(Shown(), path, "blood", detector.types, detector="blood")


def test_what_is_not_judged_on_annotated_fields_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    """A copy of a field is read once: its cells are not missed by the detector, and no cell goes without a word."""
    for name in ("fields", "copies"):
        write_fields(tmp_path / name, count=2, specimen="marrow", size=(640, 480), mpp=0.25, seed=3)
    fields, _ = read_fields(tmp_path / "fields")
    detector, classifier = BlobDetector(("leukocyte", "plasma_cell")), Shown()
    alone = judge_found([tmp_path / "fields"], detector, classifier, mpp=0.25)
    both = judge_found([tmp_path / "fields", tmp_path / "copies"], detector, classifier, mpp=0.25)
    nameless = [
        kind for field in fields for kind in field.types if taxonomy.coarsen(kind, scheme_classes("wbc5")) is None
    ]
    assert nameless, "these fields hold cells that five classes do not know"
    assert [item["reason"] for item in alone["set_aside"]] == [
        f"{kind} is no single class of wbc5" for kind in nameless
    ]
    assert alone["images"] + len(nameless) == sum(len(field.types) for field in fields)
    copies = [item for item in both["set_aside"] if item["reason"].startswith("duplicate")]
    assert sorted(item["file"] for item in copies) == sorted(field.path.name for field in fields)
    assert {key: both[key] for key in ("fields", "images", "missed", "confusion")} == {
        key: alone[key] for key in ("fields", "images", "missed", "confusion")
    }
