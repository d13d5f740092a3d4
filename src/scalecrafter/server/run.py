"""Running the application with uvicorn until a signal ends it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from ..request.request import RequestError
from .app import create_app, stop_this_process
from .page import PageFactory
from .settings import ServerSettings

_ANSWERING = 40.0
"""Seconds beyond the time of grace that open requests have at shutdown: decoding, and handing pictures over."""


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
    """Serve until SIGTERM or SIGINT; then running pictures are finished within their time of grace.

    Returns:
        Whether the workers could work with the settings; if not, they said on stderr what is wrong.
    """
    well = True

    def give_up() -> None:
        nonlocal well
        well = False
        stop_this_process()

    app = create_app(settings, page, give_up)
    config = uvicorn.Config(
        app,
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


class _Server(uvicorn.Server):
    """Makes the coming end known at once, so that no one waits for pictures that will not be made."""

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
