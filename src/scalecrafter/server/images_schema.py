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

from .._util.sizes import ImageSize
from .._util.text import near_or_all_names
from ..request.methods import METHODS
from ..request.request import Request, RequestError
from ..request.text import parse_size
from .image_output import (
    OUTPUT,
    ImageOutput,
    ParameterError,
    brief,
    choice,
    parse_output,
    quality_steps,
    whole_number,
)
from .uploads import PICTURE_FIELDS

OWN = ("negative", "method", "recipe", "freeu", "steps", "guidance", "seed", "scheduler", "strength")
"""Fields of `Request` that a client may set by their own names."""
SETTINGS = tuple(name for name, method in METHODS.items() if method.settings)
"""The methods' own settings, an object under each method's name."""
_NUMBERS = frozenset({"n", "steps", "guidance", "seed", "strength"})
_IGNORED = frozenset({"user", "safety_identifier"})
"""They identify the client's own users; nothing here depends on them."""
SETTLED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "style": (("natural",), "leave it out, and describe it in the prompt"),
    "background": (("auto", "opaque"), "a diffusion model paints every pixel, so nothing stays transparent"),
    "moderation": (("auto", "low"), "leave it out; nothing is filtered"),
    "complexity": (("low",), "leave it out, and set steps; nothing is planned before it is drawn"),
}
"""OpenAI's parameter → the values that are what happens anyway, and advice for the others."""
REFUSED: Mapping[str, str] = {
    "svg": "pictures are made of pixels: ask for output_format png, jpeg or webp",
    "frame_count": "pictures do not move: leave it out",
    "frame_duration_ms": "pictures do not move: leave it out",
    "markup": "send a mask that shows what to redraw, and describe it in the prompt",
}
"""Parameters of OpenAI's that nothing here can do, and why."""
FIDELITY_STRENGTHS = {"high": 0.4, "low": None}
"""OpenAI's input_fidelity, and the strength that it stands for; None leaves the default."""
ENLARGING = ("scale", "creativity")
"""Parameters of our own for enlarging."""
KNOWN = (
    *("prompt", "model", "n", "size", "quality", "input_fidelity", *OUTPUT),
    *(*OWN, *SETTINGS, *SETTLED, *sorted(_IGNORED)),
)
"""Every parameter that a body may have."""
_LONGEST_SIZE = 40
"""Characters; Python refuses to read numbers of thousands of digits."""


@dataclass(frozen=True)
class ImagesRequest:
    """The request of a client."""

    request: Request
    pictures: int
    output: ImageOutput


def parse_images_request(
    data: Any,
    default_model: str,
    files: Iterable[str] = (),
    from_form: bool = False,
    enlarging: bool = False,
    most_steps: int = 1000,
) -> ImagesRequest:
    """The request in a body.

    Args:
        data: the JSON, or the plain fields of a form.
        default_model: for bodies without a model.
        files: the fields whose pictures came as files: image, mask.
        from_form: whether all values are texts, numbers too.
        enlarging: whether the picture is to be enlarged.
        most_steps: that a quality may stand for.

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
            raise ParameterError(name, f"{name} is {brief(given[name])}, which has no effect here: {instead}")
    if not from_form:
        _refuse_other_types(given)
    values: dict[str, Any] = {name: given[name] for name in (*OWN, *SETTINGS) if name in given}
    values["model"] = given.get("model", default_model)
    if "prompt" in given:
        values["prompt"] = given["prompt"]
    if "size" in given and given["size"] != "auto":
        values["width"], values["height"] = parameter_size(given, "size")
    if enlarging:
        values["enlarge"] = {name: given[name] for name in ENLARGING if name in given}
    if values.get("recipe") == "auto":
        values["recipe"] = None
    for field in files:
        values[field] = "upload"
    steps = quality_steps(given, most_steps)
    if steps is not None:
        values["steps"] = steps
    strength = _fidelity_strength(given, values)
    if strength is not None:
        values["strength"] = strength
    output = parse_output(given)
    return ImagesRequest(Request.from_mapping(values), whole_number("n", given.get("n", 1)), output)


def _fidelity_strength(given: Mapping[str, Any], values: Mapping[str, Any]) -> float | None:
    """The strength that input_fidelity stands for. With a mask it has none: outside of it nothing changes."""
    name = choice(given, "input_fidelity", tuple(FIDELITY_STRENGTHS))
    if name is None or "mask" in values:
        return None
    if "image" not in values or "strength" in values:
        why = "an image" if "image" not in values else "leaving strength out"
        raise ParameterError("input_fidelity", f"input_fidelity has no effect without {why}")
    return FIDELITY_STRENGTHS[name]


def image_bytes(field: str, text: Any) -> bytes:
    """A picture in a JSON body: base64, or a data URL (`RequestError`)."""
    if not isinstance(text, str):
        raise ParameterError(field, f"{field} is not text: give base64, or a data URL")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ParameterError(field, f"{field} is not base64, nor a data URL with base64") from None


def separate_pictures(data: Any) -> tuple[Any, dict[str, bytes]]:
    """A body without its image and mask, and those two (`RequestError`)."""
    if not isinstance(data, dict):
        return data, {}
    found = {field: image_bytes(field, data[field]) for field in PICTURE_FIELDS if data.get(field) is not None}
    return {name: value for name, value in data.items() if name not in PICTURE_FIELDS}, found


def separate_enlargement(data: Any) -> tuple[Any, bool]:
    """A body with what its `enlarge` says as parameters of `/v1/images/enlarge`, and whether it says anything."""
    if not isinstance(data, dict) or data.get("enlarge") is None:
        return data, False
    how = data["enlarge"]
    how = how if isinstance(how, dict) else {"scale": how}  # a number alone
    return {name: value for name, value in data.items() if name != "enlarge"} | how, True


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        plain = name.partition("[")[0]  # forms say svg[model]
        if plain in REFUSED:
            raise ParameterError(plain, f"{plain} has no effect here: {REFUSED[plain]}", "unsupported_parameter")
        if name not in known:
            message = f"there is no setting {brief(name)}; {near_or_all_names(name, known)}"
            raise ParameterError(name[:80], message, "unknown_parameter")


def _refuse_other_types(given: Mapping[str, Any]) -> None:
    """JSON has numbers: a text or a truth value instead of one is a mistake."""
    for name, value in given.items():
        if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ParameterError(name, f"{name} is {brief(value)}: input should be a number")
        if name == "freeu" and not isinstance(value, bool):
            raise ParameterError(name, f"{name} is {brief(value)}: input should be true or false")


def parameter_size(given: Mapping[str, Any], name: str) -> ImageSize:
    """A size in a body, written as 1024x768 (`RequestError`)."""
    try:
        return ImageSize(*parse_size(_text(given, name)[:_LONGEST_SIZE]))
    except ParameterError:
        raise
    except RequestError as error:
        raise ParameterError(name, str(error)) from None


def _text(given: Mapping[str, Any], name: str) -> str:
    if not isinstance(given[name], str):
        raise ParameterError(name, f"{name} is {brief(given[name])}: input should be a text")
    return str(given[name])
