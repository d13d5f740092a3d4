"""One server for all tests that need no other one, with small limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running_server import Running
from tests.support.tiny_models import tiny_sd_pipeline

QUEUE = 8


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("server") / "tiny"
    tiny_sd_pipeline().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def shared(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The tiny model and the embedded one, at most eight steps, eight pictures in the queue."""
    options = ["--max-steps", "8", "--queue", str(QUEUE), "--max-body", "1MiB", "--max-pixels", str(512 * 512)]
    running = Running(tmp_path_factory.mktemp("shared") / "data", "--model", str(tiny), "--model", "critters", *options)
    yield running.when_ready()
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def server(shared: Running) -> Running:
    """The same, with nothing left in its queue."""
    shared.idle()
    return shared
