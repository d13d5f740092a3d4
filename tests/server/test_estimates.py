"""What a picture costs, over HTTP."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.running_server import SMALL, Running


def test_a_picture_tells_its_cost_before_it_is_made_and_better_after_one(server: Running) -> None:
    body = {"prompt": "a fox", "size": "192x192", "steps": 2}
    waiting = server.http.get("/readyz").json()["waiting"]
    before = server.http.post("/v1/estimate", json=body).json()
    assert before["seconds_from"] in ("operations", "measured")  # another test may have made one of this size
    assert before["seconds"] > 0
    assert before["memory_bytes"] > 1 << 28
    assert before["text"].startswith("about ")
    assert server.http.get("/readyz").json()["waiting"] == waiting
    server.finished(server.submit(**body)["id"])
    after = server.http.post("/v1/estimate", json=body).json()
    assert after["seconds_from"] == "measured"
    assert after["flops"] == before["flops"]
    assert "from the last picture here" in after["text"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": "a fox", "size": "100x100"}, "64 and 128"),
        ({"prompt": "a fox", "steps": 9}, "at most 8"),
        ({"prompt": "a fox", "model": "other"}, "no model 'other'"),
        ({"prompt": "a fox", "controls": []}, "no setting"),
        ({"prompt": "a fox", "image": "abc"}, "image is not base64"),
        ({"prompt": "a fox", "image": "YWJj"}, "image cannot be read"),
        ({"prompt": "a fox", "image_size": "0x0"}, "image_size is 0x0"),
        ({"prompt": "a fox", "image_size": "9999x9999"}, "pictures of 1 to 262,144 pixels"),
        ({"prompt": "a fox", "mask": True}, "a mask has no effect without an image"),
        ({"size": None, "enlarge": 8, "image_size": "100x100"}, "800x800 is 640,000 pixels"),
    ],
    ids=range(10),
)
def test_what_cannot_be_made_has_no_cost(server: Running, body: dict[str, object], message: str) -> None:
    answer = server.http.post("/v1/estimate", json={**SMALL, **body})
    assert answer.status_code in (400, 404)
    assert message in answer.json()["error"]["message"]


def test_an_edit_and_an_enlargement_tell_theirs_from_the_picture_or_its_size(server: Running) -> None:
    def told(**body: Any) -> dict[str, Any]:
        answer = server.http.post("/v1/estimate", json={"method": "direct", "steps": 4, **body})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    file = BytesIO()
    Image.new("RGB", (190, 130)).save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()
    drawn = told(prompt="a fox", size="192x128")["flops"]
    for more in ({"prompt": "a fox", "strength": 0.5}, {"enlarge": 1.5}, {"enlarge": {"scale": 2, "creativity": 0.1}}):
        assert told(image=image, **more)["flops"] == told(image_size="190x130", **more)["flops"]
    half, masked = (told(prompt="a fox", image_size="190x130", **more) for more in ({"strength": 0.5}, {"mask": True}))
    assert half["flops"] < drawn < masked["flops"]


def test_a_client_names_no_file_of_the_server(server: Running, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[redilation]\nuntil = 0.5\nfactors = {mid_block = 2}\n")
    answer = server.http.post("/v1/estimate", json={"prompt": "a fox", **SMALL, "recipe": str(recipe)})
    assert answer.status_code == 400
    assert "no shipped recipe" in answer.json()["error"]["message"]
