"""Single cells: crops, training, the graph and the module, the figures, and the second opinion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from myelos import taxonomy
from myelos.classification.evaluate import figures, into_classes, predictions, scheme_classes
from myelos.classification.judging import judge_files, look_of_folders
from myelos.classification.opinion import adopt, unfit
from myelos.cli import main
from myelos.datasets.cell_splits import split_cells
from myelos.datasets.cells import CellRecord, read_cells
from myelos.errors import InputError, ModelError, UsageError
from myelos.imaging.crops import cell_window, views, window
from myelos.metrics.selective import (
    area_under_risk_coverage,
    choose_threshold,
    fit_temperature,
    risk_coverage,
    softmax,
)
from myelos.models import available, load, load_classifier
from myelos.smears.second_opinion import from_field, with_second_opinion

TYPES = ("lymphocyte", "eosinophil", "segmented_neutrophil")
INK = {"lymphocyte": (60, 40, 140), "eosinophil": (220, 110, 90), "segmented_neutrophil": (150, 90, 170)}


def drawn(kind: str, rng: np.random.Generator, side: int = 150) -> NDArray[np.uint8]:
    """A disc in the ink of its type among shadows of its own: easy to learn, and no near-duplicate of another."""
    shadows = cv2.resize(
        rng.uniform(170, 245, (5, 5, 1)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
    )
    image = np.repeat(np.clip(shadows, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    centre = (side // 2 + int(rng.integers(-3, 4)), side // 2 + int(rng.integers(-3, 4)))
    cv2.circle(image, centre, int(rng.integers(side // 5, side // 3)), INK[kind], -1, cv2.LINE_AA)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def class_folders(folder: Path, number: int, *, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for kind in TYPES:
        (folder / kind).mkdir(parents=True)
        for index in range(number):
            cv2.imwrite(str(folder / kind / f"{index}.png"), drawn(kind, rng)[..., ::-1])
    return folder


class Scripted:
    """A classifier that names a crop by the ink in its middle."""

    name, sha256, types, scheme = "scripted", "0" * 64, TYPES, "wbc5"
    mpp, side, views, threshold, decides = 0.15, 64, 1, 0.5, False

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        middles = np.array([crop[28:36, 28:36].reshape(-1, 3).mean(axis=0) for crop in crops]).reshape(-1, 1, 3)
        inks = np.array([INK[kind] for kind in TYPES], float)
        return softmax(-np.linalg.norm(middles - inks, axis=2) / 10).astype(np.float32)


# Crops


def test_window_keeps_the_middle_and_the_scale() -> None:
    image = np.full((200, 300, 3), 255, np.uint8)
    cv2.circle(image, (220, 90), 20, (0, 0, 0), -1)
    for factor in (0.5, 1.0, 1.7):
        cut = window(image, (220, 90), factor, 96)
        dark = cut[..., 0] < 128
        rows, columns = np.nonzero(dark)
        assert cut.shape == (96, 96, 3)
        assert abs(rows.mean() - 47.5) < 1.2
        assert abs(columns.mean() - 47.5) < 1.2
        assert dark.sum() == pytest.approx(np.pi * (20 * factor) ** 2, rel=0.12)


def test_window_mirrors_what_lies_outside() -> None:
    image = np.full((50, 50, 3), 90, np.uint8)
    assert (window(image, (2, 2), 1.0, 40) == 90).all()
    assert (window(image, (48, 25), 0.4, 64) == 90).all()


def test_window_averages_like_the_area() -> None:
    image = np.random.default_rng(0).integers(0, 255, (240, 240, 3), dtype=np.uint8)
    cut = window(image, (120, 120), 0.25, 32)
    centre = cv2.resize(image, (60, 60), interpolation=cv2.INTER_AREA)[14:46, 14:46]
    assert np.abs(cut.astype(int) - centre).mean() < 6  # half a pixel apart at most


def test_views_are_eight_different_poses() -> None:
    crop = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    poses = views(crop, 8)
    assert len({pose.tobytes() for pose in poses}) == 8
    assert poses[0].tobytes() == crop.tobytes()
    assert all(sorted(pose.ravel()) == sorted(crop.ravel()) for pose in poses)


# Splits


def test_a_further_source_moves_no_cell(tmp_path: Path) -> None:
    first, _ = read_cells(class_folders(tmp_path / "a", 12))
    more, _ = read_cells(class_folders(tmp_path / "b", 12, seed=1))
    alone = split_cells(first, duplicates=range(len(first)))  # discs are near-duplicates of each other: not here
    together = split_cells([*more, *first], duplicates=range(len(more) + len(first)))
    places = {first[i].path: part for part, indices in alone.items() for i in indices}
    later = {(*more, *first)[i].path: part for part, indices in together.items() for i in indices}
    assert {path: later[path] for path in places} == places


def test_duplicates_and_patients_stay_together(tmp_path: Path) -> None:
    records, _ = read_cells(class_folders(tmp_path / "a", 10))
    patients = [replace(record, group=str(index % 5)) for index, record in enumerate(records)]
    parts = split_cells(patients, fractions={"train": 0.5, "test": 0.5}, duplicates=list(range(len(records))))
    groups = {name: {patients[i].group for i in indices} for name, indices in parts.items()}
    assert not groups["train"] & groups["test"]
    assert sum(map(len, parts.values())) == len(records)


def test_an_image_that_cannot_be_read_is_split_like_any_other(tmp_path: Path) -> None:
    """Whoever reads it sets it aside with its reason; the cells beside it are not lost for it."""
    records, _ = read_cells(class_folders(tmp_path / "a", 10))
    for number, record in enumerate(records[:9]):
        record.path.write_bytes(b"torn %d" % (number % 3))
    parts = split_cells(records)
    assert sorted(index for indices in parts.values() for index in indices) == list(range(len(records)))
    for copies in ({0, 3, 6}, {1, 4, 7}, {2, 5, 8}):
        assert any(copies <= set(indices) for indices in parts.values())


# Figures


def test_figures_in_the_classes_of_a_scheme() -> None:
    assert "immature_granulocyte" not in scheme_classes("pbc13")
    assert "immature_granulocyte" in scheme_classes("pbc8")
    types = ("metamyelocyte", "myelocyte", "band_neutrophil", "plasma_cell")
    shares = into_classes(np.array([[0.3, 0.3, 0.35, 0.05]], np.float32), types, scheme_classes("pbc8"))
    classes = [*scheme_classes("pbc8"), "other"]
    assert dict(zip(classes, shares[0].round(3), strict=True)) == pytest.approx(
        dict.fromkeys(classes, 0) | {"immature_granulocyte": 0.6, "neutrophil": 0.35, "other": 0.05}, abs=1e-3
    )


def test_figures_have_the_agreed_keys_and_set_coarse_labels_aside() -> None:
    records = [CellRecord(Path(f"{i}.png"), kind) for i, kind in enumerate(["myelocyte", "neutrophil", "basophil"])]
    types = ("myelocyte", "basophil", "band_neutrophil")
    given = np.array([[0.9, 0.1, 0], [0.1, 0.2, 0.7], [0.6, 0.4, 0]], np.float32)
    result = figures(records, given, types, scheme="pbc13", threshold=0.7)
    wanted = {"images", "accuracy", "macro_f1", "weighted_f1", "kappa", "ece", "classes", "tolerant", "set_aside"}
    assert wanted <= set(result)
    assert result["images"] == 2
    assert [row["file"] for row in result["set_aside"]] == ["1.png"]
    assert result["accuracy"] == 0.5
    assert set(result["classes"]) == {"myelocyte", "basophil"}
    assert result["unidentified"] == {"threshold": 0.7, "coverage": 0.5, "risk": 0.0}


def test_figures_of_files_equal_those_of_arrays(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("file,label\na,MYB\nb,NGS\nc,LYT\nd,LYT\n")
    (tmp_path / "said.csv").write_text("file,label\na,MYB\nb,LYT\nc,LYT\n")
    result = judge_files(tmp_path / "truth.csv", tmp_path / "said.csv", scheme="mll21")
    assert result["images"] == 3
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert [row["file"] for row in result["set_aside"]] == ["d"]


def test_unreadable_images_are_set_aside(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "cells", 3)
    (folder / "lymphocyte" / "broken.png").write_bytes(b"no image")
    records = [CellRecord(path, path.parent.name) for path in sorted(folder.rglob("*.png"))]
    answers, kept, aside = predictions(records, Scripted(), mpp=0.15)
    assert len(answers) == len(kept) == 9
    assert [row["file"] for row in aside] == ["broken.png"]
    named = [TYPES[best] for best in answers.argmax(axis=1)]
    assert named == [records[index].cell_type for index in kept]


def test_a_scale_that_nobody_knows_is_asked_for(tmp_path: Path) -> None:
    records, _ = read_cells(class_folders(tmp_path / "cells", 2))
    with pytest.raises(UsageError, match="--mpp"):
        predictions(records, Scripted())


# Selective answers


def test_risk_and_coverage_by_hand() -> None:
    curve = risk_coverage([0.9, 0.8, 0.8, 0.5], [True, True, False, False])
    assert curve.tolist() == pytest.approx(np.array([[0.9, 0.25, 0], [0.8, 0.75, 1 / 3], [0.5, 1.0, 0.5]]))
    assert choose_threshold([0.9, 0.8, 0.8, 0.5], [True, True, False, False], risk=0.34, coverage=0.5) == 0.8
    assert choose_threshold([0.9, 0.8], [True, True], risk=0.1) == 0.0
    assert area_under_risk_coverage([0.9, 0.8], [True, False]) == pytest.approx(0.25)


def test_the_temperature_of_overconfident_answers_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 1, 4))
    truth = np.array([rng.choice(4, p=row) for row in softmax(logits[:, 0])])
    allowed = np.eye(4, dtype=bool)[truth]
    assert fit_temperature(3 * logits, allowed) == pytest.approx(3, rel=0.08)


# Second opinion


def test_the_adopted_type_follows_the_rule() -> None:
    sure, unsure = np.array([0.9, 0.05, 0.05], np.float32), np.array([0.4, 0.35, 0.25], np.float32)
    kept = adopt("eosinophil", 0.6, TYPES, sure, 0.5)
    assert (kept.cell_type, kept.probability, kept.agree) == ("eosinophil", 0.6, False)
    assert adopt("eosinophil", 0.6, TYPES, unsure, 0.5, decides=True).cell_type == "lymphocyte"
    assert adopt("plasma_cell", 0.6, TYPES, sure, 0.5, decides=True).cell_type == "plasma_cell"  # never taught
    assert adopt("neutrophil", 0.6, TYPES, sure[::-1], 0.5).cell_type == "segmented_neutrophil"
    assert adopt("neutrophil", 0.6, TYPES, sure[::-1], 0.95).cell_type == "neutrophil"
    finer = adopt("polychromatic_erythroblast", 0.6, ("erythroblast", "blast"), sure[:2], 0.5, decides=True)
    assert (finer.cell_type, finer.agree) == ("polychromatic_erythroblast", True)
    assert taxonomy.akin("neutrophil", "band_neutrophil")
    assert not taxonomy.akin("lymphocyte", "monocyte")


def test_who_may_not_speak() -> None:
    assert unfit(Scripted(), mpp=0.1) == ""
    assert "scale" in unfit(Scripted(), mpp=None)
    assert "too little" in unfit(Scripted(), mpp=0.5)


def test_second_opinion_on_the_cells_of_a_field() -> None:
    rng = np.random.default_rng(0)
    field = np.hstack([drawn(kind, rng) for kind in TYPES])
    cells = [
        {"slide_id": "s", "cell_id": f"s-{i}", "x": 150.0 * i + 35, "y": 35.0, "width": 80.0, "height": 80.0,
         "cell_type": "monocyte", "probability": 0.9, "score": 0.9} for i in range(3)
    ]  # fmt: skip
    classifier = Scripted()
    unchanged, _ = with_second_opinion(cells, [], from_field(field, 0.15, classifier), classifier)
    assert [row["cell_type"] for row in unchanged] == ["monocyte"] * 3
    classifier.decides = True
    cells = [row | {"cell_type": "leukocyte"} for row in cells]
    named, opinions = with_second_opinion(cells, [], from_field(field, 0.15, classifier), classifier)
    assert [row["cell_type"] for row in named] == list(TYPES)
    assert [row["source"] for row in opinions] == ["scripted"] * 3
    assert [row["cell_type"] for row in cells] == ["leukocyte"] * 3  # what was given stays as it was


# Training, model file, command line


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier, trained by the command that a stranger types."""
    place = tmp_path_factory.mktemp("classifier")
    folder = class_folders(place / "cells", 24)
    recipe = place / "tiny.toml"
    recipe.write_text(
        'name = "tiny"\nscheme = "wbc5"\nmpp = 0.3\nside = 64\nviews = 2\nunstated_mpp = 0.15\n'
        "parts = {train = 0.6, choose = 0.2, test = 0.2}\n"
        "[training]\nepochs = 40\nbatch = 16\nearly_side = 32\naverage = 0.9\nwarmup = 5\ncheckpoint_every = 7\n"
        "[training.network]\nwidths = [8, 16, 16, 32]\ndepths = [1, 1, 1, 1]\n"
    )
    command = ["train", "classifier", "--data", str(folder), "-o", str(place / "run"), "--recipe", str(recipe)]
    assert run(command) == 0
    return place


