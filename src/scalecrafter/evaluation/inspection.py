"""The metrics of one picture: what the observer counts and names, features for distances, the spectrum.

An extractor reduces a picture to a small square, in which an enlarged picture looks like any other. So crops, which are
not reduced, have features of their own (for the FID of crops, as in DemoFusion, arXiv 2311.16973).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, model_validator

from ..request.request import RequestError
from .inception import Extractor
from .spectrum import spectrum

FEATURES = ("imagenet", "critters", "inception", "none")
"""Where the features for distances come from; "none": there are no distances.  An observer's own are always there."""
OBSERVERS = "critters"
"""The name of the features that are the observer's."""

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


class Features(BaseModel):
    """The features that one network sees in a picture."""

    model_config = ConfigDict(frozen=True)

    whole: list[float]
    crops: list[list[float]] = []
    """Of each of `crops(picture)`."""


class PictureMetrics(BaseModel):
    """The metrics of one picture. What is not known is None or empty."""

    model_config = ConfigDict(frozen=True)

    animals: int | None = None
    parts: dict[str, int] = {}
    one_object: bool | None = None
    well_formed: bool | None = None
    attributes: dict[str, str] = {}
    features: dict[str, Features] = {}
    """By name, of `FEATURES`."""
    spectrum: list[float]
    top_octave: float

    @model_validator(mode="before")
    @classmethod
    def _features_by_name(cls, data: Any) -> Any:
        """Rows of version 0.1 have features of one kind only, without its name."""
        if not isinstance(data, Mapping) or not isinstance(data.get("features"), list):
            return data
        values = dict(data)
        whole, crops = values.pop("features"), values.pop("crops", [])
        name = "inception" if len(whole) == _INCEPTIONS else OBSERVERS
        return {**values, "features": {name: {"whole": whole, "crops": crops}} if whole else {}}


_INCEPTIONS = 2048
"""How many features inception has."""

Signature = dict[str, list[float]]
"""What an inspector sees in a fixed picture: by name of features, and its count under "animals"."""


@dataclass(frozen=True)
class FeatureExtractor:
    """A network's features."""

    extract: Extractor
    side: int = 0
    """Side of the square that it sees, in pixels; 0: unknown, and crops have no features."""
    step: float | None = None
    """Features are kept as multiples of it, which makes their files small; None: as they are."""


@dataclass(frozen=True)
class Inspector:
    """Inspects pictures with an observer, extractors of features, both or neither."""

    name: str
    """Of `FEATURES`, for the report."""
    observer: ObserverLike | None = None
    """Its own features are kept under `OBSERVERS`."""
    extractors: Mapping[str, FeatureExtractor] = field(default_factory=dict)
    """Of other features, by name."""
    observers_side: int = 0
    """Side of the square that the observer sees, as `FeatureExtractor.side`."""

    def inspect(self, picture: Image.Image) -> PictureMetrics:
        """The metrics of a picture: RGB, with sides of at least 16 pixels."""
        picture = picture.convert("RGB")
        known: dict[str, Any] = {}
        features: dict[str, Features] = {}
        if self.observer is not None:
            seen, *of_crops = self.observer.observe([picture, *crops(picture, self.observers_side)])
            features[OBSERVERS] = _features(seen.features, [other.features for other in of_crops])
            known = {
                "animals": int(seen.animals),
                "parts": {kind: int(number) for kind, number in seen.parts.items()},
                "one_object": bool(seen.one_object),
                "well_formed": bool(seen.well_formed),
                "attributes": {"species": seen.species, "colour": seen.colour, "accessory": seen.accessory},
            }
        for name, one in self.extractors.items():
            views = [one.extract(view) for view in (picture, *crops(picture, one.side))]
            if one.step is not None:
                views = [np.round(view / one.step) * np.float32(one.step) for view in views]
            features[name] = _features(views[0], views[1:])
        light = spectrum(picture)
        return PictureMetrics(
            features=features,
            spectrum=_short(light.power),
            top_octave=_short([light.top_octave])[0],
            **known,
        )

    def signature(self) -> Signature:
        """Its metrics of a fixed picture. Two inspectors with the same signature are the same (`same_signature`)."""
        shade = np.add.outer(np.arange(96), np.arange(96))
        colours = np.stack([shade % 64 * 4, shade // 2 % 48 * 5, np.abs(shade - 96) * 2], axis=-1)
        found = self.inspect(Image.fromarray(colours.astype(np.uint8)))
        counted = {} if found.animals is None else {"animals": [float(found.animals)]}
        return {**{name: features.whole for name, features in found.features.items()}, **counted}


def crops(picture: Image.Image, side: int) -> list[Image.Image]:
    """Squares of `side` pixels around the middles of a picture's quarters, moved inwards where an edge is near.

    A picture whose shorter side is not longer has none: its features cover all of it already.
    """
    if not 0 < side < min(picture.size):
        return []
    lefts, tops = ([min(max(n // 4 * k - side // 2, 0), n - side) for k in (1, 3)] for n in picture.size)
    return [picture.crop((left, top, left + side, top + side)) for top in tops for left in lefts]


def same_signature(left: Any, right: Signature) -> bool:
    """Whether two signatures come from the same inspector, on machines that round differently.

    The left one may have been read from a file of version 0.1.
    """
    named = _by_name(left)
    return named.keys() == right.keys() and agreeing(named, right) == set(right)


def agreeing(left: Any, right: Signature) -> set[str]:
    """The parts of two signatures that come from the same network; arguments as of `same_signature`."""
    named = _by_name(left)
    return {name for name in named.keys() & right.keys() if _alike(named[name], right[name])}


def _by_name(signature: Any) -> Mapping[str, Sequence[float]]:
    """A signature of version 0.1 is a list: the observer's features, then its count."""
    if isinstance(signature, Mapping):
        return signature
    return {OBSERVERS: signature[:-1], "animals": signature[-1:]}


def _alike(left: Sequence[float], right: Sequence[float]) -> bool:
    if len(left) != len(right):
        return False
    tolerance = 0.01 * (float(np.abs(left).max()) if len(left) else 0.0)
    return bool(np.allclose(left, right, rtol=0.0, atol=tolerance))


def make_inspector(features: str, observe: bool) -> Inspector:
    """The inspector for features of that name (one of `FEATURES`).

    Args:
        features: "imagenet" (offline), "critters" (the observer's own, offline), "inception" or "none".
        observe: whether to count and name what pictures show, with the observer's features; "critters" always does.

    Raises:
        RequestError: the name is unknown.
        ScaleCrafterError: weights or a package are missing; the message tells what to do.
    """
    if features not in FEATURES:
        raise RequestError(f"there are no features {features!r}: take one of {', '.join(FEATURES)}")
    observer: ObserverLike | None = None
    extractors, side = {}, 0
    if observe or features == OBSERVERS:
        from .observer import WORKING_SIDE, load_observer

        observer, side = load_observer(), WORKING_SIDE
    if features == "inception":
        from .inception import SIDE, load_inception

        extractors[features] = FeatureExtractor(load_inception(), SIDE)
    elif features == "imagenet":
        from .imagenet import SIDE, STEP, load_imagenet

        extractors[features] = FeatureExtractor(load_imagenet(), SIDE, STEP)
    return Inspector(features, observer, extractors, side)


def _features(whole: Any, of_crops: Sequence[Any]) -> Features:
    return Features(whole=_short(whole), crops=[_short(np.float16(view)) for view in of_crops])


def _short(values: Any) -> list[float]:
    """As numbers with six digits, as many as single precision has."""
    return [float(f"{value:.6g}") for value in np.asarray(values, np.float64).ravel()]
