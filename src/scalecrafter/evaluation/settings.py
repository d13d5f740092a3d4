"""The settings of an evaluation: methods, sizes, prompts and seeds. Each cell has the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..request.request import LARGEST_SEED, Request, RequestError
from .prompts import Prompt

NATIVE = "native"
"""The cell of the model's own pictures at its native size, which FID_b and KID_b compare with."""
REAL = "real"
"""The name under which real pictures stand beside the methods."""
NATIVE_SEEDS = 1_000_000
"""Native pictures have other seeds than the rest, or a method that enlarges them would be compared with itself."""

Size = tuple[int, int]
"""(width, height) in image pixels."""


@dataclass(frozen=True)
class Choice:
    """A method to measure: its label in folder and report, and the values of a request that it stands for."""

    label: str
    values: Mapping[str, Any]

    def request(self, base: Request) -> Request:
        """A request of this method, and otherwise as `base` (`RequestError`)."""
        return base.changed(**self.values)


NATIVE_CHOICE = Choice(NATIVE, {"method": "direct"})


@dataclass(frozen=True)
class Sample:
    """One picture to make."""

    label: str
    size: Size
    index: int
    prompt: Prompt
    request: Request


@dataclass(frozen=True)
class EvaluationSettings:
    """A whole evaluation."""

    base: Request
    """What all pictures share: model, steps, guidance, scheduler, dtype, device; picture i has `base.seed` + i."""
    prompts: tuple[Prompt, ...]
    """Picture i of every cell has prompt i; after the last one they begin again, with other seeds."""
    sizes: tuple[Size, ...]
    choices: tuple[Choice, ...]
    pictures: int
    """In each cell; at least two, because their spread is measured."""
    native_pictures: int
    """0 leaves the comparison with native pictures out."""

    def __post_init__(self) -> None:
        if self.pictures < 2:
            raise RequestError(f"an evaluation needs at least 2 pictures a cell, not {self.pictures}")
        if self.native_pictures < 0 or self.native_pictures == 1:
            raise RequestError(f"native pictures are 0 (none) or at least 2, not {self.native_pictures}")
        if not self.prompts:
            raise RequestError("an evaluation needs at least one prompt")
        labels = [choice.label for choice in self.choices]
        for what, values in (("method", labels), ("size", [f"{w}x{h}" for w, h in self.sizes])):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise RequestError(f"{what} {twice[0]} is asked for twice: name each once (files count by their stem)")
            if not values:
                raise RequestError(f"an evaluation needs at least one {what}")
        reserved = {NATIVE, REAL} & set(labels)
        if reserved:
            raise RequestError(f"{reserved.pop()!r} names pictures to compare with, and cannot name a method")
        last = self.first_seed + NATIVE_SEEDS + self.native_pictures
        if max(last, self.first_seed + self.pictures) > LARGEST_SEED:
            raise RequestError(f"seed {self.first_seed} leaves no room for one a picture: take a smaller one")

    @property
    def first_seed(self) -> int:
        """The seed of picture 0."""
        return self.base.seed or 0

    def samples(self, native: Size) -> Iterator[Sample]:
        """Every picture. The order gives all methods the same prompts when a run is stopped.

        Args:
            native: the model's native size.
        """
        for index in range(max(self.pictures, self.native_pictures)):
            if index < self.native_pictures:
                yield self._sample(NATIVE_CHOICE, native, index, self.first_seed + NATIVE_SEEDS + index)
            if index < self.pictures:
                for size in self.sizes:
                    for choice in self.choices:
                        yield self._sample(choice, size, index, self.first_seed + index)

    def _sample(self, choice: Choice, size: Size, index: int, seed: int) -> Sample:
        prompt = self.prompts[index % len(self.prompts)]
        width, height = size
        request = choice.request(self.base).changed(prompt=prompt.text, width=width, height=height, seed=seed)
        return Sample(choice.label, size, index, prompt, request)