def run(command: list[str]) -> int:
    import sys
    from unittest.mock import patch

    with patch.object(sys, "argv", ["myelos", *command]):
        return main()


def test_the_card_says_what_was_learned(trained: Path) -> None:
    classifier = load_classifier(trained / "run" / "tiny.safetensors")
    assert set(classifier.types) == set(TYPES)
    assert classifier.views == 2
    figures = classifier.card.metrics["cells"]  # type: ignore[attr-defined]
    assert figures["images"] > 5
    assert figures["accuracy"] > 0.8
    assert "For research use only" in classifier.card.text  # type: ignore[attr-defined]
    assert "no faults" in (trained / "run" / "faults.txt").read_text()


def test_graph_and_module_give_the_same(trained: Path) -> None:
    path = trained / "run" / "tiny.safetensors"
    from myelos.models.classify import ModuleClassifier
    from myelos.models.files import read_card

    rng = np.random.default_rng(3)
    crops = [cell_window(drawn(kind, rng), mpp=0.15, to_mpp=0.3, side=64) for kind in TYPES * 7]
    graph, module = load_classifier(path)(crops), ModuleClassifier(read_card(path))(crops)
    assert np.abs(graph - module).max() < 2e-3
    assert graph.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(load_classifier(path)(crops[3:4])[0], graph[3])  # the batch changes nothing


