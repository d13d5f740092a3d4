"""Pictures made in one call are those that each request is alone, but for rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scalecrafter.generation.generate import generate, generate_many
from scalecrafter.request.request import Request, RequestError
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sdxl_pipeline

PROMPTS = ("a fox", "a much longer prompt", "c")


def ask(**values: Any) -> list[Request]:
    negatives = values.pop("negatives", ("", "", ""))
    return [
        Request(prompt=prompt, seed=seed, negative=negative, **{"steps": 3, "width": 128, "height": 64, **values})
        for seed, (prompt, negative) in enumerate(zip(PROMPTS, negatives, strict=True))
    ]


@pytest.fixture(scope="module", params=[tiny_sd_pipeline, tiny_sdxl_pipeline])
def pipe(request: pytest.FixtureRequest) -> Any:
    return request.param(layers_per_block=1)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "values",
    [
        {"scheduler": "euler-a"},
        {"scheduler": "ddpm", "negatives": ("x", "a long one", "y")},
        {"scheduler": "heun", "recipe": "none"},
        {"method": "scalecrafter-damped", "width": 192, "height": 192, "guidance": 3.0},
    ],
)
def test_each_picture_is_what_it_is_alone_in_whatever_place(pipe: Any, values: dict[str, Any]) -> None:
    requests = ask(**values)
    together = generate_many(pipe, requests)
    turned = generate_many(pipe, requests[::-1])[::-1]
    assert [result.request.digest() for result in together] == [result.request.digest() for result in turned]
    for request, result, other in zip(requests, together, turned, strict=True):
        alone = generate(pipe, request)
        assert alone.request == result.request
        for picture in (result.image, other.image):
            difference = np.asarray(picture, dtype=int) - np.asarray(alone.image, dtype=int)
            assert abs(difference).max() <= 2  # random weights have contrast enough to make one of a rounding
            assert np.mean(difference != 0) < 0.01


def test_requests_of_several_shapes_are_refused(pipe: Any) -> None:
    fox, cat, _ = ask()
    for other in (cat.changed(steps=4), cat.changed(negative="x"), cat.changed(scheduler="lms")):
        with pytest.raises(RequestError, match="cannot be made together"):
            generate_many(pipe, [fox, other])
    with pytest.raises(RequestError, match="cannot be made together"):
        generate_many(pipe, ask(method="upscale"))
