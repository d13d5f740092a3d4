"""The answers of the server, as pydantic models, and how they are made from jobs."""

from __future__ import annotations

import base64
from pathlib import Path

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
    )


def image_data(picture: QueuedPicture, path: Path, base: str, formats: tuple[str, ...]) -> ImageData:
    """A finished picture in the given formats (`FileNotFoundError` if it has expired)."""
    return ImageData(
        b64_json=base64.b64encode(path.read_bytes()).decode() if "b64_json" in formats else None,
        url=picture_url(picture.id, base) if "url" in formats else None,
        seed=picture.seed,
        width=picture.width or 0,
        height=picture.height or 0,
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
        error=_error(failure.message, failure.is_clients) if failure else None,
    )


def _error(message: str, is_clients: bool) -> ErrorDetail:
    return of_failure(message, is_clients).detail
