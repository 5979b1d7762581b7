"""Figures of merit against published tables, independent implementations and counts made by hand."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from myelos.errors import LabelError, UsageError
from myelos.metrics import agreement, calibration, classification, detection, intervals

# Rümke's table as the clinical rules quote it: (n, percentage) → limits in percent.
RUEMKE = {
    (200, 5): (2.4, 9.0), (200, 10): (6.2, 15.0), (200, 20): (14.7, 26.2),
    (500, 5): (3.3, 7.3), (500, 10): (7.5, 13.0), (500, 20): (16.6, 23.8),
    (1000, 5): (3.7, 6.5), (1000, 10): (8.2, 12.0), (1000, 20): (17.6, 22.6),
}  # fmt: skip


@pytest.mark.parametrize(("n", "percent"), RUEMKE)
def test_clopper_pearson_reproduces_ruemkes_limits(n: int, percent: int) -> None:
    low, high = intervals.clopper_pearson(n * percent // 100, n)
    assert (round(100 * low, 1), round(100 * high, 1)) == RUEMKE[n, percent]


def test_clopper_pearson_at_the_ends_and_against_scipy() -> None:
    from scipy.stats import binomtest

    assert intervals.clopper_pearson(0, 0) == (0, 1)
    for k, n, level in [(0, 17, 0.95), (17, 17, 0.95), (3, 17, 0.9), (1, 1, 0.5)]:
        expected = binomtest(k, n).proportion_ci(level, method="exact")
        assert intervals.clopper_pearson(k, n, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_probability_above_against_a_sampled_posterior() -> None:
    drawn = np.random.default_rng(0).beta(23.5, 77.5, 200_000)
    assert intervals.probability_above(23, 100, 0.2) == pytest.approx((drawn > 0.2).mean(), abs=0.005)
    assert intervals.probability_above(23, 100, 0.0) == 1
    assert intervals.probability_above(23, 100, 1.0) == 0
    assert 0 < intervals.probability_above(0, 2000, 0.05) < 1e-40  # tiny, not rounded to nothing


def test_impossible_counts_are_refused() -> None:
    for call in (lambda: intervals.clopper_pearson(3, 2), lambda: intervals.probability_above(-1, 2, 0.1),
                 lambda: intervals.clopper_pearson(1, 2, 95)):  # fmt: skip
        with pytest.raises(UsageError):
            call()


def test_bootstrap_knows_the_error_of_a_mean_and_repeats_itself() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = intervals.bootstrap(lambda i: values[i].mean(), 400, rng=np.random.default_rng(2))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert (low, high) == intervals.bootstrap(lambda i: values[i].mean(), 400, rng=np.random.default_rng(2))
    assert np.isnan(intervals.bootstrap(lambda i: values[i].mean(), 1, rng=np.random.default_rng(2))).all()


def _scene(seed: int, images: int = 60) -> tuple[list, list]:
    """Random boxes with areas to ignore, and predictions: some jittered, some wrong in type, some from nowhere."""
    rng = np.random.default_rng(seed)
    truth, predictions = [], []
    for _ in range(images):
        n, m = rng.integers(0, 12), rng.integers(0, 6)
        boxes = np.c_[rng.uniform(0, 300, (n, 2)), rng.uniform(20, 80, (n, 2))]
        types = list(rng.choice(["lymphocyte", "eosinophil", "ignore"], n, p=[0.5, 0.4, 0.1]))
        found = boxes[rng.random(n) < 0.9]
        found = np.r_[found + rng.normal(0, 4, found.shape), boxes[: n // 3] + rng.normal(0, 9, boxes[: n // 3].shape),
                      np.c_[rng.uniform(0, 300, (m, 2)), rng.uniform(20, 80, (m, 2))]]  # fmt: skip
        truth.append((boxes, types))
        said = list(rng.choice(["lymphocyte", "eosinophil"], len(found)))
        predictions.append((found, rng.random(len(found)).round(1), said))  # many equal scores
    return truth, predictions


def _coco(truth: list, predictions: list, name: str) -> tuple[float, float]:
    """AP at 0.5 and its mean over 0.5 to 0.95 for one type by pycocotools, without its limit of 100 an image."""
    from pycocotools import cocoeval as mask
    from pycocotools.coco import COCO

    objects = [
        {"image_id": i, "category_id": 1, "bbox": list(map(float, box)), "area": float(box[2] * box[3]),
         "iscrowd": int(kind == "ignore")}
        for i, (boxes, kinds) in enumerate(truth) for box, kind in zip(boxes, kinds, strict=True)
        if kind in (name, "ignore")
    ]  # fmt: skip
    found = [
        {"image_id": i, "category_id": 1, "bbox": list(map(float, box)), "score": float(score)}
        for i, (boxes, scores, kinds) in enumerate(predictions)
        for box, score, kind in zip(boxes, scores, kinds, strict=True) if kind == name
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": [{"id": i} for i in range(len(truth))], "categories": [{"id": 1}],
                        "annotations": [{"id": i + 1, **entry} for i, entry in enumerate(objects)]}  # fmt: skip
        coco.createIndex()
        run = mask.COCOeval(coco, coco.loadRes(found), "bbox")
        run.params.maxDets = [1, 10, 10_000]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, 0, 0, -1]  # (IoU, recall), all areas
    return float(precision[0].mean()), float(precision.mean())


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_pycocotools(seed: int) -> None:
    truth, predictions = _scene(seed)
    figures = detection.evaluate(truth, predictions, threshold=0.5)["classes"]
    for name in ("lymphocyte", "eosinophil"):
        expected = _coco(truth, predictions, name)
        assert (figures[name]["ap50"], figures[name]["ap"]) == pytest.approx(expected, abs=1e-9)
        assert 0.02 < expected[1] < expected[0] < 0.9  # neither trivially right nor trivially wrong


def test_average_precision_counted_by_hand() -> None:
    # By falling score: hit, miss, hit; three objects. Precision is 1 up to recall 1/3 (recalls 0 … 0.33: 34 points)
    # and 2/3 up to recall 2/3 (0.34 … 0.66: 33 points); the third object is never found.
    assert detection.average_precision([1, 0, 1], [0.9, 0.8, 0.7], 3) == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert detection.average_precision([1, 1], [0.3, 0.6], 2) == 1
    assert detection.average_precision([], [], 2) == 0
    assert detection.average_precision([0], [0.5], 0) is None


def test_the_surest_prediction_takes_the_object_and_each_object_is_taken_once() -> None:
    truth = [[0, 0, 10, 10], [100, 0, 10, 10]]
    predicted = [[1, 0, 10, 10], [0, 0, 10, 10], [100, 0, 10, 5], [100, 0, 10, 4.9]]
    found = detection.match(truth, predicted, [0.9, 0.5, 0.2, 0.8])
    assert found.truth.tolist() == [0, -1, 1, -1]  # IoU 0.5 is enough, 0.49 is not
    assert found.iou == pytest.approx([9 / 11, 0, 0.5, 0])


def test_objects_to_be_found_come_before_ignored_ones() -> None:
    truth, predicted = [[0, 0, 10, 10], [2, 0, 10, 10]], [[0, 0, 10, 10]]
    found = detection.match(truth, predicted, [1], ignored=[True, False])
    assert found.truth.tolist() == [1]
    assert found.hits.all()
    assert detection.match(truth[:1], predicted, [1], ignored=[True]).ignored.tolist() == [True]
    inside = [[0, 0, 3, 3], [4, 4, 3, 3]]  # two small boxes in one area to ignore
    assert detection.match(truth[:1], inside, [1, 1], areas=[True]).ignored.all()
    assert not detection.match(truth[:1], inside, [1, 1], ignored=[True]).ignored.any()


def test_evaluation_of_a_small_set_counted_by_hand() -> None:
    a, b, c, d, e = ([40 * i, 0, 20, 20] for i in range(5))
    truth = [([a, b, c, d], ["leukocyte", "neutrophil", "erythrocyte", None]), ([a, e], ["ignore", "lymphocyte"])]
    predictions = [
        ([a, b, c, d], [0.9, 0.8, 0.7, 0.3], ["monocyte", "segmented_neutrophil", "lymphocyte", "lymphocyte"]),
        ([a, b, e], [0.9, 0.6, 0.7], ["lymphocyte", "erythrocyte", "monocyte"]),
    ]
    result = detection.evaluate(truth, predictions, threshold=0.5)
    assert {key: result[key] for key in ("images", "boxes")} == {"images": 2, "boxes": 5}
    cells = result["any_cell"]  # objects: a b d of the first image, e of the second; d's prediction is below 0.5,
    assert cells["boxes"] == 4  # the lymphocyte on a red cell is false, the red cell on nothing is none of ours
    assert (cells["precision"], cells["recall"]) == (3 / 4, 3 / 4)
    assert cells["f1"] == pytest.approx(3 / 4)
    assert list(result["classes"]) == ["neutrophil", "lymphocyte", "erythrocyte"]  # leukocyte has no row
    neutrophil, lymphocyte = result["classes"]["neutrophil"], result["classes"]["lymphocyte"]
    assert (neutrophil["ap50"], neutrophil["precision"], neutrophil["recall"]) == (1, 1, 1)  # finer than annotated
    # The lymphocytes on the red cell is wrong, the one on the cell of unstated type (0.3) and in the area are neither.
    assert (lymphocyte["ap50"], lymphocyte["precision"], lymphocyte["recall"]) == (0, 0, 0)
    assert result["classes"]["erythrocyte"]["recall"] == 0
    assert result["types"]["confusion"] == {"neutrophil": {"segmented_neutrophil": 1}, "lymphocyte": {"monocyte": 1}}
    assert result["types"]["accuracy"] == 0.5


def test_tolerated_types_and_undefined_figures() -> None:
    box = [[0, 0, 9, 9]]
    said = detection.evaluate([(box, ["band_neutrophil"])], [(box, [1], ["segmented_neutrophil"])], threshold=0.5)
    assert (said["types"]["accuracy"], said["types"]["tolerant_accuracy"]) == (0, 1)
    nothing = detection.evaluate([([], [])], [([], [], [])], threshold=0.5)["any_cell"]
    assert nothing == {"boxes": 0, "ap50": None, "ap": None, "precision": None, "recall": None, "f1": None}
    blind = detection.evaluate([(box, ["blast"])], [([], [], [])], threshold=0.5)["any_cell"]
    assert blind == {"boxes": 1, "ap50": 0, "ap": 0, "precision": None, "recall": 0, "f1": 0}
    smudge = detection.evaluate([(box, ["smudge_cell"])], [(box, [1], ["lymphocyte"])], threshold=0.5)["any_cell"]
    assert (smudge["boxes"], smudge["precision"]) == (0, None)  # neither hit nor miss


def test_predictions_that_do_not_fit_are_refused() -> None:
    box = [[0, 0, 9, 9]]
    with pytest.raises(UsageError, match="1 list of predictions for 2 images"):
        detection.evaluate([(box, ["blast"])] * 2, [(box, [1], ["blast"])], threshold=0.5)
    with pytest.raises(UsageError, match="different lengths"):
        detection.evaluate([(box, ["blast"])], [(box, [1, 2], ["blast"])], threshold=0.5)
    with pytest.raises(UsageError, match="no numbers"):
        detection.evaluate([(box, ["blast"])], [(box, [np.nan], ["blast"])], threshold=0.5)
    with pytest.raises(LabelError, match="neutrofil"):
        detection.evaluate([(box, ["blast"])], [(box, [1], ["neutrofil"])], threshold=0.5)


def _namings(seed: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    names = ["band_neutrophil", "blast", "lymphocyte", "segmented_neutrophil"]
    truth = rng.choice(names, 300, p=[0.4, 0.05, 0.25, 0.3])
    said = np.where(rng.random(300) < 0.6, truth, rng.choice(names, 300))
    return truth.tolist(), said.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_naming_equals_scikit_learn(seed: int) -> None:
    from sklearn import metrics as sklearn

    truth, said = _namings(seed)
    ours = classification.evaluate(truth, said)
    expected = sklearn.classification_report(truth, said, output_dict=True)
    for name, row in ours["classes"].items():
        theirs = expected[name]
        assert (row["precision"], row["recall"], row["f1"], row["support"]) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"])
        )
        rest = np.mean([(t == name) == (p == name) for t, p in zip(truth, said, strict=True)])
        assert row["one_vs_rest_accuracy"] == pytest.approx(rest)
    for mean, theirs in (("macro", "macro avg"), ("weighted", "weighted avg")):
        assert ours[mean]["f1"] == pytest.approx(expected[theirs]["f1-score"])
    assert ours["accuracy"] == pytest.approx(expected["accuracy"])
    names = list(ours["classes"])
    matrix = agreement.confusion_matrix(truth, said, names)
    assert (matrix[:, :-1] == sklearn.confusion_matrix(truth, said, labels=names)).all()
    assert agreement.cohen_kappa(matrix[:, :-1]) == pytest.approx(sklearn.cohen_kappa_score(truth, said))


def test_tolerant_naming_counted_by_hand() -> None:
    band, segmented, blast = "band_neutrophil", "segmented_neutrophil", "blast"
    result = classification.evaluate([band, band, segmented, blast], [segmented, band, blast, None])
    assert (result["accuracy"], result["tolerant_accuracy"], result["missed"]) == (1 / 4, 2 / 4, 1)
    rows = result["classes"]
    assert (rows[band]["recall"], rows[band]["tolerant_recall"]) == (1 / 2, 1)  # the other band is tolerated as seg.
    assert (rows[segmented]["precision"], rows[segmented]["tolerant_precision"]) == (0, 1)
    assert (rows[segmented]["tolerant_recall"], rows[blast]["tolerant_recall"]) == (0, 0)  # blast for segmented; missed
    assert rows[blast]["precision"] == 0


def test_matrix_keeps_missed_cells_and_refuses_what_does_not_fit() -> None:
    matrix = agreement.confusion_matrix(["a", "a", "b"], ["a", None, "c"], ["a", "b"])
    assert matrix.tolist() == [[1, 0, 1], [0, 0, 1]]
    assert agreement.cohen_kappa([[0, 0], [0, 0]]) is None
    assert agreement.cohen_kappa([[5, 0], [0, 0]]) is None  # nothing but one class: no chance to disagree
    with pytest.raises(UsageError, match="the truth has z"):
        agreement.confusion_matrix(["z"], ["a"], ["a"])
    with pytest.raises(UsageError, match="square"):
        agreement.cohen_kappa(matrix)


def test_calibration_error_by_hand_and_of_honest_probabilities() -> None:
    # Two bins of ten: 0.95 twice, one right (distance 0.45); 0.55 twice, both right (distance 0.45).
    assert calibration.expected_calibration_error([0.95, 0.95, 0.55, 0.55], [1, 0, 1, 1], bins=10) == pytest.approx(
        0.45
    )
    rng = np.random.default_rng(0)
    honest = rng.random(50_000)
    right = rng.random(50_000) < honest
    assert calibration.expected_calibration_error(honest, right) < 0.02
    assert calibration.expected_calibration_error(honest**0.2, right) > 0.2
    table = calibration.reliability([0.0, 0.1, 1.0], [0, 0, 1], bins=10)
    assert table[[0, 9], 0].tolist() == [2, 1]
    assert calibration.expected_calibration_error([], []) is None
    with pytest.raises(UsageError, match="probabilities"):
        calibration.reliability([1.5], [1])
