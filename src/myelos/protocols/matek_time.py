"""How long a cross-validation after Matek 2021 will take on this machine: its parts timed on a few cells beforehand."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from myelos.classification.feature_classifier import FeatureSettings, fit
from myelos.classification.handcrafted import feature_names, features
from myelos.protocols.matek import HANDCRAFTED, Preset, Progress, Round, Study, answers_file
from myelos.protocols.matek_features import BLOCK, THREADS, feature_window
from myelos.protocols.matek_models import crops_of, labelled, outputs_of, training
from myelos.training.cell_loop import predict_crops, train_network
from myelos.training.crops import plain

STEPS, WARM = 8, 3  # steps of a training that are timed, and how many before them are not
CELLS = 24  # cells whose features are measured, or which are named
REPEATED = 4  # a fit on the features of few cells is timed, and scaled to the number of all


def expected(
    study: Study,
    settings: Preset,
    jobs: Sequence[tuple[str, Round]],
    out: Path,
    progress: Progress,
    *,
    device: str = "cpu",
) -> float:
    """Seconds that the jobs without answers will take, by what their parts take now; a training half done counts whole.

    Two trainings at a time, or anything else beside this one, make it longer.
    """
    left = [(model, one) for model, one in jobs if not answers_file(out, model, one).exists()]
    networks = {model: _seconds(model, study, settings, progress, device) for model, _ in left if model != HANDCRAFTED}
    total = sum(_of_network(networks[model], model, one, settings, study) for model, one in left if model in networks)
    fits = [one for model, one in left if model == HANDCRAFTED]
    return total + (_of_features(study, settings, fits, out) if fits else 0.0)


def _of_network(rates: tuple[float, float], model: str, one: Round, settings: Preset, study: Study) -> float:
    steps = training(model, settings, cells=len(one.train), types=len(study.types)).steps(len(one.train))
    return steps * rates[0] + len(one.test) * rates[1]


def _seconds(model: str, study: Study, settings: Preset, progress: Progress, device: str) -> tuple[float, float]:
    """Seconds of one step of a training, and of naming one cell."""
    outputs = outputs_of(study, settings)
    crops = [labelled(crop, outputs) for crop in crops_of(study, settings, progress)[: settings.batch]]
    short = training(model, replace(settings, images=settings.batch * STEPS), cells=len(crops), types=len(study.types))
    moments: list[float] = []

    def tick(_values: dict[str, Any]) -> None:
        moments.append(time.monotonic())

    with tempfile.TemporaryDirectory() as place:
        network = train_network(
            crops,
            types=len(outputs),
            side=settings.side,
            settings=short,
            out=Path(place),
            device=device,
            report=tick,
        ).to(device)
    images = np.stack([plain(crop, settings.side) for crop in crops[:CELLS]])
    naming = _timed(lambda: predict_crops(network, images)) / len(images)
    return (moments[-1] - moments[WARM - 1]) / (len(moments) - WARM), naming


def _of_features(study: Study, settings: Preset, fits: Sequence[Round], out: Path) -> float:
    """Features that are not yet kept, and the choice and the machine of every round."""
    some = study.records[:: max(1, len(study.records) // CELLS)][:CELLS]
    rows: list[Any] = []
    one = _timed(lambda: rows.extend(features(feature_window(record, settings)) for record in some)) / len(some)
    missing = sum(len(study.records[first : first + BLOCK]) for first in _blocks(study, out))
    values = np.concatenate([np.stack(rows)] * REPEATED)
    values = values + np.random.default_rng(0).normal(0, 1e-3, values.shape) * values.std(axis=0)
    labels = [name for _, name in zip(values, _cycle(study.types), strict=False)]
    chosen = FeatureSettings(settings.selected)
    fitting = _timed(lambda: fit(values, labels, feature_names(), chosen)) / len(values)
    return missing * one / THREADS + sum(len(round_.train) for round_ in fits) * fitting


def _blocks(study: Study, out: Path) -> Iterator[int]:
    for first in range(0, len(study.records), BLOCK):
        if not (out / "features" / f"{first:07d}.safetensors").exists():
            yield first


def _cycle(names: Sequence[str]) -> Iterator[str]:
    while True:
        yield from names


def _timed(run: Callable[[], Any]) -> float:
    begun = time.monotonic()
    run()
    return time.monotonic() - begun


def in_words(seconds: float) -> str:
    """About how long, in minutes or hours."""
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} minute{'s' if minutes > 1 else ''}" if minutes < 180 else f"about {minutes / 60:.0f} hours"
