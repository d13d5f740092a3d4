"""From the parameters of OpenAI's Images API and our own to a `Request`.

A parameter of OpenAI's that has no effect here is refused, with advice, unless its value is what happens anyway. Our
own parameters are those of `Request`, with its messages.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._util.text import near_or_all_names
from ..request.methods import METHODS
from ..request.request import Request, RequestError
from ..request.text import parse_size

OWN = ("negative", "method", "recipe", "freeu", "steps", "guidance", "seed", "scheduler", "strength")
"""Fields of `Request` that a client may set by their own names."""
SETTINGS = tuple(name for name, method in METHODS.items() if method.settings)
"""The methods' own settings, an object under each method's name."""
_NUMBERS = frozenset({"n", "steps", "guidance", "seed", "strength"})
_IGNORED = frozenset({"user", "safety_identifier"})
"""They identify the client's own users; nothing here depends on them."""
SETTLED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "quality": (("auto", "standard"), "leave it out, and set steps"),
    "style": (("natural",), "leave it out, and describe it in the prompt"),
    "background": (("auto", "opaque"), "pictures are opaque"),
    "moderation": (("auto", "low"), "leave it out"),
    "input_fidelity": (("high", "low"), "leave it out, and set strength"),
    "output_format": (("png",), "pictures are PNG, which carries the request"),
    "output_compression": ((100,), "pictures are PNG, which loses nothing"),
    "stream": ((False,), "leave it out; POST /v1/jobs and GET /v1/jobs/{id}/events show progress and previews"),
    "partial_images": ((0,), "leave it out; GET /v1/jobs/{id}/events shows previews"),
}
"""OpenAI's parameter → the values that are what happens anyway, and advice for the others."""
ENLARGING = ("scale", "creativity")
"""Parameters of our own for enlarging."""
KNOWN = ("prompt", "model", "n", "size", "response_format", *OWN, *SETTINGS, *SETTLED, *sorted(_IGNORED))
"""Every parameter that a body may have."""
FORMATS = ("b64_json", "url")
_LONGEST_SIZE = 40
"""Characters; Python refuses to read numbers of thousands of digits."""


@dataclass(frozen=True)
class ImagesRequest:
    """The request of a client."""

    request: Request
    pictures: int
    formats: tuple[str, ...]
    """How the pictures are returned: in both forms, unless the client names one."""


def parse_images_request(
    data: Any, default_model: str, files: Iterable[str] = (), from_form: bool = False, enlarging: bool = False
) -> ImagesRequest:
    """The request in a body.

    Args:
        data: the JSON, or the plain fields of a form.
        default_model: for bodies without a model.
        files: the fields whose pictures came as files: image, mask.
        from_form: whether all values are texts, numbers too.
        enlarging: whether the picture is to be enlarged.

    Raises:
        RequestError: with the command line's message.
    """
    if not isinstance(data, dict):
        raise RequestError("request: the body is not a JSON object")
    given = {str(name): value for name, value in data.items() if value is not None}
    if from_form:
        given = {name: value for name, value in given.items() if value != ""}
    _refuse_unknown(given, (*KNOWN, *ENLARGING) if enlarging else KNOWN)
    for name, (taken, instead) in SETTLED.items():
        if name in given and str(given[name]).lower() not in [str(value).lower() for value in taken]:
            raise RequestError(f"request: {name} is {_brief(given[name])}, which has no effect here: {instead}")
    if not from_form:
        _refuse_other_types(given)
    values: dict[str, Any] = {name: given[name] for name in (*OWN, *SETTINGS) if name in given}
    values["model"] = given.get("model", default_model)
    if "prompt" in given:
        values["prompt"] = given["prompt"]
    if "size" in given and given["size"] != "auto":
        values["width"], values["height"] = parse_size(_text(given, "size")[:_LONGEST_SIZE])
    if enlarging:
        values["enlarge"] = {name: given[name] for name in ENLARGING if name in given}
    if values.get("recipe") == "auto":
        values["recipe"] = None
    for field in files:
        values[field] = "upload"
    how = given.get("response_format")
    if how is not None and how not in FORMATS:
        raise RequestError(f"request: response_format is {_brief(how)}: take {' or '.join(FORMATS)}")
    return ImagesRequest(Request.from_mapping(values), _whole(given.get("n", 1)), FORMATS if how is None else (how,))


def image_bytes(field: str, text: Any) -> bytes:
    """A picture in a JSON body: base64, or a data URL (`RequestError`)."""
    if not isinstance(text, str):
        raise RequestError(f"request: {field} is not text: give base64, or a data URL")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"request: {field} is not base64, nor a data URL with base64") from None


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise RequestError(f"request: there is no setting {_brief(name)}; {near_or_all_names(name, known)}")


def _refuse_other_types(given: Mapping[str, Any]) -> None:
    """JSON has numbers: a text or a truth value instead of one is a mistake."""
    for name, value in given.items():
        if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise RequestError(f"request: {name} is {_brief(value)}: input should be a number")
        if name == "freeu" and not isinstance(value, bool):
            raise RequestError(f"request: {name} is {_brief(value)}: input should be true or false")


def _text(given: Mapping[str, Any], name: str) -> str:
    if not isinstance(given[name], str):
        raise RequestError(f"request: {name} is {_brief(given[name])}: input should be a text")
    return str(given[name])


def _whole(value: Any) -> int:
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise RequestError(f"request: n is {_brief(value)}: input should be a whole number")


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
