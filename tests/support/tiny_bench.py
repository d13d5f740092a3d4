"""A tiny pipeline where the costs and the bench take an architecture."""

from __future__ import annotations

from scalecrafter.cost.architectures import BenchModel
from tests.support.tiny_models import MAX_LENGTH, tiny_sd_pipeline


class Tiny(BenchModel):
    """A tiny pipeline in the place of an architecture; on the meta device, or as it is."""

    def __init__(self, device: str) -> None:
        pipe = tiny_sd_pipeline(sample_size=8, layers_per_block=1)
        unet, vae = pipe.unet.to(device), pipe.vae.to(device)
        super().__init__("tiny", unet, vae, pipe.scheduler, pipe.vae_scale_factor, MAX_LENGTH)
