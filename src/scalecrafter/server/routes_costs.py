"""What a picture costs before it is made."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from . import spec
from .bodies import read_json
from .service import Service, the_service

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


@router.post("/v1/estimate", openapi_extra=spec.GENERATION_BODY)
async def estimate(request: Request, service: TheService) -> Estimate:
    """What a picture of this request will take; nothing is made. The first answer takes some seconds."""
    given = service.parse(await read_json(request)).request
    asked = await asyncio.to_thread(service.jobs.planned, given)
    return Estimate.model_validate(await service.planner.cost(asked))
