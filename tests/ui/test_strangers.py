"""What programs may send to the page that no browser would."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from scalecrafter.generation.picture_files import CHUNK
from tests.support.running_server import Running
from tests.support.stranger import Stranger

FILE = {"_type": "gradio.FileData"}


def picture(text: str | None = '{"format": 1, "request": {"prompt": "a fox", "seed": 5}}') -> bytes:
    info, file = PngInfo(), BytesIO()
    if text is not None:
        info.add_text(CHUNK, text)
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


@pytest.fixture
def stranger(site: Running) -> Iterator[Stranger]:
    stranger = Stranger(site.url)
    yield stranger
    answered = time.monotonic()
    assert httpx.get(f"{site.url}/healthz").status_code == 200
    assert time.monotonic() - answered < 2
    assert "Traceback" not in site.log.read_text()
    stranger.http.close()


def notice(answer: Any) -> str:
    """What the page says about a dropped picture."""
    return str(answer["output"]["data"][-1])


def test_a_dropped_picture_brings_its_settings_back_and_no_file_is_kept(stranger: Stranger, site: Running) -> None:
    path = stranger.upload(picture(), "../../etc/my fox.png").json()[0]
    assert str(site.data) not in path
    answer = stranger.restore({"path": path, "meta": FILE, "orig_name": "x", "is_stream": True})
    assert "The settings of my fox.png are back" in notice(answer)
    assert answer["output"]["data"][1]["value"] == "a fox"
    assert not list((site.data / "page").rglob("*"))
    assert stranger.restore({"path": path, "meta": FILE}).status_code == 400  # it is gone


@pytest.mark.parametrize("where", ["/dev/zero", "/etc/passwd", "keys", "picture", "link", "pipe", "/proc/self/environ"])
def test_no_file_but_a_dropped_one_is_opened(stranger: Stranger, site: Running, tmp_path: Path, where: str) -> None:
    (tmp_path / "keys").write_text("a-key-that-is-long-enough")
    (tmp_path / "picture").write_bytes(picture())
    os.mkfifo(tmp_path / "pipe")
    link = site.data / "page" / "link"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "picture")
    value = {"path": str(link) if where == "link" else str(tmp_path / where), "meta": FILE}
    for more in ({}, {"is_stream": True}, {"url": "http://127.0.0.1:1/"}, {"orig_name": "a.png", "size": 1}):
        for sent in ({**value, **more}, [{**value, **more}], {"value": {**value, **more}}):
            assert stranger.restore(sent).status_code == 400, sent
    assert (tmp_path / "picture").read_bytes() == picture()
    link.unlink()


def test_no_value_of_any_function_is_taken_for_a_file(stranger: Stranger) -> None:
    zero = {"path": "/dev/zero", "meta": FILE}
    for function in stranger.config["dependencies"]:
        values = stranger.values(function)
        for position in range(len(values)):
            answer = stranger.join(function, [*values[:position], zero, *values[position + 1 :]])
            assert answer.status_code == 400, (function["id"], position)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"{}", b'"x"', b"[" * 100_000, b'{"data":' * 50_000,
        b'{"data": null, "fn_index": 0, "session_hash": "x"}', b'{"data": [], "fn_index": 99999, "session_hash": "x"}',
        b'{"data": [], "fn_index": true, "session_hash": "x"}', b'{"data": [], "fn_index": -1, "session_hash": "x"}',
        b'{"data": [1, 2, 3], "fn_index": 0, "session_hash": "x"}', b'{"data": [], "fn_index": 0, "session_hash": 7}',
        b'{"data": [], "fn_index": 0, "session_hash": "' + b"x" * 1000 + b'"}', b"\xff\xfe",
    ],
    ids=range(16),
)  # fmt: skip
def test_what_is_no_event_is_refused_in_a_word(stranger: Stranger, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = stranger.http.post("/gradio_api/queue/join", content=body, headers=headers)
    assert answer.status_code == 400
    assert "no event of this page" in answer.text


def test_events_and_uploads_have_a_largest_size(stranger: Stranger) -> None:
    answer = stranger.http.post("/gradio_api/queue/join", content=b" " * (2 << 20))
    assert answer.status_code == 413
    assert (
        stranger.http.post("/gradio_api/upload", content=b"x", headers={"content-type": "text/plain"}).status_code
        == 400
    )
    two = [("files", ("a.png", picture())), ("files", ("b.png", picture()))]
    assert stranger.http.post("/gradio_api/upload", files=two).status_code == 400
    assert stranger.http.post("/gradio_api/upload", files={"files": b""}).status_code in (200, 400)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (picture("[" * 100_000), "is damaged"),
        (picture(json.dumps({"format": 1, "request": {"prompt": "a fox"}, "versions": None})), "are back"),
        (picture('{"format": 1, "request": {"prompt": 7}}'), "prompt"),
        (picture('{"format": 1, "request": {"prompt": "a fox", "method": "none"}}'), "method"),
        (picture('{"format": 1, "request": {"prompt": "a fox", "recipe": "a = ["}}'), "are back"),
        (picture("x" * (2 << 20)), "too long"),
        (picture(None), "holds no ScaleCrafter request"),
        (picture()[:40], "cut off"),
        (b"GIF89a", "is not a PNG"),
        (b"", "is not a PNG"),
    ],
    ids=range(10),
)
def test_pictures_that_hold_no_settings_are_said_so(stranger: Stranger, content: bytes, message: str) -> None:
    path = stranger.upload(content).json()[0]
    assert message in notice(stranger.restore({"path": path, "meta": FILE}))


def test_answers_of_a_session_that_is_not_there_are_refused_without_a_traceback(stranger: Stranger) -> None:
    for session in ("unknown", "", "x" * 10_000):
        answer = stranger.http.get("/gradio_api/queue/data", params={"session_hash": session})
        assert answer.status_code == 404
    assert stranger.http.get("/gradio_api/queue/data").status_code == 404


def test_numbers_out_of_their_range_do_not_fill_the_log(stranger: Stranger) -> None:
    function = stranger.function("click")
    values = stranger.values(function)
    for place in range(len(values)):
        for value in (-1e308, "x" * 1000, [], True, None):
            sent = stranger.join(function, [*values[:place], value, *values[place + 1 :]])
            if sent.status_code == 200:
                stranger.answer()
