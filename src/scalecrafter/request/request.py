"""What is asked for: one picture, described completely by plain values that fit in a JSON text.

Command line, batch and server all build a `Request` and hand it to `generation`.  Whether a size suits a model is found
out where the model is at hand.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails

from .._util.text import explain, unknown
from ..errors import ScaleCrafterError
from .control import Control
from .enlargement import Enlargement, EnlargementLike
from .methods import DEFAULT_METHOD, DEFAULT_STRENGTH, ENLARGING_METHOD, METHODS, MethodSettings, Task, named
from .schedulers import SCHEDULERS

if TYPE_CHECKING:
    from ..recipes.recipe import Recipe

DIRECT = "none"
"""As a recipe: without re-dilation.  The method scalecrafter with it is read as the method direct."""
LARGEST_SEED = 2**53 - 1
"""The largest whole number that JSON carries everywhere without loss."""
DEFAULT_STEPS = 25
DEFAULT_GUIDANCE = 7.5
"""Of a model that is not named below: the usual scale for Stable Diffusion."""
MODELS_GUIDANCE = {"critters": 2.0, "critters-dit": 3.0}
"""By embedded name, the scale at which a model draws best (measured: docs/log/quality.md)."""
DEFAULT_MASKED_STRENGTH = 1.0
"""With a mask: what is white is drawn anew."""

DTYPES = ("fp32", "fp16", "bf16")
_LONG_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "half": "fp16"}


def default_guidance(model: str) -> float:
    """The guidance scale of a request for this model that has none."""
    return MODELS_GUIDANCE.get(model, DEFAULT_GUIDANCE)


def says_guidance(model: str) -> bool:
    """Whether a request's model has a scale of its own by its name, which the name of the usual model does not say."""
    return model in MODELS_GUIDANCE and model != Request.model_fields["model"].default


S = TypeVar("S", bound=MethodSettings)


class RequestError(ScaleCrafterError):
    """A request that cannot be made, or a picture file that holds none."""

    users_fault = True


