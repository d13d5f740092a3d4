"""Checks that every HTTP request must pass: its key, the web page that sent it, and the size of its body.

They are plain ASGI middleware, because the size of a body must be watched while it arrives.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .failures import ApiError
from .records import Client

CLIENT_HEADER = "X-Client-Id"
"""A secret that a client made up, by which it finds its own jobs again."""
_KEY = "scalecrafter.key"
"""In an ASGI scope: the digest of the request's API key."""
OPEN_PATHS = ("/healthz", "/readyz", "/v1/files/")
"""Paths that need no key: health checks, and pictures, whose addresses cannot be guessed."""
_DRAINING = 1.0
"""Seconds to wait for the next piece of a body that is thrown away."""
_PIECES = 10
_BODIES = 16
"""Times the limit of one body, that all bodies together may have while they arrive."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class KeyGuard:
    """Refuses requests without one of the API keys. Without keys, everyone may pass.

    A key may also be the password of HTTP Basic, with any user name: a browser asks for it, and then sends it with the
    page's own requests to the API. Requests of other sites' pages never get here (`SiteGuard`).

    Args:
        is_page: whether a path is one where a browser may be asked.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[SecretStr], is_page: Callable[[str], bool]) -> None:
        self._app, self._is_page = app, is_page
        self._digests = [_digest(key.get_secret_value()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = self._key(scope) if scope["type"] == "http" and self._digests else None
        if key is not None:
            scope[_KEY] = key.hex()
        elif scope["type"] == "http" and self._digests and not _is_open(scope["path"]):
            message = "no valid API key: send one of this server's as the header `Authorization: Bearer KEY`"
            how = 'Basic realm="ScaleCrafter: any name, and an API key as the password"'
            can_ask = self._is_page(scope["path"])
            answer = ApiError(401, message, headers={"WWW-Authenticate": how if can_ask else "Bearer"}).response()
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _key(self, scope: Scope) -> bytes | None:
        """The digest of the request's key, if it is one of this server's."""
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        kinds = {"bearer"}
        if kind.lower() == "basic":
            kinds, given = {"basic"}, _password(given)
        digest = _digest(given.strip())
        # All keys are compared, and by their digests, so the time depends on none of them.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return digest if any(matches) and kind.lower() in kinds else None


def client_of(request: HTTPConnection) -> Client:
    """Who sends a request that has passed `KeyGuard`."""
    name = request.headers.get(CLIENT_HEADER, "").strip()
    return Client(request.scope.get(_KEY, ""), _digest(name).hex() if name else "")


class SiteGuard:
    """Refuses requests that a web page of another site makes a browser send.

    Without keys, every client on this machine may use the server, and a web page in its browser is such a client. The
    page may send requests to this address (Origin shows it), or use a name of its own for it (Host shows it).
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

    After an error, the rest of the body is read for a moment and thrown away: a connection that is closed with unread
    bytes is reset, and the client would not see the answer.

    Args:
        limit: of a body, in bytes.
        timeout: seconds to wait for the next piece; the whole body has `_PIECES` times as long.
        limits: path → its own limit.
    """

    def __init__(
        self, app: ASGIApp, limit: int, timeout: float, limits: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self._app, self._limit, self._timeout, self._limits = app, limit, timeout, limits
        self._arriving: set[_Body] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limits.get(scope["path"], self._limit)
        body = _Body(receive, limit, self._timeout, waits_to_send="expect" in headers)

        async def after_the_body(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                await body.drain()
            await send(message)

        announced = headers.get("content-length", "0")
        if announced.isdecimal() and (len(announced) > 19 or int(announced) > limit):
            await ApiError(413, _too_large(limit)).response()(scope, receive, after_the_body)
        elif sum(other.arrived for other in self._arriving) > _BODIES * self._limit:
            wait = {"Retry-After": "5"}
            await ApiError(503, "too many bodies arrive at once; try again", headers=wait).response()(
                scope, receive, send
            )
        else:
            self._arriving.add(body)
            try:
                await self._app(scope, body.receive, after_the_body)
            finally:
                self._arriving.discard(body)


class _Body:
    """One request's body while it arrives."""

    def __init__(self, receive: Receive, limit: int, timeout: float, waits_to_send: bool) -> None:
        self._receive, self._limit, self._timeout = receive, limit, timeout
        self._waits_to_send = waits_to_send
        self._ends = time.monotonic() + _PIECES * timeout
        self._arrived, self._ended = 0, False

    @property
    def arrived(self) -> int:
        """Bytes that wait for the rest of the body."""
        return 0 if self._ended else self._arrived

    async def receive(self) -> Message:
        """The next piece (`HTTPException` 413 or 408); after the last one, the next message of the connection."""
        if self._ended:
            return await self._receive()
        try:
            message = await self._next(min(self._timeout, self._ends - time.monotonic()))
        except TimeoutError:
            raise HTTPException(408, "the body stopped arriving; send it again") from None
        if self._arrived > self._limit:
            raise HTTPException(413, _too_large(self._limit))
        return message

    async def drain(self) -> None:
        """Throw the rest away, unless it is large or slow, or the client waits for "100 Continue"."""
        if self._waits_to_send and not self._arrived:
            return
        try:
            ends = time.monotonic() + 5 * _DRAINING
            while not self._ended and self._arrived <= 4 * self._limit and time.monotonic() < ends:
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
    """The password in HTTP Basic; empty if there is none."""
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
