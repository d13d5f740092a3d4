"""With API keys, the page is no way around them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from .conftest import KEY

pytest.importorskip("gradio", reason="the page needs the extra ui")


def test_the_page_asks_for_a_key_as_the_password(tmp_path: Path) -> None:
    from scalecrafter.server.app import create_app
    from scalecrafter.server.settings import ServerSettings
    from scalecrafter.ui.mounting import MountedPage

    settings = ServerSettings(data=tmp_path, models={"tiny": "nowhere"}, keys=(SecretStr(KEY),))
    app = create_app(settings, MountedPage)
    client = TestClient(app, base_url="http://127.0.0.1")  # not entered: no workers are needed
    for path in ("/", "/config", "/theme.css", "/gradio_api/queue/data", "/gradio_api/heartbeat/x"):
        refused = client.get(path)
        assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic"), path
    for path in ("/gradio_api/queue/join", "/gradio_api/upload"):
        assert client.post(path, json={}).status_code == 401, path
    assert client.get("/", auth=("anyone", "another-key-of-that-length")).status_code == 401
    assert client.get("/", headers={"Authorization": "Basic !"}).status_code == 401
    assert client.get("/", auth=("anyone", KEY)).status_code == 200
    assert client.get("/v1/models", auth=("anyone", KEY)).status_code == 401  # the API takes Bearer alone
    assert client.get("/v1/models").headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
