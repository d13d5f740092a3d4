"""Words for people: names that are nearly right, and what was wrong in a sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """That there is no such thing, with the near names and all of them."""
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=3)
    hint = f"; did you mean {' or '.join(repr(one) for one in near)}?" if near else "."
    return f"there is no {what} {name!r}{hint} Known: {', '.join(known)}"
