"""The answers of the server, as pydantic models, and how they are made from jobs."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from ..request.request import Request
from .conversions import USUAL_QUALITY, converted
from .failures import ErrorDetail, of_failure
from .image_output import ImageOutput, quality_name
from .records import DONE, QueuedPicture, ServerJob

_WORD = re.compile(r"\w+|[^\w\s]")
_PIXELS_A_TOKEN = 64
_ENDINGS = {"jpeg": "jpg"}


class ImageData(BaseModel):
    """A picture, as OpenAI's API has it, with its seed and size."""

    b64_json: str | None = None
    url: str | None = None
    seed: int
    width: int
    height: int
    notes: list[str]
    """What was done to the picture that it was made from."""


class TokenDetails(BaseModel):
    """Tokens by what they stand for."""

    text_tokens: int
    image_tokens: int


class Usage(BaseModel):
    """What was read and drawn, for clients that count it. Nothing is billed.

    A text token is a word or a mark of the prompts, an image token 8×8 pixels.
    """

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: TokenDetails
    total_tokens: int


class ImagesAnswer(BaseModel):
    """Pictures, as OpenAI's API has them."""

    created: int
    data: list[ImageData]
    background: str = "opaque"
    output_format: str
    quality: str
    size: str
    usage: Usage
    safety_identifier: str | None = None
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
    preview: int
    """The number of the latest preview, at `/v1/jobs/{job}/pictures/{index}/preview`; 0: there is none."""
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


def images_answer(job: ServerJob, data: list[ImageData], output: ImageOutput) -> ImagesAnswer:
    """The answer with the pictures of a finished job."""
    return ImagesAnswer(
        created=int(job.created),
        data=data,
        output_format=output.format,
        quality=quality_name(job.request.steps),
        size=f"{data[0].width}x{data[0].height}",
        usage=usage(job.request, [(one.width, one.height) for one in data]),
        safety_identifier=output.identifier,
        job=job.id,
    )


def usage(request: Request, sizes: Sequence[tuple[int, int]]) -> Usage:
    """What pictures of these sizes take; one that starts from an image has that at its own size."""
    drawn = sum(width * height // _PIXELS_A_TOKEN for width, height in sizes)
    text = len(_WORD.findall(f"{request.prompt} {request.negative}")) * len(sizes)
    read = drawn if request.image is not None else 0
    return Usage(
        input_tokens=text + read,
        input_tokens_details=TokenDetails(text_tokens=text, image_tokens=read),
        output_tokens=drawn,
        output_tokens_details=TokenDetails(text_tokens=0, image_tokens=drawn),
        total_tokens=text + read + drawn,
    )


def image_data(picture: QueuedPicture, path: Path, base: str, output: ImageOutput) -> ImageData:
    """A finished picture as a client wants it (`FileNotFoundError` if it has expired)."""
    content = url = None
    if "b64_json" in output.forms:
        content = base64.b64encode(encoded(path, output)).decode()
    if "url" in output.forms:
        quality = (
            "" if output.compression is None or output.format == "png" else f"?quality={max(output.compression, 1)}"
        )
        url = picture_url(picture.id, base, _ENDINGS.get(output.format, output.format)) + quality
    return ImageData(
        b64_json=content,
        url=url,
        seed=picture.seed,
        width=picture.width or 0,
        height=picture.height or 0,
        notes=[*picture.notes],
    )


def encoded(picture: Path | IO[bytes], output: ImageOutput) -> bytes:
    """A picture's file in the format that a client wants."""
    if output.format == "png" and isinstance(picture, Path):
        return picture.read_bytes()  # with its whole request
    quality = USUAL_QUALITY if output.compression is None else max(output.compression, 1)
    return converted(picture, output.format, quality=quality)


def picture_url(picture: str, base: str, ending: str = "png") -> str:
    """Where a client finds a picture."""
    return f"{base}v1/files/{picture}.{ending}"


def _picture_state(picture: QueuedPicture, base: str) -> PictureState:
    failure = picture.failure
    return PictureState(
        id=picture.id,
        index=picture.position,
        status=picture.status,
        seed=picture.seed,
        step=picture.step,
        steps=picture.steps,
        preview=picture.preview_number,
        url=picture_url(picture.id, base) if picture.status == DONE else None,
        seconds=picture.seconds,
        width=picture.width,
        height=picture.height,
        notes=[*picture.notes],
        error=_error(failure.message, failure.is_clients) if failure else None,
    )


def _error(message: str, is_clients: bool) -> ErrorDetail:
    return of_failure(message, is_clients).detail
