"""The families of U-Nets with published recipes: one entry each, with all that differs between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

ANY = "any"
"""The family of every other U-Net."""


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder in a single-file checkpoint of the original layout."""

    class_name: str
    """Of transformers."""
    prefix: str
    """What the names of its tensors begin with."""
    marker: str
    """What the name of one of its tensors begins with, and none of another family's."""
    open_clip: bool = False
    """Whether it is OpenCLIP's, which names its layers otherwise than CLIP."""
    skipped_layers: int = 0
    """How many of its last layers the pipeline leaves out."""
    pad_token: str | None = None
    """Of its tokenizer, where that is not the vocabulary's own."""


@dataclass(frozen=True)
class Checkpoint:
    """What the shapes in a single-file checkpoint do not tell, as the published configurations have it."""

    text_encoders: tuple[TextEncoder, ...]
    sample_size: int
    """Side of the latents that it was trained on."""
    scaling_factor: float
    """Of the VAE's latents."""
    scheduler: Mapping[str, Any]
    index: Mapping[str, Any]
    """What model_index.json says besides the parts."""
    upcast_attention: bool = False
    upcast_vae: bool = False


@dataclass(frozen=True)
class Family:
    """One family of U-Nets."""

    name: str
    """As recipes write it."""
    levels: int
    features: Mapping[str, Any]
    """What its configuration has; None stands for what is missing there, or is null."""
    native_side: int
    """In image pixels, to which the published sizes relate."""
    published: tuple[str, ...]
    """The sizes of its published recipes, WIDTHxHEIGHT."""
    freeu: Mapping[str, float]
    """FreeU's published factors: b1, b2, s1, s2."""
    checkpoint: Checkpoint
    many_shapes: bool = False
    """Whether it was trained at many shapes of its native area."""

    def matches(self, config: Mapping[str, Any], levels: int) -> bool:
        """Whether a U-Net of this configuration is of this family."""
        return levels == self.levels and all(config.get(key) == value for key, value in self.features.items())


def family_of(config: Mapping[str, Any], levels: int) -> str:
    """The name of a U-Net's family, "any" for all that are not in the table."""
    upscaler = any(str(block).startswith("K") for block in config.get("down_block_types", ()))
    return next((one.name for one in FAMILIES.values() if not upscaler and one.matches(config, levels)), ANY)


_SD_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "requires_safety_checker": False,
    **{part: [None, None] for part in ("safety_checker", "feature_extractor", "image_encoder")},
}
_SD_SIZES = ("1024x1024", "1280x1280", "2048x1024", "2048x2048")

_ALL = (
    Family(
        name="sd15",
        levels=4,
        features={"cross_attention_dim": 768, "addition_embed_type": None, "num_class_embeds": None},
        native_side=512,
        published=_SD_SIZES,
        freeu={"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2},  # as the public repository of ScaleCrafter sets them
        checkpoint=Checkpoint(
            text_encoders=(
                TextEncoder(
                    "CLIPTextModel",
                    prefix="cond_stage_model.transformer.text_model.",
                    marker="cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
                ),
            ),
            sample_size=64,
            scaling_factor=0.18215,
            scheduler={"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False},
            index=_SD_INDEX,
        ),
    ),
    Family(
        name="sd21",
        levels=4,
        features={"cross_attention_dim": 1024, "addition_embed_type": None, "num_class_embeds": None},
        native_side=512,
        published=_SD_SIZES,
        freeu={"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2},  # likewise
        checkpoint=Checkpoint(
            text_encoders=(
                TextEncoder(
                    "CLIPTextModel",
                    prefix="cond_stage_model.model.",
                    marker="cond_stage_model.model.token_embedding.weight",
                    open_clip=True,
                    skipped_layers=1,
                    pad_token="!",
                ),
            ),
            sample_size=96,
            scaling_factor=0.18215,
            scheduler={
                "_class_name": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False,
                "prediction_type": "v_prediction",
            },
            index=_SD_INDEX,
            upcast_attention=True,
        ),
    ),
    Family(
        name="sdxl",
        levels=3,
        features={"addition_embed_type": "text_time"},
        native_side=1024,
        published=("2048x2048", "2560x2560", "4096x2048", "4096x4096"),
        freeu={"b1": 1.1, "b2": 1.2, "s1": 0.6, "s2": 0.4},  # as FreeU's own page has it
        checkpoint=Checkpoint(
            text_encoders=(
                TextEncoder(
                    "CLIPTextModel",
                    prefix="conditioner.embedders.0.transformer.text_model.",
                    marker="conditioner.embedders.1.model.",
                ),
                TextEncoder(
                    "CLIPTextModelWithProjection",
                    prefix="conditioner.embedders.1.model.",
                    marker="conditioner.embedders.1.model.",
                    open_clip=True,
                    pad_token="!",
                ),
            ),
            sample_size=128,
            scaling_factor=0.13025,
            scheduler={
                "_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear", "use_karras_sigmas": False
            },
            index={"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True},
            upcast_vae=True,
        ),
        many_shapes=True,
    ),
)  # fmt: skip

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _ALL})
"""The families by name."""
