"""The answer of OpenAI's Images API as a stream: previews while the pictures are made, then the pictures."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from .answers import encoded, image_data, usage
from .failures import ApiError, of_failure
from .image_output import ImageOutput, quality_name
from .records import DONE, RUNNING, QueuedPicture, ServerJob
from .service import Service
from .store import UnknownJobError


@dataclass
class ImageStream:
    """The events of one job.

    Args:
        kind: what OpenAI calls its events: "image_generation" or "image_edit".
        base: the server's address as the client knows it; it ends in a slash.
    """

    service: Service
    output: ImageOutput
    kind: str
    base: str
    _previews: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Picture → partial images sent, and the number of the last preview."""
    _done: set[str] = field(default_factory=set)

    async def events(self, job: str) -> AsyncIterator[str]:
        """Server-sent events, as text. An error after the first of them is an event as well."""
        state: ServerJob | None = None
        try:
            async for state in self.service.jobs.watch(job):
                events = [event async for event in self._news(state)]
                yield "".join(events) or ": still there\n\n"
            if state is None or state.status != DONE:
                yield _error(_why_not(state, job))
        except UnknownJobError as error:
            yield _error(ApiError(404, str(error), code="job_not_found"))
        except FileNotFoundError:
            yield _error(ApiError(404, f"the pictures of the job {job} were removed already", code="expired"))

    async def _news(self, job: ServerJob) -> AsyncIterator[str]:
        for picture in job.pictures:
            if picture.status == RUNNING and self._is_due(picture):
                shown = await asyncio.to_thread(self.service.jobs.preview, picture.id)
                if shown is not None:
                    index, _ = self._previews.get(picture.id, (0, 0))
                    self._previews[picture.id] = index + 1, picture.preview_number
                    content = await asyncio.to_thread(encoded, BytesIO(shown), self.output)
                    text = base64.b64encode(content).decode()
                    yield self._event("partial_image", job, picture, b64_json=text, partial_image_index=index)
            elif picture.status == DONE and picture.id not in self._done:
                self._done.add(picture.id)
                path = self.service.jobs.picture_path(picture.id)
                data = await asyncio.to_thread(image_data, picture, path, self.base, self.output)
                sizes = [(picture.width or 0, picture.height or 0)]
                more = {"usage": usage(job.request, sizes).model_dump(), "safety_identifier": self.output.identifier}
                yield self._event("completed", job, picture, **data.model_dump(exclude_none=True), **more)

    def _is_due(self, picture: QueuedPicture) -> bool:
        """Whether a picture has come as far as its next partial image, and there is a new preview."""
        sent, last = self._previews.get(picture.id, (0, 0))
        wanted = self.output.partial_images
        far_enough = picture.step * (wanted + 1) >= picture.steps * (sent + 1)
        return sent < wanted and picture.preview_number > last and picture.steps > 0 and far_enough

    def _event(self, name: str, job: ServerJob, picture: QueuedPicture, **more: Any) -> str:
        width, height = picture.width or job.request.width, picture.height or job.request.height
        kind = f"{self.kind}.{name}"
        data = {
            "type": kind,
            "created_at": int(time.time()),
            "background": "opaque",
            "output_format": self.output.format,
            "quality": quality_name(job.request.steps),
            "size": "auto" if width is None else f"{width}x{height}",
            "index": picture.position,
            "job": job.id,
            **more,
        }
        return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def _why_not(job: ServerJob | None, name: str) -> ApiError:
    if job is not None and job.failure is not None:
        return of_failure(job.failure.message, job.failure.is_clients)
    if job is not None and job.is_final:
        return ApiError(409, f"the job {name} was cancelled", code="cancelled")
    return ApiError(503, f"the server is stopping; the job {name} is kept: GET /v1/jobs/{name} later", code="stopping")


def _error(error: ApiError) -> str:
    return f"event: error\ndata: {json.dumps({'type': 'error', 'error': error.detail.model_dump()})}\n\n"
