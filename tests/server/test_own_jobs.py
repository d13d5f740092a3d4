"""The list of a client's jobs, and their removal; the reference page of the API."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from scalecrafter.request.request import Request
from scalecrafter.server.app import create_app
from scalecrafter.server.claims import Claims, FinishedPicture
from scalecrafter.server.database import _FROM_VERSION_1
from scalecrafter.server.jobs import Jobs
from scalecrafter.server.records import NOBODY
from scalecrafter.server.settings import ServerSettings
from scalecrafter.server.store import UnknownJobError

from .test_worker import VERSION_1

FIRST, SECOND = "a" * 20, "b" * 20


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings(data=tmp_path / "data", models={"tiny": "critters"})


def asked(settings: ServerSettings, *requests: tuple[Any, ...]) -> list[Any]:
    """The JSON of the answers of an application without workers; each request is (method, path, headers, body?)."""

    async def all_of_them() -> list[Any]:
        transport = httpx.ASGITransport(create_app(settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [
                (await client.request(method, path, headers=headers, json=body[0] if body else None)).json()
                for method, path, headers, *body in requests
            ]

    return asyncio.run(all_of_them())


def submitted(headers: dict[str, str], prompt: str = "a fox", n: int = 1) -> tuple[Any, ...]:
    return ("POST", "/v1/jobs", headers, {"prompt": prompt, "n": n, "steps": 3, "seed": 4})


def listed(headers: dict[str, str], query: str = "") -> tuple[Any, ...]:
    return ("GET", f"/v1/jobs{query}", headers)


def test_pages_of_jobs_are_newest_first_and_follow_on(settings: ServerSettings) -> None:
    made = [job["id"] for job in asked(settings, *[submitted({}, f"fox {number}") for number in range(5)])]
    first, second = asked(settings, listed({}, "?limit=3"), listed({}, f"?limit=3&after={made[2]}"))
    assert [job["id"] for job in first["data"]] == made[:1:-1]
    assert (first["object"], first["first_id"], first["last_id"], first["has_more"]) == ("list", made[4], made[2], True)
    assert [job["prompt"] for job in second["data"]] == ["fox 1", "fox 0"]
    assert not second["has_more"]
    (unknown,) = asked(settings, listed({}, "?after=nope"))
    assert unknown["error"]["code"] == "job_not_found"


def test_a_listed_job_says_everything_that_makes_it_again(settings: ServerSettings) -> None:
    _, page = asked(settings, submitted({}), listed({}))
    request = page["data"][0]["request"]
    assert Request.from_mapping(request).changed(model="tiny") == Request(prompt="a fox", model="tiny", steps=3, seed=4)
    assert "device" not in request


def test_a_key_sees_its_own_jobs_and_no_others(settings: ServerSettings) -> None:
    settings = settings.model_copy(update={"keys": (SecretStr(FIRST), SecretStr(SECOND))})
    one, other = ({"Authorization": f"Bearer {key}"} for key in (FIRST, SECOND))
    mine, theirs, of_the_first, of_the_second = asked(
        settings, submitted(one), submitted(other), listed(one), listed(other)
    )
    assert [job["id"] for job in of_the_first["data"]] == [mine["id"]]
    assert [job["id"] for job in of_the_second["data"]] == [theirs["id"]]


def test_a_client_that_named_itself_finds_its_jobs_and_its_key_finds_them_too(settings: ServerSettings) -> None:
    browser = {"X-Client-Id": "made up by a browser"}
    own, plain, of_the_browser, of_nobody = asked(
        settings, submitted(browser), submitted({}), listed(browser), listed({})
    )
    assert [job["id"] for job in of_the_browser["data"]] == [own["id"]]
    assert [job["id"] for job in of_nobody["data"]] == [plain["id"]]
    settings = settings.model_copy(update={"keys": (SecretStr(FIRST),)})
    key = {"Authorization": f"Bearer {FIRST}"}
    both, with_key, of_the_browser = asked(
        settings, submitted({**key, **browser}), listed(key), listed({**key, **browser})
    )
    assert [job["id"] for job in with_key["data"]] == [both["id"]] == [job["id"] for job in of_the_browser["data"]]


def test_the_same_idempotency_key_of_two_clients_is_two_jobs(settings: ServerSettings) -> None:
    settings = settings.model_copy(update={"keys": (SecretStr(FIRST), SecretStr(SECOND))})
    jobs = asked(
        settings,
        *(submitted({"Authorization": f"Bearer {key}", "Idempotency-Key": "k"}) for key in (FIRST, SECOND, FIRST)),
    )
    assert jobs[0]["id"] != jobs[1]["id"]
    assert jobs[0]["id"] == jobs[2]["id"]


def finish(jobs: Jobs) -> str:
    """Let a worker finish the oldest waiting picture; its id."""
    worker = Claims(jobs.store.database, "one", 30)
    claim = worker.claim()
    assert claim is not None
    jobs.picture_path(claim.picture).write_bytes(b"picture")
    assert worker.finish(claim, FinishedPicture(1.0, 7, 128, 128))
    return claim.picture


def test_a_removed_job_is_gone_with_its_pictures_and_its_worker_finds_out(settings: ServerSettings) -> None:
    jobs = Jobs(settings)
    job = jobs.submit(Request(prompt="a fox", model="tiny"), 2)
    picture = finish(jobs)
    worker = Claims(jobs.store.database, "one", 30)
    running = worker.claim()
    assert running is not None
    jobs.remove(job)
    assert not jobs.picture_path(picture).exists()
    assert not worker.progress(running, 1, 2)
    assert not worker.is_wanted(running)
    for ask in (jobs.get, jobs.remove):
        with pytest.raises(UnknownJobError):
            ask(job)


def test_one_picture_is_removed_and_with_the_last_one_the_job(settings: ServerSettings) -> None:
    jobs = Jobs(settings)
    job = jobs.submit(Request(prompt="a fox", model="tiny"), 2)
    first, second = finish(jobs), finish(jobs)
    jobs.remove(job, 0)
    assert not jobs.picture_path(first).exists()
    assert [picture.id for picture in jobs.get(job).pictures] == [second]
    assert jobs.get(job).status == "done"
    with pytest.raises(UnknownJobError):
        jobs.remove(job, 0)
    jobs.remove(job, 1)
    with pytest.raises(UnknownJobError):
        jobs.get(job)


def test_a_request_that_this_version_cannot_read_is_left_out_of_the_list(settings: ServerSettings) -> None:
    jobs = Jobs(settings)
    made = [jobs.submit(Request(prompt="a fox", model="tiny")) for _ in range(3)]
    with jobs.store.database.writing() as connection:
        connection.execute("""UPDATE jobs SET request = '{"method": "of old"}' WHERE id = ?""", (made[1],))
    assert [job.id for job in jobs.newest(NOBODY, 2)] == [made[2], made[0]]


def test_jobs_of_version_2_are_those_of_nobody_in_particular(tmp_path: Path) -> None:
    request = Request(prompt="a fox").model_dump_json()
    earlier = sqlite3.connect(tmp_path / "jobs.sqlite3")
    earlier.executescript(VERSION_1 + _FROM_VERSION_1 + "PRAGMA user_version = 2;")
    earlier.execute("INSERT INTO jobs VALUES ('j', 1.0, ?, NULL, 0, 'tiny')", (request,))
    earlier.commit()
    earlier.close()
    settings = ServerSettings(data=tmp_path, models={"tiny": "critters"})
    assert [job.id for job in Jobs(settings).newest(NOBODY, 5)] == ["j"]
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)


class Sources(HTMLParser):
    """What a page would load, and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [tag] if tag in ("script", "link", "img", "iframe") or "src" in given else []

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_reference_page_shows_every_operation_and_loads_nothing(settings: ServerSettings) -> None:
    async def page() -> tuple[httpx.Response, Any]:
        app = create_app(settings.model_copy(update={"keys": (SecretStr(FIRST),)}))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            assert (refused := await client.get("/docs")).status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic")
            basic = {"Authorization": "Basic " + base64.b64encode(f"me:{FIRST}".encode()).decode()}
            return await client.get("/docs", headers=basic), (await client.get("/openapi.json", headers=basic)).json()

    answer, description = asyncio.run(page())
    found = Sources()
    found.feed(answer.text)
    assert found.loads == []
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path, methods in description["paths"].items():
        assert all(f"{method.upper()} {path}" in found.text for method in methods)
    assert (
        "curl -s http://localhost/v1/images/edits -F prompt='a blue fox in the snow' -F image='@photo.jpg'"
        in found.text
    )
