"""`scalecrafter plan`: what a run would do to every layer, and what it would cost, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ScaleCrafterError
from ..generation.checks import check_request
from ..request.methods import DEFAULT_METHOD
from ..request.request import DIRECT, Request, RequestError
from .app import Command, app
from .options import PictureOptions, spread_options


@app.command("plan", cls=Command)
@spread_options("settings", "ablation", "negative", "seed", "freeu")
def plan(
    options: PictureOptions,
    enlarge: Annotated[
        Path | None, typer.Option("--enlarge", metavar="PICTURE", help="The cost of `enlarge PICTURE` instead.")
    ] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="With --enlarge, as there.")] = None,
    creativity: Annotated[float | None, typer.Option("--creativity", help="With --enlarge, as there.")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="With --enlarge, as there; else it changes nothing.")
    ] = None,
) -> None:
    """Print what will happen to which layers at which steps, and how long a picture will take."""
    values = options.values() | _enlargement(enlarge, scale, creativity)
    if prompt is not None or enlarge is None:
        values["prompt"] = prompt or "plan"
    request = Request.from_mapping(values, "plan")
    if options.method is None and request.method != DEFAULT_METHOD and options.recipe == DIRECT and enlarge is None:
        raise RequestError("with the recipe none there is nothing to plan: the pipeline runs as it is")
    check_request(request, options.config)

    from ..generation.request_plan import plan_of
    from ..models.loading import load_outline

    outline = load_outline(request.model, **options.loading)
    if request.method == DEFAULT_METHOD and request.enlarge is None:
        print(f"{plan_of(request, outline)}\n")
    if request.task == "edit":
        run = int(request.steps * request.strength_or_default)
        print(f"It starts from a picture: of {request.steps} steps the last {run} are run.")
    print(f"A picture by {request.method_label}: {_cost(request, outline)}")


def _enlargement(picture: Path | None, scale: float | None, creativity: float | None) -> dict[str, Any]:
    """The values of a request that enlarges."""
    how = {name: value for name, value in (("scale", scale), ("creativity", creativity)) if value is not None}
    if picture is None and how:
        raise RequestError(
            f"{' and '.join(how)}: no effect without --enlarge, so name the picture to enlarge, or leave that out"
        )
    return {} if picture is None else {"image": str(picture), "enlarge": how}


def _cost(request: Request, outline: Any) -> str:
    from ..cost.estimate import Estimator

    try:
        return str(Estimator(outline).cost(request))
    except ScaleCrafterError as error:
        return f"the cost is not known, since {error}"
