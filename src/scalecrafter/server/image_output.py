"""What a client of OpenAI's Images API says of its answer: format, form, quality, and whether it comes as a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..request.request import DEFAULT_STEPS, RequestError

FORMS = ("b64_json", "url")
OUTPUT_FORMATS = ("png", "jpeg", "webp")
QUALITIES = {"low": 12, "medium": DEFAULT_STEPS, "high": 40, "xhigh": 60, "max": 100}
"""OpenAI's names of qualities, and our steps."""
_QUALITY_ALIASES = {"auto": None, "standard": None, "hd": "high"}
MOST_PARTIAL_IMAGES = 3
OUTPUT = ("response_format", "output_format", "output_compression", "stream", "partial_images")
"""The parameters that `ImageOutput` is read from, beside `user` and `safety_identifier`."""


class ParameterError(RequestError):
    """One parameter of a client is wrong, and this is which."""

    def __init__(self, param: str, message: str, code: str = "invalid_value") -> None:
        super().__init__(f"request: {message}")
        self.param, self.code = param, code


@dataclass(frozen=True)
class ImageOutput:
    """How the pictures of a request are returned."""

    forms: tuple[str, ...] = FORMS
    """Of `FORMS`: both, unless the client names one."""
    format: str = "png"
    """Of `OUTPUT_FORMATS`."""
    compression: int | None = None
    """Quality of JPEG and WebP, 0 to 100; None: the usual one."""
    stream: bool = False
    partial_images: int = 0
    """Previews of each picture before it is done."""
    identifier: str | None = None
    """Of the client's own user; nothing depends on it."""


def parse_output(given: Mapping[str, Any]) -> ImageOutput:
    """The output that a body asks for; the values of a form are texts (`ParameterError`)."""
    form = choice(given, "response_format", FORMS)
    kind = choice(
        given, "output_format", OUTPUT_FORMATS, "pictures that move or are drawn as vectors are not made here"
    )
    compression = whole(given, "output_compression", 0, 100)
    if compression not in (None, 100) and kind in (None, "png"):
        raise ParameterError(
            "output_compression", "output_compression has no effect on PNG, which loses nothing: ask for jpeg or webp"
        )
    stream = truth(given, "stream")
    partial_images = whole(given, "partial_images", 0, MOST_PARTIAL_IMAGES) or 0
    if partial_images and not stream:
        raise ParameterError("partial_images", "partial_images has no effect without stream: set it to true")
    if stream and form == "url":
        raise ParameterError("response_format", "a stream brings the pictures themselves: leave response_format out")
    identifier = given.get("safety_identifier") or given.get("user")
    return ImageOutput(
        forms=FORMS if form is None else (form,),
        format=kind or "png",
        compression=compression,
        stream=stream,
        partial_images=partial_images,
        identifier=None if identifier is None else str(identifier)[:_LONGEST_IDENTIFIER],
    )


_LONGEST_IDENTIFIER = 256


def quality_steps(given: Mapping[str, Any], most: int) -> int | None:
    """The steps that a body's quality stands for, at most `most`; None: it leaves them alone (`ParameterError`)."""
    name = choice(given, "quality", (*QUALITIES, *_QUALITY_ALIASES))
    name = _QUALITY_ALIASES.get(name, name) if name is not None else None
    if name is None:
        return None
    if "steps" in given:
        raise ParameterError("quality", f"quality {name} is a number of steps, and steps is given: give one of them")
    return min(QUALITIES[name], most)


def quality_name(steps: int) -> str:
    """The name of the quality that so many steps are."""
    return max(
        ("low", *(name for name, least in QUALITIES.items() if least <= steps)), key=lambda name: QUALITIES[name]
    )


def choice(given: Mapping[str, Any], name: str, options: Sequence[str], why: str = "") -> str | None:
    """A body's value of a parameter with fixed values; None without one (`ParameterError`)."""
    value = given.get(name)
    if value is None or (isinstance(value, str) and value in options):
        return value
    reason = f" ({why})" if why else ""
    raise ParameterError(name, f"{name} is {brief(value)}: take {', '.join(options[:-1])} or {options[-1]}{reason}")


def whole(given: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    """A body's whole number; None without one (`ParameterError`)."""
    value = given.get(name)
    if value is None:
        return None
    number = whole_number(name, value)
    if not least <= number <= most:
        raise ParameterError(name, f"{name} is {brief(value)}: take {least} to {most}")
    return number


def whole_number(name: str, value: Any) -> int:
    """A whole number of JSON or of a form (`ParameterError`)."""
    try:
        number = float(value)
        if number == int(number) and not isinstance(value, bool):
            return int(number)
    except (ValueError, OverflowError, TypeError):
        pass
    raise ParameterError(name, f"{name} is {brief(value)}: input should be a whole number")


def truth(given: Mapping[str, Any], name: str) -> bool:
    """A body's truth value, false without one (`ParameterError`)."""
    value = given.get(name, False)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, bool):
        return value
    raise ParameterError(name, f"{name} is {brief(value)}: input should be true or false")


def brief(value: Any) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
