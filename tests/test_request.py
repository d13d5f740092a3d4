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


def test_a_guidance_that_was_left_open_stays_open_in_a_copy() -> None:
    """So a model's own guidance, which is known when it is loaded, can still take its place."""
    left = Request(prompt="a fox").changed(seed=1, dtype="bf16")
    assert "guidance" not in left.model_fields_set
    assert "guidance" in left.changed(guidance=3.0).changed(seed=2).model_fields_set
    assert left.changed(model="a/b").guidance == left.guidance
