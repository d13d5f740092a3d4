"""What the observer's training sees and is scored by: batches, and the losses of heat maps and attributes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .autoencoder import to_unit
from .observer_augment import degraded, wobbled
from .observer_data import ObserverSet
from .observer_targets import heat_targets, mirrored

TOUCHED_SHARE = 0.25
"""So much of the pictures has come through the VAE, and as much has been redrawn."""


@dataclass(frozen=True)
class Touched:
    """Some pictures of a set in another form."""

    pictures: NDArray[np.uint8]
    rows: list[int]
    """Which pictures of the set they are."""
    parts_hold: bool
    """Whether the set's labels of parts are still true; those of animals and attributes are."""


def heat_loss(logits: Tensor, target: Tensor, judged: Tensor) -> Tensor:
    """Focal loss with a lighter penalty near peaks (Zhou et al., Objects as Points, arXiv 1904.07850, equation 1).

    All `(batch, kinds, rows, columns)`; the loss is per peak.
    """
    logits = logits.float()
    probability = logits.sigmoid()
    peak = target == 1
    at_peaks = -((1 - probability) ** 2) * F.logsigmoid(logits)
    elsewhere = -((1 - target) ** 4) * probability**2 * F.logsigmoid(-logits)
    return (torch.where(peak, at_peaks, elsewhere) * judged).sum() / peak.sum().clamp(min=1)


def attribute_loss(logits: tuple[Tensor, ...], truth: Tensor) -> Tensor:
    """The sum over the attributes of their mean cross-entropies.

    `truth` is `(batch, attributes)`, -1 where there is nothing to know.
    """
    losses = []
    for k, values in enumerate(logits):
        known = (truth[:, k] >= 0).sum().clamp(min=1)
        losses.append(F.cross_entropy(values.float(), truth[:, k], ignore_index=-1, reduction="sum") / known)
    return torch.stack(losses).sum()


@dataclass(frozen=True)
class Batches:
    """Training batches: the batch of a step depends on the step alone."""

    data: ObserverSet
    touched: tuple[Touched, ...]
    attributes: NDArray[np.int64]
    size: int
    device: torch.device

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures `(batch, 3, 256, 256)`, heat targets, their judgement, and attributes."""
        rng = np.random.default_rng((step, 11))
        pictures, heats, judgements, chosen = [], [], [], []
        for _ in range(self.size):
            lot = int(rng.random() / TOUCHED_SHARE)
            form = self.touched[lot] if lot < len(self.touched) else None
            place = int(rng.integers(len(form.rows) if form else len(self.data.pictures)))
            index = form.rows[place] if form else place
            picture = np.asarray((form or self.data).pictures[place])
            marks = np.asarray(self.data.marks[index])
            if rng.random() < 0.5:
                picture, marks = np.ascontiguousarray(picture[:, ::-1]), mirrored(marks)
            heat, judged = heat_targets(marks)
            if form and not form.parts_hold:
                heat[1:] = judged[1:] = 0
            pictures.append(degraded(picture, rng))
            heats.append(heat)
            judgements.append(judged)
            chosen.append(index)
        unit = wobbled(to_unit(np.stack(pictures), torch.device("cpu")), rng)
        unit = unit.to(self.device, memory_format=torch.channels_last)
        targets, weights = (torch.from_numpy(np.stack(maps)).to(self.device) for maps in (heats, judgements))
        return unit, targets, weights, torch.from_numpy(self.attributes[chosen]).to(self.device)
