"""Embeddings, neighbours, and classifiers on frozen features."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from myelos.classification.outlier import OutlierModel, OutlierSettings, fit_outlier
from myelos.datasets.cells import CellRecord, read_cells
from myelos.errors import InputError, ModelError, ResultError, UsageError
from myelos.metrics.roc import auroc
from myelos.representation.embeddings import (
    Scale,
    embed_records,
    embeddings,
    encoded,
    identifiers,
    read_embeddings,
    thumbnail,
    write_embeddings,
)
from myelos.representation.neighbours import NeighbourIndex, NeighbourSettings, unit, vote
from myelos.representation.probe import fit_probe, judge

SCALE = Scale(mpp=0.15, side=48)
TYPES = ("blast", "lymphocyte", "eosinophil")


class Colours:
    """An encoder whose features are the mean colours and the mean of the left upper quarter."""

    def __call__(self, crops: list[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        side = crops[0].shape[0] // 2
        rows = [[*crop.mean(axis=(0, 1)), crop[:side, :side].mean()] for crop in crops]
        features = np.array(rows, np.float32)
        return features, features[:, :3] / 50


def clusters(count: int = 60, seed: int = 0) -> tuple[NDArray[np.float32], list[str]]:
    """Three clouds in ten dimensions that overlap a little."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(0, 2, (3, 10))
    labels = [TYPES[i % 3] for i in range(count)]
    return (np.stack([centres[i % 3] for i in range(count)]) + rng.normal(0, 1, (count, 10))).astype(np.float32), labels


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of coloured discs; one file is no image."""
    folder = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(1)
    colours = {"blast": (90, 60, 160), "lymphocyte": (60, 60, 120), "eosinophil": (220, 120, 110)}
    for name, colour in colours.items():
        (folder / name).mkdir()
        for number in range(4):
            image = np.full((120, 120, 3), 235, np.uint8)
            tint = tuple(int(value) for value in np.array(colour) + rng.integers(-9, 9, 3))
            cv2.circle(image, (60, 60), 38, tint, -1)
            cv2.imwrite(str(folder / name / f"{number}.png"), image[..., ::-1])
    (folder / "blast" / "broken.png").write_bytes(b"no image")
    return folder


def test_nearest_is_that_of_scikit_learn() -> None:
    from sklearn import neighbors

    known, _ = clusters(1500)
    queries, _ = clusters(1100, seed=1)
    found, cosines = NeighbourIndex(known).nearest(queries, 5)
    distances, theirs = neighbors.NearestNeighbors(metric="cosine", algorithm="brute").fit(known).kneighbors(queries, 5)
    np.testing.assert_array_equal(found, theirs)
    np.testing.assert_allclose(1 - cosines, distances, atol=1e-5)


def test_a_cell_of_the_index_finds_itself_and_few_cells_are_enough() -> None:
    known, _ = clusters(7)
    found, cosines = NeighbourIndex(known).nearest(known, 20)
    assert found.shape == (7, 7)
    np.testing.assert_array_equal(found[:, 0], np.arange(7))
    assert cosines[:, 0] == pytest.approx(1)


def test_votes_by_hand() -> None:
    known = np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)
    plain = vote(NeighbourIndex(known), ["a", "b", "b"], known[:1], ["a", "b"], NeighbourSettings(3, None))
    np.testing.assert_allclose(plain, [[1 / 3, 2 / 3]])
    weighted = vote(NeighbourIndex(known), ["a", "b", "b"], known[:1], ["a", "b"], NeighbourSettings(3, 0.5))
    parts = np.exp(np.array([1, 1 / np.hypot(1, 0.1), 0]) / 0.5)
    np.testing.assert_allclose(weighted, [[parts[0] / parts.sum(), parts[1:].sum() / parts.sum()]], rtol=1e-5)


def test_unit_keeps_zeros() -> None:
    np.testing.assert_array_equal(unit(np.array([[3.0, 4.0], [0, 0]])), np.array([[0.6, 0.8], [0, 0]], np.float32))


@pytest.mark.parametrize("kinds", [2, 3])
def test_probe_is_that_of_scikit_learn(kinds: int) -> None:
    from sklearn import linear_model as linear

    features, labels = clusters(90)
    kept = [index for index, label in enumerate(labels) if label in sorted(TYPES)[:kinds]]
    features, labels = features[kept], [labels[index] for index in kept]
    ours = fit_probe(features, labels).probabilities(features)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    theirs = linear.LogisticRegression(C=0.1, max_iter=1000).fit(scaled, labels).predict_proba(scaled)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_probe_needs_two_types_and_bears_a_constant_feature() -> None:
    features, labels = clusters(30)
    with pytest.raises(UsageError, match="two types"):
        fit_probe(features, ["blast"] * 30)
    constant = np.column_stack([features, np.ones(30)])
    assert np.isfinite(fit_probe(constant, labels).probabilities(constant)).all()


def test_judge_tells_good_features_from_none() -> None:
    features, labels = clusters(240)
    train, test = list(range(150)), list(range(150, 240))
    good = judge(features, labels, train, test)
    noise = np.random.default_rng(5).normal(size=features.shape).astype(np.float32)
    none = judge(noise, labels, train, test)
    for method in ("neighbours", "probe"):
        assert good[method]["accuracy"] > 0.9
        assert none[method]["accuracy"] < 0.6
        assert set(good[method]["classes"]) == set(TYPES)
    assert good["parts"] == {"train": 150, "test": 90, "left_out": {}}


def test_judge_leaves_coarse_words_out() -> None:
    """A neutrophil of no stated stage is neither right nor wrong beside segmented ones."""
    features, _ = clusters(60)
    labels = ["neutrophil", "segmented_neutrophil", "band_neutrophil"] * 20
    found = judge(features, labels, range(30), range(30, 60))
    assert found["parts"] == {"train": 20, "test": 20, "left_out": {"neutrophil": 20}}
    assert set(found["probe"]["classes"]) == {"segmented_neutrophil", "band_neutrophil"}
    with pytest.raises(UsageError, match="too few"):
        judge(features, labels, [], range(60))


def test_judge_leaves_types_out_that_it_has_hardly_seen() -> None:
    """One band neutrophil among the test cells would halve the mean over types and say nothing of the features."""
    features, labels = clusters(240)
    labels = [*labels[:-1], "band_neutrophil"]
    found = judge(features, labels, range(150), range(150, 240))
    assert found["parts"] == {"train": 150, "test": 89, "left_out": {"band_neutrophil": 1}}
    assert set(found["probe"]["classes"]) == set(TYPES)


def test_poses_are_averaged() -> None:
    crop = np.zeros((8, 8, 3), np.uint8)
    crop[:4, :4] = 200  # the left upper quarter: in one of four turns it is there, in two of eight poses
    assert embeddings(Colours(), [crop])[0, 3] == pytest.approx(200)
    assert embeddings(Colours(), [crop, crop], poses=8)[:, 3] == pytest.approx([50, 50])
    _, shares = encoded(Colours(), [crop], poses=4)
    assert shares.sum() == pytest.approx(1)


def test_records_become_a_table_and_come_back(cells: Path, tmp_path: Path) -> None:
    records, _ = read_cells(cells)
    found, aside = embed_records(records, Colours(), SCALE, types=TYPES, mpp=0.1)
    assert (len(found), len(aside)) == (12, 1)
    assert aside[0]["file"] == "broken.png"
    assert len(set(found.ids)) == 12
    places = np.arange(24, dtype=np.float32).reshape(12, 2)
    write_embeddings(tmp_path, found, parts=["train"] * 12, places=places)
    again = read_embeddings(tmp_path)
    np.testing.assert_array_equal(again.features, found.features)
    assert (again.ids, again.types, again.files) == (found.ids, found.types, found.files)
    assert again.thumbnails == found.thumbnails
    picture = cv2.imdecode(np.frombuffer(found.thumbnails[0], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (64, 64, 3)


def test_the_table_names_no_file(cells: Path, tmp_path: Path) -> None:
    records, _ = read_cells(cells)
    found, _ = embed_records(records[:3], Colours(), SCALE, mpp=0.1)
    path = write_embeddings(tmp_path, found)
    content = path.read_bytes()
    assert b".png" not in content
    assert str(cells).encode() not in content
    assert (tmp_path / "names.csv").is_file()
    (tmp_path / "names.csv").unlink()
    with pytest.raises(ResultError, match=r"names\.csv"):
        read_embeddings(tmp_path)


def test_nothing_readable_is_an_error(cells: Path) -> None:
    with pytest.raises(InputError, match="no image"):
        embed_records([CellRecord(cells / "blast" / "broken.png", "blast", mpp=0.1)], Colours(), SCALE)


def test_identifiers_tell_cells_of_one_field_apart(cells: Path) -> None:
    path = cells / "blast" / "0.png"
    one, other = (CellRecord(path, "blast", box=(float(x), 0.0, 20.0, 20.0)) for x in (0, 30))
    first, second = identifiers([one, other])
    assert first.removesuffix("-1") == second.removesuffix("-2")


def test_thumbnails_keep_colours() -> None:
    crop = np.zeros((144, 144, 3), np.uint8)
    crop[..., 0] = 220
    picture = cv2.imdecode(np.frombuffer(thumbnail(crop), np.uint8), cv2.IMREAD_COLOR)
    assert picture[32, 32, 2] > 200 > picture[32, 32, 0]


def test_auroc_is_that_of_scikit_learn() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(4)
    above, below = np.round(rng.normal(0.7, 1, 90), 1), np.round(rng.normal(0, 1, 60), 1)  # with ties
    expected = metrics.roc_auc_score([1] * 90 + [0] * 60, np.concatenate([above, below]))
    assert auroc(above, below) == pytest.approx(expected)
    assert auroc([2.0, 3.0], [0.0, 1.0]) == 1
    with pytest.raises(UsageError, match="no area"):
        auroc([], [1.0])


def test_outliers_score_higher_and_the_score_has_a_unit() -> None:
    features, labels = clusters(600)
    model = fit_outlier(features, labels)
    own, _ = clusters(300, seed=7)
    far = np.random.default_rng(8).normal(9, 1, (50, 10)).astype(np.float32)
    assert model.score(own).mean() == pytest.approx(1, abs=0.1)
    assert auroc(model.score(far), model.score(own)) > 0.999
    # Between two types is no type: nearer to the middle of all cells, and yet less like a cell.
    between = features[np.array(labels) == "blast"].mean(axis=0) * 0.5 + features.mean(axis=0) * 0.5
    assert model.score(between[None])[0] > np.median(model.score(model.means))


def test_mahalanobis_by_scipy() -> None:
    from scipy.spatial import distance

    features, labels = clusters(120)
    model = fit_outlier(features, labels, settings=OutlierSettings(shrinkage=0.0))
    place = np.array([sorted(TYPES).index(label) for label in labels])
    within = features - model.means[place]
    precision = np.linalg.inv(within.T @ within / (120 - 3))
    expected = [min(distance.mahalanobis(row, mean, precision) for mean in model.means) for row in features[:9]]
    np.testing.assert_allclose(model.score(features[:9]) * np.sqrt(10), expected, rtol=1e-3)


def test_outlier_model_survives_storage_in_half_precision() -> None:
    features, labels = clusters(300)
    model = fit_outlier(features, labels).with_threshold(clusters(200, seed=3)[0], kept=0.95)
    again = OutlierModel.from_arrays({name: value.astype(np.float16) for name, value in model.to_arrays().items()})
    np.testing.assert_allclose(again.score(features), model.score(features), rtol=2e-2)
    assert again.threshold == pytest.approx(model.threshold, rel=1e-3)
    assert (model.score(clusters(400, seed=4)[0]) <= model.threshold).mean() == pytest.approx(0.95, abs=0.04)
    with pytest.raises(ModelError, match="whitening"):
        OutlierModel.from_arrays({"means": model.means})


def test_more_dimensions_than_cells_and_constant_features() -> None:
    features = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)
    features[:, 5] = 2.0
    model = fit_outlier(features, ["blast", "lymphocyte"] * 10)
    assert np.isfinite(model.score(features)).all()
    with pytest.raises(UsageError, match="no basis"):
        fit_outlier(features[:1], ["blast"])


def test_a_backbone_of_timm_embeds_with_local_weights_only(tmp_path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    from myelos.networks.encoder import TimmEncoder

    torch.manual_seed(0)
    network = timm.create_model("test_vit", pretrained=False, num_classes=5).eval()
    save_file(network.state_dict(), tmp_path / "vit.safetensors")
    encoder = TimmEncoder("test_vit", tmp_path / "vit.safetensors")
    crops = [np.full((encoder.side, encoder.side, 3), value, np.uint8) for value in (0, 128, 255)]
    features, logits = encoder(crops)
    assert (features.shape, logits.shape) == ((3, network.num_features), (3, 0))
    with torch.inference_mode():
        config = timm.data.resolve_model_data_config(network)
        mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        pixels = (torch.full((1, 3, encoder.side, encoder.side), 128 / 255) - mean) / std
        expected = network.forward_head(network.forward_features(pixels), pre_logits=True)
    np.testing.assert_allclose(features[1], expected[0].numpy(), rtol=1e-3, atol=1e-4)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="missing"):
        TimmEncoder("test_vit", tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="not opened"):
        TimmEncoder("test_vit", tmp_path / "vit.bin")
    with pytest.raises(ModelError, match="no backbone"):
        TimmEncoder("no_such_net", tmp_path / "vit.safetensors")


def discs(folder: Path) -> Path:
    """Seventy small discs of two types."""
    rng = np.random.default_rng(2)
    for name, colour in (("lymphocyte", (60, 60, 120)), ("eosinophil", (220, 120, 110))):
        (folder / "cells" / name).mkdir(parents=True)
        for number in range(35):
            image = rng.integers(150, 250, (6, 6, 1)).astype(np.uint8).repeat(3, axis=2)
            image = cv2.resize(image, (150, 150), interpolation=cv2.INTER_CUBIC)
            cv2.circle(image, (75, 75), 40, colour, -1)
            cv2.imwrite(str(folder / "cells" / name / f"{number}.png"), image[..., ::-1])
    return folder / "cells"


def test_the_command_judges_a_backbone_of_timm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    import timm
    import torch
    from safetensors.torch import save_file

    from myelos.cli import main

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False)
    save_file(network.state_dict(), tmp_path / "resnet.safetensors")
    given = ["--model", "timm:test_resnet", "--weights", str(tmp_path / "resnet.safetensors")]
    command = ["myelos", "embed", str(discs(tmp_path)), *given, "--mpp", "0.15", "--no-map", "--json", "--poses", "2"]
    monkeypatch.setattr("sys.argv", [*command, "-o", str(tmp_path / "out"), "--threads", "1"])
    assert main() == 0
    result = json.loads(capsys.readouterr().out)
    assert result["cells"] == 70
    assert result["probe"]["accuracy"] > 0.9  # random weights tell two colours
    written = read_embeddings(tmp_path / "out")
    assert written.features.shape == (70, network.num_features)
    assert set(written.predicted) == {""}


def test_the_command_judges_a_network_and_its_untrained_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The untrained network is another one, and names nothing."""
    import json

    from myelos.cli import main

    command = ["myelos", "embed", str(discs(tmp_path)), "--model", "cells-blood", "--mpp", "0.15", "--no-map", "--json"]
    results = []
    for out, more in (("trained", []), ("shape", ["--untrained"])):
        monkeypatch.setattr("sys.argv", [*command, "-o", str(tmp_path / out), "--threads", "1", *more])
        assert main() == 0
        results.append(json.loads(capsys.readouterr().out))
    for result in results:
        assert result["cells"] == 70
        assert sum(result["parts"][part] for part in ("train", "test")) <= 70
        assert set(result["probe"]["classes"]) == {"lymphocyte", "eosinophil"}
    assert results[0]["probe"]["accuracy"] == 1.0
    named, unnamed = (read_embeddings(tmp_path / out) for out in ("trained", "shape"))
    assert set(unnamed.predicted) == {""} != set(named.predicted)
    assert not np.allclose(named.features, unnamed.features)
