"""How fast single cells are named, beside PyTorch in the same run, and whether the faster way names them the same.

    python benchmarks/cell_speed.py --data mll_bone_marrow_cells --model cells-marrow [--cells 600] [--threads 2]

PyTorch runs in float32, channels last, inference mode, at the best of several batch sizes; OpenVINO runs the shipped
graph in float32, in bfloat16, and in int8 (quantised here by NNCF on cells of the same folder, where NNCF is
installed). One pose of each cell. For each faster way: the share of cells with the same label, McNemar's test against
float32, and the blasts whose label changed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from myelos.classification.evaluate import crop_of, scales_of
from myelos.datasets.cell_sets import read_cell_sets
from myelos.datasets.cells import CellRecord
from myelos.metrics.mcnemar import mcnemar
from myelos.models.classify import build_classifier
from myelos.models.files import ModelCard, find, read_card

BATCHES = (1, 8, 16, 32, 64)
CALIBRATION = 256  # cells that int8 is set up with; they are not judged


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    card = replace(read_card(find(arguments.model)), views=1)
    records, _ = read_cell_sets([Path(folder) for folder in arguments.data])
    chosen = np.random.default_rng(0).permutation(len(records))[: arguments.cells + CALIBRATION]
    crops = _crops([records[i] for i in chosen], card)
    calibration, crops = crops[:CALIBRATION], crops[CALIBRATION:]
    truth = [records[i].cell_type for i in chosen[CALIBRATION:]]
    reference = _torch(card, crops)
    print(f"{len(crops)} cells, {card.tile} px, {arguments.threads} threads")
    print(f"PyTorch float32, batch {reference['batch']}: {reference['rate']:.0f} cells/s")
    kinds: dict[str, Any] = {"f32": None, "bf16": None, "int8": _quantised(card, calibration)}
    labels = reference["logits"].argmax(axis=1)
    for name, model in kinds.items():
        if name == "int8" and model is None:
            print("int8: NNCF is not installed")
            continue
        found = _openvino(card, crops, name, model, arguments.threads)
        _report(name, found, labels, reference["rate"], truth, card.types)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cells", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def _crops(records: Sequence[CellRecord], card: ModelCard) -> np.ndarray:
    scales = scales_of(records)
    return np.stack([crop_of(r, mpp=r.mpp or scales[r.source], to_mpp=card.mpp, side=card.tile) for r in records])


def _timed(run: Callable[[], np.ndarray], cells: int) -> tuple[float, np.ndarray]:
    """Cells a second, the better of two runs after one to warm up."""
    answers = run()
    best = min(_seconds(run) for _ in range(2))
    return cells / best, answers


def _seconds(run: Callable[[], np.ndarray]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _torch(card: ModelCard, crops: np.ndarray) -> dict[str, Any]:
    network = build_classifier(card).eval().to(memory_format=torch.channels_last)
    results = []
    for batch in BATCHES:

        def run(batch: int = batch) -> np.ndarray:
            parts = []
            with torch.inference_mode():
                for first in range(0, len(crops), batch):
                    pixels = torch.from_numpy(crops[first : first + batch]).permute(0, 3, 1, 2).float()
                    parts.append(network(pixels.contiguous(memory_format=torch.channels_last)).numpy())
            return np.concatenate(parts)

        rate, logits = _timed(run, len(crops))
        results.append({"batch": batch, "rate": rate, "logits": logits})
    return max(results, key=lambda one: one["rate"])


def _quantised(card: ModelCard, calibration: np.ndarray) -> Any:
    try:
        import nncf
    except ImportError:
        return None
    import openvino as ov

    model = ov.Core().read_model(card.graph)
    return nncf.quantize(model, nncf.Dataset([crop[None] for crop in calibration]), subset_size=len(calibration))


def _openvino(card: ModelCard, crops: np.ndarray, kind: str, model: Any, threads: int) -> tuple[float, np.ndarray]:
    import openvino as ov

    core = ov.Core()
    model = model or core.read_model(card.graph)
    model.reshape([1, card.tile, card.tile, 3])
    hint = "bf16" if kind == "bf16" else "f32"
    options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", options)
    requests = [
        compiled.create_infer_request() for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    ]

    def run() -> np.ndarray:
        rows = []
        for index, crop in enumerate(crops):
            request = requests[index % len(requests)]
            if index >= len(requests):
                request.wait()
                rows.append(request.get_output_tensor(0).data[0].copy())
            request.start_async({0: crop[None]})
        for index in range(max(0, len(crops) - len(requests)), len(crops)):
            requests[index % len(requests)].wait()
            rows.append(requests[index % len(requests)].get_output_tensor(0).data[0].copy())
        return np.stack(rows)

    return _timed(run, len(crops))


def _report(
    name: str,
    found: tuple[float, np.ndarray],
    labels: np.ndarray,
    rate: float,
    truth: Sequence[str],
    types: Sequence[str],
) -> None:
    said = found[1].argmax(axis=1)
    changed = np.flatnonzero(said != labels)
    right = [np.array([types[k] == t for k, t in zip(answers, truth, strict=True)]) for answers in (labels, said)]
    blasts = [
        f"{types[labels[i]]} → {types[said[i]]}" for i in changed if "blast" in (types[labels[i]], types[said[i]])
    ]
    print(
        f"OpenVINO {name}: {found[0]:.0f} cells/s, {found[0] / rate:.1f} × PyTorch; same label "
        f"{100 * (1 - len(changed) / len(said)):.2f} %, McNemar {mcnemar(right[0], right[1])}; blasts changed: {blasts}"
    )


if __name__ == "__main__":
    main()
