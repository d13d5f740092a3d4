"""What every HTTP request passes before it is looked at: whose it is, who sent it, and how large it is.

Plain ASGI middleware, since a body's size has to be watched while it arrives.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .failures import ApiError

OPEN_PATHS = ("/healthz", "/readyz", "/v1/files/")
"""What needs no key: health checks, and pictures, whose addresses cannot be guessed."""
_DRAINING = 1.0
"""Seconds without a further piece after which the rest of a body is not waited for."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class KeyGuard:
    """Refuses requests without one of the API keys; with no keys it lets everyone pass.

    A browser asks its user for a name and a password: for the page, a key is the password, with any name (HTTP Basic).

    Args:
        is_page: whether a path is the page's.
    """

    def __init__(
        self, app: ASGIApp, keys: Sequence[SecretStr], is_page: Callable[[str], bool] = lambda _path: False
    ) -> None:
        self._app, self._is_page = app, is_page
        self._digests = [_digest(key.get_secret_value()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._digests and not _is_open(scope["path"]) and not self._has_key(scope):
            message = "no valid API key: send one of this server's as the header `Authorization: Bearer KEY`"
            how = 'Basic realm="ScaleCrafter: any name, and an API key as the password"'
            answer = ApiError(
                401, message, headers={"WWW-Authenticate": how if self._is_page(scope["path"]) else "Bearer"}
            ).response()
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        kinds = {"bearer"}
        if self._is_page(scope["path"]) and kind.lower() == "basic":
            kinds, given = {"basic"}, _password(given)
        digest = _digest(given.strip())
        # All keys are compared, and their digests rather than they, so the time tells nothing of any of them.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches) and kind.lower() in kinds


class SiteGuard:
    """Refuses what a web page of another site makes a browser send.

    Without keys, being on this machine is all that a client has to show, and a page that the user visits is on it, too:
    by a request to this address (told by Origin), or by a name of its own that leads here (told by Host).
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], hosts: Sequence[str] | None) -> None:
        self._app, self._origins = app, frozenset(origins)
        self._hosts = None if hosts is None else frozenset({*_LOOPBACK_NAMES, *hosts})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            message = self._objection(headers.get("host", ""), headers.get("origin"))
            if message is not None and scope["type"] == "http":
                await ApiError(403, message).response()(scope, receive, send)
                return
            if message is not None:
                await send({"type": "websocket.close", "code": 1008})
                return
        await self._app(scope, receive, send)

    def _objection(self, host: str, origin: str | None) -> str | None:
        if self._hosts is not None and _name(host) not in self._hosts:
            return f"this server is not called {host!r}: use its own address, or start it with --host-name"
        if origin is not None and origin not in self._origins and _place(origin) != host:
            return f"web pages of {origin!r} may not use this server: start it with --cors to let them"
        return None


class BodyGuard:
    """Ends requests whose body is too large, or stops arriving.

    What is left of a body when an error is answered is read and thrown away for a moment: a connection that is closed
    over unread bytes is reset, and the client would see that instead of the answer.

    Args:
        limit: of a body, in bytes.
        timeout: seconds to wait for the next piece.
        larger: path → its own limit.
    """

    def __init__(
        self, app: ASGIApp, limit: int, timeout: float, larger: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self._app, self._limit, self._timeout, self._larger = app, limit, timeout, larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._larger.get(scope["path"], self._limit)
        body = _Body(receive, limit, self._timeout, waits_to_send="expect" in headers)

        async def after_the_body(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                await body.drain()
            await send(message)

        announced = headers.get("content-length", "0")
        if announced.isdecimal() and (len(announced) > 19 or int(announced) > limit):
            await ApiError(413, _too_large(limit)).response()(scope, receive, after_the_body)
        else:
            await self._app(scope, body.receive, after_the_body)


class _Body:
    """One request's body while it arrives."""

    def __init__(self, receive: Receive, limit: int, timeout: float, waits_to_send: bool) -> None:
        self._receive, self._limit, self._timeout = receive, limit, timeout
        self._waits_to_send = waits_to_send
        self._arrived, self._ended = 0, False

    async def receive(self) -> Message:
        """The next piece (`HTTPException` 413 or 408); after the last one, whatever the connection tells."""
        if self._ended:
            return await self._receive()
        try:
            message = await self._next(self._timeout)
        except TimeoutError:
            raise HTTPException(408, "the body stopped arriving; send it again") from None
        if self._arrived > self._limit:
            raise HTTPException(413, _too_large(self._limit))
        return message

    async def drain(self) -> None:
        """Throw away what is left, unless it is a great deal or slow, or the client waits to be asked for it."""
        if self._waits_to_send and not self._arrived:
            return
        try:
            while not self._ended and self._arrived <= 4 * self._limit:
                await self._next(_DRAINING)
        except TimeoutError:
            return

    async def _next(self, timeout: float) -> Message:
        message = await asyncio.wait_for(self._receive(), timeout)
        self._arrived += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        return message


def _too_large(limit: int) -> str:
    return f"the body is too large: this server takes at most {limit:,} bytes"


def _is_open(path: str) -> bool:
    return any(path == one or (one.endswith("/") and path.startswith(one)) for one in OPEN_PATHS)


def _password(given: str) -> str:
    """What stands behind the name in HTTP Basic; empty where that is not what was given."""
    try:
        return base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _name(host: str) -> str:
    """A Host header without its port."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).lower()


def _place(origin: str) -> str:
    """Host and port of an Origin header."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
