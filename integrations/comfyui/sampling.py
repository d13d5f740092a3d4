"""What acts while ComfyUI samples: a wrapper around the U-Net, and a function after classifier-free guidance."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from scalecrafter.errors import ScaleCrafterError
from scalecrafter.patching.one_call import changed_convolutions, place_by_sigmas, resolved_for
from scalecrafter.recipes.recipe import Recipe
from scalecrafter.recipes.resolution import ResolvedRecipe
from scalecrafter.unet.architecture import Architecture
from scalecrafter.unet.original_layout import original_architecture

KEY = "scalecrafter"
"""Of our wrapper in a ModelPatcher."""
STRONG = "scalecrafter_strong"
"""In the transformer options: this call is the strong denoiser's."""


class Redilation:
    """A wrapper for `WrappersMP.DIFFUSION_MODEL`: the convolutions are changed for the length of one call.

    Args:
        recipe: what acts; None: the automatic recipe of each size.
        native_side: of the latents that the model was trained on; None: its family's.
    """

    def __init__(self, recipe: Recipe | None, native_side: int | None, model_sampling: Any) -> None:
        self.recipe, self.native_side, self.model_sampling = recipe, native_side, model_sampling
        self._architectures: weakref.WeakKeyDictionary[Any, Architecture] = weakref.WeakKeyDictionary()
        self._resolved: dict[tuple[int, ...], ResolvedRecipe | None] = {}

    def architecture(self, unet: Any) -> Architecture:
        """Of a U-Net (`ModelError` for another model)."""
        if unet not in self._architectures:
            self._architectures[unet] = original_architecture(unet, self.native_side)
            self._resolved = {}
        return self._architectures[unet]

    def resolved(self, unet: Any, height: int, width: int) -> ResolvedRecipe | None:
        """What acts on latents of this size; None where nothing does (`RecipeError`)."""
        architecture = self.architecture(unet)
        key = (id(unet), height, width)
        if key not in self._resolved:
            self._resolved[key] = resolved_for(self.recipe, architecture, height, width)
        return self._resolved[key]

    def place(self, sigma: Any, sigmas: Any) -> Any:
        """Where in the trajectory a call is, an exact fraction."""
        now = float(sigma.flatten()[0])
        start = self._by_timestep(float(sigmas[0])) if sigmas is not None else 0.0
        if sigmas is None or float(sigmas[-1]) > 0:  # a part of a run, which another sampler goes on with
            return place_by_sigmas(1.0, [1.0, 0.0], self._by_timestep(now))
        return place_by_sigmas(now, [float(entry) for entry in sigmas], start)

    def _by_timestep(self, sigma: float) -> float:
        import torch

        timestep = float(self.model_sampling.timestep(torch.tensor(sigma)))
        return max(1.0 - (timestep + 1.0) / self.model_sampling.num_timesteps, 0.0)

    def __call__(self, executor: Any, x: Any, timesteps: Any, *more: Any, **options: Any) -> Any:
        unet = executor.class_obj
        transformer_options = options.get("transformer_options") or (more[3] if len(more) > 3 else {})
        resolved = self.resolved(unet, *x.shape[-2:])
        if resolved is None:
            return executor(x, timesteps, *more, **options)
        place = self.place(transformer_options["sigmas"], transformer_options.get("sample_sigmas"))
        strong = resolved.strong(place) if transformer_options.get(STRONG) else None
        changes = resolved.structure(place) if strong is None else strong
        with changed_convolutions(self.architecture(unet), resolved, changes):
            return executor(x, timesteps, *more, **options)


def noise_damping(redilation: Redilation) -> Callable[[dict[str, Any]], Any]:
    """A function for `set_model_sampler_post_cfg_function`: the base of guidance is the strong denoiser's.

    He et al. 2024, equation 8. It costs one more unconditional evaluation in each step of the span.
    """

    import comfy.model_patcher
    import comfy.samplers

    def damped(args: dict[str, Any]) -> Any:
        unconditional, model, x, sigma = args["uncond"], args["model"], args["input"], args["sigma"]
        if unconditional is None:  # no guidance, so nothing to damp
            return args["denoised"]
        resolved = redilation.resolved(model.diffusion_model, *x.shape[-2:])
        options = args["model_options"]
        sigmas = options.get("transformer_options", {}).get("sample_sigmas")
        if resolved is None or resolved.strong(redilation.place(sigma, sigmas)) is None:
            return args["denoised"]
        options = comfy.model_patcher.create_model_options_clone(options)
        options.setdefault("transformer_options", {})[STRONG] = True
        (strong,) = comfy.samplers.calc_cond_batch(model, [unconditional], x, sigma, options)
        return args["denoised"] + (strong - args["uncond_denoised"])

    return damped


def redilation_of(model: Any) -> Redilation:
    """What the ScaleCrafter node put on a ModelPatcher (`ScaleCrafterError` without one)."""
    import comfy.patcher_extension

    found = model.get_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, KEY)
    if not found:
        raise ScaleCrafterError("Noise-damped guidance works with ScaleCrafter: put its node before this one")
    redilation: Redilation = found[-1]
    return redilation
