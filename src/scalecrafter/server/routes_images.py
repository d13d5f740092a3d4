"""OpenAI's Images API: pictures from prompts and from pictures, and the list of models."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from . import spec
from .answers import ImagesAnswer, ModelCard, ModelList, image_data, images_answer
from .bodies import read_form, read_json
from .failures import ApiError, of_failure
from .image_output import ParameterError
from .image_stream import ImageStream
from .images_schema import ImagesRequest
from .jobs import Jobs
from .records import DONE, ServerJob
from .service import Service, the_service
from .uploads import opaque_mask

GENERATIONS = "/v1/images/generations"
_ANSWERS: dict[str, Any] = {"response_model_exclude_none": True, "responses": spec.STREAMED}
router = APIRouter(responses=spec.ERRORS)
TheService = Annotated[Service, Depends(the_service)]


@router.post(GENERATIONS, response_model=ImagesAnswer, **_ANSWERS, openapi_extra=spec.GENERATION_BODY)
async def create_image(request: Request, service: TheService) -> Response:
    """Make pictures from a prompt, and answer when they are made, or as a stream."""
    given = service.parse(await read_json(request))
    return await _make(request, service, given, {}, "image_generation")


@router.post("/v1/images/edits", response_model=ImagesAnswer, **_ANSWERS, openapi_extra=spec.EDIT_BODY)
async def edit_image(request: Request, service: TheService) -> Response:
    """Make pictures from a picture and a prompt, and answer when they are made, or as a stream."""
    form = await read_form(request)
    if not form.texts.get("prompt", "").strip():
        raise ParameterError("prompt", "the prompt is empty: say what the picture should show")
    given, files = service.parse(form.texts, form.files, from_form=True), form.files
    if "mask" in files:
        files["mask"] = await asyncio.to_thread(opaque_mask, files["mask"], service.settings.limits.pixels)
    return await _make(request, service, given, files, "image_edit")


@router.post("/v1/images/variations", response_model=ImagesAnswer, **_ANSWERS, openapi_extra=spec.VARIATION_BODY)
async def vary_image(request: Request, service: TheService) -> Response:
    """Make pictures like a picture: its composition stays, as far as `strength` lets it."""
    form = await read_form(request)
    if "mask" in form.files:
        raise ParameterError("mask", "a variation is of the whole picture: leave the mask out, or use edits")
    texts = {"guidance": "1", **form.texts} if not form.texts.get("prompt") else form.texts
    given = service.parse(texts, form.files, from_form=True)
    return await _make(request, service, given, form.files, "image_edit")


@router.post("/v1/images/enlarge", response_model=ImagesAnswer, **_ANSWERS, openapi_extra=spec.ENLARGE_BODY)
async def enlarge_image(request: Request, service: TheService) -> Response:
    """Enlarge a picture, with a prompt or without, and answer when it is made, or as a stream."""
    form = await read_form(request)
    given = service.parse(form.texts, form.files, from_form=True, enlarging=True)
    return await _make(request, service, given, form.files, "image_edit")


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
    request: Request, service: Service, given: ImagesRequest, files: dict[str, bytes], kind: str
) -> Response:
    if given.output.stream:
        service.check_streams()
    job = await service.submit(given, files, request)
    files.clear()  # they are on the disk; many clients may wait here
    base, headers = str(request.base_url), {"X-Job-Id": job}
    if given.output.stream:
        return service.event_stream(ImageStream(service, given.output, kind, base).events(job), headers)
    state = await _finished(service.jobs, job)
    try:
        data = [
            await asyncio.to_thread(image_data, picture, service.jobs.picture_path(picture.id), base, given.output)
            for picture in state.pictures
        ]
    except FileNotFoundError:
        raise ApiError(404, f"the pictures of the job {job} were removed already", code="expired") from None
    answer = images_answer(state, data, given.output)
    return Response(answer.model_dump_json(exclude_none=True), headers=headers, media_type="application/json")


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
