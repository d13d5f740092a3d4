"""Recipes: which layers are re-dilated, dispersed and damped, by how much and for how long.

The TOML file format and its validation.  Whether a prefix names a layer of a model is checked in `resolution`.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from .._util.files import write_whole
from .._util.sizes import Factors
from .._util.text import explain, near_names, setting_names, unknown
from ..errors import RecipeError
from ..transformer.families import TRANSFORMERS
from ..unet.families import ANY, FAMILIES
from .transformer_sections import AttentionTemperature, NativeGrid, Positions, Schedule, Section, Until

LARGEST_FACTOR, LARGEST_KERNEL = 128, 15
"""More helps no picture, and one step would take minutes."""


def _pair(value: Any) -> Any:
    """A factor as it may stand in a file: one number, or [vertical, horizontal]."""
    if isinstance(value, bool):
        raise ValueError("a factor is a number or [vertical, horizontal], not true or false")
    if isinstance(value, (int, float)):
        value = (value, value)
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError("a factor is a number or [vertical, horizontal]")
    if not all(isinstance(axis, (int, float)) and not isinstance(axis, bool) for axis in value):
        raise ValueError("a factor is a number or [vertical, horizontal]")
    vertical, horizontal = float(value[0]), float(value[1])
    if not all(math.isfinite(axis) and axis >= 1.0 for axis in (vertical, horizontal)):
        raise ValueError("a dilation factor must be finite and 1 or more")
    if max(vertical, horizontal) > LARGEST_FACTOR:
        raise ValueError(f"a dilation factor must be {LARGEST_FACTOR} or less")
    return vertical, horizontal


LayerFactors = dict[str, Annotated[Factors, BeforeValidator(_pair)]]
ARCHITECTURES = (*FAMILIES, *TRANSFORMERS, ANY)


class Redilation(Section):
    """`[redilation]`: dilation factors by module path prefix, for the first part of the trajectory."""

    until: Until
    progressive: bool = False
    layers: LayerFactors = Field(min_length=1)
    layers_until: dict[str, Until] = Field(default_factory=dict)
    """Where some of these layers end sooner, by prefix: the finest level, say, whose dilation leaves noise."""

    @model_validator(mode="after")
    def _end_sooner(self) -> Redilation:
        for prefix, until in self.layers_until.items():
            if until > self.until:
                raise ValueError(f"layers_until of {prefix!r} is {until:g}, after until: give at most {self.until:g}")
        return self


class Dispersion(Section):
    """`[dispersion]`: layers whose 3×3 kernels become larger ones that see twice as far."""

    until: Until
    kernel_size: int = 5
    eta: float = Field(default=0.05, ge=0.0)
    feature_size: int = Field(default=3, ge=2, le=8)
    layers: tuple[str, ...] = Field(min_length=1)

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value < 5 or value % 2 == 0:
            raise ValueError("kernel_size must be odd and 5 or more")
        if value > LARGEST_KERNEL:
            raise ValueError(f"kernel_size must be {LARGEST_KERNEL} or less")
        return value


class NoiseDamping(Section):
    """`[noise_damping]`: the strong denoiser's own factors; no layers means the original model."""

    until: Until
    progressive: bool | None = None
    """By default as in `[redilation]`."""
    layers: LayerFactors = Field(default_factory=dict)


class FreeU(Section):
    """`[freeu]`: backbone and skip factors of FreeU (Si et al. 2023, arXiv 2309.11497)."""

    b1: float = Field(gt=0)
    b2: float = Field(gt=0)
    s1: float = Field(gt=0)
    s2: float = Field(gt=0)


SECTIONS = ("redilation", "dispersion", "noise_damping", "freeu", "positions", "attention", "schedule")


