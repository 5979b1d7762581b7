"""How surely what is no smear is refused, and how seldom a smear is.

    python -m benchmarks.plausibility [--data DIR]           the table, over all real images (minutes)
    python -m benchmarks.plausibility --real 300             with at most 300 images of each real set
    python -m benchmarks.plausibility --kind scans           one kind of non-smear alone
    python -m benchmarks.plausibility --model blood --model marrow     with both detectors
    python -m benchmarks.plausibility --further              kinds beyond the table
    python -m benchmarks.plausibility --fit                  fit the trees anew, and try them across sources

"judge" is the look at an image before any model; "count" is what `myelos count` does with an image by itself: what
passes, but not surely, has to show a cell that the detector is sure of.

Half of the real images (by SHA-256) take part in the fit, and of the non-smears and the rendered smears those with
other seeds than the quoted ones; of relief maps other landscapes in other colours. Photographs and tissue come from the
same few sources in both; `--fit` therefore also prints what is refused by trees that have not seen the photograph, the
section or the way of drawing concerned.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.further_images import FURTHER
from benchmarks.non_smears import FOR_FIT, HELD_OUT, KINDS, Image, non_smears, read
from benchmarks.smear_images import PATTERNS, is_for_tuning, rendered, smear_files, variants
from myelos.imaging.field_features import measure
from myelos.imaging.plausibility import SETTINGS, judge, smear_score
from myelos.models import load
from myelos.pipeline import read_smear, scaled
from myelos.smears.inputs import SetAside
from myelos.smears.job import Job, silent
from myelos.smears.looking import look
from myelos.smears.rows import Reading, ReadSettings

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "src" / "myelos" / "imaging" / "plausibility.json"
FIT_SEED, QUOTE_SEED = 11, 77
FIT_COUNTS = {
    "photographs": 800,
    "discs": 350,
    "tissue: CMU-1": 450,
    "tissue: trephine": 600,
    "noise": 350,
    "relief maps": 900,
}
FIT_VARIANTS, FIT_RENDERED = 1600, 168  # smears made from smears, and rendered
FIT_MOST = 1800  # of the images of a real set, both halves together
ROUNDS, LEAVES, RATE, SEEDS = 120, 8, 0.1, (0, 1)
Row = tuple[str, str, dict[str, float]]  # kind, group, features


def fit_rows(data: Path) -> tuple[list[Row], list[Row]]:
    """Features of the smears and of the non-smears that take part in the fit."""
    smears: list[Row] = [
        ("variant", name, measure(np.ascontiguousarray(im))) for name, im in variants(data, 5, FIT_VARIANTS)
    ]
    smears += [("rendered", name, measure(image)) for name, image in rendered(5, FIT_RENDERED)]
    rng = np.random.default_rng(0)
    for name in PATTERNS:
        paths = smear_files(data, name)
        some = [paths[i] for i in rng.permutation(len(paths))[:FIT_MOST]] if len(paths) > FIT_MOST else paths
        smears += [(name, name, measure(read(path))) for path in some if is_for_tuning(path)]
    others: list[Row] = []
    for kind in KINDS:
        if kind not in HELD_OUT:
            images = non_smears(data, kind, FIT_SEED, FIT_COUNTS.get(kind, 220), fit=True)
            others += [(kind, group, measure(np.ascontiguousarray(image))) for group, image in images]
    return smears, others


def train(smears: list[Row], others: list[Row], seeds: tuple[int, ...] = SEEDS) -> tuple[list[str], list[Any]]:
    """Boosted trees, one set per seed; smears and others weigh the same in all, kinds by the root of their number."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    names = sorted(smears[0][2])
    target = np.r_[np.ones(len(smears)), np.zeros(len(others))]
    weights = _weights([f"{row[0]} {row[1]}" if row[0] == "variant" else row[0] for row in smears + others], target)
    settings = {"max_iter": ROUNDS, "learning_rate": RATE, "max_leaf_nodes": LEAVES, "min_samples_leaf": 20}
    models = [
        HistGradientBoostingClassifier(
            **settings, l2_regularization=1.0, max_features=0.3, early_stopping=False, random_state=seed
        ).fit(_table(names, smears + others), target, sample_weight=weights)
        for seed in seeds
    ]
    return names, models


