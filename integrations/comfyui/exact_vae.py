"""ComfyUI's VAE in exact tiles: its weights in diffusers' modules, which the library runs within a memory budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from scalecrafter.errors import ModelError
from scalecrafter.models.checkpoint_config import vae_configuration
from scalecrafter.vae import apply_vae_memory


def autoencoder(vae: Any) -> AutoencoderKL:
    """A diffusers autoencoder with the weights of a ComfyUI VAE: the same tensors, none is copied (`ModelError`)."""
    state = vae.first_stage_model.state_dict()
    if "decoder.up.0.block.0.conv1.weight" not in state or state["decoder.conv_in.weight"].ndim != 4:
        raise ModelError(
            "exact tiles are for the VAEs of Stable Diffusion, SDXL, SD 3 and FLUX; use VAE Decode (Tiled)"
        )
    configuration = vae_configuration({name: tuple(tensor.shape) for name, tensor in state.items()}, prefix="")
    configuration["norm_num_groups"] = vae.first_stage_model.decoder.norm_out.num_groups
    with torch.device("meta"):
        model = AutoencoderKL.from_config(configuration).eval().requires_grad_(False)
    model.load_state_dict(convert_ldm_vae_checkpoint(dict(state), dict(model.config)), assign=True)
    return model


@contextmanager
def loaded(vae: Any, memory: str) -> Iterator[AutoencoderKL]:
    """The same on its device, within a memory budget such as "1GiB", "auto" or "off"."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([vae.patcher])
    model = autoencoder(vae)
    apply_vae_memory(model, memory)
    yield model


def decode(vae: Any, latents: torch.Tensor, memory: str) -> torch.Tensor:
    """Pictures `(batch, height, width, 3)`, 0 to 1, from latents `(batch, channels, height, width)`."""
    with torch.no_grad(), loaded(vae, memory) as model:
        pictures = [
            vae.process_output(model.decode(one[None].to(vae.device, vae.vae_dtype)).sample.float()) for one in latents
        ]
        return torch.cat(pictures).to(vae.output_device).movedim(1, -1)


def encode(vae: Any, pixels: torch.Tensor, memory: str) -> torch.Tensor:
    """Latents from pictures `(batch, height, width, 3)`; sides are cut to multiples of 8, as ComfyUI does."""
    pixels = vae.vae_encode_crop_pixels(pixels).movedim(-1, 1)
    with torch.no_grad(), loaded(vae, memory) as model:
        latents = [
            model.encode(vae.process_input(one[None]).to(vae.device, vae.vae_dtype)).latent_dist.mode().float()
            for one in pixels
        ]
        return torch.cat(latents).to(vae.output_device)
