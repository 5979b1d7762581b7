"""Questions answered with yes or no: what labels say, figures by hand and by scikit-learn, training, real cells."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest

from cell_sets import tcia_lmu, tcia_mll
from myelos import taxonomy
from myelos.classification.asking import judge_question, question_figures
from myelos.classification.questions import ANSWERS, QUESTIONS, one_type, question
from myelos.cli import main
from myelos.datasets.cells import CellRecord, read_cells
from myelos.errors import LabelError, ModelError, UsageError
from myelos.metrics.binary import binary_figures, choose_cut

BLASTS, HEALTHY = QUESTIONS["blast-character"], QUESTIONS["healthy-smear"]


def run(command: list[str]) -> int:
    with patch("sys.argv", ["myelos", *command]):
        return main()


# What a label says


def test_blasts_of_every_kind_have_blast_character() -> None:
    said = {code: BLASTS.answer(kind) for code, kind in taxonomy.SCHEMES["lmu15"].codes.items()}
    assert {code for code, one in said.items() if one} == {"MYO", "MOB"}
    assert None not in said.values()
    assert BLASTS.answer("blast") is True
    for vague in ("leukocyte", "nucleated_cell", "not_identifiable", "artefact"):
        assert BLASTS.answer(vague) is None, vague


def test_what_a_healthy_smear_shows() -> None:
    said = {code: HEALTHY.answer(kind) for code, kind in taxonomy.SCHEMES["lmu15"].codes.items()}
    assert {code for code, one in said.items() if one} == {"NGS", "NGB", "LYT", "MON", "EOS", "BAS"}
    assert {code for code, one in said.items() if one is None} == {"KSC"}
    assert HEALTHY.answer("hairy_cell") is False
    assert HEALTHY.answer("granulocyte") is None
    assert HEALTHY.answer("immature_granulocyte") is False


def test_one_type_takes_what_is_finer_with_it() -> None:
    asked = one_type("Basophils")
    assert asked.name == "type:basophil"
    assert asked.answer("segmented_basophil") is True
    assert asked.answer("eosinophil") is False
    assert asked.answer("granulocyte") is None
    assert question("type:basophil") == asked
    with pytest.raises(LabelError):
        one_type("basofil")
    with pytest.raises(UsageError, match="no question"):
        question("malignant")


def test_types_are_summed_and_what_says_neither_is_left_out() -> None:
    types = ("myeloblast", "monoblast", "lymphocyte", "artefact")
    given = np.array([[0.3, 0.1, 0.4, 0.2], [0.0, 0.0, 0.1, 0.9]])
    assert BLASTS.scores(given, types) == pytest.approx([0.5, 0.0])
    with pytest.raises(UsageError, match="answers yes"):
        BLASTS.scores(given[:, 2:], types[2:])


# Figures


def test_figures_by_hand() -> None:
    found = binary_figures([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0], 0.5)
    assert found["auroc"] == pytest.approx(8 / 9)
    assert (found["sensitivity"], found["specificity"], found["precision"]) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert found["sensitivity_interval"] == pytest.approx([0.0943, 0.9916], abs=1e-4)  # Clopper and Pearson, 2 of 3
    alone = binary_figures([0.9, 0.2], [1, 1], 0.5)
    assert alone["auroc"] is None
    assert alone["specificity"] is None


def test_area_and_its_interval() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.3
    scores = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1)
    found = binary_figures(scores, truth, 0.5)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    low, high = found["auroc_interval"]
    drawn = [rng.integers(0, 400, 400) for _ in range(300)]
    spread = np.std([roc_auc_score(truth[own], scores[own]) for own in drawn])
    assert (high - low) / (2 * 1.96) == pytest.approx(spread, rel=0.2)


def test_the_threshold_is_youden_s_or_reaches_a_sensitivity() -> None:
    from sklearn.metrics import roc_curve

    rng = np.random.default_rng(1)
    truth = rng.random(300) < 0.4
    scores = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1)
    wrong, right, _ = roc_curve(truth, scores)
    figures = binary_figures(scores, truth, choose_cut(scores, truth))
    assert figures["sensitivity"] + figures["specificity"] == pytest.approx(1 + (right - wrong).max())
    strict = binary_figures(scores, truth, choose_cut(scores, truth, sensitivity=0.95))
    assert strict["sensitivity"] >= 0.95
    assert strict["specificity"] == pytest.approx(1 - wrong[right >= 0.95].min())
    assert choose_cut([0.2, 0.9], [True, True]) == 0.5


def test_what_leaves_a_question_open_is_set_aside() -> None:
    records = [CellRecord(Path(f"{n}.png"), kind) for n, kind in enumerate(["blast", "monocyte", "leukocyte"])]
    found = question_figures(records, np.array([0.9, 0.6, 0.1]), BLASTS, threshold=0.5)
    assert (found["images"], found["positives"], len(found["set_aside"])) == (2, 1, 1)
    assert found["types"]["monocyte"] == {"cells": 1, "truth": False, "yes": 1}


# Layouts and real cells


def test_generated_layouts_answer(tmp_path: Path) -> None:
    blood, _ = read_cells(tcia_lmu(tmp_path / "lmu"))
    marrow, _ = read_cells(tcia_mll(tmp_path / "mll"))
    assert [BLASTS.answer(record.cell_type) for record in blood].count(True) == 3
    assert [HEALTHY.answer(record.cell_type) for record in blood].count(True) == 2
    assert [BLASTS.answer(record.cell_type) for record in marrow].count(True) == 3


def test_a_classifier_of_types_answers_on_the_blood_of_munich(data: Path) -> None:
    from myelos.models import load_classifier

    records, _ = read_cells(data / "lmu_aml_cells")
    cells_marrow = load_classifier("cells-marrow", threads=1)
    found = judge_question(records, cells_marrow, BLASTS, mpp=0.0786)  # of those whose source had them resized
    assert (found["images"], found["positives"]) == (50, 7)  # one of them a second time, as its source had it
    assert sum(row["cells"] for row in found["types"].values()) == found["images"]
    assert 0 <= found["auroc"] <= 1
    with pytest.raises(UsageError, match="cannot answer"):
        judge_question(records[:1], load_classifier("cells-blood", threads=1), BLASTS)


# Training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark discs are blasts, pale ones are not: a model by the command that a stranger types."""
    place = tmp_path_factory.mktemp("question")
    rng = np.random.default_rng(0)
    for code, number, ink in (("BLA", 16, 60), ("LYT", 40, 150), ("MON", 40, 190), ("NIF", 3, 120)):
        (place / "cells" / code).mkdir(parents=True)
        for index in range(number):
            shadows = cv2.resize(rng.uniform(200, 245, (5, 5)).astype(np.float32), (150, 150))
            image = np.repeat(shadows.astype(np.uint8)[..., None], 3, axis=2)
            cv2.circle(image, (75, 75), int(rng.integers(30, 50)), (ink + 40, ink, ink), -1)
            noisy = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(place / "cells" / code / f"{code}_{index:05d}.png"), noisy)
    recipe = place / "tiny.toml"
    recipe.write_text(
        "mpp = 0.3\nside = 64\nviews = 2\nunstated_mpp = 0.15\nparts = {train = 0.5, choose = 0.2, test = 0.3}\n"
        "[training]\nepochs = 12\nbatch = 16\nearly_side = 32\naverage = 0.9\nwarmup = 5\nbalance = 0.5\n"
        "[training.network]\nwidths = [8, 16, 16, 32]\ndepths = [1, 1, 1, 1]\n"
    )
    command = ["train", "classifier", "--question", "blast-character", "--data", str(place / "cells")]
    assert run([*command, "-o", str(place / "run"), "--recipe", str(recipe)]) == 0
    return place


