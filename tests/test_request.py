"""What a request says when it is told little."""

from __future__ import annotations

import pytest

from scalecrafter.request.request import DEFAULT_GUIDANCE, Request, RequestError


@pytest.mark.parametrize(
    ("said", "guidance"),
    [
        ({}, 2.0),
        ({"model": "critters"}, 2.0),
        ({"guidance": 7.5}, 7.5),
        ({"model": "some/model"}, DEFAULT_GUIDANCE),
        ({"model": "some/model", "guidance": 2.0}, 2.0),
    ],
)
def test_a_request_that_says_no_guidance_has_its_models(said: dict[str, object], guidance: float) -> None:
    request = Request.from_mapping({"prompt": "a fox", **said})
    assert request.guidance == guidance
    assert Request.model_validate_json(request.model_dump_json()) == request


def test_a_wrong_model_is_told_alone() -> None:
    with pytest.raises(RequestError, match=r"^request: model") as caught:
        Request.from_mapping({"prompt": "a fox", "model": 3})
    assert "guidance" not in str(caught.value)
