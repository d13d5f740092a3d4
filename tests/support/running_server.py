"""`scalecrafter serve` as a process of its own, as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

import scalecrafter

SRC = Path(scalecrafter.__file__).parents[1]
SMALL = {"size": "128x128", "steps": 1}
"""The quickest picture of the tiny model."""
WORKER = "scalecrafter.server.worker"
"""As the command line of a process that makes pictures has it."""

STARTED: list[subprocess.Popen[str]] = []
"""Every server of this process, so that a test which fails before it stops its own leaves none behind."""


def kill_what_was_left() -> None:
    """SIGKILL to servers that no test has stopped, and to their workers."""
    for process in STARTED:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def eventually(holds: Callable[[], Any], seconds: float = 300.0, every: float = 0.05) -> Any:
    """What `holds` returns, as soon as it is something; an error after that time."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = holds()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s")


class Running:
    """A server on a free port of 127.0.0.1."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.log = data.with_name(f"{data.name}.log")
        command = [sys.executable, "-m", "scalecrafter", "serve", "--port", "0", "--data", str(data), *options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(SRC)},
            )
        STARTED.append(self.process)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), self.log.read_text()
        self.http = httpx.Client(base_url=self.url, timeout=300)
        eventually(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def when_ready(self) -> Running:
        """This server, once pictures are being made."""
        eventually(lambda: self.http.get("/readyz").status_code == 200)
        return self

    def submit(self, **body: Any) -> dict[str, Any]:
        """A job that was accepted."""
        answer = self.http.post("/v1/jobs", json={"prompt": "a fox", **SMALL, **body})
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def job(self, job: str) -> dict[str, Any]:
        """How far a job is."""
        state: dict[str, Any] = self.http.get(f"/v1/jobs/{job}").json()
        return state

    def finished(self, job: str) -> dict[str, Any]:
        """A job once nothing more happens to it."""

        def state() -> dict[str, Any] | None:
            found = self.job(job)
            return found if found["status"] in ("done", "failed", "cancelled") else None

        found: dict[str, Any] = eventually(state)
        return found

    def idle(self) -> None:
        """Wait until nothing is queued or running."""
        eventually(lambda: self.figure("queue_pictures") + self.figure("running_pictures") == 0)

    def figure(self, name: str) -> float:
        """One of the figures of /metrics."""
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(f"scalecrafter_{name} "):
                return float(line.split()[-1])
        raise AssertionError(f"there is no figure {name}")

    def memory(self) -> list[int]:
        """Bytes that the HTTP process and each worker hold."""
        own = psutil.Process(self.process.pid)
        workers = [child for child in own.children() if WORKER in child.cmdline()]  # one that plans may be there, too
        return [process.memory_info().rss for process in (own, *workers)]

    def kill_all(self) -> None:
        """SIGKILL to the server and its workers at once, as a machine that goes down."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self._gone()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._gone()

    def _gone(self) -> int:
        self.http.close()
        code = self.process.wait(300)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code