def test_the_model_is_one_of_a_question(trained: Path) -> None:
    from myelos.models import load_classifier, load_question

    path = trained / "run" / "blast-character.safetensors"
    model = load_question(path)
    assert model.types == ANSWERS
    figures = model.card.metrics["cells"]  # type: ignore[attr-defined]
    assert figures["auroc"] > 0.9
    assert "blast character" in model.card.text  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="answers the question blast-character"):
        load_classifier(path)  # so that no count takes its word for a type


def test_it_is_evaluated_and_asked(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, cells = str(trained / "run" / "blast-character.safetensors"), str(trained / "cells")
    command = ["evaluate", "classifier", "--data", cells, "--model", model, "--mpp", "0.15"]
    capsys.readouterr()
    assert run([*command, "--json"]) == 3  # cells that are not identifiable leave the question open
    whole = json.loads(capsys.readouterr().out)
    assert (whole["images"], whole["positives"], len(whole["set_aside"])) == (96, 16, 3)
    assert run([*command, "--part", "test", "--threshold", "0.01", "--json"]) in (0, 3)
    part = json.loads(capsys.readouterr().out)
    assert part["images"] < whole["images"]
    assert part["threshold"] == 0.01
    assert run([*command, "--question", "healthy-smear"]) == 2
    assert run([*command]) == 3
    assert "sensitivity" in capsys.readouterr().out
    assert run(["classify", f"{cells}/BLA", "--model", model, "--mpp", "0.15", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["cells"]
    assert {row["answer"] for row in rows} <= set(ANSWERS)
    assert sum(row["answer"] == "yes" for row in rows) >= 12


def test_a_question_needs_both_answers(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "classifier", "--data", str(trained / "cells"), "--mpp", "0.15", "-o", str(tmp_path / "run")]
    assert run([*command, "--one-type", "plasma_cell"]) == 1
    assert "all" in capsys.readouterr().err
    assert run([*command, "--one-type", "blast", "--question", "blast-character"]) == 2
    assert run([*command, "--sensitivity", "0.9"]) == 2
