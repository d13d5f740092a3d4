"""`scalecrafter plan`: what a run would do to every layer, without running it."""

from __future__ import annotations

from ..generation.checks import check_request
from ..request.request import DEFAULT_STEPS, DIRECT, Request, RequestError
from ..request.text import parse_size
from .app import Command, app
from .options import AUTOMATIC, AllowPickle, Config, Model, RecipeOption, Scheduler, Size, Steps


@app.command("plan", cls=Command)
def plan(
    model: Model = None,
    size: Size = None,
    recipe: RecipeOption = None,
    steps: Steps = None,
    scheduler: Scheduler = None,
    config: Config = None,
    allow_pickle: AllowPickle = False,
) -> None:
    """Print what will happen to which layers at which steps."""
    width, height = parse_size(size) if size is not None else (None, None)
    settings = {
        "prompt": "plan", "model": model or "critters", "width": width, "height": height,
        "recipe": None if recipe == AUTOMATIC else recipe,
        "steps": DEFAULT_STEPS if steps is None else steps, "scheduler": scheduler,
    }  # fmt: skip
    request = Request.from_mapping(settings, "plan")
    if request.recipe == DIRECT:
        raise RequestError("with the recipe none there is nothing to plan: the pipeline runs as it is")
    check_request(request, config)

    from ..generation.request_plan import plan_of

    print(plan_of(request, config=config, allow_pickle=allow_pickle))
