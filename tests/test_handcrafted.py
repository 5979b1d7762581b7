"""Handcrafted features: what they measure, how they are chosen, and that the machine runs without scikit-learn."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from myelos.classification import texture
from myelos.classification.feature_classifier import (
    FeatureSettings,
    fit,
    load_feature_classifier,
    save_feature_classifier,
)
from myelos.classification.handcrafted import feature_names, features
from myelos.classification.mrmr import f_statistic, select
from myelos.errors import ModelError, UsageError
from myelos.imaging.segmentation import segment
from myelos.metrics.external import OTHER, common_classes, map_predictions, summary


def drawn(*, turned: float = 0.0, nucleus: int = 18) -> np.ndarray:
    """A cell of 128 pixels: pale cytoplasm, a dark oval nucleus, a red cell far off."""
    image = np.full((128, 128, 3), 240, np.uint8)
    cv2.ellipse(image, (64, 64), (38, 34), turned, 0, 360, (200, 190, 225), -1)
    cv2.ellipse(image, (64, 64), (nucleus + 6, nucleus), turned, 0, 360, (95, 45, 150), -1)
    cv2.circle(image, (118, 14), 10, (225, 190, 190), -1)
    return image


def named(image: np.ndarray) -> dict[str, float]:
    return dict(zip(feature_names(), features(image).tolist(), strict=True))


def test_there_are_more_than_6000_named_features() -> None:
    names = feature_names()
    assert len(names) > 6000
    assert len(set(names)) == len(names)
    families = {name.split(".")[0] for name in names}
    assert families == {"shape", "colour", "texture"}
    assert {"nucleus", "cytoplasm"} <= {name.split(".")[1] for name in names}


def test_areas_and_axes_are_those_drawn() -> None:
    found = named(drawn())
    assert found["shape.found"] == 1
    assert found["shape.nucleus.area"] == pytest.approx(np.pi * 24 * 18, rel=0.12)
    assert found["shape.cell.area"] == pytest.approx(np.pi * 38 * 34, rel=0.12)
    assert found["shape.nucleus.major_axis"] == pytest.approx(48, rel=0.06)
    assert found["shape.nucleus.parts"] == 1
    assert found["shape.nucleus_share"] == pytest.approx(24 * 18 / (38 * 34), rel=0.12)
    assert found["colour.nucleus.red.mean"] == pytest.approx(95, abs=12)
    assert found["colour.cytoplasm.red.mean"] == pytest.approx(200, abs=15)


def test_form_does_not_change_with_turn_and_size_does() -> None:
    upright, turned, small = named(drawn()), named(drawn(turned=50)), named(drawn(nucleus=12))
    for name in ("shape.nucleus.solidity", "shape.nucleus.eccentricity", "shape.nucleus.radius_deviation"):
        assert turned[name] == pytest.approx(upright[name], abs=0.05), name
    for index in range(2, 6):
        for sign in "+-":
            name = f"shape.nucleus.fourier_{sign}{index}"
            assert turned[name] == pytest.approx(upright[name], abs=0.03), name
    assert small["shape.nucleus.area"] < 0.75 * upright["shape.nucleus.area"]
    assert small["shape.gap_mean"] > upright["shape.gap_mean"]


@pytest.mark.parametrize("image", [np.full((128, 128, 3), 240, np.uint8), np.zeros((128, 128, 3), np.uint8)])
def test_a_crop_without_a_cell_has_finite_features(image: np.ndarray) -> None:
    assert np.isfinite(features(image)).all()


def test_cooccurrence_agrees_with_scikit_image() -> None:
    from skimage import feature

    levels = np.random.default_rng(0).integers(0, 16, (40, 40)).astype(np.uint8)
    tables = np.stack(
        [texture._table(levels[None].astype(np.int32), np.ones((40, 40), bool), down, across)[0]
         for down, across in ((0, 1), (1, 0))]
    )  # fmt: skip
    oracle = feature.graycomatrix(levels, [1], [0, np.pi / 2], levels=16, symmetric=True, normed=True)
    assert np.allclose(tables[0], oracle[:, :, 0, 0])
    assert np.allclose(tables[1], oracle[:, :, 0, 1])
    ours = dict(zip(texture.HARALICK, texture.haralick(tables).T, strict=True))
    for name, theirs in (("contrast", "contrast"), ("homogeneity", "homogeneity"), ("energy", "ASM"),
                         ("correlation", "correlation")):  # fmt: skip
        assert np.allclose(ours[name], feature.graycoprops(oracle, theirs)[0]), name


def test_segmentation_against_masks_drawn_by_people(data: Path) -> None:
    """Evaluated only, as the set's licence has it; stain and camera are of no set that anything here learns from."""
    from myelos.imaging.appearance import normalise
    from myelos.imaging.crops import CELL_APPEARANCE

    folder = data / "wbc_masks_tecom"
    with (folder / "manifest.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["file"].startswith("images")][::4]
    dice = []
    for name in names:
        truth = cv2.imread(str(folder / name.replace("images", "masks").replace(".bmp", ".png")), 0)
        found = segment(normalise(cv2.imread(str(folder / name))[..., ::-1].copy(), CELL_APPEARANCE))
        pairs = ((found.nucleus, truth > 191), (found.cell, truth > 64))
        dice.append([2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) for ours, theirs in pairs])
    nucleus, cell = np.mean(dice, axis=0)
    assert nucleus > 0.83
    assert cell > 0.92