class Recipe(BaseModel):
    """One way of running ScaleCrafter: immutable, checked when made.

    Make one from a file with `Recipe.load`, from TOML text with `Recipe.parse`, or directly from its sections.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str = ANY
    height: int | None = Field(default=None, gt=0)
    width: int | None = Field(default=None, gt=0)
    redilation: Redilation | None = None
    dispersion: Dispersion | None = None
    noise_damping: NoiseDamping | None = None
    freeu: FreeU | None = None
    native: NativeGrid | None = None
    """Of a transformer: [height, width] of its trained size in tokens, for all sections that do not say."""
    positions: Positions | None = None
    attention: AttentionTemperature | None = None
    schedule: Schedule | None = None

    @field_validator("architecture")
    @classmethod
    def _known_architecture(cls, value: str) -> str:
        if value in ARCHITECTURES:
            return value
        raise ValueError(unknown("architecture", value, ARCHITECTURES))

    @model_validator(mode="after")
    def _does_something(self) -> Recipe:
        if not self.sections:
            names = ", ".join(f"[{name}]" for name in SECTIONS)
            raise ValueError(f"this recipe has no effect: give it one of the sections {names}")
        if self.sections == ("schedule",) and self.schedule and self.schedule.shift == "pipeline":
            raise ValueError('this recipe has no effect: [schedule] shift = "pipeline" leaves the schedule alone')
        if self.noise_damping and not (self.noise_damping.layers or self.redilation or self.dispersion):
            raise ValueError("[noise_damping] without layers has no effect alone: add [redilation] or [dispersion]")
        return self

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of the sections that it has."""
        return tuple(name for name in SECTIONS if getattr(self, name) is not None)

    def refuse_sections_besides(self, useful: Collection[str], model: str) -> None:
        """Raise `RecipeError` for a section that a model (named in words) has no use for."""
        idle = [f"[{name}]" for name in self.sections if name not in useful]
        if idle:
            known = ", ".join(f"[{name}]" for name in SECTIONS if name in useful)
            raise RecipeError(f"{model} has no use for {' and '.join(idle)} in a recipe: it has one for {known}")

    @property
    def damping_is_progressive(self) -> bool:
        """Whether the strong denoiser's factors shrink as well."""
        if self.noise_damping is None:
            return False
        if self.noise_damping.progressive is not None:
            return self.noise_damping.progressive
        return self.redilation is not None and self.redilation.progressive

    @classmethod
    def parse(cls, text: str, source: str = "recipe") -> Recipe:
        """A recipe from TOML text; `source` is named in errors (`RecipeError`)."""
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # TOML's own error is a ValueError, too
            raise RecipeError(f"{source} is not valid TOML: {error}") from None
        return cls.from_mapping(data, source)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], source: str = "recipe") -> Recipe:
        """A recipe from nested dictionaries as a TOML parser gives them."""
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise RecipeError(f"{source}: {explain(error, setting_names(cls))}") from None

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Recipe:
        """A shipped recipe by name (see `shipped_recipes`), or one from a path to a .toml file.

        Raises:
            RecipeError: for an unknown name, a missing file, or a file that is not a recipe.
        """
        name = os.fspath(name_or_path)
        if name in shipped_recipes():
            text = resources.files(__package__).joinpath(f"{name}.toml").read_text("utf-8")
            return cls.parse(text, name)
        path = Path(name)
        if not path.is_file():
            raise RecipeError(f"no shipped recipe and no file is named {name!r}{near_recipes(name)}")
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read the recipe {name!r}: {error}") from None
        return cls.parse(text, name)

    def to_toml(self) -> str:
        """The recipe as TOML text, which `parse` reads back to an equal recipe."""
        data = self.model_dump(exclude_none=True, mode="json")
        for section in ("redilation", "noise_damping"):
            if section in data:
                data[section]["layers"] = {prefix: _short(pair) for prefix, pair in data[section]["layers"].items()}
        if self.redilation and not self.redilation.layers_until:
            del data["redilation"]["layers_until"]
        return tomli_w.dumps(data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe to `path` as TOML (`UnwritableError`)."""
        write_whole(Path(path), self.to_toml(), parents=False)


def shipped_recipes() -> tuple[str, ...]:
    """Names of the recipes in the package, sorted."""
    folder = resources.files(__package__)
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def near_recipes(name: str) -> str:
    """The shipped recipes whose names are like this one, as "; did you mean 'sd15-1024x1024'?", or nothing."""
    hint = near_names(name, shipped_recipes(), cutoff=0.3)
    return f"; {hint}" if hint else ""


def _short(pair: list[float]) -> Any:
    vertical, horizontal = (int(axis) if axis == int(axis) else axis for axis in pair)
    return vertical if vertical == horizontal else [vertical, horizontal]
