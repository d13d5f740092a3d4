"""The nodes. Each puts something on a clone of the model; ComfyUI takes it off again when the node is unplugged."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from scalecrafter.errors import ScaleCrafterError
from scalecrafter.recipes.plan import Plan
from scalecrafter.recipes.recipe import Recipe, shipped_recipes
from scalecrafter.unet.families import ANY, FAMILIES

from . import exact_vae
from .sampling import KEY, Redilation, noise_damping, redilation_of

AUTOMATIC = "automatic"
CATEGORY = "ScaleCrafter"
_FONT_SIZE, _MARGIN, _CELL = 15, 24, (10, 20)
_PLAIN = {"×": "x", "–": "-", "—": "-", "…": "..", "²": "2"}
"""What Pillow's own font lacks."""


def recipe_names() -> list[str]:
    """The shipped recipes that are for U-Nets."""
    families = (*FAMILIES, ANY)
    return [name for name in shipped_recipes() if Recipe.load(name).architecture in families]


def chosen_recipe(name: str, toml: str) -> Recipe | None:
    """A recipe from its TOML text, or by name; None: the automatic one (`RecipeError`)."""
    if toml.strip():
        recipe: Recipe | None = Recipe.parse(toml, "the text in the ScaleCrafter node")
    else:
        recipe = None if name == AUTOMATIC else Recipe.load(name)
    if recipe is not None and recipe.freeu is not None:
        raise ScaleCrafterError("[freeu] is another node here: leave the section out, and add ComfyUI's FreeU node")
    return recipe


class ScaleCrafterNode:
    """Re-dilated and dispersed convolutions."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "apply", ("MODEL",)
    DESCRIPTION = (
        "Lets the convolutions of SD 1.x, SD 2.x and SDXL see as far as a larger picture needs. 'automatic' chooses "
        "for each size; at the native size nothing changes."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Its sockets and widgets."""
        toml = {"multiline": True, "default": "", "tooltip": "A recipe as TOML text; goes before the name."}
        native = {"default": 0, "min": 0, "max": 2048, "step": 64, "tooltip": "Pixels a side; 0: the model family's."}
        return {
            "required": {"model": ("MODEL",), "recipe": ([AUTOMATIC, *recipe_names()],)},
            "optional": {"toml": ("STRING", toml), "native_side": ("INT", native)},
        }

    def apply(self, model: Any, recipe: str, toml: str = "", native_side: int = 0) -> tuple[Any]:
        """The model with ScaleCrafter on it; one that was on it before is replaced."""
        chosen = chosen_recipe(recipe, toml)
        redilation = Redilation(chosen, native_side // 8 or None, model.get_model_object("model_sampling"))
        if chosen is not None:  # a layer that matches nothing is an error now
            redilation.resolved(model.get_model_object("diffusion_model"), 8, 8)
        else:
            redilation.architecture(model.get_model_object("diffusion_model"))
        from comfy.patcher_extension import WrappersMP

        patched = model.clone()
        patched.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, KEY)
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, redilation)
        return (patched,)


class NoiseDampedGuidanceNode:
    """Noise-damped classifier-free guidance, by the recipe of the ScaleCrafter node before it."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "apply", ("MODEL",)
    DESCRIPTION = (
        "For 4 times the side and more: guidance starts from a less dilated model, in the span that the recipe of the "
        "ScaleCrafter node names. Costs one more evaluation of half a batch in those steps."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Its sockets and widgets."""
        return {"required": {"model": ("MODEL",)}}

    def apply(self, model: Any) -> tuple[Any]:
        """The model with noise damping on it."""
        redilation = redilation_of(model)
        if redilation.recipe is not None and redilation.recipe.noise_damping is None:
            raise ScaleCrafterError("the recipe has no [noise_damping]: leave this node out, or take another recipe")
        patched = model.clone()
        patched.set_model_sampler_post_cfg_function(noise_damping(redilation))
        return (patched,)