def test_a_killed_training_ends_with_the_same_weights(trained: Path, tmp_path: Path) -> None:
    from myelos.datasets.cell_sets import read_cell_sets
    from myelos.networks.cells import CellNetworkSettings
    from myelos.training.cell_loop import CellTrainingSettings, train_network
    from myelos.training.crops import load_crops

    records, _ = read_cell_sets([trained / "cells"])
    crops = load_crops(records[::4], types=TYPES, mpp=0.3, side=32, scales={"cells": 0.15})
    settings = CellTrainingSettings(
        epochs=4, batch=8, early_side=24, checkpoint_every=3, warmup=2,
        network=CellNetworkSettings(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1)),
    )  # fmt: skip

    class KilledError(Exception):
        pass

    def kill(values: dict) -> None:
        if values["step"] == 5:
            raise KilledError

    whole = train_network(crops, types=3, side=32, settings=settings, out=tmp_path / "whole")
    with pytest.raises(KilledError):
        train_network(crops, types=3, side=32, settings=settings, out=tmp_path / "killed", report=kill)
    again = train_network(crops, types=3, side=32, settings=settings, out=tmp_path / "killed")
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert (one == other).all(), name


def test_evaluate_classifier_prints_json(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = trained / "run" / "tiny.safetensors", trained / "cells"
    command = ["evaluate", "classifier", "--data", str(data), "--model", str(model), "--mpp", "0.15", "--json"]
    capsys.readouterr()
    assert run(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 72
    assert result["accuracy"] > 0.8
    assert set(result["classes"]) <= set(taxonomy.SCHEMES["wbc5"].types)


def test_external_validation_counts_what_is_shown_refused_and_not_mapped(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells of another laboratory, one type of which the model cannot say: 4 of 16 are not mapped."""
    data = class_folders(tmp_path / "others", 4, seed=9)
    (data / "eosinophil").rename(data / "plasma_cell")
    class_folders(tmp_path / "more", 4, seed=11)
    (tmp_path / "more" / "eosinophil").rename(data / "eosinophil")
    command = ["evaluate", "classifier", "--external", "--data", str(data), "--mpp", "0.15", "--json"]
    capsys.readouterr()
    assert run([*command, "--model", str(trained / "run" / "tiny.safetensors")]) == 0
    result = json.loads(capsys.readouterr().out)
    refused = result["mapping"]["plasma_cell"]["refused"]
    assert result["images"] == 16 == result["shown"] + result["refused"] + result["not_mapped"]
    assert (result["mapping"]["plasma_cell"]["class"], result["not_mapped"]) == (None, 4 - refused)
    assert result["figures"]["cells"] == result["shown"]
    assert run([*command[:-1], "--model", str(trained / "run" / "tiny.safetensors")]) == 0
    assert "not mapped" in capsys.readouterr().out


def test_the_stain_of_foreign_cells_is_brought_to_that_of_others(tmp_path: Path) -> None:
    """Cells stained half as strongly, in three inks, which two stains explain in part: nearer to the others."""
    own, foreign = class_folders(tmp_path / "own", 6, seed=5), class_folders(tmp_path / "foreign", 6, seed=5)
    for path in foreign.rglob("*.png"):
        pale = 255 * np.sqrt(cv2.imread(str(path)) / 255)
        cv2.imwrite(str(path), np.rint(pale).astype(np.uint8))
    middles: dict[str, list[NDArray[np.float64]]] = {}
    like = look_of_folders([own], Scripted(), mpp=0.15)
    for name, folder, look in (("own", own, None), ("foreign", foreign, None), ("brought", foreign, like)):
        seen = middles.setdefault(name, [])

        class Watching(Scripted):
            def __call__(self, crops: Sequence[NDArray[np.uint8]], seen: list = seen) -> NDArray[np.float32]:
                half = self.side // 2
                seen += [crop[half - 4 : half + 4, half - 4 : half + 4].mean(axis=(0, 1)) for crop in crops]
                return super().__call__(crops)

        records = sorted(read_cells(folder)[0], key=lambda record: str(record.path.relative_to(folder)))
        assert len(predictions(records, Watching(), mpp=0.15, like=look)[1]) == 18
    apart = {name: np.abs(np.stack(seen) - np.stack(middles["own"])).mean() for name, seen in middles.items()}
    assert apart["brought"] < 0.75 * apart["foreign"]


def test_a_classifier_is_no_detector(trained: Path) -> None:
    with pytest.raises(ModelError, match="is no detector"):
        load(trained / "run" / "tiny.safetensors")
    with pytest.raises(ModelError, match="is no classifier"):
        load_classifier("blood")


def test_partial_labels_leave_the_stage_open() -> None:
    import torch

    from myelos.training.cell_loop import partial_loss

    logits = torch.tensor([[2.0, 1.0, -1.0]])
    shares = logits.softmax(dim=1)
    one = partial_loss(logits, torch.tensor([[False, True, False]]))
    two = partial_loss(logits, torch.tensor([[True, True, False]]))
    assert float(one) == pytest.approx(-float(shares[0, 1].log()), abs=1e-5)
    assert float(two) == pytest.approx(-float((shares[0, 0] + shares[0, 1]).log()), abs=1e-5)


def test_shipped_classifiers_fit_their_recipes() -> None:
    from myelos.training.cell_recipe import read_classifier_recipe

    for card in available():
        if card.kind == "classifier":
            recipe = read_classifier_recipe(card.name)
            assert card.types == recipe.types
            assert (card.mpp, card.tile, card.scheme) == (recipe.mpp, recipe.side, recipe.scheme)


def test_held_out_cells_decide_only_for_their_own_model(tmp_path: Path) -> None:
    from myelos.smears.held_out import confusion_for

    records = [CellRecord(Path(f"{i}.png"), kind) for i, kind in enumerate(["lymphocyte", "eosinophil"] * 30)]
    shares = np.tile(np.array([[0.9, 0.1, 0], [0.2, 0.8, 0]], np.float32), (30, 1))
    path = tmp_path / "held-out.json"
    path.write_text(json.dumps({"model": "scripted"} | figures(records, shares, TYPES, scheme="wbc5", threshold=0.85)))
    classifier = Scripted()
    confusion = confusion_for(classifier, path, "blood")
    assert confusion is not None
    assert confusion.objection("blood", {"lymphocyte": 40, "eosinophil": 10}) == ""
    assert np.array(confusion.matrix).sum() == 60
    assert classifier.decides  # the matrix is of its answers, not of the detector's
    path.write_text(json.dumps({"model": "another"} | json.loads(path.read_text()) | {"model": "another"}))
    with pytest.raises(UsageError, match="another"):
        confusion_for(Scripted(), path, "blood")
    path.write_text("[]")
    with pytest.raises(InputError, match="held-out"):
        confusion_for(Scripted(), path, "blood")


def test_the_matrix_is_over_what_the_classifier_can_say(tmp_path: Path) -> None:
    """A finer class joins the word for it, a class without one is left out, and the detector's own words are kept."""
    from myelos.smears.held_out import confusion_for, only_detected

    classes = ["lymphocyte", "erythroblast", "proerythroblast", "plasma_cell"]
    matrix = [[8, 1, 0, 0, 1], [2, 15, 0, 0, 0], [0, 5, 0, 0, 1], [9, 0, 0, 0, 0]]
    path = tmp_path / "held-out.json"
    path.write_text(json.dumps({"model": "scripted", "confusion": {"classes": classes, "matrix": matrix}}))
    classifier = Scripted()
    classifier.types = ("lymphocyte", "erythroblast", "band_neutrophil")
    detected = ("lymphocyte", "neutrophil", "proerythroblast", "plasma_cell", "mitosis")
    confusion = confusion_for(classifier, path, "marrow", detected)
    assert confusion is not None
    assert confusion.types == ("lymphocyte", "erythroblast")
    assert confusion.matrix == ((8, 1, 1), (2, 20, 1))
    assert confusion.alone == ("proerythroblast", "plasma_cell", "mitosis")
    assert confusion.words() == ("lymphocyte", "erythroblast", "proerythroblast", "plasma_cell", "mitosis")
    assert [confusion.column(name) for name in confusion.alone] == ["erythroblast", None, None]
    assert only_detected(("nucleated_cell", "leukocyte"), classifier.types) == (), "the classifier names such cells"


def test_the_cards_own_cells_decide_where_stain_and_cells_are_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the classifier's words, which are not adopted; elsewhere, and where it was not asked, they do not."""
    from types import SimpleNamespace as Some

    import pyarrow as pa

    from myelos.counting import count
    from myelos.smears.held_out import confusion_for, deciding
    from myelos.smears.rows import ReadSettings

    classes, one = list(TYPES), [[30, 5, 0, 0], [0, 30, 0, 0], [0, 0, 35, 0]]
    classifier = Scripted()
    figures_of = {"classes": classes, "matrix": one}
    classifier.card = Some(
        metrics={"here": {"confusion": figures_of}, "there": {"confusion": figures_of}}, specimen="blood"
    )
    confusion = confusion_for(classifier, None, "blood", (*TYPES, "basophil"))
    assert confusion is not None
    assert (confusion.held_out, confusion.source, confusion.fits, confusion.adopted) == (
        200,
        "here and there",
        False,
        False,
    )
    assert not classifier.decides
    look = Some(resolution=Some(mpp=0.1), reading_mpp=0.1, by_tiles=False)
    job = Some(confusion=confusion, classifier=classifier, settings=ReadSettings())
    said = [("lymphocyte", "eosinophil"), ("basophil", "lymphocyte"), ("lymphocyte", "lymphocyte")] * 60
    rows = [
        {"cell_id": f"s{i % 9}-{i}", "slide_id": f"s{i % 9}", "cell_type": first} for i, (first, _) in enumerate(said)
    ]
    opinions = [row | {"cell_type": pair[k]} for k in (0, 1) for row, pair in zip(rows, said, strict=True)]
    stored = {"cells": pa.Table.from_pylist(rows), "opinions": pa.Table.from_pylist(opinions)}
    monkeypatch.setattr("myelos.smears.held_out.gate_of", lambda one: getattr(one, "gate", None))
    near = Some(look=look, stain_apart=0.1, cells=rows, opinions=[{"source": "scripted"}] * 180)
    assert "cannot tell" in deciding(job, [near], stored)["confusion"].why
    classifier.gate = "there"
    few = Some(**vars(near) | {"opinions": near.opinions[:160]})
    assert "20 of these 180 cells are unlike" in deciding(job, [few], stored)["confusion"].why
    for apart, fits in ((0.2, True), (0.8, False), (None, False)):
        far = Some(look=look, stain_apart=apart, cells=[], opinions=[])
        given = deciding(job, [near, far], stored)
        assert given["confusion"].fits is fits
        result = count(stored["cells"], specimen="blood", known=(*TYPES, "basophil"), **given)
        shares = {share.name: share for share in result.types}
        assert shares["lymphocyte"].number == 120, "the adopted names stay"
        if fits:
            assert shares["eosinophil"].number == 0
            assert shares["eosinophil"].deciding.value == pytest.approx(100 / 3 - 100 / 3 / 6, abs=1.5)
            assert shares["basophil"].deciding.value == pytest.approx(100 / 3, abs=0.5), "the detector's own word"
            assert sum(share.deciding.value for share in result.types) == pytest.approx(100)
            assert "stained as their sources are" in result.decided_by
        else:
            assert {share.deciding.method for share in result.types if share.number} == {"bootstrap"}
            assert ("another stain" if apart else "not known") in result.decided_by
    look.resolution.mpp = look.reading_mpp = 0.5
    assert "not asked" in deciding(job, [near], stored)["confusion"].why


def test_a_model_of_another_specimen_is_named_in_a_warning() -> None:
    from types import SimpleNamespace as Some

    from myelos.smears.record import warnings
    from myelos.smears.rows import ReadSettings

    detector, other = (Some(name=name, card=Some(specimen=name)) for name in ("marrow", "blood"))
    job = Some(detector=detector, classifier=other, specimen="marrow", settings=ReadSettings())
    assert warnings([], job) == ("The model blood was made for blood, not for marrow.",)
    assert warnings([], Some(**vars(job) | {"classifier": None})) == ()


def test_a_source_learned_from_whole_is_held_out_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace as Some

    from myelos.classification import judging

    def thirds(cells: Sequence[CellRecord], *, seed: int) -> dict[str, list[int]]:
        assert seed == 0
        third, numbers = len(cells) // 3, list(range(len(cells)))
        return {"train": numbers[:third], "choose": numbers[third : 2 * third], "test": numbers[2 * third :]}

    records = [CellRecord(Path(f"{i}.png"), "blast", source="ab"[i % 2]) for i in range(6)]
    monkeypatch.setattr(judging, "split_cells", thirds)
    parts = judging.parts_of(records, Some(metrics={"a": {}}, training={}))
    assert parts == {"train": [records[0], *records[1::2]], "choose": [records[2]], "test": [records[4]]}
    parts = judging.parts_of(records, Some(metrics={}, training={}))
    assert parts == {"train": records[:2], "choose": records[2:4], "test": records[4:]}


def test_cells_that_cannot_be_read_have_no_crop(tmp_path: Path) -> None:
    from myelos.classification.evaluate import crops_of

    good, broken = tmp_path / "good.png", tmp_path / "broken.png"
    cv2.imwrite(str(good), drawn("lymphocyte", np.random.default_rng(0)))
    broken.write_bytes(b"no image")
    records = [CellRecord(path=path, cell_type="lymphocyte", code="LY", source="s", mpp=0.1) for path in (broken, good)]
    told: list[tuple[int, int]] = []
    crops, kept, aside = crops_of(records, to_mpp=0.2, side=48, progress=lambda *step: told.append(step))
    assert ([crop.shape for crop in crops], kept, told) == ([(48, 48, 3)], [1], [(1, 2), (2, 2)])
    assert [row["file"] for row in aside] == ["broken.png"]
    assert "broken.png" in aside[0]["reason"]


def test_what_is_never_adopted_is_not_reported_as_looked_for() -> None:
    from types import SimpleNamespace as Some

    from myelos.smears.rows import ReadSettings
    from myelos.smears.second_opinion import known_types

    look = Some(resolution=Some(mpp=0.1), reading_mpp=0.1, by_tiles=False)
    detector, classifier = Some(types=("neutrophil", "lymphocyte")), Scripted()
    job = Some(detector=detector, classifier=classifier, settings=ReadSettings())
    assert known_types(job, [Some(look=look)]) == ("neutrophil", "lymphocyte", "segmented_neutrophil")
    classifier.decides = True
    assert set(known_types(job, [Some(look=look)])) == {"neutrophil", *TYPES}
    look.resolution.mpp = look.reading_mpp = 0.5  # too coarse to be asked
    assert known_types(job, [Some(look=look)]) == detector.types
