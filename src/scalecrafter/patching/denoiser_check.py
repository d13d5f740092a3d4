"""Noticing that a pipeline got another U-Net or transformer after `apply`, on which nothing is applied."""

from __future__ import annotations

import copy
import sys
import weakref
from typing import Any

from torch import nn

from ..errors import ModelError
from .callers import is_model
from .convolution import refused_pickle

_ATTRIBUTE = "progress_bar"


class DenoiserCheck:
    """In the place of a pipeline's `progress_bar`, which every call asks for once, before its first step."""

    def __init__(self, pipe: Any, name: str, model: nn.Module) -> None:
        self._own = pipe.__dict__.get(_ATTRIBUTE)
        self._pipe = weakref.ref(pipe)
        self._name = name
        self.model = model

    @classmethod
    def put_on(cls, pipe: Any, name: str, model: nn.Module) -> None:
        """Put the check on a pipeline, where it has a progress bar, for the model that it calls `name`."""
        if callable(getattr(pipe, _ATTRIBUTE, None)):
            pipe.__dict__[_ATTRIBUTE] = cls(pipe, name, model)

    @classmethod
    def of(cls, pipe: Any) -> DenoiserCheck | None:
        """The check on a pipeline, if there is one."""
        check = getattr(pipe, "__dict__", {}).get(_ATTRIBUTE)
        return check if isinstance(check, cls) else None

    @classmethod
    def take_off(cls, pipe: Any) -> None:
        """Leave the pipeline's attributes as `put_on` found them."""
        check = cls.of(pipe)
        if check is not None:
            del pipe.__dict__[_ATTRIBUTE]
            if check._own is not None:
                pipe.__dict__[_ATTRIBUTE] = check._own

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_locals.get("self")  # a shallow copy of the pipeline has the same check
        pipe: Any = caller if DenoiserCheck.of(caller) is self else self._pipe()
        if not is_model(getattr(pipe, self._name), self.model):
            raise ModelError(
                f"pipe.{self._name} is another one than when scalecrafter.apply was called, so nothing is applied to "
                "it: call scalecrafter.apply(pipe) again, or scalecrafter.remove(pipe)"
            )
        own = self._own or getattr(type(pipe), _ATTRIBUTE).__get__(pipe)
        return own(*args, **kwargs)

    def __reduce__(self) -> Any:
        raise refused_pickle()

    def __deepcopy__(self, memo: dict[int, Any]) -> DenoiserCheck:
        """That of a copied pipeline, which has a copied model."""
        twin = memo[id(self)] = object.__new__(type(self))
        twin._own, twin.model = copy.deepcopy((self._own, self.model), memo)
        twin._name = self._name
        twin._pipe = weakref.ref(memo[id(self._pipe())])
        return twin
