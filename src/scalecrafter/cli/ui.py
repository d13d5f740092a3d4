"""`scalecrafter ui`: the page in a browser, with the server behind it."""

from __future__ import annotations

import inspect
from typing import Any

from .app import Command, app
from .serve import serve

_OPTIONS = (
    "model", "host", "port", "data", "workers", "dtype", "device", "vae_memory", "api_keys", "allow_anyone",
)  # fmt: skip
"""Those of `serve` that matter for a page."""


def ui(**options: Any) -> None:
    """Serve a page for browsers and print its address: `serve --page` with fewer options."""
    serve(**options, page=True)


_parameters = inspect.signature(serve, eval_str=True).parameters
ui.__signature__ = inspect.Signature([_parameters[name] for name in _OPTIONS])  # type: ignore[attr-defined]
ui.__annotations__ = {name: _parameters[name].annotation for name in _OPTIONS}
app.command("ui", cls=Command)(ui)
