"""The application without a server process around it: keys, other sites, slow bodies, and pictures that are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from scalecrafter.server.app import create_app
from scalecrafter.server.claims import Claims, FinishedPicture
from scalecrafter.server.settings import Limits, ServerSettings

KEY, OTHER = "k" * 32, "o" * 32
SCOPE = {
    "type": "http", "method": "POST", "path": "/v1/jobs", "raw_path": b"/v1/jobs", "query_string": b"",
    "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")], "scheme": "http",
    "server": ("localhost", 80), "http_version": "1.1", "root_path": "",
}  # fmt: skip
"""A submission, as the server that speaks HTTP hands it to the application."""
BODY = {"prompt": "a fox", "size": "128x128", "steps": 1}


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings(data=tmp_path / "data", models={"tiny": "/nowhere"}, patience=0.3)


def client(settings: ServerSettings) -> TestClient:
    """Requests to the application; without a lifespan, so no workers make pictures."""
    return TestClient(create_app(settings), raise_server_exceptions=False)


@pytest.fixture
def app(settings: ServerSettings) -> Iterator[FastAPI]:
    app = create_app(settings)
    yield app
    app.state.jobs.close()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {KEY}x",
        f"Basic {KEY}",
        f"{KEY}",
        "Bearer \xff",
        f"Bearer {KEY[:-1]}",
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/v1/jobs", "/nowhere", "/"])
def test_without_a_key_nothing_is_told(settings: ServerSettings, header: str | None, path: str) -> None:
    asked = client(settings.model_copy(update={"keys": (SecretStr(KEY), SecretStr(OTHER))}))
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    answer = asked.get(path, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.text


def test_each_key_opens_and_signs_of_life_need_none(
    settings: ServerSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = client(settings.model_copy(update={"keys": (SecretStr(KEY), SecretStr(OTHER))}))
    for key in (KEY, OTHER):
        assert asked.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert asked.get("/healthz").status_code == 200
    assert asked.get("/readyz").status_code == 503  # no worker is at work
    assert asked.get("/v1/files/" + "a" * 32 + ".png").status_code == 404
    said = "".join(capfd.readouterr())
    assert KEY not in said
    assert OTHER not in said


def test_sites_that_were_named_may_ask(settings: ServerSettings) -> None:
    friend = {"Origin": "https://friend.example"}
    asked = client(settings.model_copy(update={"origins": ("https://friend.example",)}))
    assert asked.get("/v1/models", headers=friend).headers["access-control-allow-origin"] == "https://friend.example"
    ask = {**friend, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert asked.options("/v1/jobs", headers=ask).status_code == 200
    assert asked.get("/v1/models", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client(settings).options("/v1/jobs", headers=ask).status_code == 403


async def posted(app: FastAPI, body: bytes, wait: Callable[[], Awaitable[Any]]) -> int:
    """The status of the answer to a body of which nothing more arrives until a wait is over, and then its end."""
    pieces = [{"type": "http.request", "body": b"", "more_body": False}]
    pieces += [{"type": "http.request", "body": body, "more_body": True}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if len(pieces) == 1:
            await wait()
        return pieces.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(dict(SCOPE), receive, send)  # type: ignore[arg-type]
    return int(sent[0]["status"])


async def stalled(app: FastAPI, body: bytes) -> int:
    return await posted(app, body, lambda: asyncio.sleep(60))


def test_a_body_that_stops_arriving_is_not_waited_for(app: FastAPI) -> None:
    began = time.monotonic()
    assert asyncio.run(stalled(app, b'{"prompt"')) == 408
    assert time.monotonic() - began < 5


def test_bodies_that_stop_arriving_give_back_their_share_of_the_limit(settings: ServerSettings) -> None:
    app = create_app(settings.model_copy(update={"patience": 0.1, "limits": Limits(body=4096)}))

    async def thirty() -> list[int]:
        ten = range(10)
        return [status for _ in range(3) for status in await asyncio.gather(*(stalled(app, b" " * 4000) for _ in ten))]

    assert asyncio.run(thirty()) == [408] * 30  # more than twenty are too many together


def test_bodies_that_arrive_at_once_have_a_limit_together(settings: ServerSettings) -> None:
    app = create_app(settings.model_copy(update={"patience": 60.0, "limits": Limits(body=4096)}))

    async def many() -> tuple[list[int], list[int]]:
        half_way, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def wait() -> None:
            half_way.release()
            await go_on.wait()

        first = [asyncio.create_task(posted(app, b" " * 4000, wait)) for _ in range(20)]
        for _ in first:
            await half_way.acquire()
        refused = await asyncio.gather(*(posted(app, b" " * 4000, wait) for _ in range(5)))
        go_on.set()
        return refused, await asyncio.gather(*first)

    refused, read = asyncio.run(many())
    assert refused == [503] * 5
    assert read == [400] * 20
    assert TestClient(app).post("/v1/jobs", json=BODY).status_code == 202


def test_a_body_that_drips_for_ever_is_not_waited_for(settings: ServerSettings) -> None:
    app = create_app(settings.model_copy(update={"patience": 0.1}))

    async def dripping() -> tuple[int, int]:
        pieces = 0

        async def receive() -> dict[str, Any]:
            nonlocal pieces
            pieces += 1
            await asyncio.sleep(0.02)
            return {"type": "http.request", "body": b" ", "more_body": True}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        sent: list[dict[str, Any]] = []
        await asyncio.wait_for(app(dict(SCOPE), receive, send), 30)  # type: ignore[arg-type]
        return sent[0]["status"], pieces

    status, pieces = asyncio.run(dripping())
    assert status == 408
    assert 5 < pieces < 500


def test_what_is_accepted_before_the_model_is_known_is_queued(app: FastAPI) -> None:
    answer = TestClient(app).post("/v1/jobs", json={**BODY, "n": 3})
    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    again = TestClient(app).post("/v1/jobs", json=BODY).json()
    assert again["ahead"] == 3


def test_pictures_of_a_job_are_found_until_they_expire(app: FastAPI) -> None:
    asked = TestClient(app)
    job = asked.post("/v1/jobs", json=BODY).json()["id"]
    jobs = app.state.jobs
    claims = Claims(jobs.store.database, "w", 30)
    claim = claims.claim()
    assert claim is not None
    path = jobs.picture_path(claim.picture)
    path.write_bytes(b"png")
    claims.finish(claim, FinishedPicture(1.0, 3, 128, 128))
    url = asked.get(f"/v1/jobs/{job}").json()["pictures"][0]["url"]
    assert asked.get(url).content == b"png"
    path.unlink()
    assert asked.get(url).status_code == 404


def test_an_error_of_the_server_is_told_without_its_insides(app: FastAPI) -> None:
    app.state.jobs.close()  # as if the disk were gone
    answer = TestClient(app, raise_server_exceptions=False).get("/v1/jobs/x")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "ProgrammingError" in answer.json()["error"]["message"]
    assert "sqlite" not in answer.text
    counted = app.state.service.metrics.requests.collect()[0].samples[0]
    assert (counted.labels["route"], counted.labels["status"]) == ("/v1/jobs/{job}", "500")


def test_the_description_of_the_interface_is_whole(app: FastAPI) -> None:
    described = app.openapi()
    bodies = {path: set(methods) for path, methods in described["paths"].items()}
    assert bodies["/v1/images/generations"] == {"post"}
    assert bodies["/v1/jobs/{job}"] == {"get", "delete"}
    assert "multipart/form-data" in described["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
