"""The optimisation of a classifier of single cells: crops in, averaged weights out, taken up again after a kill.

The paper (Matek 2021) gives epochs and augmentation, neither optimiser nor rate nor batch: those are ours, as settings.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from myelos.errors import ModelError
from myelos.models.module import usable_device
from myelos.networks.cells import CellNetwork, CellNetworkSettings
from myelos.training.checkpoints import check_same, load_checkpoint, save_checkpoint
from myelos.training.crops import Crop, CropSettings, draw
from myelos.training.distillation import Teacher, taught
from myelos.training.fingerprint import fingerprint, starting_weights
from myelos.training.loop import append_curve, follow

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class CellTrainingSettings:
    """early, early_side: the first share of the training runs at a lower resolution. mix: how often two images are
    blended. smoothing: share of the loss that goes evenly to all types. balance: 0 draws every cell as often, 1 every
    type of every source. teaching: share of the loss that follows the teachers, where there are any."""

    epochs: float = 60.0
    batch: int = 64
    rate: float = 2e-3
    decay: float = 0.05
    warmup: int = 150  # steps; of a short training half at most
    average: float = 0.998
    clip: float = 5.0
    smoothing: float = 0.08
    mix: float = 0.5
    balance: float = 0.0
    teaching: float = 0.5
    early: float = 0.4
    early_side: int = 112
    seed: int = 0
    precision: str = "bf16"  # or f32
    checkpoint_every: int = 200  # steps
    network: CellNetworkSettings = field(default_factory=CellNetworkSettings)
    augmentation: CropSettings = field(default_factory=CropSettings)

    def steps(self, cells: int) -> int:
        return max(1, math.ceil(self.epochs * cells / self.batch))


def train_network(
    crops: Sequence[Crop],
    *,
    types: int,
    side: int,
    settings: CellTrainingSettings,
    out: Path,
    start: dict[str, Tensor] | None = None,
    teachers: Sequence[Teacher] = (),
    anew: bool = False,
    device: str = "cpu",
    report: Report | None = None,
) -> CellNetwork:
    """Train on crops and return the averaged network on the CPU; goes on from the checkpoint in `out` if there is one.

    start: weights of an earlier network; layers that differ start anew, and ModelError is raised where all do.
    teachers: whose answers are learned beside the labels. anew: replace a checkpoint of other settings or data. device:
    cpu, or cuda: then every GPU that PyTorch sees takes a part of each batch (cuda:1 is that one alone).
    report: called after every step. Raises ResultError where the checkpoint is of other settings or data.
    """
    out.mkdir(parents=True, exist_ok=True)
    begun: dict[str, Any] = {"types": types, "side": side, "start": starting_weights(start)}
    if teachers:
        begun["teachers"] = [teacher.sha256 for teacher in teachers]
    identity = fingerprint(begun | asdict(settings), _aspects(crops))
    check_same(out, identity, anew=anew)
    torch.manual_seed(settings.seed)
    network = CellNetwork(types, settings.network)
    if start:
        own = network.state_dict()
        fitting = {k: v for k, v in start.items() if k in own and own[k].shape == v.shape}
        if not any(name.startswith("trunk.") for name in fitting):
            raise ModelError(
                "the weights to begin with fit no layer of this network",
                why=f"it has the backbone {settings.network.backbone}",
                remedy="Choose the backbone that they are of: --backbone",
            )
        network.load_state_dict(own | fitting)
    network = network.to(memory_format=torch.channels_last).to(usable_device(device))
    average = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(_decayed(network, settings.decay), lr=settings.rate)
    state = load_checkpoint(out, network=network, average=average, optimiser=optimiser) or {"step": 0}
    for teacher in teachers:
        teacher.network.to(usable_device(device))
    chances = _chances(crops, settings.balance)
    loop = _Loop(network, average, optimiser, crops, side, settings, out, chances, identity, teachers)
    loop.run(int(state["step"]), report)
    return average.cpu()


def _aspects(crops: Sequence[Crop]) -> dict[str, list[Any]]:
    return {
        "names of the images": [(crop.source, crop.name) for crop in crops],
        "contents of the images": [crop.image[::8, ::8] for crop in crops],
        "types": [(crop.cell_type, crop.allowed) for crop in crops],
    }


def _decayed(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases and the scales of normalisations do not."""
    flat = [p for p in network.parameters() if p.ndim < 2]
    return [
        {"params": [p for p in network.parameters() if p.ndim >= 2], "weight_decay": decay},
        {"params": flat, "weight_decay": 0.0},
    ]


