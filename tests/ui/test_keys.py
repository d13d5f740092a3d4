"""With API keys, the page is no way around them."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient
from pydantic import SecretStr

from .conftest import KEY


def test_the_page_asks_for_a_key_as_the_password(tmp_path: Path) -> None:
    from scalecrafter.server.app import create_app
    from scalecrafter.server.settings import ServerSettings
    from scalecrafter.ui.page import WebPage

    settings = ServerSettings(data=tmp_path, models={"tiny": "nowhere"}, keys=(SecretStr(KEY),))
    app = create_app(settings, WebPage)
    client = TestClient(app, base_url="http://127.0.0.1")  # not entered: no workers are needed
    for path in ("/", "/page/form", "/page/main.js", "/page/nothing", "/favicon.ico"):
        refused = client.get(path)
        assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic"), path
    assert client.post("/page/plan", json={}).status_code == 401
    assert client.get("/", auth=("anyone", "another-key-of-that-length")).status_code == 401
    assert client.get("/", headers={"Authorization": "Basic !"}).status_code == 401
    assert client.get("/", auth=("anyone", KEY)).status_code == 200
    assert client.get("/v1/models", auth=("anyone", KEY)).status_code == 200  # what a browser sends for the page
    assert client.get("/v1/models").headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
