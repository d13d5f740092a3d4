"""What a single-file checkpoint says of itself: the configuration of its models, read from the shapes of its tensors.

The original layout (github.com/CompVis/latent-diffusion, github.com/Stability-AI/generative-models) holds weights and
no configuration.  Widths, depths and where attention is can be read from shapes; what cannot (heads, groups,
activations, the noise schedule) are facts of the families (`unet.families`).  With a
CLIP vocabulary beside it this is all that diffusers needs, and no hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..unet.families import FAMILIES, Checkpoint, Family, TextEncoder

Shapes = Mapping[str, tuple[int, ...]]
"""By tensor name; names as in the file."""

UNET = "model.diffusion_model."
_HEAD = 64
"""Width of an attention head of every text encoder, and of the U-Nets of SD 2 and SDXL."""
_GROUPS = 32
_SCHEDULE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "steps_offset": 1, "timestep_spacing": "leading",
}  # fmt: skip


def checkpoint_family(shapes: Shapes) -> Family:
    """The family of a checkpoint, by which text encoders are in the file.

    Raises:
        ModelError: for a checkpoint of another family.
    """
    for family in FAMILIES.values():
        if all(any(name.startswith(one.marker) for name in shapes) for one in family.checkpoint.text_encoders):
            return family
    raise ModelError(
        "this is none of Stable Diffusion 1, 2 and XL, whose text encoders are known: give a diffusers folder"
    )


def write_configuration(shapes: Shapes, tokenizer: Path, folder: Path) -> None:
    """Write the configuration of a whole pipeline, as a diffusers folder without weights.

    Args:
        shapes: of the tensors of the checkpoint.
        tokenizer: a folder with CLIP's vocabulary.
        folder: an empty folder to write to.

    Raises:
        ModelError: for a checkpoint whose layout cannot be read, or a vocabulary that is not its own.
    """
    facts = checkpoint_family(shapes).checkpoint
    unet = unet_configuration(shapes, facts)
    _check_complete(unet, shapes)
    parts: dict[str, tuple[str, str, dict[str, Any]]] = {
        "unet": ("diffusers", "UNet2DConditionModel", unet),
        "vae": ("diffusers", "AutoencoderKL", vae_configuration(shapes) | _of_family(facts)),
        "scheduler": ("diffusers", facts.scheduler["_class_name"], _SCHEDULE | dict(facts.scheduler)),
    }
    index: dict[str, Any] = dict(facts.index)
    for suffix, encoder in zip(("", "_2"), facts.text_encoders, strict=False):
        configuration = _open_clip(shapes, encoder) if encoder.open_clip else _clip(shapes, encoder.prefix)
        parts[f"text_encoder{suffix}"] = ("transformers", encoder.class_name, configuration)
        _write_tokenizer(tokenizer, folder / f"tokenizer{suffix}", encoder.pad_token, configuration)
        index[f"tokenizer{suffix}"] = ["transformers", "CLIPTokenizer"]
    for name, (library, kind, configuration) in parts.items():
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        (folder / name).mkdir()
        (folder / name / file).write_text(json.dumps(configuration, indent=2), "utf-8")
        index[name] = [library, kind]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), "utf-8")


def unet_configuration(shapes: Shapes, facts: Checkpoint) -> dict[str, Any]:
    """The configuration of the checkpoint's `UNet2DConditionModel`."""
    layers: list[list[int]] = [[]]  # by level, how many transformers follow each residual block
    widths: list[int] = []
    for number in range(1, _count(shapes, f"{UNET}input_blocks")):
        place = f"{UNET}input_blocks.{number}"
        if f"{place}.0.op.weight" in shapes:
            layers.append([])
        else:
            layers[-1].append(_transformers(shapes, f"{place}.1"))
            widths = [*widths[: len(layers) - 1], shapes[f"{place}.0.out_layers.3.weight"][0]]
    up_layers = [
        _transformers(shapes, f"{UNET}output_blocks.{n}.1") for n in range(_count(shapes, f"{UNET}output_blocks"))
    ]
    each = len(layers[0])
    up = [up_layers[start : start + each + 1] for start in range(0, len(up_layers), each + 1)]
    attention = next(
        (name for name in sorted(shapes) if name.startswith(UNET) and name.endswith("attn2.to_k.weight")), ""
    )
    linear = any(len(shape) == 2 for name, shape in shapes.items() if name.startswith(UNET) and "proj_in" in name)
    configuration: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": facts.sample_size,
        "in_channels": shapes[f"{UNET}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": each,
        "down_block_types": ["CrossAttnDownBlock2D" if any(level) else "DownBlock2D" for level in layers],
        "up_block_types": ["CrossAttnUpBlock2D" if any(level) else "UpBlock2D" for level in up],
        "mid_block_type": _middle(shapes),
        "transformer_layers_per_block": [_same(level) for level in layers],
        "cross_attention_dim": shapes[attention][1] if attention else None,
        "attention_head_dim": [max(width // _HEAD, 1) for width in widths] if linear else 8,
        "use_linear_projection": linear,
        "upcast_attention": facts.upcast_attention,
        "norm_num_groups": _GROUPS,
    }
    if [_same(level) for level in up] != [_same(level) for level in reversed(layers)]:
        configuration["reverse_transformer_layers_per_block"] = [_same(level) for level in up]
    labels = shapes.get(f"{UNET}label_emb.0.0.weight")
    if labels is not None:
        pooled = shapes["conditioner.embedders.1.model.text_projection"][1]
        configuration |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (labels[1] - pooled) // 6,
            "projection_class_embeddings_input_dim": labels[1],
        }
    return configuration


def _transformers(shapes: Shapes, place: str) -> int:
    return _count(shapes, f"{place}.transformer_blocks")


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbers follow `prefix` in the names of tensors."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({found.group(1) for found in map(pattern.match, shapes) if found})


def _same(level: list[int]) -> int | list[int]:
    """One number where all layers have as many transformers; 1 where they have none, as configurations write it."""
    return max(level[0], 1) if len(set(level)) == 1 else level


def _middle(shapes: Shapes) -> str | None:
    blocks = _count(shapes, f"{UNET}middle_block")
    return {0: None, 1: "UNetMidBlock2D"}.get(blocks, "UNetMidBlock2DCrossAttn")


def _check_complete(configuration: dict[str, Any], shapes: Shapes) -> None:
    """Whether the U-Net of this configuration has as many parameters as the file holds for it (`ModelError`)."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(configuration)
    ours = sum(parameter.numel() for parameter in unet.parameters())
    theirs = sum(torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith(UNET))
    if ours != theirs:
        raise ModelError(
            f"its U-Net has {theirs} parameters, and one of the shapes that are known would have {ours}: "
            "give the configuration of the model, a folder in the diffusers layout (config=…, --config)"
        )


def vae_configuration(shapes: Shapes, prefix: str = "first_stage_model.") -> dict[str, Any]:
    """The configuration of an `AutoencoderKL` in the original layout, without what its family says of its latents.

    Args:
        shapes: of its tensors.
        prefix: what their names begin with.
    """
    down = f"{prefix}encoder.down"
    widths = [shapes[f"{down}.{level}.block.0.conv1.weight"][0] for level in range(_count(shapes, down))]
    quantised = f"{prefix}post_quant_conv.weight" in shapes
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, f"{down}.0.block"),
        "latent_channels": shapes[f"{prefix}decoder.conv_in.weight"][1],
        "use_quant_conv": quantised,
        "use_post_quant_conv": quantised,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "norm_num_groups": _GROUPS,
    }


def _of_family(facts: Checkpoint) -> dict[str, Any]:
    return {
        "scaling_factor": facts.scaling_factor,
        "sample_size": 8 * facts.sample_size,
        "force_upcast": facts.upcast_vae,
    }


def _clip(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """CLIP's text encoder as transformers stores it (SD 1, and SDXL's first)."""
    feed_forward = shapes[f"{prefix}encoder.layers.0.mlp.fc1.weight"][0]
    layers = _count(shapes, f"{prefix}encoder.layers")
    tokens = shapes[f"{prefix}embeddings.token_embedding.weight"]
    length = shapes[f"{prefix}embeddings.position_embedding.weight"][0]
    return _text_encoder(tokens, length, layers, feed_forward, "quick_gelu", tokens[1])


def _open_clip(shapes: Shapes, encoder: TextEncoder) -> dict[str, Any]:
    """OpenCLIP's text encoder; SD 2 leaves out its last layer."""
    prefix = encoder.prefix
    feed_forward = shapes[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"][0]
    layers = _count(shapes, f"{prefix}transformer.resblocks") - encoder.skipped_layers
    tokens = shapes[f"{prefix}token_embedding.weight"]
    projection = shapes.get(f"{prefix}text_projection", (0, tokens[1]))[1]
    return _text_encoder(tokens, shapes[f"{prefix}positional_embedding"][0], layers, feed_forward, "gelu", projection)


def _text_encoder(
    tokens: tuple[int, ...], length: int, layers: int, feed_forward: int, activation: str, projection: int
) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "vocab_size": tokens[0],
        "hidden_size": tokens[1],
        "max_position_embeddings": length,
        "num_hidden_layers": layers,
        "intermediate_size": feed_forward,
        "num_attention_heads": max(tokens[1] // _HEAD, 1),
        "hidden_act": activation,
        "projection_dim": projection,
        "bos_token_id": 0,
        "eos_token_id": 2,  # as the published files have it: the last token is then the one with the highest id
        "pad_token_id": 1,
    }


def _write_tokenizer(source: Path, target: Path, pad: str | None, text_encoder: dict[str, Any]) -> None:
    from transformers import CLIPTokenizer

    given = {} if pad is None else {"pad_token": pad}
    tokenizer = CLIPTokenizer.from_pretrained(
        str(source), model_max_length=text_encoder["max_position_embeddings"], **given
    )
    if len(tokenizer) != text_encoder["vocab_size"]:
        raise ModelError(
            f"the vocabulary in {str(source)!r} has {len(tokenizer)} tokens, "
            f"and the text encoder in the file knows {text_encoder['vocab_size']}: give the vocabulary of this model"
        )
    tokenizer.save_pretrained(str(target))
