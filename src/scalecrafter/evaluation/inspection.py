"""The metrics of one picture: what the observer counts and names, features for distances, the spectrum.

An extractor reduces a picture to a small square, in which an enlarged picture looks like any other. So crops, which are
not reduced, have features of their own (for the FID of crops, as in DemoFusion, arXiv 2311.16973).
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
"""Where the features for distances come from; "none": there are no distances."""

CROPS = 4
"""Of a picture, that have features of their own."""


class ObservationLike(Protocol):
    """What an observer sees in a picture, as `observer.Observation`."""

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
    """Looks at pictures, as `observer.Observer`."""

    def observe(self, pictures: Any) -> Sequence[ObservationLike]: ...


class PictureMetrics(BaseModel):
    """The metrics of one picture. What is not known is None or empty."""

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
    """Inspects pictures with an observer, an extractor of features, both or neither."""

    name: str
    """Of `FEATURES`, for the report."""
    observer: ObserverLike | None = None
    extractor: Extractor | None = None
    """None: the observer's own features are taken, if there is one."""
    side: int = 0
    """Side of the square that the extractor sees, in pixels; 0: unknown, and crops have no features."""

    def inspect(self, picture: Image.Image) -> PictureMetrics:
        """The metrics of a picture: RGB, with sides of at least 16 pixels."""
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
        known: dict[str, Any] = {}
        if seen is not None:
            known = {
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
            **known,
        )

    def signature(self) -> list[float]:
        """Its metrics of a fixed picture. Two inspectors with the same signature are the same (`same_signature`)."""
        shade = np.add.outer(np.arange(96), np.arange(96))
        colours = np.stack([shade % 64 * 4, shade // 2 % 48 * 5, np.abs(shade - 96) * 2], axis=-1)
        found = self.inspect(Image.fromarray(colours.astype(np.uint8)))
        return [*found.features, *([] if found.animals is None else [float(found.animals)])]


def crops(picture: Image.Image, side: int) -> list[Image.Image]:
    """Squares of `side` pixels around the middles of a picture's quarters, moved inwards where an edge is near.

    A picture whose shorter side is not longer has none: its features cover all of it already.
    """
    if not 0 < side < min(picture.size):
        return []
    lefts, tops = ([min(max(n // 4 * k - side // 2, 0), n - side) for k in (1, 3)] for n in picture.size)
    return [picture.crop((left, top, left + side, top + side)) for top in tops for left in lefts]


def same_signature(left: Sequence[float], right: Sequence[float]) -> bool:
    """Whether two signatures come from the same inspector, on machines that round differently."""
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
        RequestError: the name is unknown.
        ScaleCrafterError: weights or a package are missing; the message tells what to do.
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
    """As numbers with six digits, as many as single precision has."""
    return [float(f"{value:.6g}") for value in np.asarray(values, np.float64).ravel()]
