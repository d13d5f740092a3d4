"""Small pipelines with random weights, for models that are too large to carry: they show that everything runs.

What they make is noise.  Their anatomy is the published one, with fewer and narrower layers; text and image embeddings
keep the published width, so that the recipes of the published models are chosen.  Seeded: the same weights everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

SEED = 0
_WIDTHS = (16, 16, 32, 32)
_NATIVE_LATENTS = 8
_TEXT_LENGTH = 77


def untrained_pipeline(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """The pipeline of that name (one of `UNTRAINED`), on the CPU; torch's generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        pipe = UNTRAINED[name]()
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.to(dtype).requires_grad_(False).eval()
    return pipe


def _animatediff() -> Any:
    """Stable Diffusion 1.5's U-Net with a motion module after each of its layers."""
    from diffusers import AnimateDiffPipeline, MotionAdapter

    adapter = MotionAdapter(
        block_out_channels=_WIDTHS,
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        motion_max_seq_length=32,
    )
    return AnimateDiffPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(768),
        tokenizer=_tokenizer(),
        unet=_unet(768),
        motion_adapter=adapter,
        scheduler=_ddim("linear"),
    )


def _stable_video() -> Any:
    """Image to video: a spatial and a temporal half in each residual block."""
    import diffusers
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    unet = diffusers.UNetSpatioTemporalConditionModel(
        sample_size=_NATIVE_LATENTS,
        block_out_channels=(32, 32, 64, 64),  # its normalisation has 32 groups
        layers_per_block=1,
        num_attention_heads=(2, 2, 4, 4),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=3 * 32,
        num_frames=4,
    )
    vae = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32), latent_channels=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
    )  # fmt: skip
    encoder = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, projection_dim=1024, num_hidden_layers=1, num_attention_heads=2,
        image_size=224, patch_size=32,
    )  # fmt: skip
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_type="continuous", timestep_spacing="leading", steps_offset=1, interpolation_type="linear",
        use_karras_sigmas=True, sigma_min=0.002, sigma_max=700.0,
    )  # fmt: skip
    return diffusers.StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=CLIPVisionModelWithProjection(encoder),
        unet=unet,
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(),
    )


def _text_to_video() -> Any:
    """ModelScope's: Stable Diffusion 2.1's U-Net with temporal convolutions and attention between its layers."""
    from diffusers import TextToVideoSDPipeline, UNet3DConditionModel

    unet = UNet3DConditionModel(
        sample_size=_NATIVE_LATENTS,
        block_out_channels=_WIDTHS,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=16,
        cross_attention_dim=1024,
        down_block_types=("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),
        up_block_types=("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3,
    )
    return TextToVideoSDPipeline(
        vae=_vae(), text_encoder=_text_encoder(1024), tokenizer=_tokenizer(), unet=unet, scheduler=_ddim()
    )


def _unet(text_width: int) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=_NATIVE_LATENTS,
        block_out_channels=_WIDTHS,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=text_width,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 16, 16, 16),
        norm_num_groups=8,
        layers_per_block=1,
        latent_channels=4,
        sample_size=8 * _NATIVE_LATENTS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def _tokenizer() -> Any:
    """That of the embedded model."""
    from transformers import CLIPTokenizer

    from scalecrafter.models.embedded import embedded_folder

    return CLIPTokenizer.from_pretrained(str(embedded_folder("critters")), subfolder="tokenizer")


def _text_encoder(width: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = _tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=1,
            num_attention_heads=width // 64,
            max_position_embeddings=max(tokenizer.model_max_length, _TEXT_LENGTH),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _ddim(beta_schedule: str = "scaled_linear") -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule=beta_schedule, clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


UNTRAINED: dict[str, Callable[[], Any]] = {
    "animatediff": _animatediff,
    "svd": _stable_video,
    "text-to-video": _text_to_video,
}
