"""The plan of a request: what making it would do to every layer."""

from __future__ import annotations

from typing import Any

from ..models.loading import Outline, load_outline
from ..models.schedulers import make_scheduler
from ..patching.plan import plan
from ..recipes.plan import Plan
from ..request.request import Request
from ..unet.architecture import read_architecture
from .generate import settle


def plan_of(request: Request, **loading: Any) -> Plan:
    """What a picture by this request would do to every layer at every step; no weights are read where possible.

    Args:
        request: of the method scalecrafter.
        loading: as `load_pipeline` takes it.

    Raises:
        ScaleCrafterError: as `generate` and `load_pipeline`.
    """
    outline = load_outline(request.model, **loading)
    if request.scheduler is not None:
        scheduler = make_scheduler(request.scheduler, outline.scheduler)
        outline = Outline(outline.unet, scheduler, outline.vae_scale_factor, outline.vae)
    _, (width, height) = settle(request, read_architecture(outline))
    planned = plan(outline, height, width, request.steps, request.resolved_recipe())
    assert isinstance(planned, Plan)  # an outline has a U-Net
    return planned
