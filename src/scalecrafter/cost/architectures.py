"""The published architectures without their weights: on the meta device to count, with random ones to time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._util.sizes import ImageSize
from ..models.components import read_index
from ..models.denoisers import denoiser_of
from ..models.loading import load_outline, load_pipeline, quiet
from ..models.sources import locate
from .filling import fill
from .transformers import TRANSFORMERS, BenchTransformer, of_pipeline, outline_of, with_weights

_SD_UNET: dict[str, Any] = {
    "sample_size": 64,
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
UNETS: dict[str, dict[str, Any]] = {
    "sd15": _SD_UNET
    | {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8, "cross_attention_dim": 768},
    "sd15-half": _SD_UNET
    | {"block_out_channels": (160, 320, 640, 640), "attention_head_dim": 8, "cross_attention_dim": 768},
    "sd21": _SD_UNET
    | {
        "block_out_channels": (320, 640, 1280, 1280),
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    },
}
"""The configurations of the published U-Nets; sd15-half has half of SD 1.5's width, for machines without a GPU."""
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "force_upcast": False,
}
"""Of Stable Diffusion 1, 2 and XL.  XL's decodes in float32 where the weights are float16: measure that with fp32."""
TEXT_TOKENS = 77
"""Of CLIP's text encoders."""


@dataclass(eq=False)
class BenchModel:
    """The parts of a pipeline that cost time; it stands where a pipeline stands."""

    name: str
    unet: Any
    vae: Any
    scheduler: Any
    vae_scale_factor: int = 8
    text_tokens: int = TEXT_TOKENS

    @property
    def device(self) -> torch.device:
        """Where the U-Net is."""
        return next(self.unet.parameters()).device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """Of the U-Net's weights."""
        return next(self.unet.parameters()).dtype  # type: ignore[no-any-return]

    def maybe_free_model_hooks(self) -> None:
        """Nothing is offloaded."""

    def latents(self, size: ImageSize, batch: int = 1) -> Tensor:
        """Unit noise `(batch, channels, height, width)`; each sample is the same, as in a guided pair."""
        grid = size.height // self.vae_scale_factor, size.width // self.vae_scale_factor
        return self._noise(1, self.unet.config.in_channels, *grid).expand(batch, -1, -1, -1).contiguous()

    def conditions(self, size: ImageSize, batch: int) -> dict[str, Any]:
        """What a U-Net call has beside latents and timestep, of random text."""
        config = self.unet.config
        given: dict[str, Any] = {
            "encoder_hidden_states": self._noise(batch, self.text_tokens, config.cross_attention_dim)
        }
        if config.addition_embed_type == "text_time":
            pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            ids = torch.tensor([[size.height, size.width, 0, 0, size.height, size.width]], dtype=self.dtype)
            given["added_cond_kwargs"] = {
                "text_embeds": self._noise(batch, pooled),
                "time_ids": ids.expand(batch, -1).to(self.device),
            }
        return given

    def _noise(self, *shape: int) -> Tensor:
        if self.device.type == "meta":
            return torch.empty(shape, device=self.device, dtype=self.dtype)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return noise.to(self.device, self.dtype)


def outline(model: str) -> BenchModel | BenchTransformer:
    """A known architecture, or any model that `load_pipeline` opens, on the meta device (`ModelError`)."""
    if model in UNETS:
        return _architecture(model)
    if model in TRANSFORMERS:
        return outline_of(model)
    kind, source = locate(model)
    if kind != "folder":
        return _on(_parts(model, load_pipeline(model)), torch.device("meta"))
    import diffusers

    def read(file: str) -> dict[str, Any]:
        return dict(json.loads((Path(source) / file).read_text("utf-8")))

    if "unet" not in read_index(Path(source)):
        tokenizer = Path("tokenizer_2", "tokenizer_config.json")
        longest = read(str(tokenizer)).get("model_max_length") if (Path(source) / tokenizer).is_file() else None
        return of_pipeline(model, load_outline(model), longest)

    parts = {}
    with quiet(), torch.device("meta"):
        for name in ("unet", "vae"):
            config = read(f"{name}/config.json")
            parts[name] = getattr(diffusers, config["_class_name"]).from_config(config)
    factor = 2 ** (len(parts["vae"].config.block_out_channels) - 1)
    tokens = read("text_encoder/config.json").get("max_position_embeddings", TEXT_TOKENS)
    return BenchModel(model, parts["unet"], parts["vae"], ddim(), factor, tokens)


def ready(model: str, dtype: torch.dtype, device: torch.device) -> BenchModel | BenchTransformer:
    """The same with weights, random ones for a known architecture."""
    if model in TRANSFORMERS:
        return with_weights(model, dtype, device)
    if model not in UNETS:
        return _parts(model, load_pipeline(model, dtype=dtype, device=device))
    made = _architecture(model)
    for part in (made.unet, made.vae):
        part.to(dtype).to_empty(device=device)
        fill(part)
    return made


def _parts(name: str, pipe: Any) -> BenchModel | BenchTransformer:
    if getattr(pipe, "unet", None) is None:
        return of_pipeline(name, pipe, getattr(getattr(pipe, "tokenizer_2", None), "model_max_length", None))
    tokens = getattr(pipe.text_encoder.config, "max_position_embeddings", TEXT_TOKENS)
    return BenchModel(name, pipe.unet, pipe.vae, ddim(), pipe.vae_scale_factor, tokens)


def _on(model: BenchModel | BenchTransformer, device: torch.device) -> BenchModel | BenchTransformer:
    for part in (denoiser_of(model), model.vae):
        part.to(device)
    return model


def _architecture(name: str) -> BenchModel:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**UNETS[name]), AutoencoderKL(**VAE)
    return BenchModel(name, unet.eval().requires_grad_(False), vae.eval().requires_grad_(False), ddim())


def ddim() -> Any:
    """DDIM, as the public code has it: an entry of the table a step."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
