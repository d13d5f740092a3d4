"""Schedulers by short name, built from the configuration of the pipeline's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ModelError
from ..request.schedulers import SCHEDULERS, check_scheduler
from .loading import quiet

_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {"use_karras_sigmas": False}),
    "dpm2": ("KDPM2DiscreteScheduler", {"use_karras_sigmas": False}),
    "dpm2-a": ("KDPM2AncestralDiscreteScheduler", {"use_karras_sigmas": False}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}),
    "dpm++-karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "dpm++-2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False}),
    "dpm++-2s": (
        "DPMSolverSinglestepScheduler",
        {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False, "lower_order_final": True},
    ),
    "dpm++-sde": ("DPMSolverSDEScheduler", {"use_karras_sigmas": False}),
    "euler": ("EulerDiscreteScheduler", {"use_karras_sigmas": False}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {"use_karras_sigmas": False}),
    "lcm": ("LCMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {"use_karras_sigmas": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "tcd": ("TCDScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {"use_karras_sigmas": False}),
}

_SEED = "noise_sampler_seed"


_FLOW_CLASSES = {"euler": "FlowMatchEulerDiscreteScheduler"}
"""Of those, what follows the straight paths of flow matching."""


def make_scheduler(name: str, like: Any, **changed: Any) -> Any:
    """The scheduler of that short name, with the noise schedule and prediction type of the scheduler `like`.

    `changed` are further settings of its configuration.

    Raises:
        ModelError: for one that the model's kind of schedule has none of.
    """
    import diffusers

    class_name, settings = _CLASSES[name]
    check_scheduler(name)
    if is_flow(like):
        if name not in _FLOW_CLASSES:
            raise ModelError(
                f"the scheduler {name!r} is not for flow matching, which this model does: take one of "
                f"{', '.join(_FLOW_CLASSES)}, or leave it out"
            )
        class_name, settings = _FLOW_CLASSES[name], {"shift": like.config.get("flow_shift", like.config.get("shift"))}
    with quiet():
        return getattr(diffusers, class_name).from_config({**like.config, **settings, **changed})


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler is one of flow matching."""
    return type(scheduler).__name__.startswith("FlowMatch") or bool(scheduler.config.get("use_flow_sigmas"))


@contextmanager
def using_scheduler(pipe: Any, name: str | None, seed: int | None = None, **changed: Any) -> Iterator[None]:
    """Run a pipeline with the scheduler of that short name (None: its own), and give it its own back.

    `changed` are further settings of its configuration.

    `seed` is for a scheduler that draws its noise from a seed instead of the pipeline's generator (DPM++ SDE).
    """
    own = pipe.scheduler
    if name is not None:
        pipe.scheduler = make_scheduler(name, own, **changed)
    try:
        with _seeded(pipe.scheduler, seed):
            yield
    finally:
        pipe.scheduler = own


@contextmanager
def _seeded(scheduler: Any, seed: int | None) -> Iterator[None]:
    own = getattr(scheduler, _SEED, None)
    if hasattr(scheduler, _SEED):
        setattr(scheduler, _SEED, seed if own is None else own)
    try:
        yield
    finally:
        if hasattr(scheduler, _SEED):
            setattr(scheduler, _SEED, own)


def viewer_name(scheduler: Any) -> str:
    """What image viewers of this field call a scheduler; its class name where they have no name for it."""
    kind, config = type(scheduler).__name__, scheduler.config
    for name, (class_name, settings) in _CLASSES.items():
        if class_name == kind and all(config.get(key, value) == value for key, value in settings.items()):
            return SCHEDULERS[name]
    return kind
