"""The optimisation of the cell detector: prepared fields in, averaged weights out, taken up again after a kill.

Learning rate, weight decay and the steps of the rate are those of Wang 2022, section 3.2; the paper names no
optimiser, ours is AdamW. What leaves the training is the moving average of the weights.
"""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from myelos.errors import ModelError
from myelos.models.files import sha256
from myelos.models.suppress import padded, to_boxes
from myelos.models.types import Boxes
from myelos.networks.backbones import load_pretrained
from myelos.networks.cascade import CascadeRCNN, CascadeSettings, Truth
from myelos.training.canvases import Canvas, CanvasSettings, CanvasSource
from myelos.training.checkpoints import check_same, load_checkpoint, save_checkpoint
from myelos.training.fields import Field
from myelos.training.fingerprint import fingerprint, starting_weights

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The optimisation. An epoch is one canvas per training field.

    epochs: where not 0, `canvases` is that many per training field. rate, decay: section 3.2. step, factor: "decreasing
    10 % every 10 × number of patches": the rate is multiplied by the usual 0.1 after ten epochs. The rest is ours.
    """

    canvases: int = 12_000  # in all
    epochs: float = 0.0
    batch: int = 4
    rate: float = 5e-4
    decay: float = 1e-4
    step: float = 10.0  # in multiples of the number of patches
    factor: float = 0.1
    warmup: int = 200  # optimiser steps
    average: float = 0.998
    clip: float = 10.0
    seed: int = 0
    precision: str = "bf16"  # or f32
    checkpoint_every: int = 250  # optimiser steps
    architecture: CascadeSettings = field(default_factory=CascadeSettings)
    augmentation: CanvasSettings = field(default_factory=CanvasSettings)

    @property
    def steps(self) -> int:
        return math.ceil(self.canvases / self.batch)

    def over(self, fields: int) -> TrainingSettings:
        """The settings with `canvases` in place of `epochs` of so many training fields."""
        return replace(self, canvases=math.ceil(self.epochs * fields), epochs=0.0) if self.epochs else self


def train(
    fields: Sequence[Field],
    *,
    types: Sequence[str],
    settings: TrainingSettings,
    out: Path,
    weights: dict[str, float] | None = None,
    start: dict[str, Tensor] | None = None,
    pretrained: Path | None = None,
    anew: bool = False,
    report: Report | None = None,
) -> CascadeRCNN:
    """Train on prepared fields and return the averaged network; goes on from the checkpoint in `out` if there is one.

    weights: how often a source is drawn, relative to its natural share. start: weights of an earlier detector; types
    that differ start anew. pretrained: ImageNet weights of the backbone. anew: replace a checkpoint of other settings
    or data. report: called after every step with step, steps, seconds left and the terms of the loss, the mean of the
    last ten. Raises ResultError where the checkpoint is of other settings or data and `anew` is false.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = settings.over(len(fields))
    begun = {"types": list(types), "weights": weights or {}, "start": starting_weights(start)}
    begun["pretrained"] = sha256(pretrained) if pretrained else None
    identity = fingerprint(begun | asdict(settings), _aspects(fields))
    check_same(out, identity, anew=anew)
    torch.manual_seed(settings.seed)
    network = CascadeRCNN(len(types), settings.architecture)
    if pretrained:
        load_pretrained(network.backbone, pretrained)
    if start:
        _adopt(network, start)
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
    state = load_checkpoint(out, network=network, average=average, optimiser=optimiser) or {"step": 0}
    source = CanvasSource(fields, settings.augmentation, seed=settings.seed, weights=weights)
    loop = _Loop(network, average, optimiser, source, settings, len(fields), out, identity)
    loop.run(int(state["step"]), report)
    return average