_MEMORY = {"default": "auto", "tooltip": "The most that it may take besides the model, as 1GiB; auto: what is free."}


class ExactDecodeNode:
    """Latents to pictures in tiles with the result of one pass."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "decode", ("IMAGE",)
    DESCRIPTION = "VAE Decode within a memory budget: no seams, since tiles share what they know of one another."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Its sockets and widgets."""
        return {"required": {"samples": ("LATENT",), "vae": ("VAE",), "memory": ("STRING", _MEMORY)}}

    def decode(self, samples: dict[str, Any], vae: Any, memory: str) -> tuple[torch.Tensor]:
        """The pictures."""
        return (exact_vae.decode(vae, samples["samples"], memory),)


class ExactEncodeNode:
    """Pictures to latents in tiles with the result of one pass."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "encode", ("LATENT",)
    DESCRIPTION = "VAE Encode within a memory budget, without seams."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Its sockets and widgets."""
        return {"required": {"pixels": ("IMAGE",), "vae": ("VAE",), "memory": ("STRING", _MEMORY)}}

    def encode(self, pixels: torch.Tensor, vae: Any, memory: str) -> tuple[dict[str, torch.Tensor]]:
        """The latents."""
        return ({"samples": exact_vae.encode(vae, pixels, memory)},)


class PlanNode:
    """What will happen to each layer, as a picture and a text."""

    CATEGORY, FUNCTION, RETURN_TYPES, RETURN_NAMES = CATEGORY, "plan", ("IMAGE", "STRING"), ("image", "text")
    DESCRIPTION = "Which layer is dilated by which factor at which step, for a size. Connect it to Preview Image."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Its sockets and widgets."""
        side = {"default": 1024, "min": 64, "max": 16384, "step": 8}
        steps = {"default": 20, "min": 1, "max": 1000}
        return {
            "required": {"model": ("MODEL",), "width": ("INT", side), "height": ("INT", side), "steps": ("INT", steps)}
        }

    def plan(self, model: Any, width: int, height: int, steps: int) -> tuple[torch.Tensor, str]:
        """The plan of the ScaleCrafter node before this one."""
        redilation, unet = redilation_of(model), model.get_model_object("diffusion_model")
        resolved = redilation.resolved(unet, height // 8, width // 8)
        text = str(Plan(height, width, steps, redilation.architecture(unet), resolved))
        return (picture_of(text), text)


def picture_of(text: str) -> torch.Tensor:
    """A table as a picture `(1, height, width, 3)`, 0 to 1, with the same room for every character."""
    for letter, plain in _PLAIN.items():
        text = text.replace(letter, plain)
    lines, font = text.splitlines(), ImageFont.load_default(_FONT_SIZE)
    across, down = _CELL
    canvas = Image.new("RGB", (max(map(len, lines)) * across + 2 * _MARGIN, len(lines) * down + 2 * _MARGIN), "white")
    drawing = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines):
        for column, letter in enumerate(line):
            place = (_MARGIN + (column + 0.5) * across, _MARGIN + (row + 0.8) * down)
            drawing.text(place, letter, fill="black", font=font, anchor="ms")
    return torch.from_numpy(np.asarray(canvas, np.float32) / 255)[None]


NODE_CLASS_MAPPINGS = {
    "ScaleCrafter": ScaleCrafterNode,
    "ScaleCrafterNoiseDampedGuidance": NoiseDampedGuidanceNode,
    "ScaleCrafterExactDecode": ExactDecodeNode,
    "ScaleCrafterExactEncode": ExactEncodeNode,
    "ScaleCrafterPlan": PlanNode,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ScaleCrafter": "ScaleCrafter",
    "ScaleCrafterNoiseDampedGuidance": "Noise-damped guidance",
    "ScaleCrafterExactDecode": "VAE Decode (exact tiles)",
    "ScaleCrafterExactEncode": "VAE Encode (exact tiles)",
    "ScaleCrafterPlan": "ScaleCrafter plan",
}
