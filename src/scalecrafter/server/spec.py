"""The parts of the OpenAPI description that FastAPI cannot read from the code: bodies and error answers.

The fields of bodies are those of `Request`, so their description is its.
"""

from __future__ import annotations

import copy
from typing import Any

from .._util.pictures import FORMATS_TEXT
from ..request.methods import METHODS
from ..request.request import Request
from ..request.schedulers import SCHEDULERS
from .failures import ErrorBody
from .image_output import FORMS, MOST_PARTIAL_IMAGES, OUTPUT_FORMATS, QUALITIES
from .images_schema import FIDELITY_STRENGTHS, OWN, SETTINGS, SETTLED
from .uploads import PICTURE_FIELDS

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": message}
    for status, message in {
        400: "the request cannot be made",
        401: "no valid API key",
        403: "another site's web page",
        404: "no such thing",
        408: "the body stopped arriving",
        409: "cancelled by another client",
        413: "the body is too large",
        415: "another content type is needed",
        422: "a parameter of the address is wrong",
        429: "the queue is full; Retry-After tells when to try again",
        500: "the picture failed",
        503: "the server is stopping; the job is kept",
    }.items()
}
_EVENT = {
    "type": "object",
    "description": "one server-sent event; its data is JSON",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["event", "data"],
}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": _EVENT}}, "description": "the pictures, or a stream"}
}
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": _EVENT}}}}
_BYTES = {"schema": {"type": "string", "format": "binary"}}


def _file_answers(missing: str, *kinds: str) -> dict[int | str, dict[str, Any]]:
    """The answers of an address of a picture."""
    return {
        200: {"content": dict.fromkeys(kinds, _BYTES)},
        404: {"model": ErrorBody, "description": missing},
        401: {"model": ErrorBody, "description": "no valid API key"},
        403: {"model": ErrorBody, "description": "another site's web page"},
        422: {"model": ErrorBody, "description": "a parameter of the address is wrong"},
    }


PICTURE = _file_answers("no such picture", "image/png", "image/jpeg", "image/webp")
PREVIEW = _file_answers("no such preview", "image/jpeg")
INPUT = _file_answers("no such job or picture", "image/png", "image/jpeg", "image/webp")
METRICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
    401: {"model": ErrorBody, "description": "no valid API key"},
    403: {"model": ErrorBody, "description": "another site's web page"},
}


def _properties() -> dict[str, Any]:
    schema = Request.model_json_schema()
    definitions = schema.get("$defs", {})
    own = {name: _inlined(schema["properties"][name], definitions) for name in ("prompt", "model", *OWN)}
    own |= {
        name: _inlined(kind := METHODS[name].settings.schema_for_clients(), kind.get("$defs", {}))  # type: ignore[union-attr]
        for name in SETTINGS
    }
    for plain in own.values():
        plain.pop("default", None)
    own["method"]["enum"] = list(METHODS)
    own["scheduler"]["enum"] = [*SCHEDULERS, None]
    settled = {
        name: {"enum": list(values), "description": f"else: {message}"} for name, (values, message) in SETTLED.items()
    }
    return {
        **own,
        "n": {"type": "integer", "minimum": 1, "default": 1, "description": "pictures, with seeds that follow on"},
        "size": {"type": "string", "pattern": "^([0-9]{1,5}x[0-9]{1,5}|auto)$", "description": "WIDTHxHEIGHT"},
        "response_format": {"enum": list(FORMS), "description": "both, unless one is named"},
        "output_format": {"enum": list(OUTPUT_FORMATS), "default": "png"},
        "output_compression": {"type": "integer", "minimum": 0, "maximum": 100, "description": "of JPEG and WebP"},
        "stream": {"type": "boolean", "default": False, "description": "server-sent events instead of one answer"},
        "partial_images": {
            "type": "integer",
            "minimum": 0,
            "maximum": MOST_PARTIAL_IMAGES,
            "description": "previews in a stream",
        },
        "quality": {
            "enum": ["auto", *QUALITIES, "standard", "hd"],
            "description": f"steps: {', '.join(f'{name} {steps}' for name, steps in QUALITIES.items())}",
        },
        "input_fidelity": {"enum": list(FIDELITY_STRENGTHS), "description": "high: more of the given picture stays"},
        "user": {"type": "string", "description": "comes back as safety_identifier"},
        "safety_identifier": {"type": "string", "description": "comes back"},
        **settled,
    }


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema without references to what is not in the whole description."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(copy.deepcopy(definitions[schema["$ref"].rpartition("/")[2]]), definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items()}


def _body(kind: str, extra: dict[str, Any], required: list[str]) -> dict[str, Any]:
    properties = {**_properties(), **extra}
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


_FILE = {"type": "string", "format": "binary", "description": FORMATS_TEXT}
_TEXT_IMAGE = {"type": "string", "description": f"base64 or data URL of a file: {FORMATS_TEXT}"}
GENERATION_BODY = _body("application/json", {}, ["prompt"])
_ENLARGING: dict[str, Any] = {
    "scale": {"type": "number", "exclusiveMinimum": 1, "maximum": 8, "default": 2, "description": "unless size"},
    "creativity": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.3, "description": "0: keep it"},
}
ENLARGE_BODY = _body("multipart/form-data", {"image": _FILE, **_ENLARGING}, ["image"])
EDIT_BODY = _body("multipart/form-data", dict.fromkeys(PICTURE_FIELDS, _FILE), ["prompt", "image"])
VARIATION_BODY = _body("multipart/form-data", {"image": _FILE}, ["image"])
_ENLARGE = {
    "type": ["object", "null"],
    "properties": _ENLARGING,
    "additionalProperties": False,
    "description": "enlarge the image instead of drawing one; the prompt may be left out then",
}
_JOB: dict[str, Any] = {**dict.fromkeys(PICTURE_FIELDS, _TEXT_IMAGE), "enlarge": _ENLARGE}
JOB_BODY = _body("application/json", _JOB, [])
_OF_AN_ESTIMATE: dict[str, Any] = {
    "image_size": {"type": "string", "pattern": "^[0-9]{1,5}x[0-9]{1,5}$", "description": "may stand for the image"},
    "mask": {**_TEXT_IMAGE, "type": ["string", "boolean"], "description": "true, or as for a job"},
}
ESTIMATE_BODY = _body("application/json", _JOB | _OF_AN_ESTIMATE, [])
