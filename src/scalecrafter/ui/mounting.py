"""The page inside the server: the paths that it owns, what it may load, and how it starts and stops.

Gradio brings routes that this page has no use for, such as one that fetches other sites' files; what is not in
`_PATHS` is not passed on. A Content-Security-Policy keeps the browser to this server.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from .._util.extras import need_extra
from ..server.jobs import Jobs
from .uploads import LARGEST_EVENT, Uploads, checked_event

UPLOAD_PATH = "/gradio_api/upload"
EVENT_PATH = "/gradio_api/queue/join"
ANSWERS_PATH = "/gradio_api/queue/data"
CANCEL_PATH = "/gradio_api/cancel"
_PATHS = frozenset(
    {
        "/", "/config", "/theme.css", "/favicon.ico", UPLOAD_PATH, EVENT_PATH, CANCEL_PATH,
        "/gradio_api/startup-events", ANSWERS_PATH,
    }
)  # fmt: skip
_FOLDERS = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "frame-ancestors 'none'",
    )
)
"""Gradio's own scripts need the two unsafe ones."""


class MountedPage:
    """The page of a server, an ASGI application (`server.page.Page`; `MissingExtraError`)."""

    def __init__(self, jobs: Jobs) -> None:
        # Gradio reads these when it is imported: no calls home, and its files beside the server's.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = str(jobs.folders.page)
        need_extra("the page", "ui")
        import gradio as gr

        from .layout import PageLayout, script, style, theme

        self._uploads = Uploads()
        self._layout = PageLayout(jobs, self._uploads)
        limits = jobs.settings.limits
        # A picture that this server made must fit, whatever it shows.
        largest = max(limits.body, 4 * limits.pixels + (1 << 20))
        self.upload_limits = {UPLOAD_PATH: largest, EVENT_PATH: LARGEST_EVENT, CANCEL_PATH: LARGEST_EVENT}
        self._app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        self._app.add_route(UPLOAD_PATH, self._uploads.receive, methods=["POST"])  # these go before Gradio's own
        self._app.add_route(EVENT_PATH, self._receive_event, methods=["POST"])
        self._app.add_route(ANSWERS_PATH, self._send_answers)
        gr.mount_gradio_app(
            self._app, self._layout.blocks, "/",
            footer_links=[], run_history=False, ssr_mode=False, mcp_server=False, pwa=False, show_error=False,
            enable_monitoring=False, max_file_size=largest,
            theme=theme(), css=style(), js=script(),
        )  # fmt: skip
        self._gradio: Any = self._app.routes[-1].app  # type: ignore[attr-defined]

    async def _receive_event(self, request: Request) -> Any:
        """Check an event and pass it on to Gradio."""
        body = checked_event(await request.body(), self._layout.check, self._uploads)
        pieces: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def forward(scope: Scope, receive: Receive, send: Send) -> None:
            async def checked_body() -> Message:
                return pieces.pop() if pieces else await receive()

            await self._gradio(scope, checked_body, send)

        return forward

    async def _send_answers(self, request: Request) -> Any:
        """The answers to the events of a session; Gradio prints a traceback for one that it does not know."""
        if request.query_params.get("session_hash") not in self._layout.blocks._queue.pending_messages_per_session:
            raise HTTPException(404, "this session has no events")
        return self._gradio

    def owns(self, path: str) -> bool:
        """Whether the page, and not the API, answers this path."""
        return path in _PATHS or path.startswith(_FOLDERS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Entered when the server starts."""
        async with self._app.router.lifespan_context(self._app):
            try:
                yield
            finally:
                await self._layout.planner.close()

    def stop_waiting(self) -> None:
        """End the connections that browsers keep open."""
        self._gradio.stop_event.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, with_policy)
