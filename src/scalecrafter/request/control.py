"""A ControlNet and the image it follows, as plain values."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_SCALE = 1.0


class Control(BaseModel):
    """One ControlNet that guides a picture by an image (edges, depth, a pose …)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(min_length=1, description="folder, .safetensors file or hub id of the ControlNet")
    image: str = Field(min_length=1, description="path of the image that it follows, as the ControlNet expects it")
    image_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="what that image must be")
    scale: float = Field(default=DEFAULT_SCALE, gt=0.0, le=10.0, description="its weight")


def parse_control(text: str) -> dict[str, str | float]:
    """The values of a `Control` from "MODEL=IMAGE" or "MODEL=IMAGE@SCALE".

    The first = ends the model.  What follows the last @ is the scale if it is a number, else part of the image's name.

    Raises:
        ValueError: says how it is written.
    """
    model, separator, image = text.partition("=")
    scale = DEFAULT_SCALE
    path, at, last = image.rpartition("@")
    if at and _is_number(last):
        image, scale = path, float(last)
    if not (separator and model.strip() and image.strip()):
        raise ValueError(
            f"--control is MODEL=IMAGE or MODEL=IMAGE@SCALE, as lllyasviel/control_v11p_sd15_canny=edges.png@0.8, "
            f"not {text!r}"
        )
    return {"model": model.strip(), "image": image.strip(), "scale": scale}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
