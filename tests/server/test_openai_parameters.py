"""Every parameter of the present `openai` package's images, once: it acts, or it is refused with the reason."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import openai
import pytest
from openai.resources.images import Images
from openai.types import (
    ImageEditCompletedEvent,
    ImageGenCompletedEvent,
    ImageGenPartialImageEvent,
)
from PIL import Image

from scalecrafter.request.request import RequestError
from scalecrafter.server.image_output import QUALITIES, ParameterError, quality_name
from scalecrafter.server.images_schema import parse_images_request
from tests.support.picture_kinds import smooth
from tests.support.running_server import Running

OUR_OWN = {"extra_headers", "extra_query", "extra_body", "timeout", "self"}
"""Of the client itself."""
ACCEPTED: dict[str, Any] = {
    "prompt": "a blue fox, in the snow", "background": "opaque", "complexity": "low", "model": "tiny",
    "moderation": "low", "n": 2, "output_compression": 40, "output_format": "webp", "quality": "low",
    "response_format": "b64_json", "safety_identifier": "someone", "size": "128x192", "stream": False, "user": "u",
    "style": "natural", "partial_images": 0,
}  # fmt: skip
REFUSED: dict[str, Any] = {"frame_count": 4, "frame_duration_ms": 100, "svg": {"model": "any"}}
ONLY_EDIT = {"input_fidelity": "high"}
ONLY_GENERATE = {"moderation", "style"}


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none needed", max_retries=0, timeout=300) as client:
        yield client


def png(size: tuple[int, int] = (128, 192)) -> bytes:
    file = BytesIO()
    smooth(*size).save(file, "PNG")
    return file.getvalue()


def opened(text: str | None) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(text or "")))


def test_generate_takes_every_parameter_of_the_client(client: openai.OpenAI) -> None:
    assert {*inspect.signature(Images.generate).parameters} - OUR_OWN == {*ACCEPTED, *REFUSED}
    answer = client.images.generate(**ACCEPTED)
    assert answer.data is not None
    for picture in answer.data:
        with opened(picture.b64_json) as image:
            assert (image.format, image.size) == ("WEBP", (128, 192))
        assert picture.url is None
    assert (answer.background, answer.output_format, answer.quality) == ("opaque", "webp", "low")
    assert (answer.size, answer.safety_identifier) == ("128x192", "someone")
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.text_tokens == 2 * 7
    assert answer.usage.output_tokens == 2 * 16 * 24
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_edit_takes_every_parameter_of_the_client(client: openai.OpenAI) -> None:
    given = {name: value for name, value in ACCEPTED.items() if name not in ONLY_GENERATE} | ONLY_EDIT
    expected = {*given, *REFUSED, "image", "mask", "markup"}
    assert {*inspect.signature(Images.edit).parameters} - OUR_OWN == expected
    answer = client.images.edit(image=png(), **{**given, "n": 1, "output_format": "jpeg", "size": "auto"})
    assert answer.data is not None
    with opened(answer.data[0].b64_json) as image:
        assert (image.format, image.size) == ("JPEG", (128, 192))
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 16 * 24


def test_variations_are_like_their_picture_and_need_no_prompt(client: openai.OpenAI) -> None:
    given = {"model": "tiny", "n": 1, "response_format": "url", "size": "128x128", "user": "u"}
    assert {*inspect.signature(Images.create_variation).parameters} - OUR_OWN == {*given, "image"}
    answer = client.images.create_variation(image=png((128, 128)), **given, extra_body={"steps": 4, "strength": 0.25})  # type: ignore[arg-type]
    assert answer.data is not None
    assert answer.data[0].b64_json is None
    with openai.DefaultHttpxClient() as http, Image.open(BytesIO(http.get(answer.data[0].url or "").content)) as image:
        assert image.size == (128, 128)


@pytest.mark.parametrize("name", [*REFUSED, "background"])
def test_what_cannot_be_done_is_refused_by_its_name(client: openai.OpenAI, name: str) -> None:
    value = {**REFUSED, "background": "transparent"}[name]
    calls: list[Any] = [client.images.generate, lambda **given: client.images.edit(image=png(), **given)]
    for call in calls:
        with pytest.raises(openai.BadRequestError, match=f"{name} (is|has)") as raised:
            call(prompt="a fox", **{name: value})
        assert raised.value.param == name
        assert raised.value.code in ("unsupported_parameter", "invalid_value")


def test_an_edit_of_several_pictures_and_one_with_markup_say_what_to_send(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="image is given 2 times, and a picture starts from one") as raised:
        client.images.edit(image=[png(), png()], prompt="a fox")
    assert (raised.value.param, raised.value.code) == ("image", "unsupported_value")
    with pytest.raises(openai.BadRequestError, match="send a mask") as raised:
        client.images.edit(image=png(), markup=png(), prompt="a fox")
    assert (raised.value.param, raised.value.code) == ("markup", "unsupported_parameter")


def test_a_stream_brings_two_partial_images_and_then_the_picture(client: openai.OpenAI, server: Running) -> None:
    stream = client.images.generate(
        model="critters", prompt="a blue fox", size="384x384", stream=True, partial_images=2, output_format="jpeg",
        extra_body={"steps": 8, "seed": 1},
    )  # fmt: skip
    events = list(stream)
    assert [type(event) for event in events] == [ImageGenPartialImageEvent] * 2 + [ImageGenCompletedEvent]
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]  # type: ignore[union-attr]
    first, second, picture = (opened(event.b64_json) for event in events)
    assert {image.format for image in (first, second, picture)} == {"JPEG"}
    assert (first.size, picture.size) == ((48, 48), (384, 384))
    assert first.tobytes() != second.tobytes()
    last = events[-1]
    assert isinstance(last, ImageGenCompletedEvent)
    assert (last.size, last.output_format, last.background) == ("384x384", "jpeg", "opaque")
    assert last.usage.output_tokens == 48 * 48
    assert server.figure("running_pictures") == 0


def test_an_edit_streams_each_of_its_pictures(client: openai.OpenAI) -> None:
    own = {"steps": 2, "seed": 1}
    events = list(client.images.edit(image=png(), prompt="a fox", n=2, stream=True, extra_body=own))
    assert [type(event) for event in events] == [ImageEditCompletedEvent] * 2
    for event in events:
        with opened(event.b64_json) as image:
            assert (image.format, image.size) == ("PNG", (128, 192))


def test_a_picture_that_fails_ends_its_stream_with_the_reason(client: openai.OpenAI) -> None:
    recipe = '[redilation]\nuntil = 0.5\nlayers = { "nowhere" = 2 }\n'
    own = {"steps": 1, "recipe": recipe}
    stream = client.images.generate(prompt="a fox", size="128x128", stream=True, extra_body=own)
    with pytest.raises(openai.APIError, match="nowhere"):
        list(stream)


@pytest.mark.parametrize(
    ("own", "param", "message"),
    [
        ({"quality": "low", "steps": 5}, "quality", "quality low is a number of steps, and steps is given"),
        ({"quality": "best"}, "quality", "take low, medium, high"),
        ({"output_compression": 40}, "output_compression", "no effect on PNG"),
        ({"output_compression": 101, "output_format": "jpeg"}, "output_compression", "take 0 to 100"),
        ({"partial_images": 2}, "partial_images", "no effect without stream"),
        ({"partial_images": 4, "stream": True}, "partial_images", "take 0 to 3"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream": True, "response_format": "url"}, "response_format", "brings the pictures themselves"),
        ({"input_fidelity": "high"}, "input_fidelity", "no effect without an image"),
        ({"size": "big"}, "size", "a size is WIDTHxHEIGHT"),
        ({"n": 1.5}, "n", "whole number"),
        ({"stepz": 3}, "stepz", "did you mean 'steps'"),
    ],
)
def test_a_wrong_parameter_is_named(own: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(ParameterError) as raised:
        parse_images_request({"prompt": "a fox", **own}, "tiny")
    assert raised.value.param == param
    assert message in str(raised.value)


def test_a_quality_is_a_number_of_steps_within_the_servers_limit() -> None:
    steps = {
        name: parse_images_request({"prompt": "a fox", "quality": name}, "tiny", most_steps=50).request.steps
        for name in ("auto", "standard", *QUALITIES, "hd")
    }
    assert steps == {
        "auto": 25, "standard": 25, "low": 12, "medium": 25, "high": 40, "xhigh": 50, "max": 50, "hd": 40,
    }  # fmt: skip
    assert [quality_name(count) for count in (1, 12, 30, 40, 1000)] == ["low", "low", "medium", "high", "max"]


def test_fidelity_is_how_little_of_the_picture_changes() -> None:
    high = parse_images_request({"prompt": "a fox", "input_fidelity": "high"}, "tiny", ["image"]).request
    low = parse_images_request({"prompt": "a fox", "input_fidelity": "low"}, "tiny", ["image"]).request
    assert high.strength_or_default < low.strength_or_default
    masked = parse_images_request({"prompt": "a fox", "input_fidelity": "high"}, "tiny", ["image", "mask"]).request
    assert masked.strength is None
    with pytest.raises(RequestError, match="strength out"):
        parse_images_request({"prompt": "a fox", "input_fidelity": "high", "strength": 0.5}, "tiny", ["image"])
