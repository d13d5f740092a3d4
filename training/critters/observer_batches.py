"""What the observer's training sees and is scored by: batches, and the losses of heat maps and attributes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .autoencoder import to_unit
from .observer_augment import degraded, noise, wobbled
from .observer_data import ObserverSet
from .observer_scenes import Sample
from .observer_targets import heat_targets, mirrored
from .scene import framing_of

TOUCHED_SHARE = 0.25
"""So much of the pictures has come through the VAE, and as much has been redrawn."""
NOISE_SHARE = 0.02
"""So much of the pictures is noise, in which there is nothing."""
HARD_FAULTS = ("third ear", "second mouth")
HARD = 3.0
"""How often a lone animal is shown that is a close-up, or has one of the hard faults, beside the other pictures."""


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


def _is_hard(sample: Sample) -> bool:
    if sample.lone is None:
        return False
    return framing_of(sample.scene.animals[0].height) == "close-up" or bool(set(HARD_FAULTS) & set(sample.faults))


@dataclass(frozen=True)
class Batches:
    """Training batches: the batch of a step depends on the step alone."""

    data: ObserverSet
    touched: tuple[Touched, ...]
    attributes: NDArray[np.int64]
    size: int
    device: torch.device

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        """Up to where in 0…1 the lot falls on each picture: hard ones are shown more often."""
        reached = np.cumsum([HARD if _is_hard(sample) else 1.0 for sample in self.data.samples])
        return np.asarray(reached / reached[-1])

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures `(batch, 3, 256, 256)`, heat targets, their judgement, and attributes."""
        rng = np.random.default_rng((step, 11))
        pictures, heats, judgements, chosen = [], [], [], []
        for _ in range(self.size):
            lot = int(rng.random() / TOUCHED_SHARE)
            form = self.touched[lot] if lot < len(self.touched) else None
            place = int(rng.integers(len(form.rows))) if form else int(np.searchsorted(self._shares, rng.random()))
            index = form.rows[place] if form else place
            picture = np.asarray((form or self.data).pictures[place])
            marks = np.asarray(self.data.marks[index])
            names = self.attributes[index]
            if form is None and rng.random() < NOISE_SHARE:
                picture, marks, names = noise(picture.shape, rng), np.full_like(marks, np.nan), np.full_like(names, -1)
            if rng.random() < 0.5:
                picture, marks = np.ascontiguousarray(picture[:, ::-1]), mirrored(marks)
            heat, judged = heat_targets(marks)
            if form and not form.parts_hold:
                heat[1:] = judged[1:] = 0
            pictures.append(degraded(picture, rng))
            heats.append(heat)
            judgements.append(judged)
            chosen.append(names)
        unit = wobbled(to_unit(np.stack(pictures), torch.device("cpu")), rng)
        unit = unit.to(self.device, memory_format=torch.channels_last)
        targets, weights = (torch.from_numpy(np.stack(maps)).to(self.device) for maps in (heats, judgements))
        return unit, targets, weights, torch.from_numpy(np.stack(chosen)).to(self.device)
