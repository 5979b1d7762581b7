"""How fast single cells are named, beside PyTorch in the same run, and whether the faster way names them the same.

    python benchmarks/cell_speed.py --data mll_bone_marrow_cells --model cells-marrow [--cells 600] [--threads 2]
        [--poses 8] [--part test]

PyTorch runs in float32, channels last, inference mode, at the best of several batch sizes; OpenVINO runs the shipped
graph in float32, in bfloat16, and in int8 (quantised here by NNCF on other cells of the same folders, where NNCF is
installed). Labels are those of the mean over the poses, each timed as one crop. For each faster way: the share of
cells with the same label, McNemar's test against float32, and the blasts whose label changed. Beside crops a second
stands the processor time of one crop over all threads, which other work on the machine disturbs less.

Ways of int8: as NNCF does it with 256 cells; with 500 and its slower correction of biases; the first convolution and
the last layer in float besides; and with accuracy control, which takes layers back to float until 99.5 % of 300 further
cells have the label that they had.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from myelos.classification.evaluate import crop_of, scales_of
from myelos.classification.judging import part_of
from myelos.datasets.cell_sets import read_cell_sets
from myelos.datasets.cells import CellRecord
from myelos.imaging.crops import views
from myelos.metrics.mcnemar import mcnemar
from myelos.metrics.selective import softmax
from myelos.models.classify import build_classifier
from myelos.models.files import ModelCard, find, read_card

BATCHES = (1, 8, 16, 32, 64)
CALIBRATION, VALIDATION = 500, 300  # cells that int8 is set up with; they are not judged
EQUAL = 0.995  # of labels
TIMED = 256  # crops of a run that is timed


@dataclass(frozen=True, slots=True)
class Timed:
    """rate: crops a second; cost: processor seconds of a crop; logits: (crops, T)."""

    rate: float
    cost: float
    logits: np.ndarray
    batch: int = 1


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    card = read_card(find(arguments.model))
    records = part_of(read_cell_sets([Path(folder) for folder in arguments.data])[0], arguments.part)
    aside = CALIBRATION + VALIDATION
    chosen = np.random.default_rng(0).permutation(len(records))[: arguments.cells + aside]
    crops = _crops([records[i] for i in chosen], card)
    setup, crops = crops[:aside], crops[aside:]
    truth = [records[i].cell_type for i in chosen[aside:]]
    posed = np.concatenate([views(crop, arguments.poses) for crop in crops])
    reference = _torch(card, posed)
    print(f"{len(crops)} cells in {arguments.poses} poses, {card.tile} px, {arguments.threads} threads")
    print(f"PyTorch float32, batch {reference.batch}: {reference.rate:.0f} crops/s, {1e3 * reference.cost:.2f} ms")
    for name, model in _ways(card, setup, arguments.ways):
        hint = "bf16" if name.startswith("bf16") else "f32"
        found = _openvino(card, posed, hint, model, arguments.threads)
        _report(name, found, reference, truth, card, arguments.poses)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cells", type=int, default=600)
    parser.add_argument("--poses", type=int, default=1)
    parser.add_argument("--part", help="only cells that the recipes' split puts there: test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", default="f32,bf16,int8,int8-more,int8-ends,int8-controlled")
    return parser.parse_args()


def _crops(records: Sequence[CellRecord], card: ModelCard) -> np.ndarray:
    scales = scales_of(records)
    return np.stack([crop_of(r, mpp=r.mpp or scales[r.source], to_mpp=card.mpp, side=card.tile) for r in records])


def _timed(run: Callable[[np.ndarray], np.ndarray], crops: np.ndarray, batch: int = 1) -> Timed:
    """The best of three runs over some crops, after one over all of them."""
    answers = run(crops)
    some = crops[:TIMED]
    runs = [_seconds(run, some) for _ in range(3)]
    rate, cost = len(some) / min(wall for wall, _ in runs), min(cpu for _, cpu in runs) / len(some)
    return Timed(rate, cost, answers, batch)


def _seconds(run: Callable[[np.ndarray], np.ndarray], crops: np.ndarray) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run(crops)
    return time.perf_counter() - wall, time.process_time() - cpu


def _torch(card: ModelCard, crops: np.ndarray) -> Timed:
    """All crops at the batch size that is the fastest on some of them."""
    network = build_classifier(card).eval().to(memory_format=torch.channels_last)

    def run(own: np.ndarray, batch: int) -> np.ndarray:
        parts = []
        with torch.inference_mode():
            for first in range(0, len(own), batch):
                pixels = torch.from_numpy(own[first : first + batch]).permute(0, 3, 1, 2).float()
                parts.append(network(pixels.contiguous(memory_format=torch.channels_last)).numpy())
        return np.concatenate(parts)

    run(crops[:64], 64)
    best = min(BATCHES, key=lambda batch: _seconds(partial(run, batch=batch), crops[:TIMED])[1])
    return _timed(partial(run, batch=best), crops, best)


def _ways(card: ModelCard, setup: np.ndarray, names: str) -> Iterator[tuple[str, Any]]:
    """The graph in the ways asked for, one after the other."""
    import openvino as ov

    for name in names.split(","):
        if not name.startswith("int8"):
            yield name, ov.Core().read_model(card.graph)
            continue
        try:
            import nncf
        except ImportError:
            print(f"{name}: NNCF is not installed")
            continue
        nncf.set_log_level(logging.ERROR)
        yield name, _quantised(name, ov.Core().read_model(card.graph), setup)


def _quantised(name: str, model: Any, setup: np.ndarray) -> Any:
    import nncf

    number = 256 if name == "int8" else CALIBRATION
    data, options = nncf.Dataset([crop[None] for crop in setup[:number]]), {"subset_size": number}
    if name == "int8":
        return nncf.quantize(model, data, **options)
    if name == "int8-more":
        return nncf.quantize(model, data, fast_bias_correction=False, **options)
    if name == "int8-ends":
        first = next(op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution")
        scope = nncf.IgnoredScope(names=[first.get_friendly_name()], types=["MatMul"])
        return nncf.quantize(model, data, ignored_scope=scope, **options)
    if name != "int8-controlled":
        raise SystemExit(f"there is no way {name}")
    held = [crop[None] for crop in setup[CALIBRATION:]]
    labels = _labels(model, held)
    return nncf.quantize_with_accuracy_control(
        model,
        data,
        nncf.Dataset(held),
        validation_fn=lambda compiled, items: _agreement(compiled, items, labels),
        max_drop=1 - EQUAL,
        **options,
    )


def _labels(model: Any, crops: Sequence[np.ndarray]) -> np.ndarray:
    import openvino as ov

    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array([int(compiled(crop)[0].argmax()) for crop in crops])


def _agreement(compiled: Any, items: Iterable[np.ndarray], labels: np.ndarray) -> tuple[float, list[float]]:
    said = np.array([int(compiled(crop)[0].argmax()) for crop in items])
    equal = (said == labels[: len(said)]).astype(float)
    return float(equal.mean()), equal.tolist()


def _openvino(card: ModelCard, crops: np.ndarray, hint: str, model: Any, threads: int) -> Timed:
    import openvino as ov

    model.reshape([1, card.tile, card.tile, 3])
    options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    compiled = ov.Core().compile_model(model, "CPU", options)
    requests = [
        compiled.create_infer_request() for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    ]

    def collected(index: int) -> np.ndarray:
        request = requests[index % len(requests)]
        request.wait()
        return request.get_output_tensor(0).data[0].copy()

    def run(own: np.ndarray) -> np.ndarray:
        rows = []
        for index, crop in enumerate(own):
            if index >= len(requests):
                rows.append(collected(index - len(requests)))
            requests[index % len(requests)].start_async({0: crop[None]})
        rows += [collected(index) for index in range(max(0, len(own) - len(requests)), len(own))]
        return np.stack(rows)

    return _timed(run, crops)


def _said(logits: np.ndarray, card: ModelCard, poses: int) -> np.ndarray:
    """(cells,) labels of the mean over the poses."""
    return softmax(logits.reshape(-1, poses, logits.shape[1]), card.temperature).mean(axis=1).argmax(axis=1)


def _report(name: str, found: Timed, reference: Timed, truth: Sequence[str], card: ModelCard, poses: int) -> None:
    types, labels, said = card.types, _said(reference.logits, card, poses), _said(found.logits, card, poses)
    changed = np.flatnonzero(said != labels)
    right = [np.array([types[k] == t for k, t in zip(answers, truth, strict=True)]) for answers in (labels, said)]
    blasts = [
        f"{types[labels[i]]} → {types[said[i]]}" for i in changed if "blast" in (types[labels[i]], types[said[i]])
    ]
    print(
        f"OpenVINO {name}: {found.rate:.0f} crops/s, {found.rate / reference.rate:.1f} × PyTorch; "
        f"{1e3 * found.cost:.2f} ms, {reference.cost / found.cost:.1f} ×; same label "
        f"{100 * (1 - len(changed) / len(said)):.2f} % ({len(changed)} changed), {mcnemar(right[0], right[1])}; "
        f"blasts changed: {blasts}",
        flush=True,
    )


if __name__ == "__main__":
    main()
