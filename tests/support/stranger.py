"""A program that speaks with the page as a browser does, and sends what it likes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx


class Stranger:
    """One such program."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=30)
        self.config = self.http.get("/config").json()

    def function(self, trigger: str) -> dict[str, Any]:
        """The first function that is called by that event of a component, as "upload"."""
        return next(one for one in self.config["dependencies"] if any(t[1] == trigger for t in one["targets"]))

    def upload(self, content: bytes, name: str = "a.png") -> httpx.Response:
        """Drop a file."""
        return self.http.post("/gradio_api/upload", files={"files": (name, content, "image/png")})

    def join(self, function: dict[str, Any], data: Sequence[Any], **more: Any) -> httpx.Response:
        """Send an event."""
        body = {"data": data, "fn_index": function["id"], "session_hash": "stranger", "event_data": None, **more}
        return self.http.post("/gradio_api/queue/join", json=body)

    def answer(self) -> dict[str, Any]:
        """What the page answers to the event that was sent last."""
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": "stranger"}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message: dict[str, Any] = json.loads(line[5:])
                    if message["msg"] in ("process_completed", "close_stream"):
                        return message
        raise AssertionError("no answer")

    def restore(self, value: Any) -> dict[str, Any] | httpx.Response:
        """Ask for the settings of a file: the answer of the page, or the refusal."""
        function = self.function("upload")
        sent = self.join(function, [value, *self.values(function)[1:]])
        return self.answer() if sent.status_code == 200 else sent

    def values(self, function: dict[str, Any]) -> list[Any]:
        """What the controls say in the beginning."""
        start = {one["id"]: one["props"].get("value") for one in self.config["components"]}
        return [start[one] for one in function["inputs"]]
