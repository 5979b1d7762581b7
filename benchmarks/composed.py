"""Counts of known composition: fields made of real cells that no model has seen, counted, beside the truth.

    python -m benchmarks.composed --cell-images mll_bone_marrow_cells --cell-images pbc_dib_cells -o runs/composed

Cells of the part `test` are cut out and parted in two halves by their hash. Smears of drawn compositions are made of
one half and counted in four ways: by the detector with a second opinion; with the classifier deciding, whose errors
are known from the cells of fields made of the other half; the same, with the errors of the whole way, the detector's
too, from these fields; and with a detector that says of every cell no more than that it is one,
so that the classifier names them all. Prints for each the bias of each type in points of percentage and how many
deciding intervals hold the truth; writes composed.json with every share. Types of which a half has few cells are left
out. With `--own-stain` the cells keep the stain and sharpness of their source, which the classifier was taught;
without, they are brought to one that it was not.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import myelos
from myelos import taxonomy
from myelos.classification.evaluate import figures, predictions, taught
from myelos.datasets.cells import cells_of_fields
from myelos.datasets.layouts import read_fields
from myelos.models import load, load_classifier
from myelos.models.types import Boxes, Detector
from myelos.phantom.cell_images import CellImagesSettings, read_cut_outs
from myelos.phantom.compositions import COMPOSITIONS
from myelos.phantom.cut_outs import CutOuts
from myelos.phantom.dataset import SOFTER, write_fields
from myelos.phantom.fields import FieldSettings
from myelos.phantom.optics import OpticsSettings
from myelos.protocols.found_cells import judge_found
from myelos.tables import RUN_FILE, read_table

MPP, SIZE = 0.25, (640, 480)
FEWEST = 8  # cells of a type that a half needs
FREQUENT = 0.02  # intervals of rarer types are not judged, as in docs/counting.md
CLASSIFIERS = {"marrow": "cells-marrow", "blood": "cells-blood"}
SCENES = {
    "marrow": FieldSettings(
        specimen="marrow", stain="may_gruenwald_giemsa", stain_variation=0.3, cells_per_mm2=1500.0,
        red_cells_per_mm2=3500.0, haze=0.2, debris=0.2, optics=OpticsSettings(blur=SOFTER),
    ),
    "blood": FieldSettings(
        specimen="blood", stain="may_gruenwald_giemsa", stain_variation=0.3, cells_per_mm2=700.0,
        red_cells_per_mm2=8000.0, haze=0.1, debris=0.1, optics=OpticsSettings(blur=SOFTER),
    ),
}  # fmt: skip


# A plain camera, so that nothing but their background changes for cells that keep their source's stain.
PLAIN = OpticsSettings((0.0, 0.05), (0.0, 0.0), 0.0, (0.5, 1.0), (0.0, 0.0), (95, 97))
WAYS = {
    "second opinion": (False, False),
    "classifier decides": (True, False),
    "whole way measured": (True, False),
    "classifier names all": (True, True),
}


@dataclass(frozen=True)
class Finder:
    """A detector that names nothing: every cell is a nucleated cell."""

    inner: Detector

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def types(self) -> tuple[str, ...]:
        return ("nucleated_cell",)

    def __call__(self, tiles: Sequence[Any]) -> list[Boxes]:
        return [Boxes(b.xywh, b.scores, np.ones((len(b), 1), np.float32)) for b in self.inner(tiles)]


@dataclass(frozen=True, slots=True)
class Smears:
    """How many smears are made, of how many fields each; a smear's composition scatters around the usual one."""

    specimen: str = "marrow"
    smears: int = 4
    fields: int = 10
    concentration: float = 25.0
    own_stain: bool = False
    seed: int = 5


def half(cut_outs: CutOuts, number: int) -> CutOuts:
    """The cells whose image has an even or odd hash; all of them real, and of types with cells enough."""
    cells = {
        kind: {
            source: tuple(one for one in own if int(one.cut_from, 16) % 2 == number)
            for source, own in by_source.items()
        }
        for kind, by_source in cut_outs.cells.items()
    }
    filled = {kind: {s: own for s, own in by.items() if own} for kind, by in cells.items()}
    kept = {kind: by for kind, by in filled.items() if sum(map(len, by.values())) >= FEWEST}
    return replace(cut_outs, cells=kept, rendered=0.0)