class Request(BaseModel):
    """One picture to make.

    What is None is settled when the picture is made: `width` and `height` become the image's own or twice the native
    side, `seed` is drawn, and `Result.request` holds the values.  `recipe` None stays None: the automatic recipe (or,
    for a cascade, that of its settings).  In JSON the method's settings stand under its name, as in
    `"cascade": {"restart": 0.3}`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompt: str = Field(default="", max_length=10_000, description="may be empty where there is an image")
    negative: str = Field(default="", max_length=10_000, description="what the picture should not show")
    model: str = Field(default="critters", min_length=1, description="embedded name, folder, file or hub id")
    width: int | None = Field(default=None, ge=8, le=16_384, description="image pixels")
    height: int | None = Field(default=None, ge=8, le=16_384, description="image pixels")
    method: str = Field(default=DEFAULT_METHOD, description="a name of request.methods.METHODS")
    recipe: str | None = Field(
        default=None, min_length=1, description='shipped name, path, TOML text, or "none" for direct inference'
    )
    freeu: bool = False
    steps: int = Field(default=DEFAULT_STEPS, ge=1, le=1000)
    guidance: float = Field(
        default_factory=lambda values: default_guidance(values["model"]),
        ge=0.0,
        le=100.0,
        description="guidance scale; by default the model's own (default_guidance)",
    )
    seed: int | None = Field(default=None, ge=0, le=LARGEST_SEED)
    scheduler: str | None = Field(default=None, description="a name of SCHEDULERS; the model's own by default")
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$")
    image: str | None = Field(default=None, min_length=1, description="path of the picture to start from")
    image_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="what that picture must be")
    strength: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="how much of the given picture changes; for hires-fix and cascade, of the enlarged one",
    )
    mask: str | None = Field(
        default=None, min_length=1, description="path of the picture whose white part is redrawn in the image"
    )
    mask_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="what that picture must be")
    controls: tuple[Control, ...] = Field(
        default=(), max_length=8, description="ControlNets, and the images that they follow"
    )
    enlarge: EnlargementLike | None = Field(default=None, description="enlarge the image instead of drawing one")
    settings: SerializeAsAny[MethodSettings] | None = Field(default=None, description="the method's own settings")

    @model_validator(mode="before")
    @classmethod
    def _read_method(cls, data: Any) -> Any:
        """The method by its own name, with the settings that stand under that name."""
        if not isinstance(data, Mapping):
            return data
        values = dict(data)
        enlarging = values.get("enlarge") is not None
        asked = values.get("method", ENLARGING_METHOD if enlarging else DEFAULT_METHOD)
        if not isinstance(asked, str):
            return values
        name, alias = named(asked)
        if name not in METHODS:
            raise ValueError(unknown("method", name, METHODS))
        kind = METHODS[name].settings
        given = {key: values.pop(key) for key in list(values) if key in METHODS and METHODS[key].settings}
        given = {key: settings for key, settings in given.items() if settings is not None}
        if values.get("settings") is not None:
            given.setdefault(name, values["settings"])
        for other in given:
            if other != name or kind is None:
                raise ValueError(f"settings of {other} have no effect with the method {name!r}: leave them out")
        if kind is not None and (alias or given):
            values["settings"] = _settings(kind, name, alias, given.get(name, {}))
        without_recipe = METHODS[name].without_recipe
        if values.get("recipe") == DIRECT and without_recipe is not None:
            if values.get("settings") is not None:
                raise ValueError(f'the settings of {name} change a recipe, and the recipe is "none": name another')
            name, values["recipe"] = without_recipe, None
        values["method"] = name
        return values

    @model_serializer(mode="wrap")
    def _settings_under_their_method(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        values = handler(self)
        if "settings" not in values:
            return values
        del values["settings"]
        if self.settings is not None:
            values[self.method] = self.settings.model_dump(mode=info.mode)
        return values

    @field_validator("scheduler")
    @classmethod
    def _known_scheduler(cls, value: str | None) -> str | None:
        if value is None or value in SCHEDULERS:
            return value
        raise ValueError(unknown("scheduler", value, SCHEDULERS))

    @field_validator("dtype", mode="before")
    @classmethod
    def _short_dtype(cls, value: Any) -> Any:
        return _LONG_DTYPES.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _everything_has_an_effect(self) -> Request:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height are given together")
        method = METHODS[self.method]
        takes = method.takes
        if self.enlarge is not None:
            self._can_be_enlarged()
        elif not self.prompt.strip() and self.image is None:
            raise ValueError("the prompt is empty: say what the picture should show")
        elif self.image is not None and "image" not in takes:
            raise ValueError(f"the method {self.method!r} draws its own first picture: leave the image out")
        if self.image is None and self.strength is not None and "strength" not in takes:
            raise ValueError("strength has no effect without an image: give an image, or leave strength out")
        if self.image is None and self.image_sha256 is not None:
            raise ValueError("image_sha256 has no meaning without an image")
        if self.mask is not None and self.image is None:
            raise ValueError("a mask has no effect without an image: give the image of which a part is to be redrawn")
        if self.mask is None and self.mask_sha256 is not None:
            raise ValueError("mask_sha256 has no meaning without a mask")
        if self.controls and "control" not in takes:
            able = ", ".join(name for name, method in METHODS.items() if "control" in method.takes)
            raise ValueError(f"the method {self.method!r} follows no control image; these do: {able}")
        if self.image is not None and self.enlarge is None:
            self.check_steps_left()
        if method.check is not None:
            method.check(self)
        if self.negative and self.guidance <= 1.0:
            raise ValueError("a negative prompt has no effect at a guidance of 1 or less: raise it, or leave it out")
        if self.recipe not in (None, DIRECT) and "recipe" not in takes:
            raise ValueError(f"a recipe has no effect with the method {self.method!r}: leave it out")
        if self.freeu and "freeu" not in takes:
            raise ValueError(f"freeu has no effect with the method {self.method!r}: leave it out")
        return self

    def _can_be_enlarged(self) -> None:
        """Raise ValueError for what has no effect, or is missing, where a picture is enlarged."""
        if self.image is None:
            raise ValueError("there is no picture to enlarge: give an image")
        if not METHODS[self.method].can_enlarge:
            able = ", ".join(name for name, method in METHODS.items() if method.can_enlarge)
            raise ValueError(f"the method {self.method!r} enlarges no given picture; these do: {able}")
        for name in ("strength", "mask", "controls"):
            if getattr(self, name):
                instead = "say its creativity" if name == "strength" else "leave it out"
                raise ValueError(f"{name} has no effect where a picture is enlarged: {instead}")

    def check_steps_left(self) -> None:
        """Raise ValueError where the strength leaves no step to run."""
        if int(self.steps * self.strength_or_default) < 1:
            raise ValueError(
                f"{self.steps} steps at strength {self.strength_or_default:g} leave no step to run: raise either"
            )

    @property
    def task(self) -> Task:
        """What is asked of the method."""
        return "enlarge" if self.enlarge is not None else "create" if self.image is None else "edit"

    @property
    def method_label(self) -> str:
        """The method's name, with what its settings add to it: "scalecrafter-fixed"."""
        return self.method + (self.settings.label if self.settings is not None else "")

    def settings_of(self, kind: type[S]) -> S:
        """The method's settings of this class; its defaults where the request has none."""
        return self.settings if isinstance(self.settings, kind) else kind()

    @property
    def strength_or_default(self) -> float:
        """The strength of image to image, inpainting and the methods that take one, as it takes effect."""
        if self.strength is not None:
            return self.strength
        if self.image is None:
            return METHODS[self.method].default_strength
        return DEFAULT_STRENGTH if self.mask is None else DEFAULT_MASKED_STRENGTH

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], source: str = "request") -> Request:
        """A request from plain values, as JSON or a command line gives them.

        Raises:
            RequestError: one line that names every wrong value, with near names for an unknown key.
        """
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise RequestError(f"{source}: {explain(error, _settings_at)}") from None

    def changed(self, **values: Any) -> Request:
        """A copy with other values, validated again (`RequestError`).  A guidance that was left open stays so."""
        data = self.model_dump() | values
        if named(values.get("method", self.method))[0] != self.method:
            data.pop(self.method, None)  # its settings
        for picture, known in (("image", "image_sha256"), ("mask", "mask_sha256")):
            if picture in values and known not in values:
                data[known] = None
        copy = Request.from_mapping(data)
        if "guidance" not in self.model_fields_set | values.keys():
            copy.model_fields_set.discard("guidance")
        return copy

    def digest(self) -> str:
        """SHA-256 of what is asked for: the name of a request.

        Of its JSON with sorted keys and without empty values (None, an empty text or list), so that a field that is
        added one day does not rename the requests without it.  Of a settled request
        (`generation.generate.settle`) it names the picture.
        """
        values = {name: value for name, value in self.model_dump(mode="json").items() if value not in (None, "", [])}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def directly(self) -> Request:
        """The same picture by direct inference, to compare with."""
        strength = self.strength if self.image is not None else None
        return self.changed(method="direct", recipe=None, freeu=False, strength=strength)

    def resolved_recipe(self) -> Recipe | None:
        """The recipe that the request names; None where it is automatic or "none" (`RecipeError`)."""
        from ..recipes.recipe import Recipe, shipped_recipes

        if self.recipe is None or self.recipe == DIRECT:
            return None
        if "=" in self.recipe and self.recipe not in shipped_recipes() and not os.path.exists(self.recipe):
            return Recipe.parse(self.recipe, "the given recipe text")
        return Recipe.load(self.recipe)

    def self_contained(self) -> Request:
        """The same request with a recipe's file replaced by its text, so that it can be repeated without the file."""
        from ..recipes.recipe import shipped_recipes

        recipe = self.resolved_recipe()
        if recipe is None or self.recipe in shipped_recipes():
            return self
        return self.changed(recipe=recipe.to_toml())


def request_fields() -> list[str]:
    """Every key that a request may have, the methods' settings included."""
    own = [name for name in Request.model_fields if name != "settings"]
    return [*own, *(name for name, method in METHODS.items() if method.settings)]


def _settings_at(places: Sequence[str]) -> list[str]:
    """The keys below a place in a request."""
    if not places:
        return request_fields()
    inner: dict[str, type[BaseModel]] = {"controls": Control, "enlarge": Enlargement}
    inner |= {name: method.settings for name, method in METHODS.items() if method.settings is not None}
    return list(inner.get(places[0], Request).model_fields)


def _settings(kind: type[MethodSettings], name: str, alias: Mapping[str, Any], given: Any) -> MethodSettings:
    """The settings of a method; errors name the place below the method's name."""
    given = given.model_dump() if isinstance(given, kind) else given
    try:
        return kind.model_validate({**alias, **given} if isinstance(given, Mapping) else given)
    except ValidationError as error:
        details = [
            InitErrorDetails(type=one["type"], loc=(name, *one["loc"]), input=one["input"], ctx=one.get("ctx", {}))
            for one in error.errors()
        ]
        raise ValidationError.from_exception_data(name, details) from None
