"""What a server needs of the page that it shows to browsers beside its API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from .jobs import Jobs
from .planner import Planner


class Page(Protocol):
    """An ASGI application that answers the paths that it owns."""

    @property
    def upload_limits(self) -> Mapping[str, int]:
        """Path → the largest body in bytes, where it may be larger than `Limits.body`."""

    def owns(self, path: str) -> bool:
        """Whether the page, and not the API, answers this path. A browser may be asked for a key there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""


class PageFactory(Protocol):
    """Makes the page of one server."""

    def __call__(self, jobs: Jobs, planner: Planner) -> Page: ...


class PageSwitch:
    """Sends the requests for the page's paths to the page and all others to the API."""

    def __init__(self, app: ASGIApp, page: Page) -> None:
        self._app, self._page = app, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_pages = scope["type"] == "http" and self._page.owns(scope["path"])
        await (self._page if is_pages else self._app)(scope, receive, send)
