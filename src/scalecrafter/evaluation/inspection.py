"""What one picture shows, in numbers: what the observer counts and names, features for distances, its spectrum.

Extractors reduce a picture to a small square, in which an enlarged one looks like any other.  So there are features
of crops beside those of the whole, which are looked at as they are (for the FID of crops that DemoFusion reports,
arXiv 2311.16973).

`Inspector` is told which observer and which extractor to ask.  Knows nothing of how the picture was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from ..request.request import RequestError
from .inception import Extractor
from .spectrum import spectrum

FEATURES = ("critters", "inception", "none")
"""Where the features of the distances come from; "none" leaves the distances out."""

CROPS = 4
"""Crops of a picture whose features are kept."""


class ObservationLike(Protocol):
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


class ObserverLike(Protocol):
    """Looks at pictures; `observer.load_observer()` gives one."""

    def observe(self, pictures: Any) -> Sequence[ObservationLike]: ...


class PictureMetrics(BaseModel):
    """All that is kept of one picture; what nobody was there to tell is None or empty."""

    model_config = ConfigDict(frozen=True)

    animals: int | None = None
    parts: dict[str, int] = {}
    one_object: bool | None = None
    well_formed: bool | None = None
    attributes: dict[str, str] = {}
    features: list[float] = []
    crops: list[list[float]] = []
    """Features of each of `crops(picture)`."""
    spectrum: list[float]
    top_octave: float


@dataclass(frozen=True)
class Inspector:
    """Looks at pictures with an observer, an extractor of features, both or neither."""

    name: str
    """Of `FEATURES`, for the report."""
    observer: ObserverLike | None = None
    extractor: Extractor | None = None
    """None: the observer's own features, if there is one."""
    side: int = 0
    """Of the square that features are made of, in pixels; 0: not known, and no crops are looked at."""

    def inspect(self, picture: Image.Image) -> PictureMetrics:
        """All that can be told of a picture, RGB, any size of at least 16 pixels a side."""
        picture = picture.convert("RGB")
        views = [picture, *crops(picture, self.side)]
        seen: ObservationLike | None = None
        if self.extractor is not None:
            seen = self.observer.observe([picture])[0] if self.observer is not None else None
            features = [self.extractor(view) for view in views]
        elif self.observer is not None:
            seen, *of_crops = self.observer.observe(views)
            features = [seen.features, *(other.features for other in of_crops)]
        else:
            features = [np.zeros(0, np.float32)]
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
        return PictureMetrics(
            features=_short(features[0]),
            crops=[_short(np.float16(view)) for view in features[1:]],
            spectrum=_short(light.power),
            top_octave=_short([light.top_octave])[0],
            **told,
        )

    def signature(self) -> list[float]:
        """What it says of a fixed picture: two examiners that agree on it are the same one (see `same_signature`)."""
        shade = np.add.outer(np.arange(96), np.arange(96))
        colours = np.stack([shade % 64 * 4, shade // 2 % 48 * 5, np.abs(shade - 96) * 2], axis=-1)
        found = self.inspect(Image.fromarray(colours.astype(np.uint8)))
        return [*found.features, *([] if found.animals is None else [float(found.animals)])]


def crops(picture: Image.Image, side: int) -> list[Image.Image]:
    """Squares of `side` pixels around the middles of a picture's quarters, or as near as its edges let them be.

    None of a picture whose shorter side is no longer: its features are of all that it has already.
    """
    if not 0 < side < min(picture.size):
        return []
    lefts, tops = ([min(max(n // 4 * k - side // 2, 0), n - side) for k in (1, 3)] for n in picture.size)
    return [picture.crop((left, top, left + side, top + side)) for top in tops for left in lefts]


def same_signature(left: Sequence[float], right: Sequence[float]) -> bool:
    """Whether two signatures are one inspector's, on machines whose arithmetic differs a little."""
    if len(left) != len(right):
        return False
    tolerance = 0.01 * (float(np.abs(left).max()) if len(left) else 0.0)
    return bool(np.allclose(left, right, rtol=0.0, atol=tolerance))


def make_inspector(features: str, observe: bool) -> Inspector:
    """The inspector for features of that name (one of `FEATURES`).

    Args:
        features: "critters" (the observer's own, offline), "inception" or "none".
        observe: whether to count and name what pictures show; "critters" always does.

    Raises:
        RequestError: for an unknown name.
        ScaleCrafterError: for weights or a package that are missing, with what to do.
    """
    if features not in FEATURES:
        raise RequestError(f"there are no features {features!r}: take one of {', '.join(FEATURES)}")
    observer: ObserverLike | None = None
    if observe or features == "critters":
        from .observer import WORKING_SIDE, load_observer

        observer = load_observer()
    if features == "inception":
        from .inception import SIDE, load_inception

        return Inspector(features, observer, load_inception(), SIDE)
    if features == "none":
        return Inspector(features, observer, _no_features)
    return Inspector(features, observer, side=WORKING_SIDE)


def _no_features(_: Image.Image) -> NDArray[np.float32]:
    return np.zeros(0, np.float32)


def _short(values: Any) -> list[float]:
    """As plain numbers of six digits, which is what single precision holds."""
    return [float(f"{value:.6g}") for value in np.asarray(values, np.float64).ravel()]
