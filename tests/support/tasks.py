"""Every task of Stable Diffusion and SDXL as a real pipeline of tiny random models, and the check for each."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import ControlNetModel, MultiAdapter, T2IAdapter
from PIL import Image
from torch import Tensor

import scalecrafter
from scalecrafter import Recipe
from tests.support.adapters import controlnet_folder, ip_adapter_folder, t2i_adapter_folder
from tests.support.reference_in_pipelines import reference_unet, relative
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sdxl_pipeline
from tests.support.unet_state import assert_untouched, attributes

KINDS = ("sd", "sdxl")
TOLERANCE = 1e-4  # relative, in float32: the two differ by rounding alone
CHANGE = 1e-1
SIZE = (192, 128)  # width, height; the native side is 128, and latents are 16×24
NATIVE = (128, 128)
STEPS = 3

DILATED = """
[redilation]
until = 0.6
progressive = true
layers = { "down_blocks.1" = 2.5, "down_blocks.2" = [3, 2], "mid_block" = 4, "up_blocks.0" = 2 }
[dispersion]
until = 0.4
kernel_size = 5
eta = 0.05
layers = ["mid_block"]
"""
DAMPED = DILATED + '[noise_damping]\nuntil = 0.6\nlayers = { "mid_block" = 2 }\n'


@dataclass(frozen=True)
class Task:
    """A pipeline of one task, and how it is called."""

    pipe: Any
    call: Callable[[tuple[int, int]], dict[str, Any]]
    """What the call says beside prompt and steps, at a size (width, height) in image pixels."""

    def run(self, size: tuple[int, int], **more: Any) -> Tensor:
        """The latents that the pipeline's own call makes, always from the same seed."""
        said = {"prompt": "a fox", "num_inference_steps": STEPS, "output_type": "latent", "guidance_scale": 5.0}
        said |= {"generator": torch.Generator().manual_seed(1)} | self.call(size) | more
        return self.pipe(**said).images


# The pipelines.  Tasks share their models where none of them changes one.


@functools.cache
def base(kind: str, in_channels: int = 4) -> Any:
    """A text-to-image pipeline with a U-Net of so many channels."""
    return fresh(kind, in_channels)


def fresh(kind: str, in_channels: int = 4) -> Any:
    """The same, of models that are nobody else's."""
    make = {"sd": tiny_sd_pipeline, "sdxl": tiny_sdxl_pipeline}[kind]
    return make(in_channels=in_channels, layers_per_block=1)


