"""Running the application with uvicorn until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..request.request import RequestError
from .app import create_app, stop_this_process
from .page import PageFactory
from .settings import ServerSettings

_ANSWERING = 40.0
"""Seconds that open requests have at shutdown beyond the grace period: for decoding, and for the answer."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes any free one (`RequestError`)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host.strip("[]"), port), family=family, backlog=512)
    except OSError as error:
        raise RequestError(f"cannot listen on {host}:{port}: {error.strerror or error}; take another --port") from None
    # Connections inherit it; asyncio sets it only where it made the socket, and an answer would wait 40 ms for an ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address(host: str, listening: socket.socket) -> str:
    """The URL under which clients find it."""
    port = listening.getsockname()[1]
    return f"http://[{host.strip('[]')}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    settings: ServerSettings, listening: socket.socket, log_requests: bool = False, page: PageFactory | None = None
) -> bool:
    """Serve until SIGTERM or SIGINT. Running pictures may then be finished within the grace period.

    Returns:
        Whether the workers could work with the settings. If not, they have written to stderr what is wrong.
    """
    well = True

    def give_up() -> None:
        nonlocal well
        well = False
        stop_this_process()

    app = create_app(settings, page, give_up)
    protocol: Any = partial(HeaderTimeLimit, seconds=settings.header_patience)
    config = uvicorn.Config(
        app,
        http=protocol,
        log_level="info" if log_requests else "warning",
        access_log=log_requests,
        log_config=_on_stderr() if log_requests else uvicorn.config.LOGGING_CONFIG,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=int(settings.grace + _ANSWERING),
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again at the end, where they are done with
        signal.signal(number, lambda *_: None)
    _Server(config, app).run(sockets=[listening])
    return well


class HeaderTimeLimit(H11Protocol):
    """HTTP/1.1 that closes connections whose headers take too long; uvicorn does so for idle ones alone.

    Args:
        seconds: from the connection, or the first byte of a later request, to the end of the headers.
    """

    def __init__(self, *args: Any, seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seconds = seconds
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count."""
        super().connection_made(transport)
        self._limit = self.loop.call_later(self._seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Count as long as headers are missing."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_counting()
        elif self._limit is None:
            self._limit = self.loop.call_later(self._seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._stop_counting()
        super().connection_lost(exc)

    def _stop_counting(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class _Server(uvicorn.Server):
    """Tells clients and workers of the coming end at once, so that nobody waits for pictures in vain."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._stop_waiting: Callable[[], None] = app.state.stop_waiting

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._stop_waiting()
        super().handle_exit(sig, frame)


def _on_stderr() -> dict[str, Any]:
    """uvicorn's own logging, with the requests on stderr as well."""
    handlers = {
        name: {**handler, "stream": "ext://sys.stderr"}
        for name, handler in uvicorn.config.LOGGING_CONFIG["handlers"].items()
    }
    return {**uvicorn.config.LOGGING_CONFIG, "handlers": handlers}
