"""What one picture shows, in numbers: what the observer counts and names, features for distances, its spectrum.

`Examiner` is told which observer and which extractor to ask.  Knows nothing of how the picture was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from ..request import RequestError
from .spectrum import spectrum

FEATURES = ("critters", "inception", "none")
"""Where the features of the distances come from; "none" leaves the distances out."""

Extractor = Callable[[Image.Image], NDArray[np.float32]]
"""A picture's features `(dimensions,)`."""


class Observed(Protocol):
    """What an observer tells of a picture; `observer.Observation` is one."""

    @property
    def animals(self) -> int: ...
    @property
    def parts(self) -> Mapping[str, int]: ...
    @property
    def one_object(self) -> bool: ...
    @property
    def well_formed(self) -> bool: ...
    @property
    def species(self) -> str: ...
    @property
    def colour(self) -> str: ...
    @property
    def accessory(self) -> str: ...
    @property
    def features(self) -> NDArray[np.float32]: ...


class Observer(Protocol):
    """Looks at pictures; `observer.load_observer()` gives one."""

    def observe(self, pictures: Any) -> Sequence[Observed]: ...


class Findings(BaseModel):
    """All that is kept of one picture; what nobody was there to tell is None or empty."""

    model_config = ConfigDict(frozen=True)

    animals: int | None = None
    parts: dict[str, int] = {}
    one_object: bool | None = None
    well_formed: bool | None = None
    attributes: dict[str, str] = {}
    features: list[float] = []
    spectrum: list[float]
    top_octave: float


@dataclass(frozen=True)
class Examiner:
    """Looks at pictures with an observer, an extractor of features, both or neither."""

    name: str
    """Of `FEATURES`, for the report."""
    observer: Observer | None = None
    extractor: Extractor | None = None
    """None: the observer's own features, if there is one."""

    def examine(self, picture: Image.Image) -> Findings:
        """All that can be told of a picture, RGB, any size of at least 16 pixels a side."""
        picture = picture.convert("RGB")
        seen = self.observer.observe([picture])[0] if self.observer is not None else None
        if self.extractor is not None:
            features = self.extractor(picture)
        else:
            features = seen.features if seen is not None else np.zeros(0, np.float32)
        light = spectrum(picture)
        told: dict[str, Any] = {}
        if seen is not None:
            told = {
                "animals": int(seen.animals),
                "parts": {kind: int(number) for kind, number in seen.parts.items()},
                "one_object": bool(seen.one_object),
                "well_formed": bool(seen.well_formed),
                "attributes": {"species": seen.species, "colour": seen.colour, "accessory": seen.accessory},
            }
        return Findings(
            features=_short(features), spectrum=_short(light.power), top_octave=_short([light.top_octave])[0], **told
        )

    def signature(self) -> list[float]:
        """What it says of a fixed picture: two examiners that agree on it are the same one (see `same_signature`)."""
        shade = np.add.outer(np.arange(96), np.arange(96))
        colours = np.stack([shade % 64 * 4, shade // 2 % 48 * 5, np.abs(shade - 96) * 2], axis=-1)
        found = self.examine(Image.fromarray(colours.astype(np.uint8)))
        return [*found.features, *([] if found.animals is None else [float(found.animals)])]


def same_signature(left: Sequence[float], right: Sequence[float]) -> bool:
    """Whether two signatures are one examiner's, on machines whose arithmetic differs a little."""
    if len(left) != len(right):
        return False
    tolerance = 0.01 * (float(np.abs(left).max()) if len(left) else 0.0)
    return bool(np.allclose(left, right, rtol=0.0, atol=tolerance))


def make_examiner(features: str, observe: bool) -> Examiner:
    """The examiner for features of that name (one of `FEATURES`).

    Args:
        features: "critters" (the observer's own, offline), "inception" or "none".
        observe: whether to count and name what pictures show; "critters" always does.

    Raises:
        RequestError: for an unknown name.
        ScaleCrafterError: for weights or a package that are missing, with what to do.
    """
    if features not in FEATURES:
        raise RequestError(f"there are no features {features!r}: take one of {', '.join(FEATURES)}")
    observer: Observer | None = None
    if observe or features == "critters":
        from .observer import load_observer

        observer = load_observer()
    if features == "inception":
        from .inception import load_inception

        return Examiner(features, observer, load_inception())
    if features == "none":
        return Examiner(features, observer, _no_features)
    return Examiner(features, observer)


def _no_features(_: Image.Image) -> NDArray[np.float32]:
    return np.zeros(0, np.float32)


def _short(values: Any) -> list[float]:
    """As plain numbers of six digits, which is what single precision holds."""
    return [float(f"{value:.6g}") for value in np.asarray(values, np.float64).ravel()]
