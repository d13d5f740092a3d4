"""What every test relies on: a known start, nothing left behind by its neighbours, and marks by what it needs."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.support")

# A process started in the background may ignore Ctrl-C, and its children with it: tests that send it would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)

CACHE = tempfile.TemporaryDirectory(prefix="scalecrafter-cache-")
"""What pictures took is kept here, of the processes that tests start as well, and not beside the developer's own."""
os.environ["SCALECRAFTER_CACHE"] = CACHE.name
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
"""Two more processes that import torch cost more than what they compile here."""

SEED = 0
FOLDERS = ("server", "training")
"""Folders whose tests all carry the folder's name as a mark, which `make quick` leaves out."""
FIXTURES = {
    "shared": "server",
    "site": "browser",
    "cluster": "ray",
    "rates": "slow",
    "smoke_run": "training",
    "smoke_observer": "training",
    "data": "training",
}
"""Costly fixtures, with the mark of the tests that use them. Each is made in one worker alone."""
EVERY = 9
"""Of `sampled` tests (the cases of one, or all of a module) `make quick` takes the first of so many.

Odd, so that of two kinds both come up.
"""
counted: Counter[object] = Counter()


def pytest_configure(config: pytest.Config) -> None:
    """A random order shows tests that need their neighbours; the seeds are ours (below), the same in every run."""
    config.option.randomly_reset_seed = False


def pytest_itemcollected(item: pytest.Item) -> None:
    """Marks by folder and by fixture; tests that share a costly fixture go to one worker (`--dist loadgroup`)."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    if folder in FOLDERS:
        item.add_marker(folder)
    if item.get_closest_marker("sampled"):
        of_a_function = any(mark.name == "sampled" for mark in item.own_markers)
        many = getattr(item, "function", None) if of_a_function else item.path
        if counted[many] % EVERY:
            item.add_marker("slow")
        counted[many] += 1
    for fixture in getattr(item, "fixturenames", ()):
        if fixture in FIXTURES:
            item.add_marker(FIXTURES[fixture])
            item.add_marker(pytest.mark.xdist_group(fixture))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no worker begins one when the others have ended; else the order stays random."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """What the imports have made stays, so no collection of garbage need look at it: half a second each otherwise."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Servers are processes of their own, and would go on for ever."""
    if servers := sys.modules.get("tests.support.running_server"):
        servers.kill_what_was_left()


def process_state() -> dict[str, Any]:
    """What belongs to the whole process, and what a test could leave changed for the next one."""
    state: dict[str, Any] = {
        "the working folder": os.getcwd(),
        "the handler of SIGINT": signal.getsignal(signal.SIGINT),
        "the running event loop": asyncio._get_running_loop(),
    }
    if torch := sys.modules.get("torch"):
        state |= {
            "torch's default type": torch.get_default_dtype(),
            "torch's number of threads": torch.get_num_threads(),
            "torch's gradient mode": torch.is_grad_enabled(),
            "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        }
    return state


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Every test draws from the same seeds; one that changes the process fails itself, not its neighbours.

    The environment is put back rather than judged: libraries write into it as they are imported.
    """
    random.seed(SEED)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(SEED)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(SEED)
    before, environment = process_state(), dict(os.environ)
    yield
    after = process_state()
    for name in {name for name, _ in environment.items() ^ os.environ.items() if not name.startswith("PYTEST_")}:
        os.environ.pop(name, None)
        if name in environment:
            os.environ[name] = environment[name]
    changed = [name for name, value in before.items() if after[name] != value]
    assert not changed, f"the test leaves changed: {', '.join(changed)}"
