"""The prompts of an evaluation, with what their pictures must show, where that is known."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from ..request.request import RequestError
from ..request.text import prompts_from_file

ATTRIBUTES = ("species", "colour", "accessory")
"""What a prompt can promise and the observer of critters can see."""


@dataclass(frozen=True)
class Prompt:
    """A prompt with its promise."""

    text: str
    expected: dict[str, str] = field(default_factory=dict)
    """Attribute → value; empty if only the text is known."""
    scene: int | None = None
    """Seed of the real scene that it describes; only for the shipped prompts of critters."""


def critters_prompts() -> list[Prompt]:
    """The shipped prompts of critters, from held-out scenes; each run of a hundred has every species in every colour.

    Made by `training/critters/evaluation_prompts.py`.
    """
    text = (resources.files(__package__) / "prompts" / "critters.jsonl").read_text("utf-8")
    return _parse(text, "the shipped prompts")


def read_prompts(path: str | os.PathLike[str]) -> list[Prompt]:
    """Prompts of a file: a text on each line, or JSON lines (.jsonl) with `prompt` and any of `ATTRIBUTES`.

    Raises:
        RequestError: for a file that cannot be read, holds no prompt, or has a damaged line (named by its number).
    """
    if Path(path).suffix.lower() != ".jsonl":
        return [Prompt(line) for line in prompts_from_file(path)]
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read the prompts in {os.fspath(path)!r}: {error}") from None
    return _parse(text, repr(os.fspath(path)))


def _parse(text: str, source: str) -> list[Prompt]:
    prompts = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            prompt, scene = entry["prompt"], entry.get("scene")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            prompt = None
        if not isinstance(prompt, str) or not prompt.strip():
            raise RequestError(
                f'{source}, line {number}: expected a JSON object with a "prompt", as {{"prompt": "a red fox"}}'
            )
        expected = {name: str(entry[name]) for name in ATTRIBUTES if name in entry}
        prompts.append(Prompt(prompt, expected, scene if isinstance(scene, int) else None))
    if not prompts:
        raise RequestError(f"{source} holds no prompt: write one on each line")
    return prompts