def composition(types: Sequence[str], smears: Smears, number: int) -> dict[str, float]:
    """Shares of the types, drawn around the usual ones; types that the usual smear lacks take 5 %."""
    usual = COMPOSITIONS[f"{smears.specimen}_normal"]
    total = sum(usual.get(name, 0) for name in types)
    mean = np.array([usual[name] / total if usual.get(name) else 0.05 for name in types])
    mean = np.maximum(mean, 0.03)
    drawn = np.random.default_rng((smears.seed, number)).dirichlet(smears.concentration * mean / mean.sum())
    return dict(zip(types, drawn.tolist(), strict=True))


def made(folder: Path, cells: CutOuts, shares: Mapping[str, float], smears: Smears, fields: int, seed: int) -> Path:
    """Fields of a composition; those that are there already are not made again."""
    if not (folder / RUN_FILE).exists():
        settings = replace(SCENES[smears.specimen], composition=dict(shares))
        if smears.own_stain:
            settings = replace(settings, stain_variation=0.0, haze=0.0, debris=0.0, optics=PLAIN)
        write_fields(
            folder, count=fields, specimen=smears.specimen, size=SIZE, mpp=MPP, seed=seed, settings=settings,
            cut_outs=cells, overwrite=True,
        )  # fmt: skip
    return folder


def held_out(fields: Path, classifier: str, out: Path, threads: int, *, match: bool) -> Path:
    """What `--held-out` takes: the classifier's errors on the cells of fields made of the other half."""
    if not out.exists():
        records = cells_of_fields(read_fields(fields)[0])
        model = load_classifier(classifier, threads=threads)
        answers, kept, _ = predictions(records, model, mpp=MPP, like=taught(model) if match else None)
        result = figures([records[i] for i in kept], answers, model.types, scheme=model.scheme)
        stated = {"model": model.name, "stain_matched": match and bool(taught(model))}
        out.write_text(json.dumps(result | stated), encoding="utf-8")
    return out


def whole_way(fields: Path, classifier: str, specimen: str, out: Path, threads: int, *, match: bool) -> Path:
    """The same fields read as a count reads them: what the detector misses and keeps apart is in the last column."""
    if not out.exists():
        model, detector = load_classifier(classifier, threads=threads), load(specimen, threads=threads)
        matches = match and bool(taught(model))
        result = judge_found([fields], detector, model, mpp=MPP, match_stain=matches, threads=threads)
        out.write_text(json.dumps(result), encoding="utf-8")
    return out


def truth_of(folder: Path, specimen: str) -> Counter[str]:
    """Numbers by type of the cells that belong to the hundred."""
    types = read_table(folder, "cells").column("cell_type").to_pylist()
    return Counter(name for name in types if taxonomy.cell_type(name).counted.get(specimen))


def counted(
    folder: Path,
    out: Path,
    smears: Smears,
    classifier: str,
    way: str,
    matrix: Path,
    threads: int,
    *,
    match: bool = True,
) -> Any:
    decides, alone = WAYS[way]
    detector = load(smears.specimen, threads=threads)
    return myelos.count(
        folder / "images", out, specimen=smears.specimen, mpp=MPP, classifier=classifier,
        model=Finder(detector) if alone else detector, held_out=matrix if decides else None,
        synthetic=True, overwrite=True, threads=threads, match_stain=match,
    ).smears[0].count  # fmt: skip


