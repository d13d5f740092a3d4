"""Read the bodies of requests: JSON, and forms with files."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ..request.request import RequestError
from .failures import ApiError
from .image_output import ParameterError
from .images_schema import REFUSED

_FIELDS = 50
_FILES = 20
"""More than are taken, so that those who send several can be told."""
_FIELD_BYTES = 64 << 10
_IMAGE_FIELDS = ("image", "image[]")


@dataclass(frozen=True)
class MultipartForm:
    """A form with its texts and files."""

    texts: dict[str, str]
    files: dict[str, bytes]
    """The image, and a mask if there was one."""


async def read_json(request: Request) -> Any:
    """The content of a JSON body (`ApiError` 400, or 415 for another content type)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, f"the content type is {kind or 'missing'!r}: send application/json")
    try:
        body = await request.body()
        return await asyncio.to_thread(json.loads, body)
    except ClientDisconnect:
        raise ApiError(400, "the body ended early") from None
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {str(error)[:200]}", code="invalid_json") from None


async def read_form(request: Request) -> MultipartForm:
    """The content of a multipart form (`ApiError` 400, or 415 for another content type; `RequestError`)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(415, f"the content type is {kind or 'missing'!r}: send multipart/form-data with the image")
    try:
        async with request.form(max_files=_FILES, max_fields=_FIELDS, max_part_size=_FIELD_BYTES) as form:
            return await _sort_fields(form)
    except (HTTPException, RequestError, ApiError):
        raise
    except ClientDisconnect:
        raise ApiError(400, "the body ended early") from None
    except Exception as error:  # the parser's own, for bytes that are no form
        raise ApiError(400, f"the body is not a multipart form ({type(error).__name__}): {str(error)[:200]}") from None


async def _sort_fields(form: FormData) -> MultipartForm:
    texts: dict[str, str] = {}
    files: dict[str, list[bytes]] = {"image": [], "mask": []}
    for name, value in form.multi_items():
        kind = "image" if name in _IMAGE_FIELDS else name
        if isinstance(value, UploadFile):
            if kind not in files:
                why = REFUSED.get(name, "send image, and mask if need be")
                raise ParameterError(name[:80], f"there is no file {name[:80]!r}; {why}", "unsupported_parameter")
            files[kind].append(await value.read())
        elif kind in files:
            raise ParameterError(kind, f"{kind} is a text: send it as a file")
        elif name in texts:
            raise ParameterError(name[:80], f"{name[:80]} is given twice")
        else:
            texts[name] = value
    if not files["image"]:
        raise ParameterError("image", "there is no image: send one picture to start from, as a file")
    for kind, found in files.items():
        if len(found) > 1:
            why = "a picture starts from one image" if kind == "image" else "an image has one mask"
            message = f"{kind} is given {len(found)} times, and {why}: send one"
            raise ParameterError(kind, message, "unsupported_value")
    return MultipartForm(texts, {kind: found[0] for kind, found in files.items() if found})
