"""The page's place in the server: which paths are its, what it may load, when it begins and ends.

Gradio brings routes that this page has no use for, such as one that fetches other sites' files; what is not in
`_PATHS` is not passed on.  Its browser side is told by a Content-Security-Policy to stay with this server.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from ..errors import ScaleCrafterError
from ..server.jobs import Jobs

UPLOAD_PATH = "/gradio_api/upload"
_PATHS = frozenset(
    {
        "/", "/config", "/theme.css", "/favicon.ico", UPLOAD_PATH, "/gradio_api/upload_progress",
        "/gradio_api/startup-events", "/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/cancel",
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


class MissingUiError(ScaleCrafterError):
    """The extra `ui` is not installed."""


class MountedPage:
    """The page of a server, with its own ASGI application inside (`MissingUiError`)."""

    def __init__(self, jobs: Jobs) -> None:
        # Gradio reads these when it is imported: no calls home, and its files beside the server's.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = str(jobs.folders.data / "page")
        try:
            import gradio as gr
        except ImportError as error:
            raise MissingUiError(
                f"the page needs another package ({error.name}): pip install 'scalecrafter[ui]'"
            ) from None
        from .layout import Page, script, style, theme

        self._page = Page(jobs)
        self._app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        limits = jobs.settings.limits
        # A picture that this server made must fit, whatever it shows.
        largest = max(limits.body, 4 * limits.pixels + (1 << 20))
        self.upload_limits = {UPLOAD_PATH: largest}
        gr.mount_gradio_app(
            self._app, self._page.blocks, "/",
            footer_links=[], run_history=False, ssr_mode=False, mcp_server=False, pwa=False, show_error=False,
            enable_monitoring=False, max_file_size=largest,
            theme=theme(), css=style(), js=script(),
        )  # fmt: skip
        self._gradio: Any = self._app.routes[-1].app  # type: ignore[attr-defined]

    def owns(self, path: str) -> bool:
        """Whether the page, and not the API, answers this path."""
        return path in _PATHS or path.startswith(_FOLDERS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the page can be used."""
        async with self._app.router.lifespan_context(self._app):
            try:
                yield
            finally:
                await self._page.planner.close()

    def stop_waiting(self) -> None:
        """Let go of the connections that browsers keep open."""
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
