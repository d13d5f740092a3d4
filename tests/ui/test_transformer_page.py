"""A model with a transformer on the server and its page: only what it can do is offered, the rest is told in words."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.browser import GALLERY, count, make, saved, settled, until
from tests.support.running_server import Running


def drawn(colour: str = "red") -> bytes:
    file = BytesIO()
    Image.new("RGB", (70, 50), colour).save(file, "PNG")
    return file.getvalue()


def test_the_api_makes_edits_and_enlarges_with_it(site: Running) -> None:
    fields = {"model": "flux", "steps": 2, "response_format": "b64_json"}
    posts: dict[str, dict[str, Any]] = {
        "generations": {"json": {**fields, "prompt": "a fox", "size": "256x128"}},
        "edits": {"data": {**fields, "prompt": "a fox"}},
        "enlarge": {"data": {**fields, "scale": 1.5}},
    }
    sizes = {}
    for name, given in posts.items():
        files = {} if name == "generations" else {"files": {"image": ("a.png", drawn())}}
        answer = site.http.post(f"/v1/images/{name}", **given, **files)
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
def test_what_it_cannot_do_is_refused_at_once(site: Running, asked: dict[str, Any], param: str, message: str) -> None:
    given = {"model": "flux", "prompt": "a fox", "steps": 2, "size": "128x128", **asked}
    answer = site.http.post("/v1/images/generations", json=given)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["param"] == param


def test_a_job_that_says_no_guidance_has_the_models_own(site: Running) -> None:
    given = {"model": "flux", "prompt": "a fox", "steps": 1, "size": "128x128"}
    bodies = (given, {**given, "guidance": 7.5})
    made = [site.finished(site.http.post("/v1/jobs", json=body).json()["id"]) for body in bodies]
    assert [job["request"]["guidance"] for job in made] == [3.5, 7.5]


def test_it_has_a_cost(site: Running) -> None:
    given = {"model": "flux", "prompt": "a fox", "steps": 4, "size": "128x128", "method": "cascade"}
    told = site.http.post("/v1/estimate", json=given)
    assert told.status_code == 200, told.text
    assert told.json()["flops"] > 0
    given["size"] = "256x256"
    assert site.http.post("/v1/estimate", json=given).json()["flops"] > 4 * told.json()["flops"]


def test_what_only_its_worker_finds_fails_with_the_reason(site: Running) -> None:
    given = {"prompt": "a fox", "steps": 2, "size": "256x256", "method": "cascade"}
    given |= {"model": "flux", "cascade": {"levels": 2, "until": 0.9}}
    answer = site.http.post("/v1/images/generations", json=given)
    assert answer.status_code == 400
    assert "levels has no effect with a transformer: leave it out" in answer.json()["error"]["message"]


def test_the_page_offers_what_the_model_can_do(page: Any, tmp_path: Path) -> None:
    def offered(name: str) -> list[str]:
        return page.locator(f"#{name} option").evaluate_all("all => all.map(one => one.value)")  # type: ignore[no-any-return]

    assert {"cascade", "hidiffusion"} <= set(offered("method"))
    assert "hiflow" not in offered("method")
    page.select_option("#method", "hidiffusion")
    page.select_option("#model", "flux")
    assert page.locator("#method").input_value() == "scalecrafter"
    assert "hiflow" in offered("method")
    assert "hidiffusion" not in offered("method")
    assert offered("scheduler") == ["", "euler"]
    assert all(name in ("automatic", "own") or name.startswith("flux") for name in offered("recipe"))
    assert page.locator("#guidance").get_attribute("placeholder") == "3.5"
    page.locator("#more > summary").click()
    assert not page.locator("#freeu").is_visible()
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
    page.locator("#setting-until").fill("0.9")
    page.locator("#make").click()
    page.locator("#queue-list .failed").get_by_text("levels has no effect with a transformer").wait_for()
