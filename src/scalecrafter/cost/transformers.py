"""The architectures of FLUX.1 and Qwen-Image on the meta device, and the operations of their pictures.

All steps of a pass are alike: scaled positions, sharper attention and another schedule cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._util.sizes import ImageSize
from ..request.passes import Decoding, Denoising, Pass
from ..transformer.architecture import TransformerArchitecture, read_transformer
from ..unet.trajectory import table_length
from .counting import counted

TRANSFORMERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "flux": (
        "FluxTransformer2DModel",
        {"guidance_embeds": True},  # diffusers' defaults are those of FLUX.1 [dev]
        "AutoencoderKL",
        {
            "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16,
            "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
            "use_quant_conv": False, "use_post_quant_conv": False,
        },
    ),
    "qwen-image": (
        "QwenImageTransformer2DModel",
        {"patch_size": 2, "in_channels": 64, "out_channels": 16, "num_layers": 60},
        "AutoencoderKLQwenImage",
        {},
    ),
}  # fmt: skip
"""By name: class and configuration of the transformer and of the VAE; those of published models."""
TEXT_TOKENS = {"flux": 512, "qwen-image": 128}
"""FLUX.1 pads its prompts to 512 tokens; Qwen-Image does not pad, and 128 is a long prompt."""
DISTILLED = ("flux",)
"""Those that have learnt their guidance: one evaluation a step, whatever its scale."""


@dataclass(eq=False)
class TransformerOutline:
    """A transformer and its VAE on the meta device; it stands where a pipeline stands."""

    name: str
    transformer: Any
    vae: Any
    scheduler: Any
    vae_scale_factor: int = 8

    @property
    def device(self) -> torch.device:
        """The meta device."""
        return torch.device("meta")

    @property
    def architecture(self) -> TransformerArchitecture:
        """What it is."""
        return read_transformer(self, self.transformer)

    def evaluate(self, size: ImageSize, guided: bool) -> None:
        """One step's evaluations of the transformer: two calls where it is guided and has not learnt that."""
        call = self._arguments(size)
        for _ in range(2 if guided and self.name not in DISTILLED else 1):
            self.transformer(**call, return_dict=False)

    def through_vae(self, one: Pass) -> None:
        """A decoding, or an encoding."""
        frames = () if self.name == "flux" else (1,)
        if isinstance(one, Decoding):
            grid = one.size.height // self.vae_scale_factor, one.size.width // self.vae_scale_factor
            self.vae.decode(_empty(1, 16, *frames, *grid))
        else:
            self.vae.encode(_empty(1, 3, *frames, one.size.height, one.size.width))

    def _arguments(self, size: ImageSize) -> dict[str, Any]:
        config, grid = self.transformer.config, self.architecture.grid(size.height, size.width)
        text = TEXT_TOKENS[self.name]
        call: dict[str, Any] = {
            "hidden_states": _empty(1, grid.height * grid.width, config.in_channels),
            "encoder_hidden_states": _empty(1, text, config.joint_attention_dim),
            "timestep": _empty(1),
        }
        if self.name == "flux":
            return call | {
                "pooled_projections": _empty(1, config.pooled_projection_dim), "guidance": _empty(1),
                "txt_ids": _empty(text, 3), "img_ids": _empty(grid.height * grid.width, 3),
            }  # fmt: skip
        return call | {
            "encoder_hidden_states_mask": torch.ones(1, text, dtype=torch.long, device="meta"),
            "img_shapes": [[(1, *grid)]],
        }


def outline_of(name: str) -> TransformerOutline:
    """An architecture of `TRANSFORMERS`."""
    import diffusers

    kind, config, vae_kind, vae_config = TRANSFORMERS[name]
    with torch.device("meta"):
        transformer = getattr(diffusers, kind)(**config).eval().requires_grad_(False)
        vae = getattr(diffusers, vae_kind)(**vae_config).eval().requires_grad_(False)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=False)
    return TransformerOutline(name, transformer, vae, scheduler)


class TransformerCounts:
    """Operations for one outline; what was counted once is kept."""

    def __init__(self, model: TransformerOutline) -> None:
        """Count for an outline."""
        self._model = model
        self._known: dict[Hashable, int] = {}

    def picture(self, passes: Iterable[Pass], steps: int) -> int:
        """All passes of a picture, `steps` being those of the request."""
        return sum(self.of_pass(one, steps) for one in passes)

    def of_pass(self, one: Pass, steps: int) -> int:
        """One pass, all of its steps."""
        if not isinstance(one, Denoising):
            return self._once((type(one), one.size), lambda: self._model.through_vae(one))
        asked = one.steps or steps
        run = table_length(self._model.scheduler, asked, one.strength)
        around = nullcontext() if one.around is None else one.around(self._model)
        with around:
            key = (one.size, one.guided, one.around)
            return run * self._once(key, lambda: self._model.evaluate(one.size, one.guided))

    def _once(self, key: Hashable, work: Callable[[], None]) -> int:
        if key not in self._known:
            self._known[key] = counted(work, self._model.transformer)
        return self._known[key]


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")
