"""Plans and costs of pictures, told by another process (`planning_process`), because the server does not load torch."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Literal

from .._util.sizes import ImageSize
from ..request.request import Request, RequestError

_PROCESS = f"{__package__}.planning_process"
_PATIENCE = 120.0
"""Seconds that an answer may take; the first one loads torch."""
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
        return str((await self._answer("plan", request))["svg"])

    async def cost(self, request: Request, image: ImageSize | None = None) -> dict[str, Any]:
        """What a picture will take, as `cost.estimate.Cost.as_json` has it (`RequestError` with why it is not known).

        The request's `model` is what `load_outline` takes; its device and dtype are where the picture will be made.
        `image` is the size of the picture that it starts from, which is not read.
        """
        return dict((await self._answer("cost", request, image))["cost"])

    async def _answer(
        self, what: Literal["plan", "cost"], request: Request, image: ImageSize | None = None
    ) -> dict[str, Any]:
        async with self._turn:
            try:
                answer = await asyncio.wait_for(self._ask(what, request, image), _PATIENCE)
            except (TimeoutError, OSError, ValueError) as error:
                await self._end()
                raise RequestError(f"the {what} could not be told ({type(error).__name__}): try again") from None
            except BaseException:  # its answer must not be taken for the next one's
                await self._end()
                raise
        if "error" in answer:
            raise RequestError(answer["error"])
        return answer

    async def close(self) -> None:
        """End the process, if there is one."""
        async with self._turn:
            await self._end()

    async def _ask(self, what: str, request: Request, image: ImageSize | None) -> dict[str, Any]:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", _PROCESS,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                limit=_LONGEST,
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        question = {"what": what, "request": request.model_dump(mode="json"), "image": image}
        process.stdin.write(json.dumps(question).encode() + b"\n")
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