def _table(names: list[str], rows: list[Row]) -> NDArray[np.float64]:
    return np.array([[row[2][name] for name in names] for row in rows])


def _scores(names: list[str], models: list[Any], rows: list[Row]) -> NDArray[np.float64]:
    """Mean of the models before the logistic function."""
    return 1 / (1 + np.exp(-np.mean([model.decision_function(_table(names, rows)) for model in models], axis=0)))


def _weights(kinds: list[str], target: NDArray[np.float64]) -> NDArray[np.float64]:
    number = {kind: kinds.count(kind) for kind in set(kinds)}
    weights = np.array([number[kind] ** -0.5 for kind in kinds])
    for side in (0, 1):
        weights[target == side] /= weights[target == side].sum()
    return weights * len(kinds) / 2


def export(names: list[str], models: list[Any]) -> dict[str, object]:
    """The trees as lists of numbers, without the features that no tree asks for."""
    share = 1 / len(models)  # scikit-learn keeps its trees in these private places only
    trees = [_tree(stage[0].nodes, share) for model in models for stage in model._predictors]
    asked = [(tree, place) for tree in trees for place, left in enumerate(tree["left"]) if left >= 0]
    used = sorted({int(tree["feature"][place]) for tree, place in asked})
    for tree in trees:
        inner = zip(tree["feature"], tree["left"], strict=True)
        tree["feature"] = [used.index(int(index)) if left >= 0 else 0 for index, left in inner]
    return {
        "fitted_by": "python -m benchmarks.plausibility --fit",
        "features": [names[index] for index in used],
        "base": share * sum(float(np.ravel(model._baseline_prediction)[0]) for model in models),
        "trees": trees,
    }


def _tree(nodes: NDArray[np.void], share: float) -> dict[str, list[float]]:
    leaf = nodes["is_leaf"].astype(bool)
    bounds, values = zip(leaf, nodes["num_threshold"], strict=True), zip(leaf, nodes["value"] * share, strict=True)
    return {
        "feature": [int(index) for index in nodes["feature_idx"]],
        "threshold": [0.0 if end else float(f"{bound:.9g}") for end, bound in bounds],
        "left": [-1 if end else int(child) for end, child in zip(leaf, nodes["left"], strict=True)],
        "right": [-1 if end else int(child) for end, child in zip(leaf, nodes["right"], strict=True)],
        "value": [float(f"{value:.5g}") if end else 0.0 for end, value in values],
    }


def fit(data: Path) -> None:
    """Fit, store, and check that the stored trees answer as the fitted ones do."""
    smears, others = fit_rows(data)
    names, models = train(smears, others)
    STORED.write_text(json.dumps(export(names, models), separators=(",", ":")) + "\n", encoding="utf-8")
    some = (smears + others)[::97]
    theirs = _scores(names, models, some)
    furthest = max(abs(smear_score(row[2]) - score) for row, score in zip(some, theirs, strict=True))
    print(f"{len(smears)} smears, {len(others)} others; stored in {STORED.name}, differing by at most {furthest:.4f}")
    across(smears, others)


def across(smears: list[Row], others: list[Row], folds: int = 10) -> None:
    """Print what is refused of each kind by trees that were fitted without its group."""
    groups = sorted({row[:2] for row in others})
    fold = {group: index % folds for index, group in enumerate(groups)}
    answers: dict[str, list[bool]] = {}
    for left_out in range(folds):
        names, models = train(smears, [row for row in others if fold[row[:2]] != left_out], SEEDS[:1])
        apart = [row for row in others if fold[row[:2]] == left_out]
        scores = _scores(names, models, apart)
        for row, score in zip(apart, scores, strict=True):
            answers.setdefault(row[0], []).append(score < SETTINGS.threshold)
    for kind, refusals in answers.items():
        print(f"{kind:26}{len(refusals):6}{100 * np.mean(refusals):11.1f}  by trees that have not seen its source")


@dataclass(frozen=True)
class Refused:
    """Of each image, whether the first look refused it, and whether a count by itself would, with each detector."""

    answers: list[tuple[bool, ...]]

    def of(self, chosen: list[bool] | None = None) -> str:
        """Columns: images, refused by the first look, refused in all with each detector, in per cent."""
        kept = chosen or [True] * len(self.answers)
        rows = [answer for answer, keep in zip(self.answers, kept, strict=True) if keep]
        return f"{len(rows):6}" + "".join(f"{100 * np.mean(column):10.2f}" for column in zip(*rows, strict=True))


