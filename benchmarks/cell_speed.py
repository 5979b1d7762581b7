"""How fast single cells are named, beside PyTorch in the same run, and whether int8 names them the same.

    python -m benchmarks.cell_speed --data mll_bone_marrow_cells --data pbc_dib_cells [--data lmu_aml_cells]
        [--model cells-marrow] [--mpp lmu_aml_cells=0.0786] [--threads 2] [--cells 500]

For each model (both shipped ones where none is given), as it answers, with its own number of poses:

- speed on some cells: PyTorch in float32, channels last, inference mode, at the best of several batch sizes, against
  the shipped graph in float32 and `NAME.int8.onnx`, in turns; beside cells a second the processor time of one cell,
  which other work on the machine disturbs less; and whether PyTorch gives the labels of the float32 graph;
- labels of all cells (--cells: of so many) in float32 and in int8: the share that is the same, by source and in all,
  McNemar's test, the blasts whose label changed, and the largest difference of a probability.

Most of these cells were trained on, so that the figures compare two forms of a model and say nothing of its accuracy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from myelos.classification.evaluate import crop_of, scales_of
from myelos.datasets.cell_sets import read_cell_sets
from myelos.datasets.cells import CellRecord
from myelos.detection.prepare import spread
from myelos.imaging.crops import Image, views
from myelos.metrics.mcnemar import mcnemar
from myelos.models import available
from myelos.models.classify import GraphClassifier, ModuleClassifier
from myelos.models.files import ModelCard, find, read_card

BATCHES = (1, 8, 16, 32, 64)
TIMED, ROUNDS = 48, 3  # cells of a run that is timed; runs, of which the best counts
TOGETHER = 64
EQUAL, FASTER = 0.995, 3.0  # what int8 has to reach

Named = Callable[[Sequence[Image]], NDArray[np.float32]]


@dataclass(slots=True)
class Timed:
    """The best of several runs: seconds of a cell by the clock, and of a processor."""

    wall: float = float("inf")
    cpu: float = float("inf")

    def take(self, named: Named, crops: Sequence[Image]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        named(crops)
        self.wall = min(self.wall, (time.perf_counter() - wall) / len(crops))
        self.cpu = min(self.cpu, (time.process_time() - cpu) / len(crops))


@dataclass(slots=True)
class Answers:
    """Of all cells: source, true type, and (T,) probabilities in float32 and in int8."""

    sources: list[str] = field(default_factory=list)
    truth: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    precise: list[NDArray[np.float32]] = field(default_factory=list)
    quick: list[NDArray[np.float32]] = field(default_factory=list)


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    records, _ = read_cell_sets([Path(folder) for folder in given.data])
    records = spread(records, given.cells or len(records))
    stated = {name: float(mpp) for name, _, mpp in (entry.partition("=") for entry in given.mpp)}
    unstated = [record for record in records if record.source not in stated]
    scales = stated | scales_of(unstated)
    for name in given.model or [card.name for card in available() if card.kind == "classifier"]:
        card = read_card(find(name))
        print(f"\n{card.name}: {card.views} poses of {card.tile} px, {given.threads} threads")
        cut = partial(_crop, card=card, scales=scales)
        speed = _speed(card, [cut(record) for record in spread(records, TIMED)], given.threads)
        if speed and not given.speed_only:
            share = _labels(card, _answers(card, records, cut, given.threads))
            good = share >= EQUAL and speed >= FASTER
            print(f"Both bars ({FASTER:g} ×, {100 * EQUAL:g} %): {'reached' if good else 'MISSED'}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--model", action="append")
    parser.add_argument("--mpp", action="append", default=[], metavar="SOURCE=MPP")
    parser.add_argument("--cells", type=int, help="for labels; all without it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--speed-only", action="store_true")
    return parser.parse_args()


def _crop(record: CellRecord, *, card: ModelCard, scales: dict[str, float]) -> Image:
    return crop_of(record, mpp=record.mpp or scales[record.source], to_mpp=card.mpp, side=card.tile)


def _torch(card: ModelCard) -> Callable[[Sequence[Image], int], NDArray[np.float32]]:
    """(crops, batch) → (N, T) probabilities."""
    module = ModuleClassifier(card)
    network = module.network.to(memory_format=torch.channels_last)

    def run(crops: Sequence[Image], batch: int) -> NDArray[np.float32]:
        posed, logits = np.concatenate([views(crop, card.views) for crop in crops]), []
        with torch.inference_mode():
            for first in range(0, len(posed), batch):
                pixels = torch.from_numpy(posed[first : first + batch]).permute(0, 3, 1, 2).float()
                logits.append(network(pixels.contiguous(memory_format=torch.channels_last)).numpy())
        rows = np.concatenate(logits).reshape(len(crops), card.views, -1)
        return np.stack([module.probabilities(row) for row in rows])

    return run


def _speed(card: ModelCard, crops: Sequence[Image], threads: int) -> float:
    """Prints the table; returns how many times as fast as PyTorch int8 is, by processor time; 0 where there is none."""
    run = _torch(card)
    few = crops[:8]
    costs = {}
    for batch in BATCHES:
        run(few, batch)
        tried = Timed()
        tried.take(partial(run, batch=batch), few)
        costs[batch] = tried.cpu
    best = min(costs, key=costs.__getitem__)
    ways: dict[str, Named] = {f"PyTorch float32, batch {best}": partial(run, batch=best)}
    ways["OpenVINO float32"] = GraphClassifier(card, threads=threads, precise=True)
    if card.runs_in == "int8":
        ways["OpenVINO int8"] = GraphClassifier(card, threads=threads)
    answers = {name: named(crops) for name, named in ways.items()}
    found = {name: Timed() for name in ways}
    for _ in range(ROUNDS):
        for name, named in ways.items():
            found[name].take(named, crops)
    first, *_ = found.values()
    for name, one in found.items():
        print(
            f"{name}: {1 / one.wall:.1f} cells/s ({first.wall / one.wall:.2f} × PyTorch), "
            f"{1e3 * one.cpu:.1f} ms of a processor ({first.cpu / one.cpu:.2f} ×)"
        )
    torch_said, graph_said, *_ = (shares.argmax(axis=1) for shares in answers.values())
    same = int((torch_said == graph_said).sum())
    print(f"PyTorch and the float32 graph give {same} of {len(crops)} cells the same label", flush=True)
    if "OpenVINO int8" not in found:
        print("no int8 graph that runs by default: myelos train int8 makes it", flush=True)
        return 0.0
    return first.cpu / found["OpenVINO int8"].cpu


def _answers(
    card: ModelCard, records: Sequence[CellRecord], cut: Callable[[CellRecord], Image], threads: int
) -> Answers:
    precise, quick = (GraphClassifier(card, threads=threads, precise=way) for way in (True, False))
    answers = Answers()
    for first in range(0, len(records), TOGETHER):
        some = records[first : first + TOGETHER]
        crops = [cut(record) for record in some]
        answers.precise += list(precise(crops))
        answers.quick += list(quick(crops))
        answers.sources += [record.source for record in some]
        answers.truth += [record.cell_type for record in some]
        answers.names += [record.path.name for record in some]
    return answers


def _labels(card: ModelCard, answers: Answers) -> float:
    """Prints the comparison; returns the share of the same labels."""
    precise, quick = np.stack(answers.precise), np.stack(answers.quick)
    types, sources = np.array(card.types), np.array(answers.sources)
    before, after, truth = types[precise.argmax(axis=1)], types[quick.argmax(axis=1)], np.array(answers.truth)
    same = before == after
    for source in dict.fromkeys(answers.sources):
        own = sources == source
        print(f"{source}: {100 * same[own].mean():.2f} % of {own.sum()} cells have the same label")
    sure = [shares.max(axis=1) >= card.threshold for shares in (precise, quick)]
    difference = np.abs(precise - quick)
    print(
        f"all: {100 * same.mean():.2f} % of {len(same)} ({(~same).sum()} changed); below the threshold in one form "
        f"only: {(sure[0] != sure[1]).sum()}; largest difference of a probability {difference.max():.3f}, in the mean "
        f"of cells {difference.max(axis=1).mean():.4f}"
    )
    print(f"right in float32 against right in int8: {mcnemar(before == truth, after == truth)}")
    for index in np.flatnonzero(~same & ((before == "blast") | (after == "blast"))):
        shares = f"{precise[index].max():.2f} → {quick[index].max():.2f}"
        place = f"{sources[index]}/{answers.names[index]}, labelled {truth[index]}"
        print(f"  changed blast: {before[index]} → {after[index]} ({shares}), {place}")
    return float(same.mean())


if __name__ == "__main__":
    main()
