"""The answers of the server, as pydantic models, and how they are made from jobs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .failures import ErrorDetail, of_failure
from .records import DONE, QueuedPicture, ServerJob


class ImageData(BaseModel):
    """A picture, as OpenAI's API has it, with its seed and size."""

    b64_json: str | None = None
    url: str | None = None
    seed: int
    width: int
    height: int
    notes: list[str]
    """What was done to the picture that it was made from."""


class ImagesAnswer(BaseModel):
    """Pictures, as OpenAI's API has them."""

    created: int
    data: list[ImageData]
    job: str
    """Its id: the pictures can be fetched again until they expire."""


class ModelCard(BaseModel):
    """A model, as OpenAI's API has it."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "scalecrafter"


class ModelList(BaseModel):
    """The models of this server."""

    object: str = "list"
    data: list[ModelCard]


class PictureState(BaseModel):
    """One picture of a job."""

    id: str
    index: int
    status: str
    seed: int
    step: int
    steps: int
    url: str | None = None
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    notes: list[str]
    error: ErrorDetail | None = None


class JobState(BaseModel):
    """A job: one request and the state of its pictures."""

    id: str
    object: str = "job"
    status: str
    created: int
    model: str
    prompt: str
    ahead: int
    """Pictures in the queue that are made first."""
    pictures: list[PictureState]
    error: ErrorDetail | None = None
    request: dict[str, Any]
    """Everything that was asked for, in the words of `scalecrafter generate`; image and mask by their digests."""


class JobPage(BaseModel):
    """Some jobs, newest first, as OpenAI's API has lists."""

    object: str = "list"
    data: list[JobState]
    first_id: str | None
    last_id: str | None
    """Ask for the jobs `after` this one."""
    has_more: bool


class RemovedJob(BaseModel):
    """That a job, or a picture of it, is gone."""

    id: str
    object: str = "job.deleted"
    deleted: bool = True


class Health(BaseModel):
    """Whether the server works."""

    status: str
    workers: int | None = None
    waiting: int | None = None


def job_state(job: ServerJob, base: str) -> JobState:
    """A job for a client. `base` is the server's address as the client knows it; it ends in a slash."""
    return JobState(
        id=job.id,
        status=job.status,
        created=int(job.created),
        model=job.request.model,
        prompt=job.request.prompt,
        ahead=job.ahead,
        pictures=[_picture_state(picture, base) for picture in job.pictures],
        error=_error(job.failure.message, job.failure.is_clients) if job.failure else None,
        request=job.request.model_dump(mode="json", exclude={"dtype", "device"}, exclude_none=True),
    )


def job_page(jobs: Sequence[ServerJob], limit: int, base: str) -> JobPage:
    """A page of at most `limit` jobs; one job beyond that shows that there are more."""
    data = [job_state(job, base) for job in jobs[:limit]]
    return JobPage(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(jobs) > limit,
    )


def image_data(picture: QueuedPicture, path: Path, base: str, formats: tuple[str, ...]) -> ImageData:
    """A finished picture in the given formats (`FileNotFoundError` if it has expired)."""
    return ImageData(
        b64_json=base64.b64encode(path.read_bytes()).decode() if "b64_json" in formats else None,
        url=picture_url(picture.id, base) if "url" in formats else None,
        seed=picture.seed,
        width=picture.width or 0,
        height=picture.height or 0,
        notes=[*picture.notes],
    )


def picture_url(picture: str, base: str) -> str:
    """Where a client finds a picture."""
    return f"{base}v1/files/{picture}.png"


def _picture_state(picture: QueuedPicture, base: str) -> PictureState:
    failure = picture.failure
    return PictureState(
        id=picture.id,
        index=picture.position,
        status=picture.status,
        seed=picture.seed,
        step=picture.step,
        steps=picture.steps,
        url=picture_url(picture.id, base) if picture.status == DONE else None,
        seconds=picture.seconds,
        width=picture.width,
        height=picture.height,
        notes=[*picture.notes],
        error=_error(failure.message, failure.is_clients) if failure else None,
    )


def _error(message: str, is_clients: bool) -> ErrorDetail:
    return of_failure(message, is_clients).detail
