"""The observer's card, beside its weights: vocabulary, thresholds, and the parts of a whole animal of each species."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from .._util.text import explain, setting_names
from ..errors import ModelError
from .observer_network import NetworkSettings
from .observer_peaks import Mark


class CloserView(BaseModel):
    """What a whole animal shows in a picture that is so close that the frame cuts it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    eyes_apart: float
    """From this distance between the eyes on, in shorter sides of the picture."""
    parts: dict[str, tuple[int, int]]
    """How many of each kind of part are in the frame."""


class Anatomy(BaseModel):
    """What a whole animal of one species shows: ranges, ends included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: dict[str, tuple[int, int]]
    """How many of each kind of part."""
    mouth_along: tuple[float, float]
    """Where the mouth is from the middle between the eyes, in distances between the eyes: along the line of the eyes
    (either way), and across it (downwards)."""
    mouth_across: tuple[float, float]
    closer: tuple[CloserView, ...] = ()
    """Views that the frame cuts, the closest last."""

    def parts_at(self, eyes_apart: float) -> dict[str, tuple[int, int]]:
        """How many of each kind of part show in a picture with the eyes so far apart, in its shorter sides."""
        views = [view.parts for view in self.closer if eyes_apart >= view.eyes_apart]
        return views[-1] if views else self.parts


class ObserverCard(BaseModel):
    """`observer.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[str, ...]
    """Of the heat maps; the first is "animal"."""
    vocabulary: dict[str, tuple[str, ...]]
    """The words of each attribute, in the order of the network's answers."""
    widths: tuple[int, int, int, int]
    features: int
    thresholds: dict[str, float]
    """The least height of a peak of each kind, chosen on validation pictures."""
    anatomy: dict[str, Anatomy]
    """Of each species."""
    training: dict[str, float | int | str] = {}
    """How it was trained."""

    @model_validator(mode="after")
    def _whole(self) -> ObserverCard:
        for word in ("species", "colour", "accessory"):
            if word not in self.vocabulary:
                raise ValueError(f"the vocabulary lacks {word!r}; it has {', '.join(self.vocabulary)}")
        if set(self.thresholds) != set(self.kinds):
            raise ValueError(f"thresholds are for {sorted(self.thresholds)}, heat maps for {sorted(self.kinds)}")
        if set(self.anatomy) != set(self.vocabulary["species"]):
            raise ValueError(f"the anatomy is of {sorted(self.anatomy)}, not of every species")
        return self

    @classmethod
    def read(cls, path: Path) -> ObserverCard:
        """The card in a file; `ModelError` where it is none."""
        try:
            return cls.model_validate_json(path.read_text())
        except ValidationError as error:
            raise ModelError(
                f"{path} is no card of an observer; train or install it anew: {explain(error, setting_names(cls))}"
            ) from error

    def network_settings(self) -> NetworkSettings:
        """The network that the weights belong to."""
        classes = tuple(len(words) for words in self.vocabulary.values())
        return NetworkSettings(len(self.kinds), classes, self.widths, self.features)

    def well_formed(self, species: str, marks: tuple[Mark, ...], aspect: float = 1.0) -> bool:
        """One animal, each kind of part as often as this species shows it, and the mouth where it belongs.

        Of an animal that the frame cuts, only what is in the frame is asked for.  `aspect` is the width of the
        picture by its height.
        """
        anatomy = self.anatomy[species]
        if sum(mark.kind == "animal" for mark in marks) != 1:
            return False
        for kind, (least, most) in anatomy.parts_at(eyes_apart(marks, aspect)).items():
            if not least <= sum(mark.kind == kind for mark in marks) <= most:
                return False
        mouth = mouth_from_eyes(marks, aspect)
        if mouth is None:
            return False
        along, across = anatomy.mouth_along, anatomy.mouth_across
        return along[0] <= mouth[0] <= along[1] and across[0] <= mouth[1] <= across[1]


def eyes_apart(marks: tuple[Mark, ...], aspect: float = 1.0) -> float:
    """The distance between two eyes, in the picture's shorter sides; 0 where there are not two."""
    eyes = [np.array([mark.x * aspect, mark.y]) for mark in marks if mark.kind == "eye"]
    return float(np.hypot(*(eyes[0] - eyes[1]))) / min(aspect, 1.0) if len(eyes) == 2 else 0.0


def mouth_from_eyes(marks: tuple[Mark, ...], aspect: float = 1.0) -> tuple[float, float] | None:
    """Where the mouth is from the middle between the eyes, in distances between the eyes: (along, across).

    The same however the face is turned, moved or scaled.  `aspect` is the picture's width by its height.  None where
    there are not two eyes and one mouth, or the eyes are in one place.
    """
    eyes = [np.array([mark.x * aspect, mark.y]) for mark in marks if mark.kind == "eye"]
    mouths = [np.array([mark.x * aspect, mark.y]) for mark in marks if mark.kind == "mouth"]
    if len(eyes) != 2 or len(mouths) != 1:
        return None
    left, right = sorted(eyes, key=lambda eye: float(eye[0]))
    line = right - left
    distance = float(np.hypot(*line))
    if distance == 0.0:
        return None
    line = line / distance
    offset = (mouths[0] - (left + right) / 2) / distance
    return float(abs(offset @ line)), float(offset[1] * line[0] - offset[0] * line[1])
