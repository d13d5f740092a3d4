"""What several tests share, made when one first asks for it: so none depends on which of them came before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class MadeOnce(dict[str, Any]):
    """By name, what `make(name)` gives."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> Any:
        self[name] = self._make(name)
        return self[name]