def _chances(crops: Sequence[Crop], balance: float) -> NDArray[np.float64]:
    buckets = [(crop.source, crop.cell_type) for crop in crops]
    sizes = {bucket: buckets.count(bucket) for bucket in set(buckets)}
    weights = np.array([sizes[bucket] ** -balance for bucket in buckets], dtype=float)
    return weights / weights.sum()


@dataclass(slots=True)
class _Loop:
    network: CellNetwork
    average: CellNetwork
    optimiser: torch.optim.Optimizer
    crops: Sequence[Crop]
    side: int
    settings: CellTrainingSettings
    out: Path
    chances: NDArray[np.float64]
    identity: dict[str, Any]
    teachers: Sequence[Teacher] = ()

    def run(self, first: int, report: Report | None) -> None:
        self.network.train()
        curve: list[dict[str, float]] = []
        begun, last = time.monotonic(), self.settings.steps(len(self.crops))
        whole = spread_over(self.network)
        workers = drawers(self.device)
        with ThreadPoolExecutor(workers) as pool:
            ahead = deque(pool.submit(self._batch, step) for step in range(first, first + workers))
            for step in range(first, last):
                batch = ahead.popleft().result()
                ahead.append(pool.submit(self._batch, step + workers))
                curve.append({"step": step, "loss": self._step(whole, step, last, *batch)})
                if report:
                    left = (time.monotonic() - begun) / (step + 1 - first) * (last - step - 1)
                    loss = float(np.mean([row["loss"] for row in curve[-20:]]))
                    report({"step": step + 1, "steps": last, "left": left, "loss": loss})
                if (step + 1) % self.settings.checkpoint_every == 0 or step + 1 == last:
                    self._save(step + 1, curve)
                    curve = []

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """(B, 3, s, s) images and (B, T) allowed types; what a step draws depends on seed and step alone."""
        rng = np.random.default_rng((self.settings.seed, step))
        chosen = self._chosen(step, rng)
        early = step < self.settings.early * self.settings.steps(len(self.crops))
        side = self.settings.early_side if early else self.side
        images = np.stack(
            [draw(self.crops[i], side, side / self.side, self.settings.augmentation, rng) for i in chosen]
        )
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
        allowed = torch.from_numpy(np.stack([self.crops[i].allowed for i in chosen]))
        return pixels.contiguous(memory_format=torch.channels_last), allowed

    def _chosen(self, step: int, rng: np.random.Generator) -> NDArray[np.intp]:
        size = self.settings.batch
        if self.settings.balance:
            return rng.choice(len(self.crops), size, p=self.chances)
        places = np.arange(step * size, (step + 1) * size)
        cells, seed = len(self.crops), self.settings.seed
        return np.array([_order(seed, place // cells, cells)[place % cells] for place in places.tolist()])

    @property
    def device(self) -> torch.device:
        return self.network.head.weight.device

    def _step(self, whole: nn.Module, step: int, steps: int, pixels: Tensor, allowed: Tensor) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(step, steps, self.settings)
        rng = np.random.default_rng((self.settings.seed, step, 1))
        share = float(rng.beta(0.4, 0.4)) if rng.random() < self.settings.mix else 1.0
        if (
            self.device.type != "cpu"
        ):  # what is dropped hangs on the step alone, so that a killed training goes on the same
            torch.cuda.manual_seed_all(self.settings.seed * 1_000_003 + step)
        pixels, allowed = pixels.to(self.device, non_blocking=True), allowed.to(self.device)
        other = torch.from_numpy(rng.permutation(len(pixels))).to(self.device)
        if share < 1:
            pixels = share * pixels + (1 - share) * pixels[other]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            logits = whole(pixels)
            answers = taught(self.teachers, pixels) if self.teachers else None
        terms = share * partial_loss(logits.float(), allowed, self.settings.smoothing)
        if share < 1:
            terms = terms + (1 - share) * partial_loss(logits.float(), allowed[other], self.settings.smoothing)
        if answers is not None:
            follows = -(answers * logits.float().log_softmax(dim=1)).sum(dim=1)
            terms = (1 - self.settings.teaching) * terms + self.settings.teaching * follows
        loss = terms.mean()
        if not torch.isfinite(loss):  # one such step would spoil weights and averages for good
            raise ModelError(f"the loss is no number at step {step + 1}", remedy="Lower the learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimiser.step()
        follow(self.average, self.network, min(self.settings.average, (step + 1) / (step + 10)))
        return float(loss.detach())

    def _save(self, step: int, curve: list[dict[str, float]]) -> None:
        state = {"step": step, "settings": asdict(self.settings), "fingerprint": self.identity}
        save_checkpoint(self.out, network=self.network, average=self.average, optimiser=self.optimiser, state=state)
        append_curve(self.out / "curve.csv", curve)


def drawers(device: torch.device) -> int:
    """How many batches are drawn at a time: a GPU waits for them, a CPU does not."""
    return 1 if device.type == "cpu" else min(8, os.cpu_count() or 1)


def spread_over(network: nn.Module) -> nn.Module:
    """The network itself, or on `cuda` with several GPUs a form of it that gives each a part of a batch."""
    place = next(network.parameters()).device
    several = place.type == "cuda" and place.index in (None, 0) and torch.cuda.device_count() > 1
    return nn.DataParallel(network) if several else network


def partial_loss(logits: Tensor, allowed: Tensor, smoothing: float = 0.0) -> Tensor:
    """(N,) minus the log of the probability that falls to the types which a label leaves open.

    A label of one type gives the cross entropy; one that says "immature granulocyte" leaves the stages to the network.
    """
    logs = logits.log_softmax(dim=1)
    loss = -logs.masked_fill(~allowed, -torch.inf).logsumexp(dim=1)
    return (1 - smoothing) * loss - smoothing * logs.mean(dim=1)


def rate_at(step: int, steps: int, settings: CellTrainingSettings) -> float:
    """A linear warm-up, then half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / max(min(settings.warmup, steps // 2), 1))
    return settings.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


_ORDERS: dict[tuple[int, int, int], NDArray[np.intp]] = {}


def _order(seed: int, epoch: int, cells: int) -> NDArray[np.intp]:
    """The order of an epoch; only the last two are kept."""
    key = (seed, epoch, cells)
    known = _ORDERS.get(key)
    if known is None:
        for old in [k for k in list(_ORDERS) if k[1] < epoch - 1]:
            _ORDERS.pop(old, None)  # by several threads at a time
        known = _ORDERS[key] = np.random.default_rng((seed, epoch, 2)).permutation(cells)
    return known


def predict_crops(network: CellNetwork, images: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
    """(N, S, S, 3) uint8 → (N, T) float32 logits of the module as it is, where it is."""
    network.eval()
    place = network.head.weight.device
    parts = []
    with torch.inference_mode():
        for first in range(0, len(images), batch):
            pixels = torch.from_numpy(images[first : first + batch].transpose(0, 3, 1, 2).astype(np.float32))
            parts.append(network(pixels.contiguous(memory_format=torch.channels_last).to(place)).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, network.head.out_features), np.float32)
