"""Messages about wrong names and values."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def near_names(name: str, known: Iterable[str], most: int = 3, cutoff: float = 0.6) -> str:
    """The hint "did you mean 'a' or 'b'?"; empty if no known name is similar.

    Args:
        name: the unknown name.
        known: the names that exist.
        most: how many names the hint lists at most.
        cutoff: how similar a name must be, from 0 to 1 (`difflib.get_close_matches`).
    """
    by_lower_case = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=most, cutoff=cutoff)
    return f"did you mean {' or '.join(repr(by_lower_case[one]) for one in near)}?" if near else ""


def near_or_all_names(name: str, known: Sequence[str]) -> str:
    """The hint "did you mean 'a'?", or "known: a, b, c" where nothing is near."""
    return near_names(name, known, most=1) or f"known: {', '.join(known)}"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message that a name is unknown, with the near names and all that are known."""
    known = list(known)
    hint = near_names(name, known)
    return f"there is no {what} {name!r}{f'; {hint}' if hint else '.'} Known: {', '.join(known)}"


def explain(error: ValidationError, known: Callable[[Sequence[str]], Sequence[str]]) -> str:
    """pydantic's errors in one line.

    Args:
        error: of the validation.
        known: the settings that there are below a place, as `setting_names(model)`; the outermost are at ().
    """
    problems = [problem for problem in error.errors() if problem["type"] != "default_factory_not_called"]
    return "; ".join(explain_problem(problem, known) for problem in problems)


def explain_problem(problem: Mapping[str, Any], known: Callable[[Sequence[str]], Sequence[str]] | None = None) -> str:
    """One of pydantic's errors in words."""
    places = [str(part) for part in problem["loc"] if not str(part).startswith("function-")]
    place, message = ".".join(places), problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden" and known is not None:
        return f"there is no setting {place!r}; {near_or_all_names(places[-1], known(places[:-1]))}"
    if problem["type"] == "missing":
        return f"{place} is missing"
    if problem["type"] == "value_error":
        return f"{place}: {message}" if place else str(message)
    return f"{place} is {problem['input']!r}: {message[0].lower()}{message[1:]}"


def setting_names(model: type[BaseModel]) -> Callable[[Sequence[str]], Sequence[str]]:
    """The function that maps a place inside a model to the names of the settings there."""

    def settings_at(places: Sequence[str]) -> list[str]:
        found = model
        for part in places:
            if part in found.model_fields:
                found = _model_in(found.model_fields[part].annotation) or found
        return list(found.model_fields)

    return settings_at


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `Model | None` or `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
