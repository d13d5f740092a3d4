"""A real server among clients that make mistakes, and among many of them at once."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.support.malformed_requests import requests
from tests.support.running_server import SMALL, Running

from .conftest import QUEUE

BODY = 1 << 20
MANY = 500
CLIENTS = 50
ROUNDS = 4


def files_around(data: Path) -> set[str]:
    """Everything beside and in the data folder but the database."""
    return {
        str(path.relative_to(data.parent))
        for path in data.parent.rglob("*")
        if path.is_file() and not path.name.startswith("jobs.sqlite3")
    }


def test_five_hundred_malformed_requests_get_a_clear_no(server: Running) -> None:
    before, pictures = files_around(server.data), server.figure("pictures_accepted_total")
    found: Counter[int] = Counter()
    began = time.monotonic()
    for method, path, headers, body in requests(MANY, BODY):
        answer = server.http.request(method, path, headers=headers, content=body, timeout=10)
        found[answer.status_code] += 1
        message = (method, path[:60], headers, body[:100], answer.status_code, answer.text[:200])
        assert 400 <= answer.status_code < 500, message
        if (method != "HEAD" and answer.status_code != 400) or "json" in answer.headers.get("content-type", ""):
            error = answer.json()["error"] if method != "HEAD" else {"message": "-", "type": "-"}
            assert error["message"], message
            assert len(answer.content) < 2000, message
            assert "Traceback" not in answer.text, message
    assert found.total() == MANY
    assert {400, 404, 405, 413, 415} <= set(found)
    assert time.monotonic() - began < 60
    assert files_around(server.data) == before
    assert server.figure("pictures_accepted_total") == pictures
    assert server.http.get("/readyz").status_code == 200


def raw(server: Running, data: bytes, timeout: float = 10.0) -> bytes:
    """What comes back for bytes on the wire."""
    place = urlsplit(server.url)
    with socket.create_connection((str(place.hostname), place.port or 0), timeout=timeout) as connection:
        connection.sendall(data)
        got = b""
        while piece := connection.recv(65536):
            got += piece
            if b"\r\n\r\n" in got and b"Connection: close" not in data:
                break
        return got


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(server: Running) -> None:
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert raw(server, head + b"Content-Length: 99999999999\r\n\r\n").startswith(b"HTTP/1.1 413")


def test_a_body_that_turns_out_too_large_is_refused_while_it_arrives(server: Running) -> None:
    def endless() -> object:
        for _ in range(BODY // 65536 + 2):
            yield b"x" * 65536

    headers = {"Content-Type": "application/json"}
    answer = server.http.post("/v1/jobs", content=endless(), headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 413
    assert "at most 1,048,576 bytes" in answer.json()["error"]["message"]


def test_bytes_that_are_no_http_end_the_connection(server: Running) -> None:
    assert raw(server, b"\x16\x03\x01 this is no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_pages_of_other_sites_and_other_names_are_refused(server: Running) -> None:
    body = {"prompt": "a fox", **SMALL}
    own = {"Origin": server.url}
    for headers, status in (
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost:1"}, 202),
        (own, 202),
    ):
        assert server.http.post("/v1/jobs", json=body, headers=headers).status_code == status, headers
    assert "access-control-allow-origin" not in server.http.get("/v1/models", headers=own).headers


def test_fifty_clients_at_once_are_all_answered_and_memory_stays_flat(server: Running) -> None:
    async def one(client: httpx.AsyncClient, seed: int) -> int:
        body = {"prompt": "a fox", "seed": seed, **SMALL}
        answer = await client.post("/v1/images/generations", json=body)
        if answer.status_code == 200:
            assert len(answer.json()["data"][0]["b64_json"]) > 1000
        else:
            assert int(answer.headers["retry-after"]) >= 1
        return answer.status_code

    async def round_of_all() -> Counter[int]:
        async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:
            return Counter(await asyncio.gather(*(one(client, seed) for seed in range(CLIENTS))))

    memory: list[list[int]] = []
    for _ in range(ROUNDS):
        found = asyncio.run(round_of_all())
        assert set(found) <= {200, 429}
        assert found.total() == CLIENTS
        assert found[200] >= QUEUE
        server.idle()
        memory.append(server.memory())
    http, worker = [now - then for now, then in zip(memory[-1], memory[0], strict=True)]
    assert http < 16 << 20
    assert worker < 64 << 20
