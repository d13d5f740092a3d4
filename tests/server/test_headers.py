"""Connections whose headers never end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from scalecrafter.server.run import HeaderTimeLimit

SECONDS = 0.4
LONGEST = 20.0
"""Seconds until a test gives up: before the server ends the connection for another reason, and long after it should."""
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def slow_app(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers later than headers may take."""
    await asyncio.sleep(2 * SECONDS)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def talk(*pieces: bytes, pause: float = 0.05, until: bytes | None = None) -> bytes:
    """What a server answers before it closes the connection, or as far as `until`."""
    config = uvicorn.Config(slow_app, timeout_keep_alive=30)
    config.load()
    state = ServerState()
    protocol = partial(HeaderTimeLimit, config=config, server_state=state, app_state={}, seconds=SECONDS)
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

        async def drip() -> None:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(pause)

        dripping = asyncio.create_task(drip())
        answer = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(LONGEST):
                while got := await reader.read(1000):
                    answer += got
                    if until is not None and answer.endswith(until):
                        break
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.transport.abort()
        return answer


@pytest.mark.parametrize("pieces", [[], [b"GET / HT"], [b"GET / HTTP/1.1\r\n", *[b"x: y\r\n"] * 2000]])
def test_headers_that_never_end_end_the_connection_however_they_drip(pieces: list[bytes]) -> None:
    assert asyncio.run(talk(*pieces)) == b""


def test_a_request_with_its_headers_is_answered_however_long_that_takes() -> None:
    answer = asyncio.run(talk(REQUEST, until=b"\r\n\r\nok"))
    assert answer.startswith(b"HTTP/1.1 200")


def test_the_headers_of_a_second_request_have_the_limit_too() -> None:
    answer = asyncio.run(talk(REQUEST, b"GET / HT", pause=3 * SECONDS))
    assert answer.count(b"200 OK") == 1