def refused(images: Iterable[Image], jobs: Sequence[Job]) -> Refused:
    """Which of the images are refused."""
    answers = []
    for image in images:
        image = np.ascontiguousarray(image)
        verdict = judge(image)
        asked = verdict.is_smear and verdict.score < ReadSettings().second_look.sure
        counted = [not verdict.is_smear or (asked and not alone(image, job)[0]) for job in jobs]
        answers.append((not verdict.is_smear, *counted))
    return Refused(answers)


def alone(image: Image, job: Job) -> tuple[list[Reading], list[SetAside]]:
    """What is read, and what is set aside, where an image is the only one of a call."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.png"
        cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)
        return read_smear(scaled([look(path)], job), job, "reading")


def quote_non_smears(data: Path, kinds: Iterable[str], jobs: Sequence[Job]) -> None:
    """Print the first table of the module's docstring."""
    for kind in kinds:
        answers = refused((image for _, image in non_smears(data, kind, QUOTE_SEED, 120)), jobs)
        fitted = "no" if kind in HELD_OUT else "others of another make" if kind in FOR_FIT else "other images"
        print(f"{kind:26}{answers.of()}  {fitted}", flush=True)


def quote_further(jobs: Sequence[Job]) -> None:
    """Print kinds beyond the table, on which nothing was chosen."""
    for kind, make in FURTHER.items():
        answers = refused((image for _, image in make(np.random.default_rng(QUOTE_SEED), 60)), jobs)
        print(f"{kind:26}{answers.of()}", flush=True)


def quote_smears(data: Path, most: int, jobs: Sequence[Job]) -> None:
    """Print the second table: all images of the real sets, and those that took no part in the fit."""
    print(f"\n{'real set, then those not in the fit'}")
    made = refused((image for _, image in rendered(QUOTE_SEED, min(most, 112))), jobs)
    print(f"{'rendered smears':26}{made.of()}", flush=True)
    everything = Refused([])
    for name in PATTERNS:
        paths = smear_files(data, name)
        paths = [paths[i] for i in np.random.default_rng(1).permutation(len(paths))[:most]]
        found = refused((read(path) for path in paths), jobs)
        print(f"{name:26}{found.of()}  {found.of([not is_for_tuning(path) for path in paths])}", flush=True)
        everything = Refused(everything.answers + found.answers)
    print(f"{'all':26}{everything.of()}")


def speed(data: Path) -> None:
    """Milliseconds of one core for a field of 1440 × 900."""
    image = read(smear_files(data, "chula_wbc_fields")[0])
    start = time.process_time()
    for _ in range(20):
        judge(image)
    spent = 1000 * (time.process_time() - start) / 20
    print(f"\n{spent:.0f} ms of processor time for a field of {image.shape[1]} × {image.shape[0]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("MYELOS_TEST_DATA", ROOT.parent / "shared" / "data"))
    )
    parser.add_argument("--real", type=int, default=10**9, help="most images of each real set")
    parser.add_argument("--fit", action="store_true", help="fit the trees and store them")
    parser.add_argument("--kind", action="append", choices=KINDS, help="this kind of non-smear and nothing else")
    parser.add_argument("--further", action="store_true", help="kinds beyond the table and nothing else")
    parser.add_argument("--model", action="append", help="a detector that takes the second look (blood)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.fit:
        fit(options.data)
        return
    models = options.model or ["blood"]
    jobs = [Job(None, load(model, threads=1), ReadSettings(), 1, silent) for model in models]
    print(f"{'refused, per cent':26}{'n':>6}{'judge':>10}" + "".join(f"{model:>10}" for model in models))
    if options.further:
        quote_further(jobs)
    else:
        quote_non_smears(options.data, options.kind or KINDS, jobs)
    if not options.kind and not options.further:
        quote_smears(options.data, options.real, jobs)
        speed(options.data)
    sure = ReadSettings().second_look
    print(f"\nthreshold {SETTINGS.threshold}, sure from {sure.sure}, of a cell from {sure.sure_cell}")


if __name__ == "__main__":
    main()
