"""Pictures that clients send to be enlarged."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from scalecrafter.generation.generate import generate
from scalecrafter.models.loading import load_pipeline
from scalecrafter.request.request import Request
from tests.support.running_server import Running


def photo() -> bytes:
    """A transparent picture of a size that is no model's."""
    picture = Image.linear_gradient("L").resize((70, 50)).convert("RGB")
    picture.putalpha(Image.linear_gradient("L").resize((70, 50)))
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def asked(server: Running, **fields: str) -> httpx.Response:
    files = {"image": ("photo.png", photo())}
    return httpx.post(f"{server.url}/v1/images/enlarge", data=fields, files=files, timeout=120)


def test_a_picture_is_enlarged_as_the_library_does_it(server: Running, tiny: Path, tmp_path: Path) -> None:
    answer = asked(server, scale="1.5", creativity="0.4", steps="3", seed="2", response_format="b64_json")
    assert answer.status_code == 200, answer.text
    (tmp_path / "photo.png").write_bytes(photo())
    request = Request.from_mapping(
        {
            "image": str(tmp_path / "photo.png"), "model": "tiny", "steps": 3, "seed": 2,
            "enlarge": {"scale": 1.5, "creativity": 0.4},
        }
    )  # fmt: skip
    expected = generate(load_pipeline(tiny), request).image
    with Image.open(BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))) as made:
        assert (made.size, made.mode) == ((105, 75), "RGBA")
        np.testing.assert_array_equal(np.asarray(made), np.asarray(expected))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": "9"}, "less than or equal to 8"),
        ({"size": "100x100"}, "ask for 100x71"),
        ({"creativty": "1"}, "did you mean 'creativity'"),
        ({"strength": "0.5"}, "say its creativity"),
    ],
)
def test_what_cannot_be_is_refused_at_once(server: Running, fields: dict[str, str], message: str) -> None:
    answer = asked(server, steps="3", **fields)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
