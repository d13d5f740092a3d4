"""The architectures of FLUX.1 and Qwen-Image, on the meta device or with weights, and the operations of their pictures.

All steps of a pass are alike: scaled positions, sharper attention and another schedule cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._util.memory import free_memory, readable
from .._util.sizes import GridSize, ImageSize
from ..errors import ModelError, OutOfMemoryError
from ..request.passes import Decoding, Denoising, Pass
from ..transformer.architecture import TransformerArchitecture, read_transformer
from ..unet.trajectory import table_length
from .counting import counted
from .filling import fill

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
FAMILIES = {kind: name for name, (kind, *_) in TRANSFORMERS.items()}
"""By class of the transformer, what calls it as."""
TEXT_TOKENS = {"flux": 512, "qwen-image": 128}
"""FLUX.1 pads its prompts to 512 tokens; Qwen-Image does not pad, and 128 is a long prompt."""


@dataclass(eq=False)
class BenchTransformer:
    """The parts of a pipeline with a transformer that cost time; it stands where a pipeline stands."""

    name: str
    family: str
    """A name of `TRANSFORMERS`."""
    transformer: Any
    vae: Any
    scheduler: Any
    vae_scale_factor: int = 8
    text_tokens: int = 512

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return next(self.transformer.parameters()).device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """Of the transformer's weights."""
        return next(self.transformer.parameters()).dtype  # type: ignore[no-any-return]

    @property
    def architecture(self) -> TransformerArchitecture:
        """What it is."""
        return read_transformer(self, self.transformer)

    def evaluate(self, size: ImageSize, guided: bool) -> Tensor:
        """One step's velocities, of random latents and text: two calls where it is guided and has not learnt that."""
        call = self._arguments(size)
        calls = 2 if guided and not self.transformer.config.get("guidance_embeds") else 1
        velocities: list[Tensor] = [self.transformer(**call, return_dict=False)[0] for _ in range(calls)]
        return velocities[0] + 2.0 * (velocities[-1] - velocities[0]) if calls == 2 else velocities[0]

    def decode(self, size: ImageSize) -> Tensor:
        """A picture `(1, 3, height, width)` of random latents."""
        grid = size.height // self.vae_scale_factor, size.width // self.vae_scale_factor
        channels = self.vae.config.get("latent_channels") or self.vae.config.z_dim
        picture: Tensor = self.vae.decode(self._given(1, channels, *self._frames, *grid), return_dict=False)[0]
        return picture.reshape(1, 3, size.height, size.width)

    def encode(self, size: ImageSize) -> None:
        """Take a random picture to latents."""
        self.vae.encode(self._given(1, 3, *self._frames, size.height, size.width))

    @property
    def _frames(self) -> tuple[int, ...]:
        return () if self.family == "flux" else (1,)

    def _arguments(self, size: ImageSize) -> dict[str, Any]:
        config, grid = self.transformer.config, self.architecture.grid(size.height, size.width)
        call: dict[str, Any] = {
            "hidden_states": self._given(1, grid.height * grid.width, config.in_channels),
            "encoder_hidden_states": self._given(1, self.text_tokens, config.joint_attention_dim),
            "timestep": self._given(1),
        }
        if self.family == "flux":
            if config.guidance_embeds:
                call["guidance"] = self._given(1)
            return call | {
                "pooled_projections": self._given(1, config.pooled_projection_dim),
                "txt_ids": self._given(self.text_tokens, 3) * 0, "img_ids": self._positions(grid),
            }  # fmt: skip
        mask = torch.ones(1, self.text_tokens, dtype=torch.long, device=self.device)
        return call | {"encoder_hidden_states_mask": mask, "img_shapes": [[(1, *grid)]]}

    def _positions(self, grid: GridSize) -> Tensor:
        """As FLUX.1's pipelines number image tokens: 0, row, column."""
        rows, columns = torch.meshgrid(torch.arange(grid.height), torch.arange(grid.width), indexing="ij")
        ids = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3)
        return ids.to(self.device, self.dtype)

    def _given(self, *shape: int) -> Tensor:
        if self.device.type == "meta":
            return torch.empty(shape, device=self.device, dtype=self.dtype)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return noise.to(self.device, self.dtype)


