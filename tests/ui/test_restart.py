"""What a browser made is there after its server was killed in the middle of a picture, and after it was ended."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from scalecrafter.server.app import create_app
from scalecrafter.server.settings import ServerSettings
from scalecrafter.ui.page import WebPage
from tests.support.browser import GALLERY, QUEUE, count, loaded, make, open_page, settled, shown, until
from tests.support.running_server import Running
from tests.support.tiny_models import tiny_sd_pipeline

LONG = 100
"""Steps of a picture in whose middle there is time to kill its server."""


def free_port() -> str:
    """One that the second server takes again: what a browser keeps is kept by address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.mark.server
def test_the_gallery_survives_a_server_that_is_killed_in_the_middle_of_a_picture(chromium: Any, tmp_path: Path) -> None:
    from fastapi.testclient import TestClient

    model = tmp_path / "tiny"
    tiny_sd_pipeline().save_pretrained(model)
    options = ("--page", "--model", str(model), "--port", free_port(), "--grace", "0")
    first = Running(tmp_path / "data", *options).when_ready()
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    open_page(page, first.url)
    make(page, "before", steps=1)
    count(page, GALLERY, 1)
    settled(page)
    make(page, "in the middle", steps=LONG)
    until(page, "/[Ss]tep [1-9]/.test(document.querySelector('#making-text')?.textContent)")
    first.kill_all()
    until(page, "document.querySelector('#server-state').textContent.startsWith('The server does not answer')")
    page.locator("#make").click()
    until(page, "document.querySelector('#problem').textContent.startsWith('The server does not answer')")
    assert page.locator(GALLERY).count() == 1  # what is known stays in sight

    second = Running(tmp_path / "data", *options)
    until(page, "document.querySelector('#server-state').textContent === ''")  # without a reload
    count(page, GALLERY, 2)
    count(page, QUEUE, 0)
    page.reload()
    loaded(page)
    names = [one.get_attribute("alt").partition(",")[0] for one in page.locator(GALLERY).all()]
    assert names == ["in the middle", "before"]
    for place in range(2):
        page.locator(GALLERY).nth(place).click()
        assert shown(page).evaluate("one => one.naturalWidth") == 128
    browsers_id = page.evaluate("JSON.parse(localStorage.getItem('scalecrafter.client'))")
    context.close()
    assert second.stop() == 0

    settings = ServerSettings(data=tmp_path / "data", models={"tiny": str(model)})
    client = TestClient(create_app(settings, WebPage), base_url="http://127.0.0.1")  # a third one, without workers
    jobs = client.get("/v1/jobs", headers={"X-Client-Id": browsers_id}).json()["data"]
    assert [job["prompt"] for job in jobs] == ["in the middle", "before"]
    for picture in (picture for job in jobs for picture in job["pictures"]):
        assert client.get(f"/v1/files/{picture['id']}.png").status_code == 200
