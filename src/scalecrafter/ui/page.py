"""The page inside the server: its files, the description of its form, and plans."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from ..server.bodies import read_json
from ..server.failures import ApiError, install
from ..server.images_schema import parse_images_request
from ..server.jobs import Jobs
from ..server.planner import Planner
from .description import describe

PREFIX = "/page/"
PLAN_PATH = f"{PREFIX}plan"
LARGEST_PLAN = 128 << 10
"""Bytes of a request for a plan."""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing from other sites, and no code or style but that of our files."""


class WebPage:
    """The page of a server, an ASGI application (`server.page.Page`)."""

    def __init__(self, jobs: Jobs, planner: Planner) -> None:
        self.upload_limits = {PLAN_PATH: LARGEST_PLAN}
        self._jobs, self._planner = jobs, planner
        self._files = _read_files()
        self._app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        install(self._app)
        self._app.add_api_route(f"{PREFIX}form", self._describe)
        self._app.add_api_route(PLAN_PATH, self._plan, methods=["POST"])
        self._app.add_route("/{path:path}", self._send_file)

    def owns(self, path: str) -> bool:
        """Whether the page, and not the API, answers this path."""
        return path in ("/", "/favicon.ico") or path.startswith(PREFIX)

    async def _describe(self) -> dict[str, Any]:
        return await asyncio.to_thread(describe, self._jobs)

    async def _plan(self, request: Request) -> dict[str, str]:
        """The plan of a body as `POST /v1/jobs` takes it, as SVG."""
        given = parse_images_request(await read_json(request), self._jobs.settings.default_model).request
        asked = await asyncio.to_thread(self._jobs.planned, given)
        return {"svg": await self._planner.picture(asked)}

    async def _send_file(self, request: Request) -> Response:
        path = request.url.path
        name = {"/": "index.html", "/favicon.ico": "icon.svg"}.get(path, path.removeprefix(PREFIX))
        if name not in self._files:
            raise ApiError(404, f"the page has no file {name[:80]!r}")
        content, tag = self._files[name]
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_kind(name), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, with_policy)


def _read_files() -> dict[str, tuple[bytes, str]]:
    """Name → content and tag of each file of the page."""
    found = {}
    for file in resources.files(__package__).joinpath("static").iterdir():
        content = file.read_bytes()
        found[file.name] = content, f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return found


def _kind(name: str) -> str:
    """The media type of a file; a system's own table may know no JavaScript."""
    if name.endswith(".js"):
        return "text/javascript"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