def outline_of(name: str) -> BenchTransformer:
    """An architecture of `TRANSFORMERS` on the meta device."""
    with torch.device("meta"):
        return _architecture(name)


def with_weights(name: str, dtype: torch.dtype, device: torch.device) -> BenchTransformer:
    """An architecture of `TRANSFORMERS` with random weights.

    Raises:
        OutOfMemoryError: where the weights alone do not fit, before any are made.
    """
    from accelerate import init_empty_weights

    with init_empty_weights():  # of weights only: tables of positions are no parameters
        model = _architecture(name)
    needed = dtype.itemsize * sum(one.numel() for part in (model.transformer, model.vae) for one in part.parameters())
    free = free_memory(device)
    if free is not None and needed > free:
        raise OutOfMemoryError(
            f"the weights of {name} take {readable(needed)} in {str(dtype).removeprefix('torch.')}, and {device} has "
            f"{readable(free)} free: count it with --flops, or take --dtype bf16 or a larger machine"
        )
    for part in (model.transformer, model.vae):
        for module in part.modules():
            for key, value in module._parameters.items():
                if value is not None:
                    empty = torch.empty(value.shape, dtype=dtype, device=device)
                    module._parameters[key] = nn.Parameter(empty, requires_grad=False)
        part.to(device)
        fill(part)
    return model


def _architecture(name: str) -> BenchTransformer:
    import diffusers

    kind, config, vae_kind, vae_config = TRANSFORMERS[name]
    transformer = getattr(diffusers, kind)(**config).eval().requires_grad_(False)
    vae = getattr(diffusers, vae_kind)(**vae_config).eval().requires_grad_(False)
    return BenchTransformer(name, name, transformer, vae, flow_scheduler(), text_tokens=TEXT_TOKENS[name])


def of_pipeline(name: str, pipe: Any, longest: int | None = None) -> BenchTransformer:
    """The parts of a pipeline, or of an outline of one, whose texts have at most `longest` tokens.

    Raises:
        ModelError: for another family than those of `TRANSFORMERS`.
    """
    kind = type(pipe.transformer).__name__
    if kind not in FAMILIES:
        known = " and ".join(TRANSFORMERS)
        raise ModelError(f"bench can run and count U-Nets and transformers as those of {known}; {name!r} has a {kind}")
    family = FAMILIES[kind]
    tokens = min(longest or TEXT_TOKENS[family], TEXT_TOKENS[family])
    return BenchTransformer(name, family, pipe.transformer, pipe.vae, flow_scheduler(), pipe.vae_scale_factor, tokens)


def flow_scheduler() -> Any:
    """Euler steps along the flow, not shifted by the size: it is the number of steps that counts here."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=False)


def steps_run(model: BenchTransformer, one: Denoising, steps: int) -> int:
    """How many steps a pass runs where the request has `steps`."""
    return table_length(model.scheduler, one.steps or steps, one.strength)


class TransformerCounts:
    """Operations for one outline; what was counted once is kept."""

    def __init__(self, model: BenchTransformer) -> None:
        """Count for an outline."""
        self._model = model
        self._known: dict[Hashable, int] = {}

    def picture(self, passes: Iterable[Pass], steps: int) -> int:
        """All passes of a picture, `steps` being those of the request."""
        return sum(self.of_pass(one, steps) for one in passes)

    def of_pass(self, one: Pass, steps: int) -> int:
        """One pass, all of its steps."""
        if not isinstance(one, Denoising):
            through = self._model.decode if isinstance(one, Decoding) else self._model.encode
            return self._once((type(one), one.size), lambda: through(one.size))
        run = steps_run(self._model, one, steps)
        around = nullcontext() if one.around is None else one.around(self._model)
        with around:
            key = (one.size, one.guided, one.around)
            return run * self._once(key, lambda: self._model.evaluate(one.size, one.guided))

    def _once(self, key: Hashable, work: Callable[[], object]) -> int:
        if key not in self._known:
            self._known[key] = counted(work, self._model.transformer)
        return self._known[key]
