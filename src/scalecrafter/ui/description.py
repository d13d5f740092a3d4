"""What the page's form must know. It names no method and no setting by itself: all of it is read from here."""

from __future__ import annotations

from typing import Any

from .._util.extras import MissingExtraError
from .._version import __version__
from ..recipes.recipe import shipped_recipes
from ..request.enlargement import LARGEST_SCALE, Enlargement
from ..request.methods import DEFAULT_METHOD, DEFAULT_STRENGTH, ENLARGING_METHOD, METHODS, Method
from ..request.request import DEFAULT_MASKED_STRENGTH, DEFAULT_STEPS, DIRECT, default_guidance
from ..request.schedulers import SCHEDULERS, check_scheduler
from ..server.jobs import Jobs


def describe(jobs: Jobs) -> dict[str, Any]:
    """Models, methods with the JSON schemas of their settings, schedulers, recipes, limits and defaults, as JSON."""
    settings = jobs.settings
    return {
        "version": __version__,
        "models": [
            {"name": name, "guidance": default_guidance(name), "facts": facts and facts.model_dump()}
            for name in settings.models
            for facts in [jobs.store.facts(name)]
        ],
        "methods": [_method(method) for method in METHODS.values()],
        "schedulers": {name: title for name, title in SCHEDULERS.items() if _is_usable(name)},
        "recipes": [*shipped_recipes()],
        "limits": settings.limits.model_dump(),
        "keep_hours": settings.keep_hours,
        "defaults": {
            "method": DEFAULT_METHOD,
            "enlarging_method": ENLARGING_METHOD,
            "direct": METHODS[DEFAULT_METHOD].without_recipe or DIRECT,
            "steps": min(DEFAULT_STEPS, settings.limits.steps),
            "strength": DEFAULT_STRENGTH,
            "masked_strength": DEFAULT_MASKED_STRENGTH,
            "largest_scale": LARGEST_SCALE,
            **Enlargement().model_dump(),
        },
    }


def _is_usable(scheduler: str) -> bool:
    try:
        check_scheduler(scheduler)
    except MissingExtraError:
        return False
    return True


def _method(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "title": method.title or method.name.replace("-", " ").capitalize(),
        "hint": method.plain or method.summary,
        "takes": sorted(method.takes),
        "strength": method.default_strength,
        "enlarges": method.can_enlarge,
        "settings": None if method.settings is None else method.settings.model_json_schema(),
    }
