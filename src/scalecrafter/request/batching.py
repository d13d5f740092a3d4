"""Which requests can be made in one call of a pipeline: those of one batch key."""

from __future__ import annotations

import json

from .methods import METHODS
from .request import Request

_OWN = frozenset({"prompt", "negative", "seed"})
"""What each picture of a call has for itself."""
_SHARED = frozenset(
    {
        *("model", "dtype", "device", "width", "height", "method", "settings"),
        *("recipe", "freeu", "steps", "guidance", "scheduler"),
    }
)
"""What all pictures of a call have in common.  A request that says anything else is made alone."""

_SEEDED = frozenset({"dpm++-sde"})
"""Schedulers that draw noise from one seed for a whole call: a picture would depend on the others."""


def batch_key(request: Request) -> str | None:
    """What a request has in common with those that can be made together with it; None: it is made alone.

    An empty negative prompt is part of the key, since some models take none at all for something else than "".
    """
    if not METHODS[request.method].make_batch or request.scheduler in _SEEDED:
        return None
    fields = type(request).model_fields
    known = _OWN | _SHARED
    if any(getattr(request, name) != field.get_default() for name, field in fields.items() if name not in known):
        return None
    shared = request.model_dump(mode="json", include=set(_SHARED)) | {"negative": bool(request.negative)}
    return json.dumps(shared, sort_keys=True)
