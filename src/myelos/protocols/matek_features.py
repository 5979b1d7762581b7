"""Handcrafted features in the protocol of Matek 2021: measured once for all cells, selected and fitted on a split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myelos.classification.feature_classifier import FeatureSettings, fit, save_feature_classifier
from myelos.classification.handcrafted import feature_names, features
from myelos.classification.view import SIDE
from myelos.datasets.cells import CellRecord
from myelos.imaging.crops import Image, window
from myelos.protocols.matek import Preset, Progress, Round, Study
from myelos.protocols.matek_models import at_scale
from myelos.tables import write_bytes
from myelos.training.crops import extended

BLOCK = 500  # cells in one file of features: what a killed run loses
THREADS = 2
REACH = 21.5  # µm, the width of the published images: 250 pixels of 0.086 µm


def handcrafted_answers(
    one: Round, study: Study, settings: Preset, out: Path, progress: Progress
) -> NDArray[np.float64]:
    """(cells of the test part, types); the machine that gave them is kept in `out/models`."""
    measured = all_features(study, settings, out, progress)
    labels = [record.cell_type for record in study.records]
    progress(f"handcrafted, {one.name}", 0, 1)
    train = list(one.train)
    model = fit(
        measured[train], [labels[index] for index in train], feature_names(), FeatureSettings(settings.selected)
    )
    (out / "models").mkdir(parents=True, exist_ok=True)
    save_feature_classifier(out / "models" / f"handcrafted.{one.name}.safetensors", model)
    columns = [feature_names().index(name) for name in model.names]
    found = model.probabilities(measured[list(one.test)][:, columns])
    result = np.zeros((len(one.test), len(study.types)))
    for place, name in enumerate(model.types):
        result[:, study.types.index(name)] = found[:, place]
    progress(f"handcrafted, {one.name}", 1, 1)
    return result


def all_features(study: Study, settings: Preset, out: Path, progress: Progress) -> NDArray[np.float32]:
    """(N, F) of all cells of the study, on two cores; blocks of cells are kept and read again by a later call."""
    from concurrent.futures import ThreadPoolExecutor

    from safetensors.numpy import load_file, save

    folder = out / "features"
    folder.mkdir(parents=True, exist_ok=True)
    blocks = []
    total = len(study.records)
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, total, BLOCK):
            path = folder / f"{first:07d}.safetensors"
            if not path.exists():
                progress("features", first, total)
                part = study.records[first : first + BLOCK]
                rows = list(pool.map(lambda record: features(feature_window(record, settings)), part))
                write_bytes(path, save({"features": np.stack(rows)}))
            blocks.append(load_file(path)["features"])
    progress("features", total, total)
    return np.concatenate(blocks)


def feature_window(record: CellRecord, settings: Preset) -> Image:
    """(128, 128, 3): what features are measured on, whatever the networks see."""
    mpp = REACH / SIDE
    own = at_scale(record, replace(settings, mpp=mpp, side=SIDE))
    image = extended(own, mpp=mpp, side=SIDE, scales={})
    height, width = image.shape[:2]
    return window(image, (width / 2, height / 2), 1.0, SIDE)
