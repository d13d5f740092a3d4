"""A diffusers pipeline written as the original single file: the converse of what loading one does.

Written by block and layer from the original's numbering, without the library's table of names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
RESIDUAL = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
EMBEDDINGS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


def ldm_state(pipe: Any) -> State:
    """Every tensor of a StableDiffusionPipeline or StableDiffusionXLPipeline, under its original name."""
    state = with_prefix("model.diffusion_model.", unet_state(pipe.unet))
    state |= with_prefix("first_stage_model.", vae_state(pipe.vae))
    first = clip_state(pipe.text_encoder)
    if hasattr(pipe, "text_encoder_2"):
        state |= with_prefix("conditioner.embedders.0.transformer.", first)
        state |= with_prefix("conditioner.embedders.1.model.", open_clip_state(pipe.text_encoder_2))
    elif pipe.text_encoder.config.hidden_act == "gelu":  # Stable Diffusion 2 reads the last layer but one
        state |= with_prefix("cond_stage_model.model.", with_unused_last_layer(open_clip_state(pipe.text_encoder)))
    else:
        state |= with_prefix("cond_stage_model.transformer.", first)
    return {name: tensor.contiguous() for name, tensor in state.items()}


def with_prefix(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def unet_state(unet: Any) -> State:
    state: State = {}
    for own, original in EMBEDDINGS.items():
        module = dict(unet.named_modules()).get(own)
        if module is not None:
            state |= with_prefix(f"{original}.", module.state_dict())
    number = 0
    for block in unet.down_blocks:
        for layer, resnet in enumerate(block.resnets):
            number += 1
            state |= layer_state(f"input_blocks.{number}", resnet, block, layer)
        for sampler in block.downsamplers or []:
            number += 1
            state |= with_prefix(f"input_blocks.{number}.0.op.", sampler.conv.state_dict())
    if unet.mid_block is not None:
        for place, module in zip((0, 2), unet.mid_block.resnets):
            state |= with_prefix(f"middle_block.{place}.", residual_state(module))
        state |= with_prefix("middle_block.1.", unet.mid_block.attentions[0].state_dict())
    number = -1
    for block in unet.up_blocks:
        for layer, resnet in enumerate(block.resnets):
            number += 1
            state |= layer_state(f"output_blocks.{number}", resnet, block, layer)
        for sampler in block.upsamplers or []:
            place = 2 if hasattr(block, "attentions") else 1
            state |= with_prefix(f"output_blocks.{number}.{place}.conv.", sampler.conv.state_dict())
    return state


def layer_state(place: str, resnet: torch.nn.Module, block: Any, layer: int) -> State:
    state = with_prefix(f"{place}.0.", residual_state(resnet))
    if hasattr(block, "attentions"):
        state |= with_prefix(f"{place}.1.", block.attentions[layer].state_dict())
    return state


def residual_state(resnet: torch.nn.Module) -> State:
    return {f"{RESIDUAL[n.rsplit('.', 1)[0]]}.{n.rsplit('.', 1)[1]}": t for n, t in resnet.state_dict().items()}


def vae_state(vae: Any) -> State:
    levels = len(vae.config.block_out_channels)
    state: State = {}
    for name, tensor in vae.state_dict().items():
        new = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        new = new.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        new = new.replace(".resnets.", ".block.")
        for level in range(levels):
            new = new.replace(f"down_blocks.{level}.", f"down.{level}.")
            new = new.replace(f"up_blocks.{level}.", f"up.{levels - 1 - level}.")
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            new = new.replace("to_out.0", "proj_out").replace("to_", "")
        projects = "mid.attn_1" in new and tensor.ndim == 2  # a 1×1 convolution in the original
        state[new] = tensor[:, :, None, None] if projects else tensor
    return state


def clip_state(encoder: Any) -> State:
    return {
        name if name.startswith("text_model.") else f"text_model.{name}": tensor
        for name, tensor in encoder.state_dict().items()
    }


def open_clip_state(encoder: Any) -> State:
    own = clip_state(encoder)
    state: State = {
        "positional_embedding": own["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": own["text_model.embeddings.token_embedding.weight"],
        "ln_final.weight": own["text_model.final_layer_norm.weight"],
        "ln_final.bias": own["text_model.final_layer_norm.bias"],
    }
    projection = encoder.state_dict().get("text_projection.weight")
    width = encoder.config.hidden_size
    state["text_projection"] = torch.eye(width) if projection is None else projection.T
    for layer in range(encoder.config.num_hidden_layers):
        old, new = f"text_model.encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            state[f"{new}.attn.in_proj_{kind}"] = torch.cat([own[f"{old}.self_attn.{x}_proj.{kind}"] for x in "qkv"])
            state[f"{new}.attn.out_proj.{kind}"] = own[f"{old}.self_attn.out_proj.{kind}"]
            state[f"{new}.ln_1.{kind}"] = own[f"{old}.layer_norm1.{kind}"]
            state[f"{new}.ln_2.{kind}"] = own[f"{old}.layer_norm2.{kind}"]
            state[f"{new}.mlp.c_fc.{kind}"] = own[f"{old}.mlp.fc1.{kind}"]
            state[f"{new}.mlp.c_proj.{kind}"] = own[f"{old}.mlp.fc2.{kind}"]
    return state


def with_unused_last_layer(state: State) -> State:
    last = max(int(name.split(".")[2]) for name in state if name.startswith("transformer.resblocks."))
    before, after = f"transformer.resblocks.{last}.", f"transformer.resblocks.{last + 1}."
    return state | {name.replace(before, after): -tensor for name, tensor in state.items() if name.startswith(before)}
