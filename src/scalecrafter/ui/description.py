"""What the page's form must know. It names no method and no setting by itself: all of it is read from here."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from .._util.extras import MissingExtraError
from .._version import __version__
from ..recipes.recipe import Recipe, shipped_recipes
from ..request.enlargement import LARGEST_SCALE, Enlargement
from ..request.methods import DEFAULT_METHOD, DEFAULT_STRENGTH, ENLARGING_METHOD, METHODS, Method, Task
from ..request.request import DEFAULT_MASKED_STRENGTH, DEFAULT_STEPS, DIRECT, default_guidance, says_guidance
from ..request.schedulers import FLOW_SCHEDULERS, SCHEDULERS, check_scheduler
from ..server.jobs import Jobs
from ..server.records import ModelFacts
from ..unet.families import ANY


def describe(jobs: Jobs) -> dict[str, Any]:
    """Models, methods with the JSON schemas of their settings, schedulers, recipes, limits and defaults, as JSON."""
    settings = jobs.settings
    return {
        "version": __version__,
        "models": [_model(name, jobs.store.facts(name)) for name in settings.models],
        "methods": [_method(method) for method in METHODS.values()],
        "schedulers": SCHEDULERS,
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


def _model(name: str, facts: ModelFacts | None) -> dict[str, Any]:
    """A model; what can be asked of it, or everything until a worker has looked at it."""
    own = facts is not None and facts.guidance is not None and not says_guidance(name)
    return {
        "name": name,
        "guidance": facts.guidance if facts is not None and own else default_guidance(name),
        "facts": facts and facts.model_dump(),
        "methods": {task: _methods_for(task, facts) for task in get_args(Task)},
        "recipes": [one for one, family in _recipes().items() if facts is None or family in (ANY, facts.family)],
        "schedulers": [
            one
            for one in SCHEDULERS
            if _is_usable(one) and (facts is None or facts.kind == "unet" or one in FLOW_SCHEDULERS)
        ],
        "lacks": facts.lacks if facts is not None else (),
    }


def _methods_for(task: Task, facts: ModelFacts | None) -> list[str]:
    if facts is None:
        return [name for name, method in METHODS.items() if method.does(task)]
    return [*facts.methods_for(task)]


@cache
def _recipes() -> dict[str, str]:
    """The shipped recipes, each with the family that it is for."""
    return {name: Recipe.load(name).architecture for name in shipped_recipes()}


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
        "settings": None if method.settings is None else method.settings.schema_for_clients(),
    }
