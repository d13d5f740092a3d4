"""What the routes share: the jobs, the settings, and the submission of a job."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from .failures import ApiError
from .guards import client_of
from .images_schema import ImagesRequest, parse_images_request
from .jobs import Jobs
from .metrics import Metrics
from .planner import Planner
from .records import Client
from .settings import ServerSettings
from .store import QueueFullError

_LONGEST_WAIT = 120
_LONGEST_KEY = 255
_EVENT_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass
class Service:
    """One server, for its routes."""

    settings: ServerSettings
    jobs: Jobs
    metrics: Metrics
    planner: Planner
    started: int = field(default_factory=lambda: int(time.time()))
    streams: int = 0
    """Clients that watch jobs now."""

    def parse(
        self, data: Any, files: Iterable[str] = (), from_form: bool = False, enlarging: bool = False
    ) -> ImagesRequest:
        """The request in a body, as `parse_images_request` reads it."""
        most = self.settings.limits.steps
        return parse_images_request(data, self.settings.default_model, files, from_form, enlarging, most)

    def check_streams(self) -> None:
        """Raise `ApiError` 429 when as many clients watch jobs as may."""
        if self.streams >= self.settings.limits.streams:
            message = f"{self.streams} clients watch jobs already: use GET /v1/jobs/ID now and then"
            raise ApiError(429, message, code="too_many_streams", headers={"Retry-After": "10"})

    def event_stream(
        self, events: AsyncIterator[str], headers: Mapping[str, str] = MappingProxyType({})
    ) -> StreamingResponse:
        """An answer of server-sent events."""
        return StreamingResponse(self._counted(events), 200, {**_EVENT_HEADERS, **headers}, "text/event-stream")

    async def _counted(self, events: AsyncIterator[str]) -> AsyncIterator[str]:
        self.streams += 1
        try:
            async for event in events:
                yield event
        finally:
            self.streams -= 1

    async def submit(self, given: ImagesRequest, files: Mapping[str, bytes], request: Request) -> str:
        """Accept a job that arrived with this HTTP request; its id (`ApiError` 429 when the queue is full)."""
        client = client_of(request)
        repeat_key = request.headers.get("idempotency-key")
        if repeat_key is not None:
            repeat_key = _repeat_key(repeat_key, client, given, files)
        try:
            return await asyncio.to_thread(self.jobs.submit, given.request, given.pictures, files, repeat_key, client)
        except QueueFullError as error:
            wait = await asyncio.to_thread(self._seconds_until_a_place)
            raise ApiError(429, str(error), headers={"Retry-After": str(wait)}) from None

    def _seconds_until_a_place(self) -> int:
        """About how long until a place is free: the time of one picture over the number of workers, at least 1."""
        seconds = self.jobs.store.seconds_a_picture() or 1.0
        return max(1, min(ceil(seconds / self.settings.workers), _LONGEST_WAIT))


def the_service(request: Request) -> Service:
    """The service of the application that a request arrived at."""
    service: Service = request.app.state.service
    return service


def _repeat_key(given: str, client: Client, what: ImagesRequest, files: Mapping[str, bytes]) -> str:
    """A digest of an Idempotency-Key, who sent it, and the request: another request never has the same."""
    if len(given) > _LONGEST_KEY:
        raise ApiError(400, f"the Idempotency-Key is longer than {_LONGEST_KEY} characters")
    digest = hashlib.sha256(
        repr((given, client, what.request.model_dump_json(), what.pictures)).encode("utf-8", "replace")
    )
    for name, data in sorted(files.items()):
        digest.update(name.encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()
