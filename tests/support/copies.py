"""Processes that can be killed, copied from one that has the imports done: those take some seconds each time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .running_server import eventually

ROOT = Path(__file__).parents[2]
_IMPORTED = ["tests.support.small_evaluation", "tests.support.small_batch"]


class Copy:
    """A process that calls a function of a module; what it prints goes into files of a folder."""

    def __init__(self, folder: Path, function: Callable[..., Any], *arguments: Any) -> None:
        self._printed, self._errors = folder / "printed.txt", folder / "errors.txt"
        for path in (self._printed, self._errors):
            path.write_text("")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)
        state = (str(self._printed), str(self._errors), os.getcwd(), dict(os.environ))
        self._process = context.Process(target=_call, args=(state, function, arguments))
        with contextlib.chdir(ROOT):  # where the first of a test session finds what it imports
            self._process.start()

    def printed(self, lines: int) -> list[str]:
        """Its first lines, as soon as there are so many."""

        def found() -> list[str] | None:
            is_alive = self._process.is_alive()
            there = self._printed.read_text().splitlines(keepends=True)
            enough = len(there) >= lines and there[lines - 1].endswith("\n")
            assert enough or is_alive, self._errors.read_text()
            return [line.rstrip("\n") for line in there[:lines]] if enough else None

        answer: list[str] = eventually(found, every=0.002)
        return answer

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def ended(self) -> tuple[int, str, str]:
        """Its exit code, and all that it printed and complained of."""
        self._process.join(300)
        code = self._process.exitcode
        assert code is not None
        return code, self._printed.read_text(), self._errors.read_text()


def _call(
    state: tuple[str, str, str, dict[str, str]], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    printed, errors, folder, environment = state
    for number, path in ((1, printed), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    function(*arguments)
