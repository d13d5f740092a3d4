"""File names that people can read: `--name "{index:04d}-{prompt}"`."""

from __future__ import annotations

import re
import string
from typing import Any

from .._util.text import unknown
from ..request.request import Request, RequestError

FIELDS = (
    *("index", "line", "hash", "prompt", "negative", "seed", "width", "height", "size", "model", "method"),
    *("steps", "guidance", "scheduler", "strength", "recipe", "image"),
)
"""What a name may hold. `index` counts the lines from 1, `prompt` is a few words of it."""
_LONGEST = 150
"""Characters of a name, without what tells two alike apart; file systems take 255 bytes."""
_SHORT_HASH = 8
_UNSAFE = re.compile(r"[^\w.+-]+", re.ASCII)
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""What Windows keeps for devices."""


class NameTemplate:
    """A pattern of file names (`RequestError` for an unknown field, or for what is no pattern)."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            pieces = list(string.Formatter().parse(pattern))
        except ValueError as error:
            example = "'{index:04d}-{prompt}'"
            raise RequestError(f"--name {pattern!r} is no pattern: {error}; write it as {example}") from None
        for text, name, _, _ in pieces:
            if "/" in text or "\\" in text:
                raise RequestError(f"--name {pattern!r} has a slash: all pictures lie in one folder")
            if name is not None and name not in FIELDS:
                raise RequestError(f"--name {pattern!r}: {unknown('field', name, FIELDS)}")
        trial = Request(prompt="a fox", width=8, height=8, seed=1)
        self.name(trial, trial.digest(), index=1, line=1)  # a format that a field cannot have shows here

    def name(self, request: Request, hash: str, index: int, line: int) -> str:
        """The name of a picture without its ending: letters, digits and `._+-` alone.

        Args:
            request: settled.
            hash: its digest.
            index: which of the lines it is, from 1.
            line: the number of the line in its file.
        """
        values = {"index": index, "line": line, "hash": hash, **_values(request)}
        try:
            text = self.pattern.format(**values)
        except (ValueError, TypeError) as error:
            raise RequestError(f"--name {self.pattern!r} cannot be written: {error}") from None
        safe = _UNSAFE.sub("-", text)[:_LONGEST].strip("-. ")
        return f"_{safe}" if not safe or _RESERVED.fullmatch(safe) else safe


def told_apart(name: str, hash: str) -> str:
    """Another name for a picture whose name is taken."""
    return f"{name}-{hash[:_SHORT_HASH]}"


def _values(request: Request) -> dict[str, Any]:
    from ..generation.picture_files import slug

    return {
        "prompt": slug(request.prompt),
        "negative": slug(request.negative),
        "seed": request.seed,
        "width": request.width,
        "height": request.height,
        "size": f"{request.width}x{request.height}",
        "model": re.split(r"[/\\]", request.model.rstrip("/\\"))[-1],
        "method": request.method_label,
        "steps": request.steps,
        "guidance": request.guidance,
        "scheduler": request.scheduler or "own",
        "strength": request.strength_or_default,
        "recipe": "auto" if request.recipe is None else slug(request.recipe),
        "image": "" if request.image is None else re.split(r"[/\\]", request.image)[-1].rpartition(".")[0],
    }
