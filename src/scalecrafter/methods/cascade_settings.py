"""The settings of a cascade, and other authors' cascades as presets of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from .steps.guidance_settings import GuidanceSettings

UNGUIDED = 1.0
"""Guidance scale of a stage that the cascade itself re-dilates, by default: the conditional prediction alone.  What is
in the picture is settled by then, and guidance multiplies the error that re-dilation makes in predicting noise (the
paper's reason for noise-damped guidance, section 3.4).  It saves half the evaluations; docs/log/quality.md."""


def _each(value: Any) -> Any:
    """One number for all stages, or a list with one for each."""
    return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Restart = Annotated[float, Field(gt=0.0, le=1.0)]
Guidance = Annotated[float, Field(ge=0.0, le=100.0)]


class CascadeSettings(GuidanceSettings):
    """How the stages of a cascade after the first are run.

    Where several values can be given, they are those of one stage after the other, and the last holds for all that
    follow.  A recipe in the request acts in all of these stages in the place of `levels` and `until`; the recipe
    "none" leaves them undilated.
    """

    restart: Annotated[tuple[Restart, ...], BeforeValidator(_each), Field(min_length=1)] = (0.4, 0.2)
    """Fraction of the trajectory that is still to run after the noise has been added again; a stage runs at least one
    step, however few there are.  The defaults are from docs/log/quality.md: a shorter one draws no detail, and a
    longer one, far from the native size, grows texture over small things."""
    guidance: Annotated[tuple[Guidance, ...], BeforeValidator(_each), Field(min_length=1)] | None = None
    """Guidance scale; None: 1, which is without guidance, and with a recipe of the request's own its guidance."""
    upsample: Literal["pixels", "latents"] = "pixels"
    """Enlarge the decoded picture with Lanczos, or the latents bilinearly.  Latents between those of two pixels are
    not those of the picture between them, so that enlarged latents decode to smears; pixels cost a decoding and an
    encoding."""
    levels: int | None = Field(default=None, ge=0)
    """How many of the deepest levels are re-dilated, beside the middle block, by the ratio of the stage's size to the
    native one.  None: all but the finest."""
    until: float = Field(default=0.5, gt=0.0, le=1.0)
    """Where that ends, as a fraction of the whole trajectory.  A stage with restart 0.4 begins at 0.6, where the
    picture is settled, and nothing is re-dilated.  With restart 0.7 it is, from 0.3 to 0.5."""
    dilated: Literal["all", "down", "none"] = "all"
    """What of these levels is re-dilated beside the middle block: the way down and up; the way down alone, with the
    convolution that leads down to them (FreeScale, section 3); or nothing, the middle block neither."""
    mixing: float | None = Field(default=None, gt=0.0, le=100.0)
    """Mix the latents of a stage, before each step, with the enlarged and noised picture, by the cosine weight to this
    power (FreeScale, section 3; its `cosine_scale`, usually 1 to 2).  None: the picture is a starting point alone."""
    attention: Literal["global", "fused"] = "global"
    """Of the self-attention of a stage: as it is, or its high frequencies joined to the low ones of attention in
    windows of the native size (FreeScale, section 3).  It costs about twice the attention."""
    refresh: bool = False
    """Whether a stage stops where the next one begins, and hands on the picture that the model predicts there
    (RectifiedHR, arXiv 2503.02537, section 3.2), instead of finishing first.  No step is run twice then.  Restarts fall
    from stage to stage; a scheduler that tells its prediction is needed, as ddim or euler."""

    def restart_of(self, stage: int) -> float:
        """Of the stage with this number; 0 is the first after the native size."""
        return self.restart[min(stage, len(self.restart) - 1)]

    def guidance_of(self, stage: int) -> float | None:
        """Likewise; None: the default."""
        return None if self.guidance is None else self.guidance[min(stage, len(self.guidance) - 1)]

    @model_validator(mode="after")
    def _fits_together(self) -> CascadeSettings:
        if self.refresh and (self.mixing is not None or self.upsample == "latents"):
            raise ValueError("refresh goes with enlarged pixels and without mixing: leave the others out")
        asked = self.levels is not None or self.until != CascadeSettings.model_fields["until"].default
        if self.dilated == "none" and asked:
            raise ValueError('levels and until have no effect where nothing is dilated: leave them or "none" out')
        if self.dilated == "down" and self.levels == 0:
            raise ValueError('"down" has no effect with levels 0, which dilates the middle block alone')
        if (asked or self.dilated == "down") and 1.0 - max(self.restart) >= self.until:
            raise ValueError(
                f"nothing would be dilated: that ends at {self.until:g} of the trajectory, and with restart "
                f"{max(self.restart):g} a stage begins at {1.0 - max(self.restart):g}: raise restart or until"
            )
        return self


_FREESCALE = {
    "restart": (0.7,), "guidance": (7.5,), "levels": 1, "until": 0.7, "dilated": "down", "mixing": 2.0,
    "attention": "fused",
}  # fmt: skip
"""run_freescale.py and its pipeline's defaults, for SDXL at 50 steps: restart at step 15, dilation in the first 35,
cosine_scale 2.  It also applies FreeU (1.1, 1.2, 0.6, 0.4), which is not part of this, and enlarges bicubically."""

PRESETS = {
    "freescale": _FREESCALE,
    "rectifiedhr": {"restart": (0.4,), "guidance": (30.0,), "dilated": "none", "refresh": True},
    "rectifiedhr-4096": {"restart": (0.2, 0.06), "guidance": (36.8, 50.0), "dilated": "none", "refresh": True},
}
"""Other names for the method, with the settings that their authors published for SDXL: method "freescale" and so on.

RectifiedHR's (configs_sdxl.py, 50 steps, guidance 5 at the native size): 2048² with one refresh at step 30 and guidance
30 after it; 4096² with refreshes at steps 40 and 47, and guidance 36.8 and 50.  It dilates nothing; its stages to 4096²
go by 2560², ours by 2048².
"""
