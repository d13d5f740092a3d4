"""`scalecrafter plan`: what a run would do to every layer, and what it would cost, without running it."""

from __future__ import annotations

from typing import Any

from ..errors import ScaleCrafterError
from ..generation.checks import check_request
from ..request.methods import DEFAULT_METHOD
from ..request.request import DEFAULT_STEPS, DIRECT, Request, RequestError
from ..request.text import parse_size
from .app import Command, app
from .options import (
    AUTOMATIC,
    AllowPickle,
    Config,
    Device,
    Dtype,
    Guidance,
    MethodName,
    Model,
    RecipeOption,
    Scheduler,
    Size,
    Steps,
)


@app.command("plan", cls=Command)
def plan(
    model: Model = None,
    size: Size = None,
    method: MethodName = None,
    recipe: RecipeOption = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    dtype: Dtype = None,
    device: Device = None,
    config: Config = None,
    allow_pickle: AllowPickle = False,
) -> None:
    """Print what will happen to which layers at which steps, and how long a picture will take."""
    width, height = parse_size(size) if size is not None else (None, None)
    settings = {
        "prompt": "plan", "model": model or "critters", "width": width, "height": height,
        "method": method, "recipe": None if recipe == AUTOMATIC else recipe, "guidance": guidance,
        "steps": DEFAULT_STEPS if steps is None else steps, "scheduler": scheduler, "dtype": dtype, "device": device,
    }  # fmt: skip
    given = {name: value for name, value in settings.items() if value is not None}
    request = Request.from_mapping(given, "plan")
    if method is None and request.method != DEFAULT_METHOD and recipe == DIRECT:
        raise RequestError("with the recipe none there is nothing to plan: the pipeline runs as it is")
    check_request(request, config)

    from ..generation.request_plan import plan_of
    from ..models.loading import load_outline

    outline = load_outline(request.model, config=config, allow_pickle=allow_pickle)
    if request.method == DEFAULT_METHOD:
        print(f"{plan_of(request, outline)}\n")
    print(f"A picture by {request.method_label}: {_cost(request, outline)}")


def _cost(request: Request, outline: Any) -> str:
    from ..cost.estimate import Estimator

    try:
        return str(Estimator(outline).cost(request))
    except ScaleCrafterError as error:
        return f"the cost is not known, since {error}"
