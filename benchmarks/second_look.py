"""What the second look at half-believed images is worth for a kind of non-smear that nobody thought of.

    python -m benchmarks.second_look [--data DIR] [--each 24]

Each kind of non-smear that the trees are fitted on is left out in turn: trees fitted without it judge it, and of its
images that pass, the detector reads some, each by itself. Printed are the shares refused by the trees alone, and with
the second look at several levels of a sure cell. Below them, of real smears of the tuning half: how many are asked at
all; what trees refuse that have not seen their source; how cut-outs without a white cell are judged.
`SecondLookSettings` was chosen on such a table. No kind of `HELD_OUT` is looked at.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import cv2
import numpy as np

from benchmarks.non_smears import HELD_OUT, KINDS, Image, non_smears, read
from benchmarks.plausibility import FIT_SEED, ROOT, SEEDS, Row, _scores, alone, train
from benchmarks.smear_images import PATTERNS, is_for_tuning, rendered, smear_files, variants
from myelos.datasets.layouts import read_sets
from myelos.datasets.records import FieldRecord
from myelos.imaging.field_features import measure
from myelos.imaging.plausibility import SETTINGS, judge, smear_score
from myelos.models import load
from myelos.smears.job import Job, silent
from myelos.smears.rows import ReadSettings
from myelos.smears.second_look import SecondLookSettings

COUNTS = {"tissue: CMU-1": 150, "tissue: trephine": 200, "photographs": 300, "discs": 200}
USUAL_COUNT, VARIANTS, RENDERED, REAL = 120, 800, 56, 500
SURE_CELLS = (0.6, 0.8, 0.9, 0.95)
SURE = (0.9, 0.95)
SOURCES = (  # sets that share images leave together
    ("bccd_fields", "txl_pbc_fields"), ("pbc_dib_cells", "txl_pbc_fields"), ("chula_wbc_fields",), ("pig_wbc_fields",),
    ("mll_bone_marrow_cells",), ("lmu_aml_cells",), ("wbc_masks_tecom",),
)  # fmt: skip


def smears(data: Path) -> tuple[list[Row], dict[Path, Row]]:
    """Features of smears for the fit: of made ones, and of the files of the real ones."""
    rows: list[Row] = [("variant", name, measure(np.ascontiguousarray(im))) for name, im in variants(data, 5, VARIANTS)]
    rows += [("rendered", name, measure(image)) for name, image in rendered(5, RENDERED)]
    rng, real = np.random.default_rng(0), dict[Path, Row]()
    for name in PATTERNS:
        paths = smear_files(data, name)
        chosen = [paths[i] for i in rng.permutation(len(paths))[:REAL]]
        real |= {path: (name, name, measure(read(path))) for path in chosen if is_for_tuning(path)}
    return rows, real


def images_of(data: Path, kind: str) -> list[tuple[str, Image]]:
    """The images of the fit of one kind with their groups."""
    made = non_smears(data, kind, FIT_SEED, COUNTS.get(kind, USUAL_COUNT), fit=True)
    return [(group, np.ascontiguousarray(image)) for group, image in made]


def surest(image: Image, job: Job) -> float:
    """Score of the surest cell found in an image that is read by itself; 0 where there is none."""
    return max((cell["score"] for reading in alone(image, job)[0] for cell in reading.cells), default=0.0)


def left_out(
    kind: str, others: dict[str, list[Row]], positive: list[Row], images: list[Image], each: int, job: Job
) -> str:
    """The line of a kind: refused by trees that have not seen it, and with the second look."""
    rest = [row for name, rows in others.items() if name != kind for row in rows]
    names, models = train(positive, rest, SEEDS[:1])
    scores = _scores(names, models, others[kind])
    passed = np.random.default_rng(0).permutation(np.flatnonzero(scores >= SETTINGS.threshold))[:each]
    found = np.array([surest(images[index], job) for index in passed])
    first = float((scores < SETTINGS.threshold).mean())
    line = f"{kind:20}{len(scores):6}{100 * first:8.1f}{len(passed):7}"
    for sure in SURE:
        for level in SURE_CELLS:
            caught = float(((scores[passed] < sure) & (found < level)).mean()) if len(passed) else 0.0
            line += f"{100 * (first + (1 - first) * caught):7.1f}"
    return line


def print_kinds(data: Path, positive: list[Row], each: int, job: Job) -> None:
    kinds = [kind for kind in KINDS if kind not in HELD_OUT]
    others = {k: [(k, group, measure(image)) for group, image in images_of(data, k)] for k in kinds}
    print(f"{'':41}sure from {SURE[0]}, a cell from{'':9}sure from {SURE[1]}")
    print(f"{'kind left out':20}{'n':>6}{'trees %':>8}{'asked':>7}" + "".join(f"{level:7}" for level in 2 * SURE_CELLS))
    for kind in kinds:
        images = [image for _, image in images_of(data, kind)]
        print(left_out(kind, others, positive, images, each, job), flush=True)
    print(f"\n{'source left out':26}{'of its set':24}{'n':>6}{'refused %':>11}")
    every = [row for rows in others.values() for row in rows]
    for sources in SOURCES:
        names, models = train([row for row in positive if row[1] not in sources], every, SEEDS[:1])
        for source in sources:
            own = [row for row in positive if row[0] == source]
            refused = 100 * np.mean(_scores(names, models, own) < SETTINGS.threshold)
            print(f"{sources[0]:26}{source:24}{len(own):6}{refused:11.1f}", flush=True)


def print_asked(real: dict[Path, Row], job: Job) -> None:
    print(f"\n{'tuning half':26}{'n':>6}{'below':>8}{SURE[0]:6}{SURE[1]:7}   surest cell of those")
    for name in PATTERNS:
        scores = {path: smear_score(row[2]) for path, row in real.items() if row[0] == name}
        cells = [surest(read(path), job) for path, score in scores.items() if score < SURE[-1]]
        shares = "".join(f"{100 * np.mean([score < sure for score in scores.values()]):7.2f}" for sure in SURE)
        print(f"{name:26}{len(scores):6}{'%':>7}{shares}   {' '.join(f'{cell:.2f}' for cell in cells)}", flush=True)


def print_without_cells(data: Path) -> None:
    print(f"\n{'cut-outs without a cell':26}{'n':>6}{'refused %':>11}{'below ' + str(SURE[0]) + ' %':>13}")
    rng = np.random.default_rng(0)
    for name in ("bccd_fields", "chula_wbc_fields", "pig_wbc_fields"):
        records = [record for record in read_sets([data / name])[0] if is_for_tuning(record.path)][:40]
        parts = [part for record in records if (part := _without_cells(record, rng)) is not None]
        scores = np.array([judge(part).score for part in parts])
        refused, half = 100 * np.mean(scores < SETTINGS.threshold), 100 * np.mean(scores < SURE[0])
        print(f"{name:26}{len(parts):6}{refused:11.1f}{half:13.1f}", flush=True)


def _without_cells(record: FieldRecord, rng: np.random.Generator) -> Image | None:
    """A part of 45 to 80 % of the sides that touches no box of a white cell; None where 60 tries find none."""
    white = [index for index, kind in enumerate(record.types) if kind not in ("erythrocyte", "platelet")]
    x, y, w, h = record.boxes[white].reshape(-1, 4).T
    for _ in range(60):
        share = rng.uniform(0.45, 0.8)
        high, wide = int(record.height * share), int(record.width * share)
        top, left = int(rng.integers(0, record.height - high + 1)), int(rng.integers(0, record.width - wide + 1))
        if not ((x < left + wide) & (x + w > left) & (y < top + high) & (y + h > top)).any():
            return np.ascontiguousarray(read(record.path)[top : top + high, left : left + wide])
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Path(os.environ.get("MYELOS_TEST_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=usual)
    parser.add_argument("--each", type=int, default=24, help="images of a kind that the detector reads")
    parser.add_argument("--model", default="blood", help="the detector that takes the second look")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    # Forced and never satisfied: every image is read, whatever it looks like.
    settings = ReadSettings(second_look=SecondLookSettings(sure=0.0), force=True)
    job = Job(None, load(options.model, threads=1), settings, 1, silent)
    made, real = smears(options.data)
    positive = [*made, *real.values()]
    print_kinds(options.data, positive, options.each, job)
    print_asked(real, job)
    print_without_cells(options.data)


if __name__ == "__main__":
    main()
