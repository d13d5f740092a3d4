"""Schedulers by short name, built from the configuration of the pipeline's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import ScaleCrafterError
from .loading import quiet
from .request import SCHEDULERS

_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}),
    "dpm++-karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "euler": ("EulerDiscreteScheduler", {"use_karras_sigmas": False}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {"use_karras_sigmas": False}),
    "lms": ("LMSDiscreteScheduler", {"use_karras_sigmas": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "unipc": ("UniPCMultistepScheduler", {"use_karras_sigmas": False}),
}


def make_scheduler(name: str, like: Any) -> Any:
    """The scheduler of that short name, with the noise schedule and prediction type of the scheduler `like`."""
    import diffusers

    class_name, settings = _CLASSES[name]
    try:
        with quiet():
            return getattr(diffusers, class_name).from_config({**like.config, **settings})
    except ImportError as error:
        raise ScaleCrafterError(f"the scheduler {name!r} needs another package: {error}".splitlines()[0]) from None


@contextmanager
def using_scheduler(pipe: Any, name: str | None) -> Iterator[None]:
    """Run a pipeline with the scheduler of that short name (None: its own), and give it its own back."""
    own = pipe.scheduler
    if name is not None:
        pipe.scheduler = make_scheduler(name, own)
    try:
        yield
    finally:
        pipe.scheduler = own


def viewer_name(scheduler: Any) -> str:
    """What image viewers of this field call a scheduler; its class name where they have no name for it."""
    kind, config = type(scheduler).__name__, scheduler.config
    for name, (class_name, settings) in _CLASSES.items():
        if class_name == kind and all(config.get(key, value) == value for key, value in settings.items()):
            return SCHEDULERS[name]
    return kind
