"""The levers of the method fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from .._util.text import unknown
from ..request.methods import MethodSettings
from ..request.schedulers import SCHEDULERS
from .steps.distilled import KINDS, STEPS, Distillation, kind_in, steps_in

if TYPE_CHECKING:
    from ..request.request import Request
    from ..transformer.architecture import TransformerArchitecture
    from ..unet.architecture import Architecture

    Model = Architecture | TransformerArchitecture
else:
    Model = Any

UNGUIDED = 1.0
FOR_UNETS = ("guided_until", "features", "attention", "vae_attention", "lora", "lora_kind", "lora_steps")
"""Settings that have no effect with a transformer."""
RESTART = 0.04


class FastSettings(MethodSettings):
    """The levers of the method fast."""

    most_steps: int = Field(default=14, ge=1, description="steps at the native size, where the request has more")
    scheduler: str | None = Field(default=None, description="where the request names none; null is the model's own")
    guided_until: float = Field(default=0.7, gt=0.0, le=1.0, description="where guidance ends at the native size")
    restart: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="fraction of the trajectory that a stage runs; null: 0.04, of a given picture its creativity",
    )
    stage_guidance: float = Field(default=UNGUIDED, ge=0.0, le=100.0, description="scale of the stages; 1: unguided")
    features: Literal["re-dilated", "coarse"] = Field(
        default="re-dilated",
        description="of the stages' deep layers: re-dilated, or brought to the native grid as HiDiffusion does",
    )
    attention: Literal["full", "pooled", "windows"] = Field(
        default="pooled",
        description="of the stages: keys and values pooled 2x2, or windows at the finest level and phases at the next",
    )
    vae_attention: Literal["full", "pooled"] = Field(
        default="full", description="pooled: keys and values pooled to the native grid, approximate"
    )

    lora: str | None = Field(
        default=None,
        min_length=1,
        description="a distilled LoRA: .safetensors file, folder, hub id, or OWNER/NAME:FILE; unguided, in few steps",
    )
    lora_kind: Literal["lcm", "lightning", "hyper"] | None = Field(
        default=None, description="which scheduler it takes; null: as its name says"
    )
    lora_steps: int | None = Field(default=None, ge=1, le=50, description="with it; null: as its name says, else 4")

    not_from_clients = frozenset({"lora", "lora_kind", "lora_steps"})

    @model_validator(mode="after")
    def _lora_is_known(self) -> FastSettings:
        if self.lora is None:
            for name in ("lora_kind", "lora_steps"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect without a lora: leave it out")
        elif self.distillation is None:
            raise ValueError("the name of the lora does not say its kind: give lora_kind, lcm, lightning or hyper")
        return self

    @property
    def distillation(self) -> Distillation | None:
        """How its LoRA is run; None without one."""
        kind = self.lora_kind or kind_in(self.lora or "")
        return None if self.lora is None or kind is None else KINDS[kind]

    @property
    def native_steps(self) -> int:
        """The most at the native size."""
        if self.lora is None:
            return self.most_steps
        return self.lora_steps or steps_in(self.lora) or STEPS

    @field_validator("scheduler")
    @classmethod
    def _known_scheduler(cls, value: str | None) -> str | None:
        if value is None or value in SCHEDULERS:
            return value
        raise ValueError(unknown("scheduler", value, SCHEDULERS))


def fast_settings(request: Request, architecture: Model) -> FastSettings:
    """The request's levers, or the defaults; `RecipeError` for one that this model has none of."""
    settings = request.settings_of(FastSettings)
    if not is_transformer(architecture):
        return settings
    for name in FOR_UNETS:
        if getattr(settings, name) != FastSettings.model_fields[name].default:
            from ..errors import RecipeError

            raise RecipeError(f"{name} has no effect with a transformer: leave it out")
    return settings.model_copy(update={"guided_until": 1.0, "attention": "full"})


def is_transformer(architecture: Model) -> bool:
    """Whether a model denoises with a transformer."""
    from ..transformer.architecture import TransformerArchitecture

    return isinstance(architecture, TransformerArchitecture)
