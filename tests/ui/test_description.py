"""What the form is told; and what the server answers for the page without a browser."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from scalecrafter.patching.plan import plan
from scalecrafter.recipes.plan_picture import plan_picture
from scalecrafter.request.methods import METHODS
from scalecrafter.server.app import create_app
from scalecrafter.server.jobs import Jobs
from scalecrafter.server.records import ModelFacts
from scalecrafter.server.settings import Limits, ServerSettings
from scalecrafter.ui.description import describe
from scalecrafter.ui.page import WebPage
from tests.support.tiny_models import sdxl_unet_meta


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings(data=tmp_path, models={"critters": "critters", "own": "nowhere"}, limits=Limits(steps=10))


@pytest.fixture
def client(settings: ServerSettings) -> TestClient:
    return TestClient(create_app(settings, WebPage), base_url="http://127.0.0.1")  # not entered: no workers are needed


def test_every_method_and_its_settings_reach_the_form(settings: ServerSettings) -> None:
    jobs = Jobs(settings)
    told = describe(jobs)
    jobs.close()
    assert [method["name"] for method in told["methods"]] == list(METHODS)
    for method in told["methods"]:
        assert method["hint"]
        kind = METHODS[method["name"]].settings
        found = set() if method["settings"] is None else set(method["settings"]["properties"])
        assert found == (set() if kind is None else set(kind.model_fields) - kind.not_from_clients), method["name"]
    cascade = next(method for method in told["methods"] if method["name"] == "cascade")
    assert cascade["settings"]["properties"]["restart"]["description"].startswith("Fraction of the trajectory")


def test_the_page_can_show_every_methods_own_strength() -> None:
    slider = re.search(r'id="strength"[^>]*min="([\d.]+)" max="1" step="([\d.]+)"', text("index.html"))
    assert slider is not None
    smallest, step = map(float, slider.groups())
    for method in METHODS.values():
        assert smallest <= method.default_strength <= 1
        assert method.default_strength == pytest.approx(round(method.default_strength / step) * step)


def test_models_tell_their_guidance_at_once_and_their_sizes_when_a_worker_knows(settings: ServerSettings) -> None:
    jobs = Jobs(settings)
    told = describe(jobs)
    assert [(one["name"], one["guidance"], one["facts"]) for one in told["models"]] == [
        ("critters", 2.0, None), ("own", 7.5, None),
    ]  # fmt: skip
    assert told["defaults"]["steps"] == 10  # the server makes no more
    facts = ModelFacts(size_multiple=64, width=512, height=512)
    with jobs.store.database.writing() as connection:
        key = settings.model_key("critters")
        connection.execute("INSERT INTO models VALUES (?, ?)", (key, facts.model_dump_json()))
    assert describe(jobs)["models"][0]["facts"] == facts.model_dump()
    jobs.close()


def text(name: str) -> str:
    return resources.files("scalecrafter.ui").joinpath("static", name).read_text("utf-8")


def test_every_file_that_the_page_names_is_served_with_its_kind_and_a_policy(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    named = set(re.findall(r'(?:src|href)="(page/[^"]+)"', page.text))
    for module in [name for name in named if name.endswith(".js")]:
        named |= {f"page/{name}" for name in re.findall(r'from "\./([^"]+)"', text(module.removeprefix("page/")))}
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert {name.rpartition(".")[2] for name in named} == set(kinds)
    for name in named:
        answer = client.get(f"/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])
        again = client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", "".join(map(text, ["index.html", "style.css"])))


@pytest.mark.parametrize(
    "path", ["/page/", "/page/nothing.js", "/page/../page.py", "/page/%2e%2e/page.py", "/page//etc/passwd"]
)
def test_no_other_file_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b'{"prompt": "a fox", "steps": 11}', "at most 10"),
        (b'{"prompt": "a fox", "model": "other"}', "no model 'other'"),
        (b'{"prompt": "a fox", "method": "cascade", "steps": 5}', "choose it"),
        (b'{"prompt": ""}', "prompt is empty"),
        (b" " * (200 << 10), "too large"),
    ],
    ids=range(6),
)
def test_a_plan_that_cannot_be_is_refused_in_words(client: TestClient, body: bytes, message: str) -> None:
    answer = client.post("/page/plan", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 404, 413)
    assert message in answer.json()["error"]["message"]


def test_a_plan_picture_tells_factor_layers_and_steps() -> None:
    outline = sdxl_unet_meta()
    drawn = plan_picture(plan(outline, 4096, 4096, 50, "sdxl-4096x4096-disperse"))
    made = plan(outline, 4096, 4096, 50, "sdxl-4096x4096-disperse")
    layer = next(name for name in made.factors(0) if name.startswith("up_blocks.1"))
    factor = f"{made.factors(0)[layer][0]:g}"
    last = max(step for step in range(50) if made.factors(step).get(layer) == made.factors(0)[layer])
    row = drawn.split("up 1: ")[1].split("up 2: ")[0]
    assert f"steps 1–{last + 1}: {factor}<" in row
    assert "5×5 kernel" in drawn
    assert "strong denoiser of noise damping" in drawn
    assert len(re.findall("step, from noise to picture", drawn)) == 2
    assert "as it was trained" in plan_picture(plan(outline, 1024, 1024, 50))


def test_a_plan_reads_no_recipe_file_of_the_server(client: TestClient, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[redilation]\nuntil = 0.5\n")
    answer = client.post("/page/plan", json={"prompt": "a fox", "steps": 5, "recipe": str(recipe)})
    assert answer.status_code == 400
    assert "no shipped recipe" in answer.json()["error"]["message"]
