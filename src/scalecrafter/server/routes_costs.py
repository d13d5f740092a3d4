"""What a picture costs before it is made."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from .._util.sizes import ImageSize
from . import spec
from .bodies import read_json
from .image_output import ParameterError
from .images_schema import parameter_size, separate_enlargement, separate_pictures
from .service import Service, the_service
from .uploads import upload_size

router = APIRouter(responses=spec.ERRORS)
TheService = Annotated[Service, Depends(the_service)]


class Estimate(BaseModel):
    """What one picture of a request will take."""

    seconds: float | None
    """None where the device could not be asked."""
    seconds_from: Literal["measured", "operations"]
    """The last picture that was made here, or operations and the speed of a matrix product."""
    flops: int
    memory_bytes: int
    memory_from: Literal["measured", "shapes"]
    quicker_method: str | None
    """A method to take instead, where the picture would take more than a minute."""
    quicker_seconds: float | None
    text: str
    """All of it in words."""


@router.post("/v1/estimate", openapi_extra=spec.ESTIMATE_BODY)
async def estimate(request: Request, service: TheService) -> Estimate:
    """What a picture of this request will take; nothing is made. The first answer takes some seconds.

    Of an image only the size matters, which `image_size` can tell instead; of a mask, that there is one: `true` does.
    """
    data, enlarging = separate_enlargement(await read_json(request))
    data, fields, image = await asyncio.to_thread(_separate_sizes, data, service.settings.limits.pixels)
    given = service.parse(data, fields, enlarging=enlarging).request
    asked = await asyncio.to_thread(service.jobs.planned, given, image)
    return Estimate.model_validate(await service.planner.cost(asked, image))


def _separate_sizes(data: Any, pixels: int) -> tuple[Any, set[str], ImageSize | None]:
    """A body without its pictures, which of them it has, and the size of its image (`RequestError`)."""
    if not isinstance(data, dict):
        return data, set(), None
    fields = {"mask"} if data.get("mask") is True else set()
    data, files = separate_pictures({name: value for name, value in data.items() if name not in fields})
    if "image" in files:
        return data, fields | files.keys(), upload_size("image", files["image"], pixels)
    if data.get("image_size") is None:
        return data, fields | files.keys(), None
    size = parameter_size(data, "image_size")
    if not 0 < size.width * size.height <= pixels:
        message = f"image_size is {size.width}x{size.height}: this server takes pictures of 1 to {pixels:,} pixels"
        raise ParameterError("image_size", message)
    rest = {name: value for name, value in data.items() if name != "image_size"}
    return rest, fields | files.keys() | {"image"}, size
