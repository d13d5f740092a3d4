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
_YEAR = 24.0 * 365
"""Hours for which the pictures of one's own page are kept; a gallery that is empty the next day is none."""


def ui(**options: Any) -> None:
    """Serve a page for browsers and print its address: `serve --page` with fewer options."""
    serve(**options, page=True, keep_hours=_YEAR)


_parameters = inspect.signature(serve, eval_str=True).parameters
ui.__signature__ = inspect.Signature([_parameters[name] for name in _OPTIONS])  # type: ignore[attr-defined]
ui.__annotations__ = {name: _parameters[name].annotation for name in _OPTIONS}
app.command("ui", cls=Command)(ui)
