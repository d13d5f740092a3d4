"""Tiny pipelines of every kind of model, seeded and untrained, with the anatomy of the published ones.

What distinguishes a model (missing middle block, per-block numbers of transformers, out_channels of 8 …) is as in its
published configuration; only widths and depths are small.  Nothing here imports `scalecrafter`.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    KandinskyV22Pipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)

from tests.support.tiny_models import (
    _seeded,
    ddim,
    tiny_sd_pipeline,
    tiny_sd_unet,
    tiny_sdxl_pipeline,
    tiny_sdxl_unet,
    tiny_text_encoder,
    tiny_tokenizer,
    tiny_vae,
)

NATIVE = 8
"""Native side of the latents; of the pixel-space models too."""
LEVELS = (16, 16, 32, 32)


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def v_prediction() -> DDIMScheduler:
    return DDIMScheduler.from_config(ddim().config, prediction_type="v_prediction")


def sd1(scheduler: Any = None, **config: Any) -> StableDiffusionPipeline:
    """`config` overrides entries of the U-Net's."""
    return tiny_sd_pipeline(scheduler=scheduler, **({"sample_size": NATIVE, "layers_per_block": 1} | config))


def sd2(scheduler: DDIMScheduler | None = None) -> StableDiffusionPipeline:
    """Linear projections and heads by level; v-prediction unless told otherwise."""
    return sd1(scheduler or v_prediction(), use_linear_projection=True, attention_head_dim=(1, 1, 2, 2))


def sd2_base() -> StableDiffusionPipeline:
    return sd2(ddim())


def bk_sdm_small() -> StableDiffusionPipeline:
    """BK-SDM-Small and segmind/small-sd: one layer a block, no middle block."""
    return sd1(mid_block_type=None)


def bk_sdm_tiny() -> StableDiffusionPipeline:
    """BK-SDM-Tiny and segmind/tiny-sd: the deepest level is missing too."""
    return sd1(
        mid_block_type=None,
        block_out_channels=LEVELS[:3],
        attention_head_dim=(1, 2, 2),
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
    )


def sdxl(**config: Any) -> StableDiffusionXLPipeline:
    """`config` overrides entries of the U-Net's."""
    return tiny_sdxl_pipeline(**({"sample_size": NATIVE, "layers_per_block": 1} | config))


def ssd_1b() -> StableDiffusionXLPipeline:
    """Transformers differ from layer to layer, and the middle block is one residual block."""
    return _pruned_sdxl([1, [2, 2], [4, 4]], [[4, 4, 10], [2, 1, 1], 1])


def segmind_vega() -> StableDiffusionXLPipeline:
    return _pruned_sdxl([1, [1, 1], [2, 2]], [[2, 2, 2], [1, 1, 1], 1])


def koala_700m() -> StableDiffusionXLPipeline:
    """One layer a block, and no middle block."""
    return sdxl(mid_block_type=None, transformer_layers_per_block=[1, 2, 5])


def _pruned_sdxl(down: list[Any], up: list[Any]) -> StableDiffusionXLPipeline:
    return sdxl(
        layers_per_block=2,
        mid_block_type="UNetMidBlock2D",
        transformer_layers_per_block=down,
        reverse_transformer_layers_per_block=up,
    )


def kandinsky22() -> KandinskyV22Pipeline:
    """The decoder: told by image embeddings alone, a learned variance in its output, a MoVQ for its latents."""
    unet = _seeded(
        lambda: UNet2DConditionModel(
            sample_size=NATIVE,
            in_channels=4,
            out_channels=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=8,
            cross_attention_dim=32,
            encoder_hid_dim=32,
            encoder_hid_dim_type="image_proj",
            addition_embed_type="image",
            resnet_time_scale_shift="scale_shift",
            class_embed_type=None,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        ),
        0,
    )
    movq = _seeded(
        lambda: VQModel(
            block_out_channels=(32, 32, 32, 32),
            down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
            up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
            norm_type="spatial",
            num_vq_embeddings=12,
            vq_embed_dim=4,
        ),
        1,
    )
    scheduler = DDPMScheduler(
        beta_schedule="linear", beta_start=0.00085, beta_end=0.012, variance_type="learned_range", clip_sample=False
    )
    return quiet(KandinskyV22Pipeline(unet=unet, scheduler=scheduler, movq=movq))


def kandinsky3() -> Any:
    unet = _seeded(
        lambda: diffusers.Kandinsky3UNet(
            time_embedding_dim=32,
            groups=4,
            attention_head_dim=4,
            layers_per_block=2,
            block_out_channels=(8, 16, 32, 64),
            cross_attention_dim=16,
            encoder_hid_dim=16,
        ),
        0,
    )
    unet.register_to_config(sample_size=NATIVE)  # the published config is silent; it stands for 128
    movq = kandinsky22().movq
    return quiet(
        diffusers.Kandinsky3Pipeline(tokenizer=None, text_encoder=None, unet=unet, scheduler=DDPMScheduler(), movq=movq)
    )