def test_f_statistic_agrees_with_scikit_learn() -> None:
    from sklearn import feature_selection as selection

    rng = np.random.default_rng(1)
    values, labels = rng.normal(size=(60, 5)), rng.choice(["a", "b", "c"], 60)
    values[:, 2] += np.unique(labels, return_inverse=True)[1]
    assert np.allclose(f_statistic(values, labels), selection.f_classif(values, labels)[0])


def test_selection_prefers_what_is_relevant_and_new() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(["a", "b", "c"], 50)
    first, second = (labels == "a").astype(float), (labels == "b").astype(float)
    noise = rng.normal(size=(150, 3))
    copy = first + 0.2 * rng.normal(size=150)
    values = np.column_stack([first + 0.15 * noise[:, 0], copy, second + 0.22 * noise[:, 1], noise[:, 2], np.ones(150)])
    chosen = select(values, labels.tolist(), 3)
    assert chosen[0] == 0
    assert chosen[1] == 2  # less relevant than the copy of the first, and new
    with pytest.raises(UsageError, match="vary"):
        select(values, labels.tolist(), 5)


@pytest.fixture(scope="module", params=[2, 4])
def problem(request: pytest.FixtureRequest) -> tuple[np.ndarray, list[str], list[str]]:
    rng = np.random.default_rng(3)
    labels = [f"type_{index % request.param}" for index in range(160)]
    values = rng.normal(size=(160, 30))
    values[:, :8] += 0.8 * np.array([int(name[-1]) for name in labels])[:, None]
    values[:, 8:12] += np.sin([int(name[-1]) for name in labels])[:, None]
    return values, labels, [f"feature_{index}" for index in range(30)]


def test_numpy_gives_the_answers_of_scikit_learn(problem: tuple[np.ndarray, list[str], list[str]]) -> None:
    from sklearn import svm

    values, labels, names = problem
    model = fit(values, labels, names, FeatureSettings(selected=12))
    own = values[:, [names.index(name) for name in model.names]]
    unit = (own - own.mean(axis=0)) / own.std(axis=0)
    oracle = svm.SVC(C=10.0, gamma=1 / 12, class_weight="balanced", decision_function_shape="ovo").fit(unit, labels)
    expected = oracle.decision_function(unit)
    ours = model.decisions(own)
    assert np.allclose(ours, -expected[:, None] if expected.ndim == 1 else expected, atol=1e-8)
    oracle.decision_function_shape = "ovr"
    if expected.ndim == 2:
        assert np.allclose(model.scores(own), oracle.decision_function(unit), atol=1e-8)
        oracle.break_ties = True
    answers = [model.types[index] for index in model.scores(own).argmax(axis=1)]
    assert answers == oracle.predict(unit).tolist()
    assert np.allclose(model.probabilities(own).sum(axis=1), 1)


def test_a_saved_machine_gives_the_same_answers(
    problem: tuple[np.ndarray, list[str], list[str]], tmp_path: Path
) -> None:
    values, labels, names = problem
    model = fit(values, labels, names, FeatureSettings(selected=6))
    save_feature_classifier(tmp_path / "model.safetensors", model)
    again = load_feature_classifier(tmp_path / "model.safetensors")
    own = values[:, [names.index(name) for name in model.names]]
    assert again.types == model.types
    assert (again.scores(own) == model.scores(own)).all()
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="no classifier of handcrafted features"):
        load_feature_classifier(tmp_path / "other.safetensors")


def test_schemes_meet_in_the_finest_common_types() -> None:
    choi = ("myeloblast", "promyelocyte", "proerythroblast", "basophilic_erythroblast", "orthochromatic_erythroblast")
    mll = ("blast", "promyelocyte", "proerythroblast", "erythroblast", "lymphocyte", "artefact")
    assert set(common_classes(choi, mll)) == {"blast", "promyelocyte", "proerythroblast", "erythroblast"}
    assert common_classes(choi, mll) == common_classes(mll, choi)


def test_refused_and_unmapped_cells_are_counted_as_in_figure_4() -> None:
    """Choi's ten types against the 21 of Munich: 5 of 11 refused, 6 shown, one of them with no counterpart."""
    truth = ["myeloblast"] * 4 + ["basophilic_erythroblast"] * 4 + ["promyelocyte"] * 3
    said = [
        "blast",
        "promyelocyte",
        "artefact",
        "not_identifiable",
        "erythroblast",
        "proerythroblast",
        "artefact",
        None,
    ]
    said += ["promyelocyte", "lymphocyte", "artefact"]
    from myelos import taxonomy

    found = map_predictions(
        truth, said, truth_types=taxonomy.SCHEMES["choi"].types, predicted_types=taxonomy.SCHEMES["mll21"].types
    )
    assert (found.images, found.refused_cells, len(found.shown)) == (11, 5, 6)
    assert found.refused == {"myeloblast": 2, "basophilic_erythroblast": 2, "promyelocyte": 1}
    assert found.unmapped_predictions == {"lymphocyte": 1}
    assert not found.unmapped_truth
    assert found.truth[:2] == ("blast", "blast")
    assert found.predicted.count(OTHER) == 1
    assert found.shown == (0, 1, 4, 5, 8, 9)
    told = summary(found, truth, said)
    assert (told["images"], told["refused"], told["not_mapped"], told["shown"]) == (11, 5, 0, 6)
    assert told["mapping"]["myeloblast"] == {
        "class": "blast", "cells": 4, "refused": 2, "shown": 2, "right": 1, "tolerated": 2,
    }  # fmt: skip
    assert told["mapping"]["promyelocyte"]["right"] == 1
    assert told["other"] == {"lymphocyte": 1}
    assert sum(map(sum, told["confusion"]["matrix"])) == 6
    assert told["figures"]["accuracy"] == 0.5