@dataclass(slots=True)
class _Loop:
    network: CascadeRCNN
    average: CascadeRCNN
    optimiser: torch.optim.Optimizer
    source: CanvasSource
    settings: TrainingSettings
    patches: int
    out: Path
    identity: dict[str, Any]

    def run(self, first: int, report: Report | None) -> None:
        self.network.train()
        curve: list[dict[str, float]] = []
        begun = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._batch, first)
            for step in range(first, self.settings.steps):
                images, truths = ahead.result()
                ahead = pool.submit(self._batch, step + 1)
                curve.append({"step": step} | self._step(step, images, truths))
                done = step + 1 - first
                if report:
                    left = (time.monotonic() - begun) / done * (self.settings.steps - step - 1)
                    report({"steps": self.settings.steps, "left": left} | _mean(curve[-10:]) | {"step": step + 1})
                if (step + 1) % self.settings.checkpoint_every == 0 or step + 1 == self.settings.steps:
                    self._save(step + 1, curve)
                    curve = []

    def _batch(self, step: int) -> tuple[Tensor, list[Truth]]:
        size = self.settings.batch
        canvases = [self.source[number] for number in range(step * size, (step + 1) * size)]
        images = np.stack([canvas.image for canvas in canvases]).transpose(0, 3, 1, 2).astype(np.float32)
        return torch.from_numpy(images).contiguous(memory_format=torch.channels_last), [_truth(c) for c in canvases]

    def _step(self, step: int, images: Tensor, truths: list[Truth]) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, self.patches, self.settings)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bf16"):
            terms = self.network.losses(images, truths)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        if not torch.isfinite(loss):  # one such step would spoil weights and averages for good
            raise ModelError(
                f"the loss is no number at step {step + 1}",
                why="the learning rate may be too high",
                remedy="Start anew with a lower --rate: pass --overwrite, or another -o",
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimiser.step()
        follow(self.average, self.network, min(self.settings.average, (step + 1) / (step + 10)))
        return {"loss": float(loss.detach())} | {name: float(term.detach()) for name, term in terms.items()}

    def _save(self, step: int, curve: list[dict[str, float]]) -> None:
        save_checkpoint(
            self.out,
            network=self.network,
            average=self.average,
            optimiser=self.optimiser,
            state={"step": step, "settings": asdict(self.settings), "fingerprint": self.identity},
        )
        append_curve(self.out / "curve.csv", curve)


def _aspects(fields: Sequence[Field]) -> dict[str, list[Any]]:
    return {
        "names of the images": [(one.source, one.name) for one in fields],
        "sizes of the images": [one.image.shape for one in fields],
        "boxes": [(one.boxes, one.ignored) for one in fields],
        "types of the boxes": [one.allowed for one in fields],
    }


def learning_rate(step: int, patches: int, settings: TrainingSettings) -> float:
    """The rate at an optimiser step: a linear warm-up, then lowered by `factor` every `step` × `patches` canvases."""
    lowered = settings.factor ** math.floor(step * settings.batch / (settings.step * max(patches, 1)))
    return settings.rate * lowered * min(1.0, (step + 1) / max(settings.warmup, 1))


def append_curve(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Append steps to the loss curve; steps that a killed run already wrote are replaced."""
    if not rows:
        return
    kept: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if int(row["step"]) < rows[0]["step"]]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([*kept, *rows])


def predict(network: CascadeRCNN, image: np.ndarray, *, floor: float = 0.02) -> Boxes:
    """One prepared field (H, W, 3) through the module as it is."""
    with torch.inference_mode():
        tensor = torch.from_numpy(padded(image)).permute(2, 0, 1)[None].float()
        found = network.eval()(tensor)
    corners, scores, types = (output.numpy() for output in found)
    return to_boxes(corners, scores, types, width=image.shape[1], height=image.shape[0], floor=floor)


def _truth(canvas: Canvas) -> Truth:
    return Truth(torch.from_numpy(canvas.boxes), torch.from_numpy(canvas.allowed), torch.from_numpy(canvas.ignored))


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def follow(average: nn.Module, network: nn.Module, weight: float) -> None:
    """Move the average towards the network; counters and other whole numbers are copied."""
    with torch.no_grad():
        for old, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - weight)
            else:
                old.copy_(new)


def _adopt(network: CascadeRCNN, start: dict[str, Tensor]) -> None:
    """Take over all weights that fit by name and shape."""
    own = network.state_dict()
    network.load_state_dict(own | {k: v for k, v in start.items() if k in own and own[k].shape == v.shape})
