"""Where and how classifier-free guidance acts: settings that several methods have."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated, Any

from pydantic import Field, model_validator

from ...request.methods import MethodSettings

Place = Annotated[float, Field(ge=0.0, le=1.0)]


class GuidanceSettings(MethodSettings):
    """Settings of guidance, in all passes of a picture."""

    guidance_interval: tuple[Place, Place] = (0.0, 1.0)
    """Guidance acts from the first to before the second place in the trajectory, counted from the noisiest step
    (arXiv 2404.07724).  Outside, the conditional prediction stands alone, and half of the work is saved."""
    guidance_rescale: float = Field(default=0.0, ge=0.0, le=1.0)
    """How far the deviation of a guided prediction is brought back to that of the conditional one (arXiv 2305.08891,
    section 3.4)."""

    @model_validator(mode="after")
    def _has_an_interval(self) -> GuidanceSettings:
        if self.guidance_interval[0] >= self.guidance_interval[1]:
            raise ValueError("guidance_interval ends where it begins: its second place lies after the first")
        return self

    def steered(self, pipe: Any) -> AbstractContextManager[Any]:
        """These settings on a pipeline, for the length of a `with` block; entered after a recipe is applied."""
        from ...patching.guidance import steered_guidance

        return steered_guidance(pipe, self.guidance_interval, self.guidance_rescale)

    def check_guidance(self, guidance: float) -> None:
        """Raise ValueError for what has no effect at this guidance scale."""
        for name in GuidanceSettings.model_fields:
            if guidance <= 1.0 and getattr(self, name) != GuidanceSettings.model_fields[name].default:
                raise ValueError(f"{name} has no effect at a guidance of 1 or less: raise it, or leave {name} out")
