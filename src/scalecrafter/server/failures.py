"""Errors as HTTP answers, in the JSON shape of OpenAI's API. The messages are those of the command line."""

from __future__ import annotations

import errno
import logging
import re
import sqlite3
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from .._util.text import explain_problem
from ..errors import ScaleCrafterError, UnwritableError
from .image_output import ParameterError
from .images_schema import KNOWN
from .jobs import UnknownModelError
from .store import QueueFullError, UnknownJobError

_LONGEST = 600
_QUOTED_PATH = re.compile(r"""(['"])[/~][^'"\n]*/([^'"/\n]*)\1""")
_PATH = re.compile(r"""(?<![\w.:/~}])[/~](?!v1/)[^\s'"`,;:()<>/]*/(?:[^\s'"`,;:()<>/]+/)*([^\s'"`,;:()<>/]*)""")
"""Absolute paths, quoted (with spaces) and not; addresses of this API are none."""
_PARAMETER = re.compile(r"^(?:request: )?(?:the )?([a-z_]+)(?:\.\S+)? (?:is|has)\b|^(?:request: )?([a-z_]+): ")
_SIZE = re.compile(r"^\d+x\d+ is [\d,]+ pixels|^(width|height) \d+ is ")
_PARAMETERS = frozenset({*KNOWN, "image", "mask"})
_CODES = {
    400: "invalid_value",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "queue_full",
}
_OF_DISKS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM})
_log = logging.getLogger("scalecrafter.server")


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """An error as OpenAI's API has it."""

    error: ErrorDetail


class ApiError(Exception):
    """An error with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.headers = status, message, param, headers or {}
        self.code = code or _CODES.get(status, "error")

    @property
    def detail(self) -> ErrorDetail:
        """The error without its status."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        return ErrorDetail(message=_safe(self.message), type=kind, param=self.param, code=self.code)

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(ErrorBody(error=self.detail).model_dump(), self.status, self.headers)


def public(error: Exception | str) -> str:
    """The message of an error in one line, with file names instead of paths of this machine."""
    text = _QUOTED_PATH.sub(r"\1\2\1", " ".join(str(error).split()))
    return _PATH.sub(r"\1", text)


def of_failure(message: str, is_clients: bool) -> ApiError:
    """The error of a failed picture."""
    return _wrong_request(message) if is_clients else ApiError(500, message, code="picture_failed")


def _wrong_request(message: str) -> ApiError:
    found = _PARAMETER.match(message)
    name = (found[1] or found[2]) if found else None
    if name in ("width", "height") or _SIZE.match(message):
        name = "size"
    return ApiError(400, message, param=name if name in _PARAMETERS else None)


def install(app: FastAPI) -> None:
    """Answer every exception in OpenAI's shape."""

    def add(kind: type[Exception], convert: Callable[[Any], ApiError]) -> None:
        async def handle(request: Request, error: Exception) -> JSONResponse:
            answer = convert(error)
            if answer.status == 405:
                answer.headers["Allow"] = ", ".join(sorted(_methods(app, request)))
            return answer.response()

        app.add_exception_handler(kind, handle)

    add(ApiError, lambda error: error)
    add(UnknownModelError, lambda error: ApiError(404, str(error), code="model_not_found", param="model"))
    add(ScaleCrafterError, _of_library)
    add(sqlite3.OperationalError, _unusable_disk)
    add(OSError, lambda error: _unusable_disk(error) if error.errno in _OF_DISKS else _unexpected(error))
    add(UnknownJobError, lambda error: ApiError(404, str(error), code="job_not_found"))
    add(QueueFullError, lambda error: ApiError(429, str(error), headers={"Retry-After": "5"}))
    add(RequestValidationError, lambda error: ApiError(422, "; ".join(map(explain_problem, error.errors()))))
    add(HTTPException, lambda error: ApiError(error.status_code, str(error.detail), headers=dict(error.headers or {})))
    add(Exception, _unexpected)


def _methods(app: FastAPI, request: Request) -> set[str]:
    """The methods that the path of a request has; Starlette knows those of the first route only."""
    matching = (route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in getattr(route, "methods", None) or ()}


def _of_library(error: ScaleCrafterError) -> ApiError:
    if isinstance(error, UnwritableError):
        return _unusable_disk(error)
    if isinstance(error, ParameterError):
        return ApiError(400, public(error), param=error.param, code=error.code)
    return _wrong_request(public(error)) if error.users_fault else _unexpected(error)


def _unusable_disk(error: Exception) -> ApiError:
    _log.error("the data folder cannot be used", exc_info=error)
    message = "the server cannot use its disk at the moment; its log says why. Try again later"
    return ApiError(503, message, code="storage_unavailable", headers={"Retry-After": "30"})


def _unexpected(error: Exception) -> ApiError:
    _log.error("a request failed", exc_info=error)
    return ApiError(500, f"the server failed ({type(error).__name__}); its log has the details", code="internal_error")


def _safe(message: str) -> str:
    """A short text that JSON can carry (a client may have sent half of a surrogate pair)."""
    message = message.encode("utf-8", "backslashreplace").decode()
    return message if len(message) <= _LONGEST else message[: _LONGEST - 1] + "…"
