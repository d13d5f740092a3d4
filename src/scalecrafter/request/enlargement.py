"""What a request says of a picture to enlarge, and the size that it gets."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from .._util.sizes import ImageSize

LARGEST_SCALE = 8.0
LARGEST_SIDE = 16_384
_SAME_SHAPE = 0.02
"""How far the ratio of the sides may be from the picture's, relatively."""


class Enlargement(BaseModel):
    """How the request's image is enlarged.  In JSON a number alone is the scale: `"enlarge": 4`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    scale: float = Field(default=2.0, gt=1.0, le=LARGEST_SCALE, description="of both sides, unless a size is given")
    creativity: float = Field(default=0.3, ge=0.0, le=1.0, description="0 keeps to the picture, 1 draws anew")


def _scale_alone(value: Any) -> Any:
    return {"scale": value} if isinstance(value, (int, float, str)) and not isinstance(value, bool) else value


EnlargementLike = Annotated[Enlargement, BeforeValidator(_scale_alone)]


def target_size(source: ImageSize, scale: float, asked: ImageSize | None) -> ImageSize:
    """The size of the enlarged picture.

    Args:
        source: the picture's own size.
        scale: of both sides.
        asked: the size that was asked for, which goes before the scale.

    Raises:
        ValueError: for a size of another shape, one that enlarges nothing, or one that is too large.
    """
    size = asked or ImageSize(round(source.width * scale), round(source.height * scale))
    source_size = f"the picture has {source.width}×{source.height} pixels"
    if abs(size.width * source.height / (size.height * source.width) - 1) > _SAME_SHAPE:
        best = ImageSize(size.width, max(round(size.width * source.height / source.width), 1))
        raise ValueError(
            f"{source_size}, and {size.width}×{size.height} is another shape, in which it would be stretched: "
            f"ask for {best.width}x{best.height}"
        )
    if max(size) > LARGEST_SIDE:
        raise ValueError(
            f"{source_size}, and {size.width}×{size.height} is more than {LARGEST_SIDE} a side: ask for less"
        )
    growth = size.width / source.width
    if not 1.0 < growth <= LARGEST_SCALE * (1 + _SAME_SHAPE):
        raise ValueError(
            f"{source_size}, and {size.width}×{size.height} is {growth:g} times that: ask for more than 1 and at most "
            f"{LARGEST_SCALE:g} times"
        )
    return size
