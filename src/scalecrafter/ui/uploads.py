"""What browsers send to the page: dropped pictures, and events of its controls.

Gradio opens any file that an event names. So events pass through `checked_event` first: they can name a dropped
picture only, by the name that `Uploads.receive` gave it. A dropped picture is never a file here: the request inside is
read while it arrives, and kept in memory for a while.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile

from ..errors import ScaleCrafterError
from ..generation.picture_files import read_request
from ..request.request import Request as PictureRequest
from ..request.request import RequestError

LARGEST_EVENT = 1 << 20
"""Bytes of an event: two prompts and a recipe are much shorter."""
_MOST_KEPT = 100
_LONGEST_NAME = 100
_LONGEST_SESSION = 64


class Uploads:
    """The requests in the pictures that were dropped on the page, by paths that no file has."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, PictureRequest | ScaleCrafterError]] = OrderedDict()

    def __contains__(self, path: object) -> bool:
        return path in self._kept

    async def receive(self, request: Request) -> JSONResponse:
        """Take the picture in a form, as Gradio's own upload does; the answer is a list with its path."""
        try:
            async with request.form(max_files=1, max_fields=1) as form:
                files = [value for value in form.values() if isinstance(value, UploadFile)]
                if len(files) != 1:
                    raise HTTPException(400, "send one picture")
                name = _plain(files[0].filename or "")
                found = await asyncio.to_thread(_read, files[0], name)
        except (HTTPException, ScaleCrafterError):
            raise
        except Exception as error:  # the parser's own, for bytes that are no form
            raise HTTPException(400, f"the body is not a form with a picture ({type(error).__name__})") from None
        path = f"{secrets.token_hex(16)}/{name}"
        self._kept[path] = name, found
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return JSONResponse([path])

    def take(self, path: str) -> tuple[str, PictureRequest]:
        """The name of a dropped picture and the request inside, once (`RequestError`)."""
        name, found = self._kept.pop(path, ("", None))
        if found is None:
            raise RequestError("that picture is no longer here: drop it again")
        if isinstance(found, ScaleCrafterError):
            raise found
        return name, found


def checked_event(body: bytes, check: Callable[[int, list[Any]], None], uploads: Uploads) -> bytes:
    """An event in which nothing is named but dropped pictures.

    Args:
        body: JSON from a browser.
        check: raises ValueError unless the function of that index takes these values.
        uploads: the pictures that may be named.

    Raises:
        HTTPException: 400 for anything that the page's own events do not hold.
    """
    try:
        event = json.loads(body)
        function, session, trigger = event["fn_index"], event["session_hash"], event.get("trigger_id")
        if type(function) is not int or type(session) is not str or not 0 < len(session) <= _LONGEST_SESSION:
            raise ValueError("it names no function or session")
        values = [_checked_value(value, uploads) for value in event["data"]]
        check(function, values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HTTPException(400, f"that is no event of this page: {str(error)[:300]}") from None
    plain = {"fn_index": function, "session_hash": session, "data": values}
    return json.dumps({**plain, "trigger_id": trigger if type(trigger) is int else None}).encode()


def _checked_value(value: Any, uploads: Uploads) -> Any:
    """A plain value, a list of texts, or a dropped picture (`ValueError`)."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    if isinstance(value, dict) and isinstance(value.get("path"), str) and value["path"] in uploads:
        return {"path": value["path"], "meta": {"_type": "gradio.FileData"}}
    raise ValueError("it holds something else than texts, numbers and dropped pictures")


def _read(file: UploadFile, name: str) -> PictureRequest | ScaleCrafterError:
    try:
        return read_request(file.file, name)
    except ScaleCrafterError as error:
        return error


def _plain(name: str) -> str:
    """The last part of a file's name, without what has a meaning in paths."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable()).strip(". ")[-_LONGEST_NAME:] or "picture.png"
