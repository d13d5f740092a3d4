"""Jobs over HTTP: handed in without waiting, watched, cancelled."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

from PIL import Image

from tests.support.running_server import SMALL, Running

from .conftest import QUEUE


def events(server: Running, job: str) -> list[tuple[str, Any]]:
    """All server-sent events of a job, to its end."""
    found: list[tuple[str, Any]] = []
    name = ""
    with server.http.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.append((name, json.loads(line.removeprefix("data: "))))
    return found


def test_a_job_is_accepted_at_once_and_made_later(server: Running) -> None:
    job = server.submit(n=2, seed=4)
    assert job["status"] == "queued"
    assert job["pictures"][0]["url"] is None
    state = server.finished(job["id"])
    assert state["status"] == "done"
    assert [picture["seed"] for picture in state["pictures"]] == [4, 5]
    pictures = [server.http.get(picture["url"]) for picture in state["pictures"]]
    assert all(picture.status_code == 200 for picture in pictures)
    assert pictures[0].content != pictures[1].content


def test_events_tell_of_steps_and_previews_and_end_with_the_job(server: Running) -> None:
    found = events(server, server.submit(steps=8, size="256x256")["id"])
    steps = [data["step"] for name, data in found if name == "progress"]
    assert steps == sorted(steps)
    assert steps[-1] == 8
    previews = [data for name, data in found if name == "preview"]
    assert previews
    with Image.open(BytesIO(base64.b64decode(previews[0]["image"].partition(",")[2]))) as image:
        assert (image.format, image.size) == ("JPEG", (32, 32))
    name, last = found[-1]
    assert (name, last["status"]) == ("done", "done")
    assert server.http.get(last["pictures"][0]["url"]).status_code == 200


def test_events_of_a_finished_job_are_its_end(server: Running) -> None:
    job = server.submit()["id"]
    server.finished(job)
    assert [name for name, _ in events(server, job)] == ["done"]


def test_a_failed_job_says_why_in_its_events(server: Running) -> None:
    found = events(server, server.submit(recipe='[redilation]\nuntil = 0.5\nlayers = { "nowhere" = 2 }\n')["id"])
    name, job = found[-1]
    assert name == "failed"
    assert job["error"]["type"] == "invalid_request_error"
    assert "nowhere" in job["error"]["message"]


def test_a_cancelled_job_stops_while_it_is_being_made(server: Running) -> None:
    job = server.submit(n=QUEUE, steps=8, size="256x256")["id"]
    with server.http.stream("GET", f"/v1/jobs/{job}/events") as answer:
        next(line for line in answer.iter_lines() if line == "event: progress")
    state = server.http.delete(f"/v1/jobs/{job}").json()
    assert state["status"] == "cancelled"
    server.idle()
    made = [picture for picture in server.job(job)["pictures"] if picture["status"] == "done"]
    assert len(made) < QUEUE
    after = server.submit()["id"]  # whose picture comes next, since nothing else is left
    assert server.finished(after)["status"] == "done"
    left = [path.stem for path in (server.data / "pictures").iterdir()]
    cancelled = [picture["id"] for picture in server.job(job)["pictures"] if picture["status"] == "cancelled"]
    assert not set(left) & set(cancelled)


def test_a_job_that_is_sent_again_with_its_key_is_the_same_job(server: Running) -> None:
    body = {"prompt": "a fox", **SMALL}
    headers = {"Idempotency-Key": "abc"}
    first, again = (server.http.post("/v1/jobs", json=body, headers=headers).json()["id"] for _ in range(2))
    other = server.http.post("/v1/jobs", json={**body, "prompt": "a cat"}, headers=headers).json()["id"]
    assert first == again != other


def test_a_job_can_start_from_a_picture_in_its_json(server: Running) -> None:
    file = BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    image = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    state = server.finished(server.submit(image=image, steps=2, strength=0.5)["id"])
    assert state["status"] == "done"
    assert state["pictures"][0]["steps"] == 1


def test_prompts_are_not_in_the_log(server: Running) -> None:
    server.finished(server.submit(prompt="a secret fox " * 20)["id"])  # longer than the model reads, which is warned of
    assert "secret" not in server.log.read_text()


def test_a_full_queue_says_when_to_come_again(server: Running) -> None:
    job = server.submit(n=QUEUE, steps=8, size="256x256")["id"]
    answer = server.http.post("/v1/jobs", json={"prompt": "a fox", "n": QUEUE, **SMALL})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert "the queue is full" in answer.json()["error"]["message"]
    assert answer.json()["error"]["code"] == "queue_full"
    assert server.figure("queue_pictures") <= QUEUE
    server.http.delete(f"/v1/jobs/{job}")


def test_figures_count_what_was_made(server: Running) -> None:
    before = server.figure("pictures_done_total"), server.figure("picture_seconds_count")
    server.finished(server.submit(n=2)["id"])
    after = server.figure("pictures_done_total"), server.figure("picture_seconds_count")
    assert [new - old for new, old in zip(after, before, strict=True)] == [2, 2]
    text = server.http.get("/metrics").text
    assert 'scalecrafter_requests_total{method="POST",route="/v1/jobs",status="202"}' in text
    assert server.figure("workers") == 1


def test_signs_of_life(server: Running) -> None:
    assert server.http.get("/healthz").json() == {"status": "ok", "workers": None, "waiting": None}
    assert server.http.get("/readyz").json() == {"status": "ready", "workers": 1, "waiting": 0}
