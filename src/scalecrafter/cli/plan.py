"""`scalecrafter plan`: what a run would do to every layer, without running it."""

from __future__ import annotations

from ..request.request import DEFAULT_STEPS, DIRECT, Request, RequestError, parse_size
from .app import app
from .options import AUTOMATIC, AllowPickle, Config, Model, RecipeOption, Scheduler, Size, Steps


@app.command("plan")
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
    chosen = request.resolved_recipe()

    from ..generation.generate import settle
    from ..models.loading import load_outline
    from ..models.schedulers import make_scheduler
    from ..patching.plan import plan as make_plan
    from ..unet.architecture import read_architecture

    outline = load_outline(request.model, config=config, allow_pickle=allow_pickle)
    if request.scheduler is not None:
        from types import SimpleNamespace

        own = outline.scheduler
        outline = SimpleNamespace(
            unet=outline.unet,
            vae_scale_factor=outline.vae_scale_factor,
            scheduler=make_scheduler(request.scheduler, own),
        )
    _, (width, height) = settle(request, read_architecture(outline))
    print(make_plan(outline, height, width, request.steps, chosen))