def compared(count: Any, truth: Mapping[str, int]) -> list[dict[str, Any]]:
    """A row for each type of the truth or the count: true and counted percentage, and the deciding interval.

    Where the count has finer words for a type of the truth and nothing else of that lineage, the lineage is compared.
    """
    total = sum(truth.values())
    found = {share.name: share for share in count.types}
    for name in truth:
        finer = taxonomy.narrower(name) & set(found) - {name}
        lineage = {other for other in found if taxonomy.cell_type(other).lineage == taxonomy.cell_type(name).lineage}
        if finer and lineage == finer | {name} & set(found):
            of_lineage = {share.name: share for share in count.lineages}
            found = {other: share for other, share in found.items() if other not in finer}
            found[name] = of_lineage[taxonomy.cell_type(name).lineage]
    rows = []
    for name in sorted({*truth, *(n for n, share in found.items() if share.number)}):
        share, true = found.get(name), 100 * truth.get(name, 0) / total
        deciding = share.deciding if share else None
        row = {"type": name, "true": true, "counted": share.percent if share else 0.0}
        row |= {"decided": deciding.value if deciding else 0.0, "method": deciding.method if deciding else "none"}
        low, high = (deciding.low, deciding.high) if deciding and deciding.low is not None else (0.0, 0.0)
        row |= {"width": high - low, "covered": low <= true <= high}
        rows.append(row)
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table: type, smears, true, bias of the deciding value in points, and intervals that hold the truth."""
    by_type = defaultdict(list)
    for row in rows:
        by_type[row["type"]].append(row)
    lines = ["| type | true | bias | largest | intervals that hold the truth |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, own in sorted(by_type.items(), key=lambda item: -np.mean([r["true"] for r in item[1]])):
        off = [(r["decided"] or 0.0) - r["true"] for r in own]
        judged = [r for r in own if r["true"] >= 100 * FREQUENT]
        held = f"{sum(r['covered'] for r in judged)} of {len(judged)}" if judged else "–"
        worst = max(off, key=abs)
        lines.append(
            f"| {name} | {np.mean([r['true'] for r in own]):.1f} | {np.mean(off):+.1f} | {worst:+.1f} | {held} |"
        )
    judged = [r for r in rows if r["true"] >= 100 * FREQUENT]
    error = np.mean([abs((r["decided"] or 0.0) - r["true"]) for r in rows])
    width = np.mean([r["width"] for r in judged])
    lines.append(
        f"\n{sum(r['covered'] for r in judged)} of {len(judged)} intervals hold the truth, {width:.1f} points wide; "
        f"mean error {error:.1f}"
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell-images", type=Path, action="append", required=True)
    parser.add_argument("--part", default="test", help="of the sets; all where the folders hold that part alone")
    parser.add_argument("--specimen", default="marrow", choices=sorted(SCENES))
    parser.add_argument("--smears", type=int, default=Smears().smears)
    parser.add_argument("--fields", type=int, default=Smears().fields)
    parser.add_argument("--per-type", type=int, default=0)
    parser.add_argument("--own-stain", action="store_true", help="the sources' own stain and sharpness")
    parser.add_argument("--classifier", help="a file in place of the shipped one")
    parser.add_argument("--no-match-stain", action="store_true", help="cells as they are, as `count --no-match-stain`")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    smears = Smears(given.specimen, given.smears, given.fields, own_stain=given.own_stain)
    part = None if given.part == "all" else given.part
    settings = CellImagesSettings(  # cells that are counted are changed no more than their stain asks
        part=part, per_type=given.per_type, rendered=0.0, alike=not given.own_stain, matched=False, scatter=False
    )
    cut_outs = read_cut_outs(given.cell_images, mpp=MPP, settings=settings)
    halves = half(cut_outs, 0), half(cut_outs, 1)
    classifier, match = given.classifier or CLASSIFIERS[smears.specimen], not given.no_match_stain
    nameable = set(load_classifier(classifier, threads=1).types)
    types = sorted(nameable & set(halves[0].cells) & set(halves[1].cells))
    print({kind: {s: len(own) for s, own in halves[0].cells[kind].items()} for kind in types}, flush=True)
    even = dict.fromkeys(types, 1.0)
    others = made(given.out / "held-out", halves[1], even, smears, 2 * smears.fields, 99)
    name = "held-out-matched.json" if match else "held-out.json"
    matrix = held_out(others, classifier, given.out / name, given.threads, match=match)
    found = given.out / name.replace("held-out", "whole-way")
    found = whole_way(others, classifier, smears.specimen, found, given.threads, match=match)
    rows: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for number in range(smears.smears):
        shares = composition(types, smears, number)
        folder = made(given.out / f"smear{number}", halves[0], shares, smears, smears.fields, number)
        truth = truth_of(folder, smears.specimen)
        for way in WAYS:
            out = given.out / f"count{number}-{way.split()[-1]}"
            known = found if way.startswith("whole") else matrix
            result = counted(folder, out, smears, classifier, way, known, given.threads, match=match)
            rows[way] += [row | {"smear": number} for row in compared(result, truth)]
            print(f"smear {number}, {way}: {sum(truth.values())} cells, counted {result.counted}", flush=True)
            print(f"  {result.decided_by}", flush=True)
        (given.out / "composed.json").write_text(json.dumps(rows, indent=1))
    for way, own in rows.items():
        print(f"\n{way}\n" + "\n".join(summary(own)))


if __name__ == "__main__":
    main()
