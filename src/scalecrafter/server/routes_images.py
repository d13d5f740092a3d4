"""OpenAI's Images API: pictures from prompts and from pictures, and the list of models."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from . import spec
from .answers import ImagesAnswer, ModelCard, ModelList, image_data
from .bodies import read_form, read_json
from .failures import ApiError, of_failure
from .images_schema import ImagesRequest, parse_images_request
from .jobs import Jobs
from .records import DONE, ServerJob
from .service import Service, the_service
from .uploads import opaque_mask

GENERATIONS = "/v1/images/generations"
router = APIRouter(responses=spec.ERRORS)
TheService = Annotated[Service, Depends(the_service)]


@router.post(GENERATIONS, response_model_exclude_none=True, openapi_extra=spec.GENERATION_BODY)
async def create_image(request: Request, service: TheService, response: Response) -> ImagesAnswer:
    """Make pictures from a prompt, and answer when they are made."""
    given = parse_images_request(await read_json(request), service.settings.default_model)
    return await _make(request, response, service, given, {})


@router.post("/v1/images/edits", response_model_exclude_none=True, openapi_extra=spec.EDIT_BODY)
async def edit_image(request: Request, service: TheService, response: Response) -> ImagesAnswer:
    """Make pictures from a picture and a prompt, and answer when they are made."""
    form = await read_form(request)
    given = parse_images_request(form.texts, service.settings.default_model, form.files, from_form=True)
    files = form.files
    if "mask" in files:
        files["mask"] = await asyncio.to_thread(opaque_mask, files["mask"], service.settings.limits.pixels)
    return await _make(request, response, service, given, files)


@router.post("/v1/images/enlarge", response_model_exclude_none=True, openapi_extra=spec.ENLARGE_BODY)
async def enlarge_image(request: Request, service: TheService, response: Response) -> ImagesAnswer:
    """Enlarge a picture, with a prompt or without, and answer when it is made."""
    form = await read_form(request)
    given = parse_images_request(form.texts, service.settings.default_model, form.files, True, enlarging=True)
    return await _make(request, response, service, given, form.files)


@router.get("/v1/models")
async def list_models(service: TheService) -> ModelList:
    """The models of this server; the first is taken where a request names none."""
    return ModelList(data=[ModelCard(id=name, created=service.started) for name in service.settings.models])


@router.get("/v1/models/{model:path}")
async def retrieve_model(model: str, service: TheService) -> ModelCard:
    """One model."""
    service.jobs.check_model(model)
    return ModelCard(id=model, created=service.started)


async def _make(
    request: Request, response: Response, service: Service, given: ImagesRequest, files: dict[str, bytes]
) -> ImagesAnswer:
    job = await service.submit(given, files, request)
    files.clear()  # they are on the disk; many clients may wait here
    response.headers["X-Job-Id"] = job
    state = await _finished(service.jobs, job)
    base = str(request.base_url)
    try:
        data = [
            await asyncio.to_thread(image_data, picture, service.jobs.picture_path(picture.id), base, given.formats)
            for picture in state.pictures
        ]
    except FileNotFoundError:
        raise ApiError(404, f"the pictures of the job {job} were removed already", code="expired") from None
    return ImagesAnswer(created=int(state.created), data=data, job=job)


async def _finished(jobs: Jobs, job: str) -> ServerJob:
    """The job once its pictures are made (`ApiError` if they are not)."""
    state = None
    async for now in jobs.watch(job):
        state = now
    assert state is not None  # there is at least one state
    if state.status == DONE:
        return state
    if state.failure is not None:
        raise of_failure(state.failure.message, state.failure.is_clients)
    if state.is_final:
        raise ApiError(409, f"the job {job} was cancelled", code="cancelled")
    raise ApiError(
        503,
        f"the server is stopping; the job {job} is kept, and GET /v1/jobs/{job} shows it when the server is back",
        code="stopping",
        headers={"Retry-After": "10", "X-Should-Retry": "false", "X-Job-Id": job},
    )
