"""The plan of a request: what making it would do to every layer."""

from __future__ import annotations

from typing import Any

from ..models.denoisers import read_model
from ..models.loading import Outline, load_outline
from ..models.schedulers import make_scheduler
from ..patching.plan import plan
from ..recipes.plan import Plan
from ..recipes.transformer_plan import TransformerPlan
from ..request.request import Request
from .generate import settle


def plan_of(request: Request, outline: Any = None, **loading: Any) -> Plan | TransformerPlan:
    """What a picture by this request would do to every layer at every step; no weights are read where possible.

    Args:
        request: of the method scalecrafter.
        outline: of the model (`load_outline`), where it is at hand.
        loading: as `load_pipeline` takes it.

    Raises:
        ScaleCrafterError: as `generate` and `load_pipeline`.
    """
    outline = load_outline(request.model, **loading) if outline is None else outline
    if request.scheduler is not None:
        scheduler = make_scheduler(request.scheduler, outline.scheduler)
        unet, transformer = (getattr(outline, name, None) for name in ("unet", "transformer"))
        outline = Outline(unet, scheduler, outline.vae_scale_factor, outline.vae, transformer)
    _, (width, height) = settle(request, read_model(outline))
    return plan(outline, height, width, request.steps, request.resolved_recipe())
