"""What a picture costs, over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        ({"prompt": "a fox", "image": "abc"}, "no setting"),
    ],
    ids=range(4),
)
def test_what_cannot_be_made_has_no_cost(server: Running, body: dict[str, object], message: str) -> None:
    answer = server.http.post("/v1/estimate", json={**SMALL, **body})
    assert answer.status_code in (400, 404)
    assert message in answer.json()["error"]["message"]


def test_a_client_names_no_file_of_the_server(server: Running, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[redilation]\nuntil = 0.5\nfactors = {mid_block = 2}\n")
    answer = server.http.post("/v1/estimate", json={"prompt": "a fox", **SMALL, "recipe": str(recipe)})
    assert answer.status_code == 400
    assert "no shipped recipe" in answer.json()["error"]["message"]
