"""Accepted means kept: servers that are killed, told to end, or told to do what cannot be done."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.support.running_server import Running, eventually

TEN = 10


def test_ten_accepted_pictures_are_made_once_each_though_the_server_is_killed(tiny: Path, tmp_path: Path) -> None:
    options = ["--model", str(tiny)]
    first = Running(tmp_path / "data", *options, "--workers", "2")
    jobs = [first.submit(seed=seed, steps=12)["id"] for seed in range(TEN)]
    pictures = tmp_path / "data" / "pictures"
    eventually(lambda: len(list(pictures.glob("*.png"))) >= 3)
    first.kill_all()
    before = {path.name: path.stat().st_mtime_ns for path in pictures.glob("*.png")}
    assert 3 <= len(before) < TEN

    second = Running(tmp_path / "data", *options)
    states = [second.finished(job) for job in jobs]
    assert [state["status"] for state in states] == ["done"] * TEN
    assert [state["pictures"][0]["seed"] for state in states] == list(range(TEN))
    after = {path.name: path.stat().st_mtime_ns for path in pictures.glob("*.png")}  # a killed write leaves .part
    assert set(after) == {f"{state['pictures'][0]['id']}.png" for state in states}
    assert {name: after[name] for name in before} == before  # made once: no finished file was touched again
    assert second.figure("pictures_done_total") == TEN
    assert second.figure("pictures_accepted_total") == TEN

    # Told to end, it finishes the picture that it is at, keeps the rest, and says so to who waits for it.
    rest = second.submit(n=6, steps=12)["id"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx.post, f"{second.url}/v1/images/generations", json={"prompt": "a cat"}, timeout=300)
        eventually(lambda: second.figure("pictures_accepted_total") == TEN + 6 + 1)
        eventually(lambda: second.job(rest)["pictures"][0]["step"])
        assert second.stop() == 0
        message = waiting.result()
    assert message.status_code == 503
    assert f"the job {message.headers['x-job-id']} is kept" in message.json()["error"]["message"]
    kept = subprocess.run(
        [sys.executable, "-c", _STATUSES, str(tmp_path / "data" / "jobs.sqlite3"), rest],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    done = kept.count("done")
    assert 1 <= done < 6
    assert kept == ["done"] * done + ["queued"] * (6 - done)
    assert list((tmp_path / "data" / "workers").iterdir()) == []


_STATUSES = """
import sqlite3, sys
rows = sqlite3.connect(sys.argv[1]).execute("SELECT status FROM pictures WHERE job = ? ORDER BY position", sys.argv[2:])
print(*(status for status, in rows))
"""


def test_a_server_that_cannot_work_says_why_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scalecrafter", "serve", "--port", "0", "--data", str(tmp_path / "data")]
    ended = subprocess.run(
        [*command, "--model", "/nowhere/model"], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 2
    assert "scalecrafter: there is no model '/nowhere/model'" in ended.stderr
    assert "Traceback" not in ended.stderr
