"""What a patched part does in the calls of each thread, in a form that compiled graphs notice."""

from __future__ import annotations

import threading
from typing import Any, Generic, TypeVar, cast

import torch

State = TypeVar("State")

GUARDS_THREADS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)
"""Whether a compiled graph notices that a thread's own values have changed: torch 2.9 does not, 2.13 does."""


class PerThread(Generic[State]):
    """One state for each thread.  Its class has plain, annotated attributes with defaults: `torch.compile` guards them.

    With a torch that does not guard threads' values, compiled graphs read one state for all threads.  A copy begins
    with the defaults.
    """

    def __init__(self, kind: type[State]) -> None:
        self._kind = kind
        self._thread = cast(State, type(kind.__name__, (kind, threading.local), {})())
        self._compiled = self._thread if GUARDS_THREADS else kind()

    @property
    def now(self) -> State:
        """The state of this call."""
        return self._compiled if torch.compiler.is_compiling() else self._thread

    @property
    def both(self) -> tuple[State, State]:
        """The states that this thread's calls may have: plain ones, and compiled ones."""
        return self._thread, self._compiled

    def set(self, **values: Any) -> None:
        """What this thread's next calls do; an attribute that is not named takes its default."""
        for state in self.both:
            for name in self._kind.__annotations__:
                setattr(state, name, values.get(name, getattr(self._kind, name)))

    def __deepcopy__(self, memo: dict[int, Any]) -> PerThread[State]:
        twin = memo[id(self)] = PerThread(self._kind)
        return twin
