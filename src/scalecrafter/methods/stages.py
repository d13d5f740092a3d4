"""The sizes of a picture that is made in several passes, and the settings of a cascade.

Plain numbers: knows nothing of torch or pipelines.
"""

from __future__ import annotations

import itertools
from math import ceil, log2
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

if TYPE_CHECKING:
    from ..unet.architecture import Architecture

Size = tuple[int, int]
"""(width, height) in image pixels."""
GROWTH = 2
"""How much longer a side gets from one stage to the next, at most."""


def _each(value: Any) -> Any:
    """One number for all stages, or a list with one for each."""
    return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Restart = Annotated[float, Field(gt=0.0, le=1.0)]
Guidance = Annotated[float, Field(ge=0.0, le=100.0)]


class Cascade(BaseModel):
    """How the stages of a cascade after the first are run.

    Where several values can be given, they are those of one stage after the other, and the last holds for all that
    follow.  A recipe in the request acts in all of these stages in the place of `levels` and `until`; the recipe
    "none" leaves them undilated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    restart: Annotated[tuple[Restart, ...], BeforeValidator(_each), Field(min_length=1)] = (0.04,)
    """Fraction of the trajectory that is still to run after the noise has been added again; a stage runs at least one
    step, however few there are.  The default is measured in docs/quality.md."""
    guidance: Annotated[tuple[Guidance, ...], BeforeValidator(_each), Field(min_length=1)] | None = None
    """Guidance scale; None: 1, which is without guidance, and with a recipe of the request's own its guidance."""
    upsample: Literal["pixels", "latents"] = "pixels"
    """Enlarge the decoded picture with Lanczos, or the latents bilinearly.  Latents between those of two pixels are
    not those of the picture between them, so that enlarged latents decode to smears; pixels cost a decoding and an
    encoding."""
    levels: int | None = Field(default=None, ge=0)
    """How many of the deepest levels are re-dilated, beside the middle block, by the ratio of the stage's size to the
    native one.  None: all but the finest."""
    until: float = Field(default=1.0, gt=0.0, le=1.0)
    """Where that ends, as a fraction of the whole trajectory: a stage that restarts half-way begins at 0.5."""

    def restart_of(self, stage: int) -> float:
        """Of the stage with this number; 0 is the first after the native size."""
        return self.restart[min(stage, len(self.restart) - 1)]

    def guidance_of(self, stage: int) -> float | None:
        """Likewise; None: not said."""
        return None if self.guidance is None else self.guidance[min(stage, len(self.guidance) - 1)]


def native_size(architecture: Architecture, size: Size) -> Size:
    """The size at which to make the picture that will be enlarged to `size`.

    The good size that is nearest to the native area and, counted twice, to the target's aspect ratio, both in powers
    of two; the smaller one of two that are as near.  A target of no more than the native area is its own.
    """
    multiple, factor = architecture.size_multiple, architecture.pixel_factor
    area = architecture.native_width * architecture.native_height * factor**2
    width, height = size
    if width * height <= area:
        return size

    def distance(candidate: Size) -> tuple[float, int]:
        across, down = candidate
        aspect = abs(log2(across / down / (width / height)))
        return round(2 * aspect + abs(log2(across * down / area)), 9), across * down

    across, down = (range(multiple, min(side, 4 * area // multiple) + 1, multiple) for side in size)
    return min(itertools.product(across, down), key=distance)


def stage_sizes(first: Size, last: Size, multiple: int) -> list[Size]:
    """The sizes of the stages after `first`, up to and with `last`, none more than `GROWTH` times the side before it.

    As few as can be, and even: each side grows by about the same ratio from stage to stage.  All sides are multiples
    of `multiple`; rounded up, which keeps within `GROWTH`, since twice a multiple is one too.
    """
    ratios = [end / start for start, end in zip(first, last, strict=True)]
    count = ceil(log2(max(ratios)) / log2(GROWTH) - 1e-9)
    sizes = []
    for stage in range(1, count):
        ideal = [start * ratio ** (stage / count) for start, ratio in zip(first, ratios, strict=True)]
        width, height = (ceil(side / multiple - 1e-9) * multiple for side in ideal)
        sizes.append((width, height))
    return [*sizes, last] if count > 0 else []
