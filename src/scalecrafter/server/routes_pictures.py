"""Pictures as files: finished ones, previews of those in the making, and those that a job starts from."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import FileResponse, Response

from . import spec
from .conversions import MEDIA_TYPES, USUAL_QUALITY, converted
from .failures import ApiError
from .service import Service, the_service

router = APIRouter()
TheService = Annotated[Service, Depends(the_service)]
_KEPT = {"Cache-Control": "private, max-age=86400, immutable", "X-Content-Type-Options": "nosniff"}
_PASSING = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@router.get("/v1/files/{name}", response_class=FileResponse, responses=spec.PICTURE)
async def get_picture(
    name: str,
    service: TheService,
    side: Annotated[int | None, Query(ge=16, le=4096, description="pixels of the longer side")] = None,
    quality: Annotated[int, Query(ge=1, le=100, description="of JPEG and WebP")] = USUAL_QUALITY,
) -> Response:
    """A finished picture: ID.png as it was made, with its whole request inside; ID.jpg or ID.webp; or smaller."""
    picture, _, ending = name.rpartition(".")
    try:
        path = service.jobs.picture_path(picture)
    except ValueError:
        path = None
    missing = ApiError(404, f"there is no picture {name!r}: it does not exist, or has expired")
    if path is None or ending not in MEDIA_TYPES or not await asyncio.to_thread(path.is_file):
        raise missing
    if ending == "png" and side is None:
        return FileResponse(path, media_type="image/png", headers=_KEPT)
    try:
        content = await asyncio.to_thread(converted, path, ending, side, quality)
    except FileNotFoundError:
        raise missing from None
    return Response(content, media_type=MEDIA_TYPES[ending], headers=_KEPT)


@router.get("/v1/jobs/{job}/pictures/{index}/preview", response_class=Response, responses=spec.PREVIEW)
async def get_preview(job: str, index: Annotated[int, Path(ge=0, le=99)], service: TheService) -> Response:
    """The latest preview of a picture that is being made, a small JPEG; 404 if there is none."""
    state = await asyncio.to_thread(service.jobs.get, job)
    picture = next((one for one in state.pictures if one.position == index), None)
    shown = None if picture is None else await asyncio.to_thread(service.jobs.preview, picture.id)
    if shown is None:
        raise ApiError(404, f"there is no preview of picture {index} of the job {job} now")
    return Response(shown, media_type="image/jpeg", headers=_PASSING)


@router.get("/v1/jobs/{job}/inputs/{field}", response_class=Response, responses=spec.INPUT)
async def get_input(job: str, field: Literal["image", "mask"], service: TheService) -> FileResponse:
    """The image or the mask that a job starts from, as it was sent."""
    state = await asyncio.to_thread(service.jobs.get, job)
    name = getattr(state.request, field)
    path = None if name is None else service.jobs.folders.upload(name)
    if path is None or not await asyncio.to_thread(path.is_file):
        raise ApiError(404, f"the job {job} starts from no {field}, or it has expired")
    return FileResponse(path, headers=_KEPT)
