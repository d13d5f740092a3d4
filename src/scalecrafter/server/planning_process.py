"""Answers about pictures before they are made: what happens to which layer, and what it costs.

    python -m scalecrafter.server.planning_process < questions > answers

Each line of either is JSON; the process ends with its questions, or when there were none for some minutes.
"""

from __future__ import annotations

import json
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._util.sizes import ImageSize
from ..errors import ScaleCrafterError
from ..request.request import Request

if TYPE_CHECKING:
    from ..cost.estimate import Estimator

_IDLE = 180.0
"""Seconds without a question after which the process gives its memory back."""
_BEHIND_PICTURES = 10
"""By how much its priority is lower than that of the workers."""


class Answers:
    """Answers questions; what was counted for one serves the next."""

    def __init__(self) -> None:
        self._estimator: Estimator | None = None

    def of(self, question: str) -> dict[str, Any]:
        """The answer to a line."""
        asked = json.loads(question)
        try:
            request = Request.from_mapping(asked["request"])
            if asked["what"] == "cost":
                return {"cost": self._cost(request, asked["image"] and ImageSize(*asked["image"]))}
            return {"svg": _plan(request)}
        except ScaleCrafterError as error:
            return {"error": " ".join(str(error).split())}

    def _cost(self, request: Request, image: ImageSize | None) -> dict[str, Any]:
        from ..cost.estimate import Estimator

        if self._estimator is None:
            self._estimator = Estimator()
        return self._estimator.cost(request, image).as_json()


def _plan(request: Request) -> str:
    from ..generation.request_plan import plan_of
    from ..recipes.plan_picture import plan_picture

    return plan_picture(plan_of(request))


def _main() -> None:
    with suppress(OSError, AttributeError):  # Windows has no such thing
        os.nice(_BEHIND_PICTURES)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # prints of a library must not mix with the answers
    known = Answers()
    while select.select([sys.stdin], [], [], _IDLE)[0]:
        question = sys.stdin.readline()
        if not question:
            return
        print(json.dumps(known.of(question)), file=answers, flush=True)


if __name__ == "__main__":
    _main()
