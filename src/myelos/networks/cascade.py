"""Cascade R-CNN: one proposal network and three detectors, each trained on what the one before it improved.

Cai and Vasconcelos 2019, as modified by Wang 2022, section 3.2. Ours, as settings with these defaults: a feature
pyramid, class-agnostic regression, and coarse labels in the loss (a box whose type is known only as far as "white
cell" trains the sum of all its types).

Notable: the score of a cell is 1 − P(background), averaged over the stages, and says nothing of the type; the types
are a distribution of their own. A cell of uncertain type is therefore found all the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign, box_iou, clip_boxes_to_image

from myelos.networks.backbones import Backbone
from myelos.networks.matching import match, sample, soft_weights

MEAN_BGR = (104.0, 117.0, 124.0)  # equation 16; the order is not given, and blue-green-red are the ImageNet means so


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """The architecture. Values of Wang 2022 where the paper gives them."""

    backbone: str = "light"
    pyramid: bool = True  # ours; off: the plain map of stride 16
    class_agnostic: bool = True  # ours; off: one box per type, as in the original
    channels: int = 64  # of the pyramid: 256 in the usual detectors, narrow for CPUs
    head_width: int = 256  # of the fully connected layers: 1024 in the usual detectors
    overlaps: tuple[float, ...] = (0.5, 0.6, 0.7)  # φ, one per stage (η = 3)
    box_weight: float = 1.0  # λ
    soft_sampling: str = "off"  # off, box (as equation 14 reads), background (as the text reads)
    soft_floor: float = 0.25  # ς
    soft_steepness: float = 50.0  # s
    soft_rate: float = 20.0  # v
    mean_bgr: tuple[float, float, float] = MEAN_BGR
    regions: int = 64  # sampled per image and stage in training
    positive_share: float = 0.25
    proposals_training: int = 300
    proposals: int = 150  # per tile when it runs
    pool: int = 7
    anchors: tuple[tuple[int, ...], ...] = ((24, 36), (52, 76), (112, 192))  # pixels, per level of the pyramid


CODER_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


@dataclass(slots=True)
class Truth:
    """The cells of one training image.

    boxes: (G, 4) x1 y1 x2 y2. allowed: (G, T) bool, the types that the label leaves open (all true: type unknown).
    ignored: (I, 4) areas that are neither cell nor background (cut cells, cells nobody labelled).
    """

    boxes: Tensor
    allowed: Tensor
    ignored: Tensor


class Stage(nn.Module):
    """One detector of the cascade: pooled features (P, C, S, S) → type logits (P, T + 1) and box deltas (P, 4·K)."""

    def __init__(self, channels: int, pool: int, width: int, types: int, *, class_agnostic: bool) -> None:
        super().__init__()
        side = (pool + 1) // 2
        self.squeeze = nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU())  # narrows the dense layer
        self.hidden = nn.Sequential(nn.Linear(channels * side * side, width), nn.ReLU(), nn.Linear(width, width))
        self.types = nn.Linear(width, types + 1)  # the last one is background
        self.deltas = nn.Linear(width, 4 if class_agnostic else 4 * types)
        for layer, spread in ((self.types, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.hidden(self.squeeze(pooled).flatten(1)))
        return self.types(hidden), self.deltas(hidden)


class CascadeRCNN(nn.Module):
    """The detector as a whole. `losses` trains it, `forward` runs it."""

    mean: Tensor

    def __init__(self, types: int, settings: CascadeSettings) -> None:
        super().__init__()
        self.settings, self.number = settings, types
        self.backbone = Backbone(settings.backbone, pyramid=settings.pyramid, width=settings.channels)
        self.proposals = proposal_network(settings)
        levels = [str(stride) for stride in self.backbone.strides]
        self.pool = MultiScaleRoIAlign(levels, output_size=settings.pool, sampling_ratio=2)
        self.stages = nn.ModuleList(
            Stage(settings.channels, settings.pool, settings.head_width, types, class_agnostic=settings.class_agnostic)
            for _ in settings.overlaps
        )
        self.coders = [BoxCoder(CODER_WEIGHTS[min(i, 2)]) for i in range(len(settings.overlaps))]
        self.register_buffer("mean", torch.tensor(settings.mean_bgr[::-1]).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """images: (B, 3, H, W) RGB from 0 to 255, sides multiples of 32."""
        return self.backbone(images - self.mean)  # Z' = Z − W, equation 16; no division by a variance

    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """The terms of the training loss, to be summed."""
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        maps = self.features(images)
        targets = [{"boxes": truth.boxes} for truth in truths]
        boxes, terms = self.proposals(ImageList(images, sizes), maps, targets)
        boxes = [torch.cat([b.detach(), truth.boxes]) for b, truth in zip(boxes, truths, strict=True)]
        result = {"proposal_score": terms["loss_objectness"], "proposal_box": terms["loss_rpn_box_reg"]}
        for index in range(len(self.stages)):
            boxes, type_loss, box_loss = self._train_stage(index, maps, boxes, truths, sizes)
            result[f"types{index + 1}"] = type_loss
            result[f"box{index + 1}"] = box_loss * self.settings.box_weight
        return result

    def _train_stage(
        self,
        index: int,
        maps: OrderedDict[str, Tensor],
        boxes: list[Tensor],
        truths: Sequence[Truth],
        sizes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Sample and match `boxes`, train one stage on them, and give them back improved for the next."""
        chosen = [self._choose(index, b, truth) for b, truth in zip(boxes, truths, strict=True)]
        boxes = [c[0] for c in chosen]
        with torch.autocast("cpu", enabled=False):
            pooled = self.pool(OrderedDict((k, v.float()) for k, v in maps.items()), boxes, sizes)
        logits, deltas = self.stages[index](pooled)
        logits, deltas = logits.float(), deltas.float()
        positive, overlap = torch.cat([c[1] for c in chosen]), torch.cat([c[2] for c in chosen])
        allowed, goal = torch.cat([c[3] for c in chosen]), torch.cat([c[4] for c in chosen])
        flat = torch.cat(boxes)
        loss_types = self._type_loss(logits, allowed, positive, overlap)
        own = self._own_deltas(deltas, allowed, logits)
        loss_box = self._box_loss(index, own, flat, goal, positive, overlap)
        improved = self._decode(index, own.detach(), flat).split([len(b) for b in boxes])
        return [clip_boxes_to_image(b, size) for b, size in zip(improved, sizes, strict=True)], loss_types, loss_box

    def _choose(self, index: int, boxes: Tensor, truth: Truth) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Sampled boxes (P, 4) with positive (P,), IoU (P,), allowed types (P, T + 1) and goal boxes (P, 4)."""
        found = match(boxes, truth.boxes, self.settings.overlaps[index])
        ignored = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        if len(truth.ignored):
            ignored = ~found.positive & (box_iou(boxes, truth.ignored).max(dim=1).values > 0.3)
        take = sample(found.positive, ignored, self.settings.regions, self.settings.positive_share)
        positive, cell = found.positive[take], found.cell[take]
        allowed = torch.zeros(len(take), self.number + 1, dtype=torch.bool, device=boxes.device)
        allowed[:, -1] = ~positive
        goal = boxes[take].clone()
        if len(truth.boxes):
            allowed[:, :-1] = truth.allowed[cell] & positive[:, None]
            goal[positive] = truth.boxes[cell[positive]]
        return boxes[take], positive, found.overlap[take], allowed, goal

    def _type_loss(self, logits: Tensor, allowed: Tensor, positive: Tensor, overlap: Tensor) -> Tensor:
        """Cross entropy of the sum over all types that the label allows; one type allowed: the usual one."""
        log_probability = torch.log_softmax(logits, dim=1)
        loss = -torch.logsumexp(log_probability.masked_fill(~allowed, float("-inf")), dim=1)
        if self.settings.soft_sampling == "background":
            loss = loss * torch.where(positive, torch.ones_like(overlap), self._soft(overlap))
        return loss.sum() / max(len(loss), 1)

    def _box_loss(
        self, index: int, deltas: Tensor, boxes: Tensor, goal: Tensor, positive: Tensor, overlap: Tensor
    ) -> Tensor:
        """Smooth L1 over the positive samples (equation 12), weighted after equation 14 where asked for."""
        number = max(len(deltas), 1)
        # Only these are encoded: a box that the stage before pushed out of the image has no width to divide by.
        deltas, boxes, goal, overlap = deltas[positive], boxes[positive], goal[positive], overlap[positive]
        goals = self.coders[index].encode_single(goal, boxes)
        loss = nn.functional.smooth_l1_loss(deltas, goals, beta=1 / 9, reduction="none").sum(dim=1)
        if self.settings.soft_sampling == "box":
            loss = loss * self._soft(overlap)
        return loss.sum() / number

    def _soft(self, overlap: Tensor) -> Tensor:
        s = self.settings
        return soft_weights(overlap, floor=s.soft_floor, steepness=s.soft_steepness, rate=s.soft_rate)

    def _own_deltas(self, deltas: Tensor, allowed: Tensor, logits: Tensor) -> Tensor:
        """(P, 4): the only deltas there are, or those of the (most probable allowed) type."""
        if self.settings.class_agnostic:
            return deltas
        best = logits[:, :-1].masked_fill(~allowed[:, :-1] & allowed[:, :-1].any(1, keepdim=True), float("-inf"))
        return deltas.view(-1, self.number, 4)[torch.arange(len(deltas), device=deltas.device), best.argmax(dim=1)]

    def _decode(self, index: int, deltas: Tensor, boxes: Tensor) -> Tensor:
        return self.coders[index].decode_single(deltas, boxes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One image (1, 3, H, W), RGB 0 to 255 → boxes (P, 4) x1 y1 x2 y2, scores (P,), types (P, T).

        P proposals come out before any suppression; scores fall from nothing, rows of types sum to 1.
        """
        size = (images.shape[2], images.shape[3])
        maps = self.features(images)
        proposed, _ = self.proposals(ImageList(images, [size]), maps)
        boxes = proposed[0]
        total = torch.zeros(1, device=images.device)
        for index, stage in enumerate(self.stages):
            pooled = self.pool(maps, [boxes], [size])
            logits, deltas = stage(pooled)
            total = total + torch.softmax(logits, dim=1)
            if not self.settings.class_agnostic:
                deltas = self._own_deltas(deltas, torch.ones_like(logits, dtype=torch.bool), logits)
            boxes = clip_boxes_to_image(self._decode(index, deltas, boxes), size)
        mean = total / len(self.stages)
        scores = 1 - mean[:, -1]
        types = mean[:, :-1] / mean[:, :-1].sum(dim=1, keepdim=True).clamp(min=1e-9)
        return boxes, scores, types


def proposal_network(settings: CascadeSettings) -> RegionProposalNetwork:
    """torchvision's, with square anchors in the sizes of cells."""
    sizes = settings.anchors if settings.pyramid else (tuple(s for level in settings.anchors for s in level),)
    anchors = AnchorGenerator(sizes, tuple((1.0,) for _ in sizes))
    head = RPNHead(settings.channels, anchors.num_anchors_per_location()[0])
    return RegionProposalNetwork(
        anchors,
        head,
        fg_iou_thresh=0.6,
        bg_iou_thresh=0.3,
        batch_size_per_image=128,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 500, "testing": 400},
        post_nms_top_n={"training": settings.proposals_training, "testing": settings.proposals},
        nms_thresh=0.7,
    )
