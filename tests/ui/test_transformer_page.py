"""A model with a transformer on the server and its page: only what it can do is offered, the rest is told in words."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.browser import GALLERY, count, make, open_page, saved, settled, until
from tests.support.running_server import Running
from tests.support.tiny_models import tiny_sd_pipeline
from tests.support.whole_transformers import whole_flux


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of a tiny FLUX.1, and of a U-Net that it has not loaded."""
    folder = tmp_path_factory.mktemp("flux")
    whole_flux().save_pretrained(folder / "flux")
    tiny_sd_pipeline().save_pretrained(folder / "tiny")
    models = ("--model", str(folder / "flux"), "--model", str(folder / "tiny"))
    running = Running(folder / "data", "--page", "--grace", "0", *models)
    yield running.when_ready()
    assert running.stop() == 0, running.log.read_text()


def drawn(colour: str = "red") -> bytes:
    file = BytesIO()
    Image.new("RGB", (70, 50), colour).save(file, "PNG")
    return file.getvalue()


def test_the_api_makes_edits_and_enlarges_with_it(flux: Running) -> None:
    posts: dict[str, dict[str, Any]] = {
        "generations": {"json": {"prompt": "a fox", "steps": 2, "size": "256x128", "response_format": "b64_json"}},
        "edits": {"data": {"prompt": "a fox", "steps": 2, "response_format": "b64_json"}},
        "enlarge": {"data": {"scale": 1.5, "steps": 2, "response_format": "b64_json"}},
    }
    sizes = {}
    for name, given in posts.items():
        files = {} if name == "generations" else {"files": {"image": ("a.png", drawn())}}
        answer = flux.http.post(f"/v1/images/{name}", **given, **files)
        assert answer.status_code == 200, answer.text
        with Image.open(BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))) as image:
            sizes[name] = image.size
    assert sizes == {"generations": (256, 128), "edits": (64, 48), "enlarge": (105, 75)}


@pytest.mark.parametrize(
    ("asked", "param", "message"),
    [
        ({"method": "hidiffusion"}, "method", "'hidiffusion' is for models with a U-Net, and 'flux' has none: take"),
        ({"model": "tiny", "method": "hiflow"}, "method", "'hiflow' is for models with a transformer, and 'tiny' has"),
        ({"freeu": True}, "freeu", "freeu has no effect on a transformer"),
        ({"size": "250x128"}, "size", "width 250 is not a multiple of 16; the nearest good ones are 240 and 256"),
    ],
    ids=["method", "method-of-transformers", "freeu", "size"],
)  # fmt: skip
def test_what_it_cannot_do_is_refused_at_once(flux: Running, asked: dict[str, Any], param: str, message: str) -> None:
    answer = flux.http.post("/v1/images/generations", json={"prompt": "a fox", "steps": 2, "size": "128x128", **asked})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["param"] == param


def test_what_only_its_worker_finds_fails_with_the_reason(flux: Running) -> None:
    given = {"prompt": "a fox", "steps": 2, "size": "256x256", "method": "cascade", "cascade": {"levels": 2}}
    answer = flux.http.post("/v1/images/generations", json=given)
    assert answer.status_code == 400
    assert "levels has no effect with a transformer: leave it out" in answer.json()["error"]["message"]


def test_the_page_offers_what_the_model_can_do(flux: Running, chromium: Any, tmp_path: Path) -> None:
    def offered(name: str) -> list[str]:
        return page.locator(f"#{name} option").evaluate_all("all => all.map(one => one.value)")  # type: ignore[no-any-return]

    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    open_page(page, flux.url)
    assert page.locator("#model").input_value() == "flux"
    assert "hiflow" in offered("method")
    assert not {"fast", "hidiffusion"} & set(offered("method"))
    assert offered("scheduler") == ["", "euler"]
    assert all(name in ("automatic", "own") or name.startswith("flux") for name in offered("recipe"))
    assert page.locator("#guidance").get_attribute("placeholder") == "3.5"
    page.locator("#more > summary").click()
    assert not page.locator("#freeu").is_visible()
    page.select_option("#method", "hiflow")
    page.select_option("#model", "tiny")
    assert page.locator("#method").input_value() == "scalecrafter"
    assert {"fast", "hidiffusion"} <= set(offered("method"))
    assert page.locator("#freeu").is_visible()
    page.select_option("#model", "flux")
    make(page, width=256)
    count(page, GALLERY, 1)
    settled(page)
    with Image.open(saved(page, tmp_path)) as image:
        assert image.size == (256, 128)

    page.locator("#stage-bar button[aria-label='Enlarge']").click()
    until(page, "document.querySelector('#scale-hint').textContent.startsWith('256 × 128')")
    assert "hiflow" not in offered("method")
    make(page, None)
    count(page, GALLERY, 2)
    settled(page)
    with Image.open(saved(page, tmp_path)) as image:
        assert image.size == (512, 256)

    page.locator("#tab-create").click()
    page.select_option("#method", "cascade")
    page.locator("#setting-levels").fill("2")
    page.locator("#make").click()
    page.locator("#queue-list .failed").get_by_text("levels has no effect with a transformer").wait_for()
    context.close()
