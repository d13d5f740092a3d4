"""From the values of the page's controls to a `Request`, and back.

Settings that have no effect with a method are hidden and not sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..recipes.recipe import Recipe, shipped_recipes
from ..request.methods import DEFAULT_METHOD, DEFAULT_STRENGTH, METHODS
from ..request.request import DEFAULT_STEPS, DIRECT, Request, RequestError

AUTOMATIC, OWN = "automatic", "own"
"""As a recipe: the automatic one, and the one in the text field."""
MODELS_OWN = "model's own"
"""As a scheduler."""
SMALLEST_STRENGTH = 0.01
"""Where the slider begins: no method's own strength may lie below."""


@dataclass(frozen=True)
class PageForm:
    """The values of the controls, in their order; `settings` has none and is carried along.

    Numbers that may be left out are texts: an empty one is None.
    """

    prompt: str = ""
    negative: str = ""
    model: str = "critters"
    width: str = ""
    height: str = ""
    method: str = DEFAULT_METHOD
    recipe: str = AUTOMATIC
    own_recipe: str = ""
    strength: float = DEFAULT_STRENGTH
    freeu: bool = False
    steps: float = DEFAULT_STEPS
    guidance: float | None = None
    scheduler: str = MODELS_OWN
    seed: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """A method's own settings, under its name."""

    def request(self) -> Request:
        """The request of these values (`RequestError`, `RecipeError`)."""
        takes = METHODS[self.method].takes if self.method in METHODS else frozenset()
        values: dict[str, Any] = {
            "prompt": self.prompt,
            "negative": self.negative,
            "model": self.model,
            "width": _whole("width", self.width),
            "height": _whole("height", self.height),
            "method": self.method,
            "steps": self.steps,
            "seed": _whole("seed", self.seed),
            "scheduler": None if self.scheduler == MODELS_OWN else self.scheduler,
        }
        if self.guidance is not None:
            values["guidance"] = self.guidance
        if "recipe" in takes:
            values["recipe"] = self._recipe()
        if "freeu" in takes and values.get("recipe") != DIRECT:
            values["freeu"] = self.freeu
        if self.method in self.settings:
            values[self.method] = self.settings[self.method]
        elif "strength" in takes and self.strength != default_strength(self.method):
            values["strength"] = self.strength
        return Request.from_mapping(values, "these settings")

    def _recipe(self) -> str | None:
        if self.recipe == AUTOMATIC:
            return None
        if self.recipe != OWN:
            return self.recipe
        return Recipe.parse(self.own_recipe, "your recipe").to_toml()


@dataclass(frozen=True)
class Restored:
    """The values of a request, and notes on what the page cannot show."""

    form: PageForm
    notes: tuple[str, ...]


def restored(request: Request, models: Iterable[str], current_model: str) -> Restored:
    """The values of the controls for `request`, on a page with these models."""
    notes = []
    form = PageForm(
        prompt=request.prompt,
        negative=request.negative,
        model=request.model,
        width=_text(request.width),
        height=_text(request.height),
        method=request.method,
        strength=default_strength(request.method) if request.strength is None else request.strength,
        freeu=request.freeu,
        steps=request.steps,
        guidance=request.guidance,
        scheduler=request.scheduler or MODELS_OWN,
        seed=_text(request.seed),
        settings={} if request.settings is None else {request.method: request.settings.model_dump(mode="json")},
    )
    if request.model not in models:
        form = replace(form, model=current_model)
        notes.append(f"it was made by the model {request.model!r}, which is not served here")
    if request.recipe in (*shipped_recipes(), DIRECT):
        form = replace(form, recipe=str(request.recipe))
    elif request.recipe is not None:
        form = replace(form, recipe=OWN, own_recipe=request.recipe)
    if request.image is not None:
        form = replace(form, strength=default_strength(request.method))
        notes.append("it began from another picture, which this page does not: use the command line or the API for it")
    if request.settings is not None:
        notes.append(f"its settings of {request.method} are kept as long as the method is")
    return Restored(form, tuple(notes))


def default_strength(method: str) -> float:
    """The strength that a method has without one in the request."""
    return METHODS[method].default_strength if method in METHODS else DEFAULT_STRENGTH


def recipe_choices() -> list[tuple[str, str]]:
    """(what is shown, value) of the recipes."""
    shipped = [(name, name) for name in shipped_recipes()]
    return [("Automatic", AUTOMATIC), *shipped, ("None: direct inference", DIRECT), ("My own, as TOML", OWN)]


def _whole(name: str, text: str) -> int | None:
    """The number in a field that may be empty (`RequestError`)."""
    text = text.strip()
    if not text:
        return None
    if not text.isdecimal() or len(text) > 20:
        raise RequestError(f"{name} is {text[:40]!r}: give a whole number, or leave it empty")
    return int(text)


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
