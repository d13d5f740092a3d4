"""Bodies in the words of OpenAI's API and our own, made into requests."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from scalecrafter.request.request import Request, RequestError
from scalecrafter.server.images_schema import KNOWN, OWN, image_bytes, parse_images_request
from scalecrafter.server.spec import GENERATION_BODY


def test_a_prompt_alone_is_the_command_lines_default() -> None:
    given = parse_images_request({"prompt": "a fox"}, "tiny")
    assert given.request == Request(prompt="a fox", model="tiny")
    assert (given.pictures, given.output.forms) == (1, ("b64_json", "url"))


def test_every_parameter_of_ours_arrives() -> None:
    body: dict[str, Any] = {
        "prompt": "a fox", "model": "big", "size": "256x128", "n": 3, "response_format": "url",
        "negative": "blur", "method": "cascade", "recipe": "auto", "freeu": False, "steps": 9, "guidance": 5,
        "seed": 4, "scheduler": "euler", "cascade": {"restart": [0.5]}, "user": "u", "quality": "standard",
        "stream": False, "style": None,
    }  # fmt: skip
    given = parse_images_request(body, "tiny")
    assert given.request == Request.from_mapping(
        {
            "prompt": "a fox", "model": "big", "width": 256, "height": 128, "negative": "blur", "method": "cascade",
            "steps": 9, "guidance": 5.0, "seed": 4, "scheduler": "euler", "cascade": {"restart": [0.5]},
        }
    )  # fmt: skip
    assert (given.pictures, given.output.forms) == (3, ("url",))


def test_a_form_says_numbers_as_text() -> None:
    texts = {
        "prompt": "a fox",
        "n": "2",
        "steps": "9",
        "strength": "0.5",
        "guidance": "5.5",
        "freeu": "true",
        "seed": "",
    }
    given = parse_images_request(texts, "tiny", files=["image"], from_form=True)
    assert given.request == Request(
        prompt="a fox", model="tiny", steps=9, strength=0.5, guidance=5.5, freeu=True, image="upload"
    )
    assert given.pictures == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0: input should be greater than or equal to 1"),
        ({"steps": "5"}, "steps is '5': input should be a number"),
        ({"steps": True}, "steps is True"),
        ({"n": 1.5}, "n is 1.5: input should be a whole number"),
        ({"n": float("nan")}, "n is nan"),
        ({"freeu": 1}, "freeu is 1: input should be true or false"),
        ({"size": "big"}, "a size is WIDTHxHEIGHT in pixels, as 1024x768, not 'big'"),
        ({"size": 5}, "size is 5: input should be a text"),
        ({"size": "9" * 5000 + "x8"}, "a size is WIDTHxHEIGHT"),
        ({"scheduler": "eulr"}, "there is no scheduler 'eulr'; did you mean 'euler'"),
        ({"stepz": 3}, "there is no setting 'stepz'; did you mean 'steps'"),
        ({"image": "/etc/passwd"}, "there is no setting 'image'"),
        ({"device": "cuda"}, "there is no setting 'device'"),
        ({"style": "vivid"}, "style is 'vivid', which has no effect here"),
        ({"output_format": "gif"}, "take png, jpeg or webp (pictures that move"),
        ({"response_format": "gif"}, "response_format is 'gif': take b64_json or url"),
        ({"strength": 0.5}, "strength has no effect without an image"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": None}, "the prompt is empty"),
    ],
)
def test_what_cannot_be_is_refused_in_the_command_lines_words(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse_images_request({"prompt": "a fox", **changes}, "tiny")
    assert message.lower() in str(raised.value).lower()


@pytest.mark.parametrize("body", [None, [], "text", 5])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(RequestError, match="not a JSON object"):
        parse_images_request(body, "tiny")


def test_images_in_json_are_base64_or_data_urls() -> None:
    text = base64.b64encode(b"picture").decode()
    assert image_bytes("image", text) == image_bytes("image", f"data:image/png;base64,{text}") == b"picture"
    for wrong in ("not base64!", 5, "é"):
        with pytest.raises(RequestError, match="mask is not"):
            image_bytes("mask", wrong)


def test_the_description_names_exactly_the_parameters_that_are_taken() -> None:
    schema = GENERATION_BODY["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(KNOWN)
    assert set(OWN) < set(Request.model_fields)
