"""What people write as text: a size, and a file of prompts."""

from __future__ import annotations

import os
from pathlib import Path

from .request import RequestError


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) from "1024x768" (`RequestError`)."""
    width, separator, height = text.lower().replace("×", "x").partition("x")
    if not (separator and width.strip().isdecimal() and height.strip().isdecimal()):
        raise RequestError(f"a size is WIDTHxHEIGHT in pixels, as 1024x768, not {text!r}")
    return int(width), int(height)


def prompts_from_file(path: str | os.PathLike[str]) -> list[str]:
    """The prompts of a text file, one a line; blank lines and lines that begin with # are left out (`RequestError`)."""
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read the prompts in {os.fspath(path)!r}: {error}") from None
    prompts = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not prompts:
        raise RequestError(f"{os.fspath(path)!r} holds no prompt: write one on each line")
    return prompts
