"""Plans as pictures for the page, drawn by another process, because the server does not load torch.

    python -m scalecrafter.ui.planner < questions > answers

Each line of either is JSON; the process ends with its questions, or when there were none for some minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
from typing import Any

from ..errors import ScaleCrafterError
from ..request.request import Request, RequestError

_IDLE = 180.0
"""Seconds without a question after which the process gives its memory back."""
_PATIENCE = 120.0
"""Seconds that a plan may take; the first one loads torch."""
_LONGEST = 4 << 20
"""Bytes of an answer."""


class Planner:
    """Asks a process that is started when it is needed; one question at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def picture(self, request: Request) -> str:
        """The plan of a request as SVG; its `model` is what `load_outline` takes (`RequestError` with why not)."""
        check_has_plan(request)
        async with self._turn:
            try:
                answer = await asyncio.wait_for(self._ask(request), _PATIENCE)
            except (TimeoutError, OSError, ValueError) as error:
                await self._end()
                raise RequestError(f"the plan could not be drawn ({type(error).__name__}): try again") from None
            except BaseException:  # its answer must not be taken for the next one's
                await self._end()
                raise
        if "error" in answer:
            raise RequestError(answer["error"])
        return str(answer["svg"])

    async def close(self) -> None:
        """End the process, if there is one."""
        async with self._turn:
            await self._end()

    async def _ask(self, request: Request) -> dict[str, Any]:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", __spec__.name,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                limit=_LONGEST,
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request.model_dump_json().encode() + b"\n")
        await process.stdin.drain()
        answer: dict[str, Any] = json.loads(await process.stdout.readline())
        return answer

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


def check_has_plan(request: Request) -> None:
    """Raise `RequestError` for a method other than ScaleCrafter with a recipe or the automatic one."""
    if request.method != "scalecrafter":
        raise RequestError(f"plans are those of the method scalecrafter, not of {request.method!r}: choose it")


def _answer(question: str) -> dict[str, Any]:
    from ..generation.request_plan import plan_of
    from ..recipes.plan_picture import plan_picture

    request = Request.model_validate_json(question)
    try:
        return {"svg": plan_picture(plan_of(request))}
    except ScaleCrafterError as error:
        return {"error": " ".join(str(error).split())}


def _main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # prints of a library must not mix with the answers
    while select.select([sys.stdin], [], [], _IDLE)[0]:
        question = sys.stdin.readline()
        if not question:
            return
        print(json.dumps(_answer(question)), file=answers, flush=True)


if __name__ == "__main__":
    _main()
