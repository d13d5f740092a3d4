"""The observer: it counts the animals in a picture and their parts, and names species, colour and accessory.

    observer = load_observer()
    seen = observer.observe([picture])[0]
    seen.animals, seen.parts["eye"], seen.one_object, seen.well_formed, seen.species

Every picture is first resized (antialiased) so that its shorter side is 256 pixels.  There an animal must be at least
32 pixels high to be counted, and 64 for its parts to be.  Made for the animals of critters; of anything else it knows
nothing.  How it was trained and how often it is right: the card in its folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from ..errors import ModelError
from .observer_card import ObserverCard
from .observer_network import REDUCTION, ObserverNetwork
from .observer_peaks import Mark, marks_of

__all__ = ["Mark", "Observation", "Observer", "load_observer"]

Picture = Image.Image | NDArray[np.uint8]
WORKING_SIDE = 256
SMALLEST_SIDE = 16
BATCH = 8
WEIGHTS, CARD = "observer.safetensors", "observer.json"


@dataclass(frozen=True)
class Observation:
    """What was seen in one picture."""

    animals: int
    parts: Mapping[str, int]
    """How many of each kind: eye, ear, mouth (or beak), tail."""
    species: str
    """The most likely one; of the whole picture, so it means something where there is one animal.  Likewise:"""
    colour: str
    accessory: str
    """`"none"` where nothing is worn."""
    features: NDArray[np.float32]
    """A vector for distances between sets of pictures: what the animals look like, then the picture as a whole."""
    positions: tuple[Mark, ...]
    well_formed: bool = False
    """Exactly one animal with exactly the parts of its species, the mouth where it belongs from the eyes
    (`ObserverCard.well_formed`)."""

    @property
    def one_object(self) -> bool:
        """Exactly one animal."""
        return self.animals == 1


class Observer:
    """The network and its card; `load_observer` opens one."""

    def __init__(self, network: ObserverNetwork, card: ObserverCard) -> None:
        self.network = network.eval()
        self.card = card

    def observe(self, pictures: Sequence[Picture]) -> list[Observation]:
        """What is in each picture: PIL images or uint8 arrays `(height, width, 3)`, of any sizes.

        Raises:
            ValueError: something else than such a picture, or one with a side of less than 16 pixels.
        """
        prepared = [_prepare(picture, index) for index, picture in enumerate(pictures)]
        out: list[Observation | None] = [None] * len(prepared)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, tensor in enumerate(prepared):
            by_shape.setdefault(tuple(tensor.shape), []).append(index)
        for indices in by_shape.values():
            for start in range(0, len(indices), BATCH):
                chosen = indices[start : start + BATCH]
                heat, attributes, features = self._run(torch.stack([prepared[i] for i in chosen]))
                for row, index in enumerate(chosen):
                    out[index] = self._observation(heat[row], [a[row] for a in attributes], features[row])
        return [observation for observation in out if observation is not None]

    def heat_maps(self, picture: Picture) -> dict[str, NDArray[np.float32]]:
        """For each kind a map `(rows, columns)` in 0…1, a cell for 4×4 pixels of the resized picture."""
        heat, _, _ = self._run(_prepare(picture, 0)[None])
        return dict(zip(self.card.kinds, heat[0], strict=True))

    @torch.no_grad()
    def _run(self, batch: Tensor) -> tuple[NDArray[np.float32], list[NDArray[np.float32]], NDArray[np.float32]]:
        weight = self.network.heat.weight
        seen = self.network(batch.to(weight.device, weight.dtype))
        return (
            seen.heat.float().sigmoid().cpu().numpy(),
            [logits.float().cpu().numpy() for logits in seen.attributes],
            seen.features.float().cpu().numpy(),
        )

    def _observation(
        self, heat: NDArray[np.float32], logits: list[NDArray[np.float32]], features: NDArray[np.float32]
    ) -> Observation:
        marks = marks_of(heat, self.card.kinds, self.card.thresholds)
        found = {kind: sum(mark.kind == kind for mark in marks) for kind in self.card.kinds}
        animals = found.pop("animal")
        named = {
            name: words[int(row.argmax())]
            for (name, words), row in zip(self.card.vocabulary.items(), logits, strict=True)
        }
        return Observation(
            animals=animals,
            parts=found,
            species=named["species"],
            colour=named["colour"],
            accessory=named["accessory"],
            features=features,
            positions=marks,
            well_formed=self.card.well_formed(named["species"], marks, heat.shape[2] / heat.shape[1]),
        )


def load_observer(path: str | Path | None = None) -> Observer:
    """The shipped observer, or the one in a folder that `training.critters.observer_train` wrote.

    Raises:
        ModelError: no weights there, or weights that do not belong to the card.
    """
    folder = Path(path) if path is not None else Path(__file__).with_name("observer")
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(
                f"there is no observer in {folder}: {name} is missing. Install the package anew, or in a checkout "
                "train one: python -m training.critters.observer_train --export-to src/scalecrafter/evaluation/observer"
            )
    card = ObserverCard.read(folder / CARD)
    network = ObserverNetwork(card.network_settings()).fuse()
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{folder / WEIGHTS} does not hold the weights that {CARD} describes; take both files from one "
            f"training, or train anew: {error}"
        ) from error
    return Observer(network.float(), card)


def _prepare(picture: Picture, index: int) -> Tensor:
    """A picture as `(3, height, width)` in -1…1, its shorter side 256, the longer a multiple of 32."""
    if isinstance(picture, Image.Image):
        image = picture.convert("RGB")
    elif isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        image = Image.fromarray(picture)
    else:
        what = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise ValueError(
            f"picture {index} is {what}: observe() takes PIL images or uint8 arrays of shape (height, width, 3)"
        )
    shorter = min(image.size)
    if shorter < SMALLEST_SIDE:
        raise ValueError(
            f"picture {index} is {image.width}×{image.height}: a side must have at least {SMALLEST_SIDE} pixels"
        )
    width, height = (max(round(side * WORKING_SIDE / shorter / REDUCTION), 1) * REDUCTION for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)  # antialiased when it shrinks
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1.0
