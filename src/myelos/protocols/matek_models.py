"""The models of Matek 2021 on one split: trained, then asked for a probability of every type for every test cell."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myelos.datasets.cells import CellRecord
from myelos.errors import InputError, UsageError
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.networks.timm_trunk import TIMM, check_side
from myelos.protocols.matek import (
    EXTERNAL,
    HANDCRAFTED,
    SPLIT,
    Preset,
    Progress,
    Round,
    Study,
    answers_file,
    write_answers,
)
from myelos.training.cell_loop import CellTrainingSettings, predict_crops, train_network
from myelos.training.checkpoints import Beginning, beginning
from myelos.training.crops import Crop, CropSettings, extended, load_crops, plain, published

_CROPS: dict[tuple[int, float, int], list[Crop]] = {}  # of the study at hand: every fold uses the same


def answers(
    model: str, one: Round, study: Study, settings: Preset, out: Path, progress: Progress, *, device: str = "cpu"
) -> NDArray[np.float64]:
    """(cells of the test part, types) probabilities of a model that learned from the round's other part."""
    if model == HANDCRAFTED:
        from myelos.protocols.matek_features import handcrafted_answers

        return handcrafted_answers(one, study, settings, out, progress)
    crops = crops_of(study, settings, progress)
    outputs = outputs_of(study, settings)
    folder = out / "checkpoints" / f"{model.replace(':', '-')}.{one.name}"
    optimisation = training(model, settings, cells=len(one.train), types=len(study.types))
    first = begun_with(model, settings, optimisation.network)
    network = train_network(
        [labelled(crops[index], outputs) for index in one.train],
        types=len(outputs),
        side=settings.side,
        settings=replace(optimisation, network=first.network),
        out=folder,
        start=first.weights,
        device=device,
        report=lambda values: progress(f"{model}, {one.name}", int(values["step"]), int(values["steps"])),
    )
    network.to(device)
    if study.external and one.name != SPLIT:
        others = [external_crop(record, settings) for record in study.external]
        path = answers_file(out, model, f"{EXTERNAL}-{one.name}")
        write_answers(path, study.external, study.types, asked(network, others, outputs, study, settings))
    found = asked(network, [crops[index] for index in one.test], outputs, study, settings)
    shutil.rmtree(folder, ignore_errors=True)
    return found


def begun_with(model: str, settings: Preset, network: CellNetworkSettings) -> Beginning:
    """What the networks of a model begin with: chance, or the weights of a given file."""
    given = settings.pretrained.get(model)
    return beginning(network, None, given)


def check_models(settings: Preset) -> None:
    """Raise UsageError for weights of a model that is not run, and ModelError for a file or crops that do not fit."""
    for model in settings.models:
        if model.startswith(TIMM):
            check_side(model.removeprefix(TIMM), settings.side)
    for model in settings.pretrained:
        if model not in settings.models or model == HANDCRAFTED:
            networks = [name for name in settings.models if name != HANDCRAFTED]
            raise UsageError(
                f"weights are given for {model}, which is no network of this run",
                remedy=f"Its networks are {', '.join(networks)}; --models chooses others",
            )
        begun_with(model, settings, CellNetworkSettings(backbone=model))


def asked(
    network: CellNetwork, crops: Sequence[Crop], outputs: Sequence[str], study: Study, settings: Preset
) -> NDArray[np.float64]:
    """(N, types) probabilities of crops."""
    parts = [crops[first : first + 512] for first in range(0, len(crops), 512)]
    logits = [predict_crops(network, np.stack([plain(crop, settings.side) for crop in part])) for part in parts]
    return as_types(np.concatenate(logits), outputs, study.types)


def external_crop(record: CellRecord, settings: Preset) -> Crop:
    """A cell of another set, whatever its type."""
    image = extended(at_scale(record, settings), mpp=settings.mpp, side=settings.side, scales={})
    return Crop(image, np.zeros(0, bool), record.source, record.cell_type, record.path.name)


def training(model: str, settings: Preset, *, cells: int, types: int) -> CellTrainingSettings:
    """The optimisation of one network.

    Classes are raised on the fly: every type is drawn as often, and an epoch is `images_per_class` images of each. A
    preset that counts images draws types by the root of their number, so that rare ones are seen and not memorised.
    """
    base = CellTrainingSettings()
    if settings.images:
        epochs = settings.images / cells
    else:
        epochs = settings.epochs * (settings.images_per_class * types / cells if settings.images_per_class else 1)
    return replace(
        base,
        epochs=epochs,
        batch=settings.batch,
        rate=settings.rate,
        decay=settings.decay,
        warmup=settings.warmup,
        average=settings.average,
        smoothing=settings.smoothing,
        mix=settings.mix,
        balance=1.0 if settings.images_per_class else 0.5,
        early=0.0,
        seed=settings.seed,
        network=replace(base.network, backbone=model),
        augmentation=published() if settings.augmentation == "published" else CropSettings(),
    )


def as_types(logits: NDArray[np.float32], outputs: Sequence[str], types: Sequence[str]) -> NDArray[np.float64]:
    """(N, outputs) → (N, types), each type the higher of its outputs: two outputs are one class after the maximum."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    columns = [[place for place, output in enumerate(outputs) if output == name] for name in types]
    return np.stack([probabilities[:, own].max(axis=1) for own in columns], axis=1)


def crops_of(study: Study, settings: Preset, progress: Progress) -> list[Crop]:
    """All cells of the study at the preset's scale, read once; raises InputError where one cannot be read."""
    key = (id(study), settings.mpp, settings.side)
    if key not in _CROPS:
        _CROPS.clear()
        records = [at_scale(record, settings) for record in study.records]
        crops = load_crops(
            records,
            types=study.types,
            mpp=settings.mpp,
            side=settings.side,
            scales={},
            progress=partial(progress, "reading cells"),
        )
        if len(crops) != len(records):
            raise InputError(f"{len(records) - len(crops)} of {len(records)} cells have no crop")
        _CROPS[key] = crops
    return _CROPS[key]


def at_scale(record: CellRecord, settings: Preset) -> CellRecord:
    """The record with its µm/px; where nobody knows it, the image's shorter side becomes the crop's, as the paper does
    with the images of Choi et al."""
    if record.mpp is not None or record.box is not None:
        return record
    from myelos.datasets.images import probe

    return replace(record, mpp=settings.mpp * settings.side / min(probe(record.path)))


def outputs_of(study: Study, settings: Preset) -> tuple[str, ...]:
    """What the outputs of a network stand for: every type once, and the doubled one again."""
    return (*study.types, settings.doubled) if settings.doubled in study.types else study.types


def labelled(crop: Crop, outputs: Sequence[str]) -> Crop:
    """The crop with its label among the outputs: its own type alone, however the taxonomy nests the types."""
    return replace(crop, allowed=np.array([output == crop.cell_type for output in outputs]))