def pixel_unet(seed: int = 0, **config: Any) -> UNet2DModel:
    """A pixel-space U-Net as DDPM's: attention at one level only, native 8×8 pixels."""
    settings: dict[str, Any] = {
        "sample_size": NATIVE,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (16, 16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    }
    return _seeded(lambda: UNet2DModel(**(settings | config)), seed)


def ddpm() -> diffusers.DDPMPipeline:
    return quiet(diffusers.DDPMPipeline(unet=pixel_unet(), scheduler=DDPMScheduler()))


def ddim_in_pixels() -> diffusers.DDIMPipeline:
    """Without any attention."""
    kinds = {"down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3, "add_attention": False}
    return quiet(diffusers.DDIMPipeline(unet=pixel_unet(**kinds), scheduler=DDIMScheduler()))


def consistency() -> diffusers.ConsistencyModelPipeline:
    unet = pixel_unet(
        resnet_time_scale_shift="scale_shift",
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        num_class_embeds=4,
    )
    scheduler = diffusers.CMStochasticIterativeScheduler(num_train_timesteps=40, sigma_min=0.002, sigma_max=80.0)
    return quiet(diffusers.ConsistencyModelPipeline(unet=unet, scheduler=scheduler))


def x4_upscaler() -> StableDiffusionUpscalePipeline:
    """Seven channels in (latents and the small picture), the noise level as a class label, a VAE with f=4."""
    sd = tiny_sd_pipeline()
    unet = tiny_sd_unet(
        sample_size=NATIVE,
        layers_per_block=1,
        in_channels=7,
        num_class_embeds=1000,
        only_cross_attention=(True, True, True, False),
        use_linear_projection=True,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",),
    )
    vae = _seeded(
        lambda: diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 8),
            norm_num_groups=4,
            layers_per_block=1,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
        ),
        1,
    )
    return quiet(
        StableDiffusionUpscalePipeline(
            vae=vae,
            text_encoder=sd.text_encoder,
            tokenizer=sd.tokenizer,
            unet=unet,
            low_res_scheduler=DDPMScheduler(beta_schedule="scaled_linear"),
            scheduler=v_prediction(),
            max_noise_level=350,
        )
    )


def latent_upscaler() -> diffusers.StableDiffusionLatentUpscalePipeline:
    """Blocks of the k-diffusion kind, whose samplers are fixed filters."""
    unet = _seeded(
        lambda: UNet2DConditionModel(
            act_fn="gelu",
            attention_head_dim=8,
            norm_num_groups=None,
            block_out_channels=(32, 32, 64, 64),
            time_cond_proj_dim=160,
            conv_in_kernel=1,
            conv_out_kernel=1,
            cross_attention_dim=32,
            down_block_types=("KDownBlock2D",) + ("KCrossAttnDownBlock2D",) * 3,
            up_block_types=("KCrossAttnUpBlock2D",) * 3 + ("KUpBlock2D",),
            in_channels=8,
            mid_block_type=None,
            only_cross_attention=False,
            out_channels=5,
            resnet_time_scale_shift="scale_shift",
            time_embedding_type="fourier",
            timestep_post_act="gelu",
            layers_per_block=1,
            sample_size=NATIVE,
        ),
        0,
    )
    return quiet(
        diffusers.StableDiffusionLatentUpscalePipeline(
            vae=tiny_vae(1),
            text_encoder=tiny_text_encoder(2),
            tokenizer=tiny_tokenizer(),
            unet=unet,
            scheduler=EulerDiscreteScheduler(prediction_type="sample"),
        )
    )


def kolors() -> Any:
    """SDXL's U-Net behind a projection from ChatGLM, which reads the prompt."""
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    text_encoder = _seeded(
        lambda: ChatGLMModel(
            ChatGLMConfig(
                num_layers=2,
                padded_vocab_size=300,
                hidden_size=32,
                ffn_hidden_size=32,
                kv_channels=8,
                num_attention_heads=4,
                multi_query_attention=True,
                multi_query_group_num=2,
                add_qkv_bias=True,
                bias_dropout_fusion=False,
                original_rope=True,
                use_cache=True,  # as the published config says; transformers 4 has no default
            )
        ),
        2,
    )
    unet = tiny_sdxl_unet(
        sample_size=NATIVE,
        layers_per_block=1,
        encoder_hid_dim=32,
        encoder_hid_dim_type="text_proj",
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    return quiet(
        diffusers.KolorsPipeline(
            vae=tiny_vae(1),
            text_encoder=text_encoder,
            tokenizer=chatglm_tokenizer(),
            unet=unet,
            scheduler=EulerDiscreteScheduler(),
        )
    )


def chatglm_tokenizer() -> Any:
    """ChatGLM's, over a vocabulary of single characters."""
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["a red fox in the snow", "an owl at night", "dull"] * 5), model_writer=model,
        model_type="char", vocab_size=30, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        path.write_bytes(model.getvalue())
        return ChatGLMTokenizer(str(path))


def seeded_noise(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
