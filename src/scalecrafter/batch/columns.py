"""The columns of a jobs file: those that are settings, and those that people keep beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .._util.text import near_names
from ..request.request import RequestError, request_fields

_OTHER_NAMES = {
    "negative_prompt": "negative",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
}
"""What diffusers calls some settings."""
_SLIP = 0.75
"""How near to a setting's name (`difflib`) another name is a slip."""


def known_columns() -> list[str]:
    """The names of all columns that are settings."""
    return [*request_fields(), "size"]


def plain_name(name: str) -> str:
    """A column's name in lower case, with underscores: "Negative prompt" is `negative_prompt`, which is `negative`."""
    plain = re.sub(r"[\s-]+", "_", str(name).strip().lower())
    return _OTHER_NAMES.get(plain, plain)


def settings_and_others(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings among the values of a line, by their plain names, and the other values by their own.

    Raises:
        RequestError: for a name that is nearly that of a setting, or a setting that is given twice.
    """
    known = known_columns()
    by_plain_name = {plain_name(name): name for name in known}  # `dpm++-sde` and the like stay as they are
    settings: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in values.items():
        setting = by_plain_name.get(plain_name(name))
        if setting is None:
            hint = _slip(plain_name(name), known)
            if hint:
                raise RequestError(f"there is no setting {name!r}; {hint} Known: {', '.join(known)}")
            others[str(name)] = value
        elif setting in settings:
            raise RequestError(f"{setting} is given twice, once as {name!r}: leave one of the columns out")
        else:
            settings[setting] = value
    return settings, others


def _slip(name: str, known: list[str]) -> str:
    """The hint for a name that is a setting's with a mistake; empty for another, as `prompt_id`."""
    longer = any(name.startswith(f"{one}_") or name.endswith(f"_{one}") for one in known)
    return "" if longer else near_names(name, known, most=1, cutoff=_SLIP)
