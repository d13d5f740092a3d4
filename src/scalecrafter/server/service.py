"""What the routes share: the jobs, the settings, and the submission of a job."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from fastapi import Request

from .failures import ApiError
from .guards import client_of
from .images_schema import ImagesRequest
from .jobs import Jobs
from .metrics import Metrics
from .records import Client
from .settings import ServerSettings
from .store import QueueFullError

_LONGEST_WAIT = 120
_LONGEST_KEY = 255


@dataclass
class Service:
    """One server, for its routes."""

    settings: ServerSettings
    jobs: Jobs
    metrics: Metrics
    started: int = field(default_factory=lambda: int(time.time()))
    streams: int = 0
    """Clients that watch jobs now."""

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
