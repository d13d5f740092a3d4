"""The sections of a recipe for transformers: positions, attention and the noise schedule."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError


def _fraction(value: float) -> float:
    if 0.0 < value <= 1.0:
        return value
    raise PydanticCustomError("fraction", "it must be a fraction of the trajectory, above 0 and at most 1")


Until = Annotated[float, AfterValidator(_fraction), Field(description="as a fraction, from the noisiest step")]
NativeGrid = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
"""[height, width] of the trained size in tokens, where it is not what the model says."""


def _temperature(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value in ("entropy", "yarn") or (number and math.isfinite(value) and value > 0):
        return value
    raise ValueError(f'{value!r} is neither "entropy" nor "yarn", nor a number above 0')


def _shift(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value in ("native", "pipeline") or (number and math.isfinite(value)):
        return value
    raise ValueError(f'{value!r} is neither "native" nor "pipeline", nor a number')


class Section(BaseModel):
    """One section of a recipe: immutable, with no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Positions(Section):
    """`[positions]`: rotary positions (or a table of sines) of a larger picture, per axis."""

    until: Until = 1.0
    method: Literal["interpolate", "ntk", "yarn"] = "yarn"
    alpha: float = 1.0
    beta: float = 32.0
    factor: float | None = Field(default=None, ge=1.0)
    """NTK: what theta is multiplied by at any scale, where the frequencies end at those of interpolation."""
    native: NativeGrid | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Positions:
        if self.factor is not None and self.method != "ntk":
            raise ValueError(f'factor has no effect with method = "{self.method}": it is for "ntk"')
        if self.beta <= self.alpha:
            raise ValueError(f"beta is {self.beta:g}: it must be above alpha, which is {self.alpha:g}")
        return self


class AttentionTemperature(Section):
    """`[attention]`: sharper attention where there are more tokens to attend to."""

    until: Until = 1.0
    temperature: Annotated[Literal["entropy", "yarn"] | float, BeforeValidator(_temperature)] = "entropy"
    """A number multiplies the queries."""
    native: NativeGrid | None = None


class Schedule(Section):
    """`[schedule]`: the shift of a flow-matching schedule, for all steps."""

    shift: Annotated[Literal["native", "pipeline"] | float, BeforeValidator(_shift)] = "native"
    """A number is mu, the logarithm of the shift."""
    until: Until = 1.0
    native: NativeGrid | None = None

    @field_validator("until")
    @classmethod
    def _whole(cls, value: float) -> float:
        if value != 1:
            raise ValueError("a schedule is made before the first step and holds for all: leave until out")
        return value
