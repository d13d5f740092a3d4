"""Jobs: submit one without waiting, read its state, watch it, cancel it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse

from . import spec
from .answers import JobPage, JobState, RemovedJob, job_page, job_state
from .bodies import read_json
from .guards import client_of
from .image_output import OUTPUT, ImageOutput, ParameterError
from .images_schema import separate_enlargement, separate_pictures
from .records import RUNNING, ServerJob
from .service import Service, the_service
from .store import UnknownJobError

router = APIRouter(responses=spec.ERRORS)
TheService = Annotated[Service, Depends(the_service)]


@router.post("/v1/jobs", status_code=202, openapi_extra=spec.JOB_BODY)
async def submit_job(request: Request, service: TheService) -> JobState:
    """Accept a job and answer at once. An accepted job survives a crash of the server."""
    data = await read_json(request)
    data, files = await asyncio.to_thread(separate_pictures, data)
    data, enlarging = separate_enlargement(data)
    given = service.parse(data, files, enlarging=enlarging)
    if given.output != ImageOutput(identifier=given.output.identifier):
        names = [name for name in OUTPUT if isinstance(data, dict) and data.get(name) is not None]
        message = (
            f"{' and '.join(names)} has no effect on a job: its pictures can be had as ID.jpg and ID.webp too, and "
        )
        raise ParameterError(names[0], f"{message}its events show previews")
    job = await service.submit(given, files, request)
    return job_state(await asyncio.to_thread(service.jobs.get, job), str(request.base_url))


@router.get("/v1/jobs")
async def list_jobs(
    request: Request,
    service: TheService,
    limit: Annotated[int, Query(ge=1, le=100, description="jobs of one page")] = 20,
    after: Annotated[str | None, Query(description="id of the last job of the page before")] = None,
) -> JobPage:
    """The client's own jobs, newest first: those of its API key, or of its `X-Client-Id`."""
    jobs = await asyncio.to_thread(service.jobs.newest, client_of(request), limit + 1, after)
    return job_page(jobs, limit, str(request.base_url))


@router.get("/v1/jobs/{job}")
async def get_job(job: str, request: Request, service: TheService) -> JobState:
    """The state of a job."""
    return job_state(await asyncio.to_thread(service.jobs.get, job), str(request.base_url))


@router.delete("/v1/jobs/{job}")
async def cancel_job(job: str, request: Request, service: TheService) -> JobState:
    """Cancel the unfinished pictures of a job; the finished ones stay."""
    return job_state(await asyncio.to_thread(service.jobs.cancel, job), str(request.base_url))


@router.delete("/v1/jobs/{job}/pictures")
async def remove_job(job: str, service: TheService) -> RemovedJob:
    """Remove a job and its pictures for good, finished or not."""
    await asyncio.to_thread(service.jobs.remove, job)
    return RemovedJob(id=job)


@router.delete("/v1/jobs/{job}/pictures/{index}")
async def remove_picture(job: str, index: Annotated[int, Path(ge=0, le=99)], service: TheService) -> RemovedJob:
    """Remove one picture of a job for good, and with its last picture the job."""
    await asyncio.to_thread(service.jobs.remove, job, index)
    return RemovedJob(id=job)


@router.get("/v1/jobs/{job}/events", response_class=StreamingResponse, responses=spec.EVENTS)
async def watch_job(job: str, request: Request, service: TheService) -> StreamingResponse:
    """Server-sent events: `status`, `progress`, `preview`; then `done`, `failed`, `cancelled` or `removed`."""
    await asyncio.to_thread(service.jobs.get, job)
    service.check_streams()
    return service.event_stream(_stream(service, job, str(request.base_url)))


async def _stream(service: Service, job: str, base: str) -> AsyncIterator[str]:
    try:
        before: ServerJob | None = None
        async for state in service.jobs.watch(job):
            events = [event async for event in _news(service, before, state, base)]
            yield "".join(events) or ": still there\n\n"
            before = state
    except UnknownJobError:
        yield _event("removed", {"job": job})
    else:
        if before is not None and not before.is_final:
            yield _event("stopping", {"job": job})


async def _news(service: Service, before: ServerJob | None, now: ServerJob, base: str) -> AsyncIterator[str]:
    """The changes of a job, as events."""
    known = {} if before is None else {picture.id: picture for picture in before.pictures}
    for picture in now.pictures:
        old = known.get(picture.id)
        if (
            picture.status == RUNNING
            and picture.steps
            and (old is None or (picture.step, RUNNING) != (old.step, old.status))
        ):
            yield _event("progress", {"index": picture.position, "step": picture.step, "steps": picture.steps})
        if picture.preview_number and (old is None or picture.preview_number != old.preview_number):
            shown = await asyncio.to_thread(service.jobs.preview, picture.id)
            if shown is not None:
                url = "data:image/jpeg;base64," + base64.b64encode(shown).decode()
                yield _event("preview", {"index": picture.position, "step": picture.step, "image": url})
    if before is None or _statuses(before) != _statuses(now):
        yield _event(now.status if now.is_final else "status", job_state(now, base).model_dump())


def _statuses(job: ServerJob) -> list[Any]:
    return [job.ahead, *(picture.status for picture in job.pictures)]


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