def of_class(kind: str, name: str, in_channels: int = 4, **more: Any) -> Any:
    """A pipeline of the class StableDiffusion…`name` or StableDiffusionXL…`name`, of the tiny models and `more`."""
    source = base(kind, in_channels)
    kind_of_pipe = getattr(diffusers, ("StableDiffusion" if kind == "sd" else "StableDiffusionXL") + name)
    expected, optional = kind_of_pipe._get_signature_keys(kind_of_pipe)
    components = {key: value for key, value in source.components.items() if key in expected}
    flags = {"requires_safety_checker": False, "add_watermarker": False}
    pipe = kind_of_pipe(**components, **{k: v for k, v in flags.items() if k in optional}, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def gradient(size: tuple[int, int], turned: int = 0) -> Image.Image:
    """A picture with something in it."""
    return Image.linear_gradient("L").rotate(turned).convert("RGB").resize(size)


def mask(size: tuple[int, int]) -> Image.Image:
    """White in the middle."""
    picture = Image.new("L", size)
    picture.paste(255, (size[0] // 4, size[1] // 4, size[0] * 3 // 4, size[1] // 2))
    return picture


def sized(size: tuple[int, int]) -> dict[str, int]:
    return {"width": size[0], "height": size[1]}


def text_to_image(kind: str, _path: Path) -> Task:
    return Task(of_class(kind, "Pipeline"), sized)


def image_to_image(kind: str, _path: Path) -> Task:
    return Task(of_class(kind, "Img2ImgPipeline"), lambda size: {"image": gradient(size), "strength": 0.75})


def inpainting(kind: str, _path: Path, in_channels: int = 4) -> Task:
    pipe = of_class(kind, "InpaintPipeline", in_channels)
    return Task(pipe, lambda size: {"image": gradient(size), "mask_image": mask(size), "strength": 1.0, **sized(size)})


def inpainting_of_nine_channels(kind: str, path: Path) -> Task:
    return inpainting(kind, path, in_channels=9)


def controlnet(kind: str, path: Path, **call: Any) -> Task:
    net = loaded(ControlNetModel, controlnet_folder(path / "controlnet", base(kind).unet))
    pipe = of_class(kind, "ControlNetPipeline", controlnet=net)
    scale = {"controlnet_conditioning_scale": 0.8}
    return Task(pipe, lambda size: {"image": gradient(size, 90), **scale, **sized(size), **call})


def controlnet_in_guess_mode(kind: str, path: Path) -> Task:
    return controlnet(kind, path, guess_mode=True)


def controlnet_for_a_part_of_the_steps(kind: str, path: Path) -> Task:
    return controlnet(kind, path, control_guidance_start=0.2, control_guidance_end=0.6)


def two_controlnets(kind: str, path: Path) -> Task:
    unet = base(kind).unet
    nets = [loaded(ControlNetModel, controlnet_folder(path / str(seed), unet, seed)) for seed in (41, 42)]
    pipe = of_class(kind, "ControlNetPipeline", controlnet=nets)
    scales = {"controlnet_conditioning_scale": [0.8, 0.3]}
    return Task(pipe, lambda size: {"image": [gradient(size, 90), gradient(size)], **scales, **sized(size)})


def controlnet_from_an_image(kind: str, path: Path) -> Task:
    net = loaded(ControlNetModel, controlnet_folder(path / "controlnet", base(kind).unet))
    pipe = of_class(kind, "ControlNetImg2ImgPipeline", controlnet=net)
    return Task(pipe, lambda size: {"image": gradient(size), "control_image": gradient(size, 90), "strength": 0.75})


def controlnet_inpainting(kind: str, path: Path) -> Task:
    net = loaded(ControlNetModel, controlnet_folder(path / "controlnet", base(kind).unet))
    pipe = of_class(kind, "ControlNetInpaintPipeline", controlnet=net)
    return Task(
        pipe,
        lambda size: {
            "image": gradient(size), "mask_image": mask(size), "control_image": gradient(size, 90), "strength": 1.0,
            **sized(size),
        },
    )  # fmt: skip


def ip_adapter(kind: str, path: Path) -> Task:
    pipe = fresh(kind)
    folder = ip_adapter_folder(path / "ip", pipe.unet)
    pipe.load_ip_adapter(str(folder), subfolder="", weight_name="ip_adapter.safetensors", local_files_only=True)
    pipe.set_ip_adapter_scale(0.7)
    return Task(pipe, lambda size: {"ip_adapter_image": gradient((32, 32), 90), **sized(size)})


def t2i_adapter(kind: str, path: Path) -> Task:
    adapter = loaded(T2IAdapter, t2i_adapter_folder(path / "t2i", kind))
    pipe = of_class(kind, "AdapterPipeline", adapter=adapter)
    return Task(pipe, lambda size: {"image": gradient(size, 90), "adapter_conditioning_scale": 0.8, **sized(size)})


def two_t2i_adapters(kind: str, path: Path) -> Task:
    both = [loaded(T2IAdapter, t2i_adapter_folder(path / str(seed), kind, seed)) for seed in (51, 52)]
    pipe = of_class(kind, "AdapterPipeline", adapter=MultiAdapter(both))
    scales = {"adapter_conditioning_scale": [0.8, 0.5]}
    return Task(pipe, lambda size: {"image": [gradient(size, 90), gradient(size)], **scales, **sized(size)})


def loaded(kind: Any, folder: Path) -> Any:
    return kind.from_pretrained(folder, local_files_only=True)


def perturbed_attention(kind: str, _path: Path) -> Task:
    pipe = of_class(kind, "PAGPipeline", pag_applied_layers=["mid"])
    return Task(pipe, lambda size: {"pag_scale": 3.0, **sized(size)})


def instruct_pix2pix(kind: str, _path: Path) -> Task:
    pipe = of_class(kind, "InstructPix2PixPipeline", in_channels=8)
    more = sized if kind == "sdxl" else lambda _size: {}
    return Task(pipe, lambda size: {"image": gradient(size), "image_guidance_scale": 1.5, **more(size)})


def check(task: Task, recipe: str, guided: bool) -> None:
    """On, right, gone; and nothing at the native size."""
    unet = task.pipe.unet
    plain, native = task.run(SIZE), task.run(NATIVE)
    before, keys = attributes(unet), list(unet.state_dict())
    with reference_unet(task.pipe, tomllib.loads(recipe), guided):
        expected = task.run(SIZE)

    scalecrafter.apply(task.pipe, recipe=Recipe.parse(recipe))
    assert list(unet.state_dict()) == keys
    result = task.run(SIZE)
    scalecrafter.apply(task.pipe)
    assert task.run(NATIVE).equal(native)
    scalecrafter.remove(task.pipe)

    assert relative(result, plain) > CHANGE
    assert relative(result, expected) < TOLERANCE
    assert_untouched(before, unet)
    assert list(unet.state_dict()) == keys
    assert task.run(SIZE).equal(plain)
