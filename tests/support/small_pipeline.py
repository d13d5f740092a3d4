"""The smallest pipelines that still have everything, and one recipe with everything, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from scalecrafter import Recipe
from tests.support.reference import denoise
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sd_unet

SMALL = {
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "attention_head_dim": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
"""A U-Net of two levels."""
RECIPE = Recipe.parse(
    '[redilation]\nuntil = 0.6\nlayers = { "down_blocks.1" = 2, "mid_block" = 2.5 }\n'
    '[dispersion]\nuntil = 0.4\nlayers = ["mid_block"]\n'
    '[noise_damping]\nuntil = 0.6\nlayers = { "mid_block" = 2 }\n'
)
STEPS = 4
GUIDANCE = 5.0


def small_pipeline(kind: Any = StableDiffusionPipeline) -> Any:
    """A pipeline with a U-Net of two levels."""
    pipe = kind(**tiny_sd_pipeline(**SMALL).components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)


def latents(pipe: Any, **options: Any) -> Tensor:
    """What the pipeline's own call makes."""
    options = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "latents": noise(pipe.unet.dtype), **options}
    return pipe("a fox", output_type="latent", **options).images


def expected(pipe: Any, weights: dict[str, Tensor] | None = None, recipe: Recipe = RECIPE) -> Tensor:
    """What the reference implementation makes of the pipeline's own prompt, in float32.

    `weights` are the U-Net's where they are not those that it was made with.  Without them the result is kept: many
    tests want that of one prompt.
    """
    conditional, unconditional = pipe.encode_prompt("a fox", "cpu", 1, True, "")
    prompt = conditional.float(), unconditional.float()
    key = (*(each.detach().numpy().tobytes() for each in prompt), str(pipe.scheduler.config), recipe.to_toml())
    if weights is None and key in _known:
        return _known[key]
    unet = tiny_sd_unet(**SMALL)
    if weights is not None:
        unet.load_state_dict(weights)
    result = denoise(
        unet,
        pipe.scheduler,
        noise(),
        prompt_embeds=prompt[0],
        negative_embeds=prompt[1],
        recipe=recipe.model_dump(exclude_none=True),
        steps=STEPS,
        guidance_scale=GUIDANCE,
    )
    if weights is None:
        _known[key] = result
    return result


_known: dict[Any, Tensor] = {}


def difference(one: Tensor, other: Tensor) -> float:
    """Norm of the difference over the norm of the other."""
    return float((one.float() - other.float()).norm() / other.float().norm())
