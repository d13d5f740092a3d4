"""From a VAE's modules to a flat list of operations, by the types of the modules.

A layer whose meaning is not known is refused by name: a wrong guess would make a wrong picture.  The
module types are those of diffusers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ..errors import ModelError
from .causal import ChannelNorm, FrameAttention, FrameConvolution
from .deep_compression import Doubling, Gate, GroupMean, Halving, LinearAttention, Repeat
from .operations import (
    Addition,
    Attention,
    Convolution,
    EnlargedConvolution,
    Enlargement,
    Normalisation,
    Operation,
    Pointwise,
    Residual,
)

_ACTIVATIONS = (nn.SiLU, nn.ReLU, nn.GELU, nn.Mish, nn.Tanh, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Softplus)
_ATTENTION_PROCESSORS = {"AttnProcessor", "AttnProcessor2_0", "XFormersAttnProcessor", "SlicedAttnProcessor"}
"""Those that compute plain attention, one way or another."""


def operations_of(part: nn.Module, name: str) -> list[Operation]:
    """The operations of an encoder or decoder of AutoencoderKL, AutoencoderDC or, on one frame, of AutoencoderKLWan and
    AutoencoderKLQwenImage; or of the layers of one of AutoencoderTiny.

    Args:
        part: the module.
        name: how errors call it, as "decoder".

    Raises:
        ModelError: names the first layer whose meaning is not known.
    """
    return _fused(list(_walk(part, name)))


def _walk(module: nn.Module, name: str) -> Iterator[Operation]:
    kind = type(module).__name__
    if isinstance(module, nn.Conv2d):
        yield _convolution(module, module, name)
    elif isinstance(module, nn.GroupNorm):
        yield Normalisation(name, module)
    elif isinstance(module, _ACTIVATIONS):
        yield Pointwise(name, module)
    elif isinstance(module, nn.Upsample):
        yield _enlargement(module, name)
    elif isinstance(module, nn.Dropout):
        _demand(not (module.training and module.p > 0), name, "is a dropout in training; call eval() first")
    elif isinstance(module, (nn.Sequential, nn.ModuleList)):
        for number, child in enumerate(module):
            yield from _walk(child, f"{name}.{number}")
    elif not isinstance(module, nn.Identity):
        walker = _WALKERS.get(kind)
        if walker is None:
            raise ModelError(
                f"{name} is a {kind}, which exact tiling of the VAE does not know: "
                'leave this VAE alone with vae_memory="off"'
            )
        yield from walker(module, name)


def _children(module: Any, name: str, *paths: str) -> Iterator[Operation]:
    """The operations of some children in this order, those left out that are not there."""
    for path in paths:
        child = getattr(module, path, None)
        if child is not None:
            yield from _walk(child, f"{name}.{path}")


def _only(module: nn.Module, name: str, *known: str) -> None:
    """Refuse children that are not known, for they would be left out."""
    for path, child in module.named_children():
        _demand(path in known, f"{name}.{path}", f"({type(child).__name__}) is not known to be part of this block")


def _encoder(module: Any, name: str) -> Iterator[Operation]:
    if hasattr(module, "out_shortcut"):
        yield from _compressing_encoder(module, name)
        return
    order = ("conv_in", "down_blocks", "mid_block", "conv_norm_out", "conv_act", "conv_out")
    _only(module, name, *order)
    yield from _children(module, name, *order)


def _decoder(module: Any, name: str) -> Iterator[Operation]:
    if hasattr(module, "in_shortcut"):
        yield from _compressing_decoder(module, name)
        return
    order = ("conv_in", "mid_block", "up_blocks", "conv_norm_out", "conv_act", "conv_out")
    _only(module, name, *order)
    yield from _children(module, name, *order)


def _down_block(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "resnets", "downsamplers")
    yield from _children(module, name, "resnets", "downsamplers")


def _up_block(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "resnets", "upsamplers")
    yield from _children(module, name, "resnets", "upsamplers")


def _mid_block(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "resnets", "attentions")
    yield from _walk(module.resnets[0], f"{name}.resnets.0")
    for number, (attention, resnet) in enumerate(zip(module.attentions, module.resnets[1:], strict=True)):
        if attention is not None:
            yield from _walk(attention, f"{name}.attentions.{number}")
        yield from _walk(resnet, f"{name}.resnets.{number + 1}")


def _resnet(module: Any, name: str) -> Iterator[Operation]:
    order = ("norm1", "nonlinearity", "conv1", "norm2", "nonlinearity", "dropout", "conv2")
    _only(module, name, "conv_shortcut", *order)
    _demand(module.upsample is None and module.downsample is None, name, "samples inside of a residual block")
    _demand(getattr(module, "time_emb_proj", None) is None, name, "takes a time embedding")
    shortcut = module.conv_shortcut
    if shortcut is not None:
        _demand(tuple(shortcut.kernel_size) == (1, 1), f"{name}.conv_shortcut", "is not a 1×1 convolution")
    yield Residual(name, shortcut, module.conv2.out_channels)
    yield from _children(module, name, *order)
    yield Addition(name, float(module.output_scale_factor))


def _tiny_block(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "conv", "skip", "fuse")
    skip = None if isinstance(module.skip, nn.Identity) else module.skip
    if skip is not None:
        _demand(tuple(skip.kernel_size) == (1, 1), f"{name}.skip", "is not a 1×1 convolution")
    yield Residual(name, skip, module.conv[-1].out_channels)
    yield from _children(module, name, "conv")
    yield Addition(name)
    yield from _children(module, name, "fuse")


def _upsampler(module: Any, name: str) -> Iterator[Operation]:
    plain = not module.use_conv_transpose and module.norm is None and getattr(module, "interpolate", True)
    _demand(plain, name, "is not a nearest-neighbour enlargement by 2")
    yield Enlargement(name, 2)
    if module.use_conv:
        yield from _children(module, name, "conv" if module.name == "conv" else "Conv2d_0")


def _downsampler(module: Any, name: str) -> Iterator[Operation]:
    _demand(module.use_conv and module.norm is None, name, "is not a strided convolution")
    yield _convolution(module.conv, module, name, end_padding=1 if module.padding == 0 else 0)


def _attention(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "group_norm", "to_q", "to_k", "to_v", "to_out")
    processor = type(module.processor).__name__
    _demand(processor in _ATTENTION_PROCESSORS, name, f"attends with {processor}")
    yield Attention(name, module)


def _compressing_encoder(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "conv_in", "down_blocks", "conv_out")
    yield from _children(module, name, "conv_in", "down_blocks")
    if module.out_shortcut:
        yield Residual(name, GroupMean(module.out_shortcut_average_group_size), module.conv_out.out_channels)
    yield from _children(module, name, "conv_out")
    if module.out_shortcut:
        yield Addition(name)


def _compressing_decoder(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "conv_in", "up_blocks", "norm_out", "conv_act", "conv_out")
    if module.in_shortcut:
        yield Residual(name, Repeat(module.in_shortcut_repeats), module.conv_in.out_channels)
    yield from _children(module, name, "conv_in")
    if module.in_shortcut:
        yield Addition(name)
    for number in reversed(range(len(module.up_blocks))):
        yield from _walk(module.up_blocks[number], f"{name}.up_blocks.{number}")
    yield ChannelNorm(f"{name}.norm_out", module.norm_out, "last")
    yield from _children(module, name, "conv_act", "conv_out")


def _plain_resnet(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "conv1", "nonlinearity", "conv2", "norm")
    yield Residual(name, None, module.conv2.out_channels)
    yield from _children(module, name, "conv1", "nonlinearity", "conv2")
    yield _channel_norm(module, name)
    yield Addition(name)


def _channel_norm(module: Any, name: str) -> ChannelNorm:
    """The norm at the end of a block of AutoencoderDC."""
    in_training = isinstance(module.norm, nn.BatchNorm2d) and module.norm.training
    _demand(not in_training, f"{name}.norm", "is a batch norm in training; call eval() first")
    return ChannelNorm(f"{name}.norm", module.norm, "last" if module.norm_type == "rms_norm" else "map")


def _efficient_block(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "attn", "conv_out")
    processor = type(module.attn.processor).__name__
    _demand(processor == "SanaMultiscaleAttnProcessor2_0", f"{name}.attn", f"attends with {processor}")
    yield LinearAttention(f"{name}.attn", module.attn)
    yield from _children(module, name, "conv_out")


def _gated_block(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "nonlinearity", "conv_inverted", "conv_depth", "conv_point", "norm")
    if module.residual_connection:
        yield Residual(name, None, module.conv_point.out_channels)
    yield from _children(module, name, "conv_inverted", "nonlinearity", "conv_depth")
    yield Gate(name, module.nonlinearity)
    yield from _children(module, name, "conv_point")
    if module.norm_type == "rms_norm":
        yield _channel_norm(module, name)
    if module.residual_connection:
        yield Addition(name)


def _halving(module: Any, name: str) -> Iterator[Operation]:
    yield Halving(name, module)


def _doubling(module: Any, name: str) -> Iterator[Operation]:
    _demand(module.interpolation_mode == "nearest", name, f"enlarges by {module.interpolation_mode!r}")
    yield Doubling(name, module)


def _causal_encoder(module: Any, name: str) -> Iterator[Operation]:
    order = ("conv_in", "down_blocks", "mid_block", "norm_out", "nonlinearity", "conv_out")
    _only(module, name, *order)
    yield from _children(module, name, *order)


def _causal_decoder(module: Any, name: str) -> Iterator[Operation]:
    order = ("conv_in", "mid_block", "up_blocks", "norm_out", "nonlinearity", "conv_out")
    _only(module, name, *order)
    yield from _children(module, name, *order)


def _causal_convolution(module: Any, name: str) -> Iterator[Operation]:
    frame: Any = FrameConvolution(module)
    yield Convolution(name, frame, frame)


def _frame_norm(module: Any, name: str) -> Iterator[Operation]:
    yield ChannelNorm(name, module)


def _causal_resnet(module: Any, name: str) -> Iterator[Operation]:
    order = ("norm1", "nonlinearity", "conv1", "norm2", "nonlinearity", "dropout", "conv2")
    _only(module, name, "conv_shortcut", *order)
    shortcut: Any = None if isinstance(module.conv_shortcut, nn.Identity) else FrameConvolution(module.conv_shortcut)
    yield Residual(name, shortcut, module.conv2.out_channels)
    yield from _children(module, name, *order)
    yield Addition(name)


def _frame_attention(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "norm", "to_qkv", "proj")
    yield FrameAttention(name, module)


def _resample(module: Any, name: str) -> Iterator[Operation]:
    _only(module, name, "resample", "time_conv")
    if module.mode.startswith("up"):
        yield from _walk(module.resample, f"{name}.resample")
    elif module.mode.startswith("down"):
        padding, convolution = module.resample
        _demand(tuple(padding.padding) == (0, 1, 0, 1), name, "pads otherwise than below and to the right")
        yield _convolution(convolution, module.resample, name, end_padding=1)


_WALKERS: dict[str, Callable[[Any, str], Iterator[Operation]]] = {
    "Encoder": _encoder,
    "Decoder": _decoder,
    "DownEncoderBlock2D": _down_block,
    "UpDecoderBlock2D": _up_block,
    "UNetMidBlock2D": _mid_block,
    "ResnetBlock2D": _resnet,
    "Upsample2D": _upsampler,
    "Downsample2D": _downsampler,
    "Attention": _attention,
    "AutoencoderTinyBlock": _tiny_block,
    "ResBlock": _plain_resnet,
    "EfficientViTBlock": _efficient_block,
    "GLUMBConv": _gated_block,
    "DCDownBlock2d": _halving,
    "DCUpBlock2d": _doubling,
}
for _kind in ("Wan", "QwenImage"):
    _WALKERS |= {
        f"{_kind}Encoder3d": _causal_encoder,
        f"{_kind}Decoder3d": _causal_decoder,
        f"{_kind}CausalConv3d": _causal_convolution,
        f"{_kind}RMS_norm": _frame_norm,
        f"{_kind}ResidualBlock": _causal_resnet,
        f"{_kind}AttentionBlock": _frame_attention,
        f"{_kind}MidBlock": _mid_block,
        f"{_kind}UpBlock": _up_block,
        f"{_kind}Resample": _resample,
    }


def _convolution(convolution: Any, module: nn.Module, name: str, end_padding: int = 0) -> Convolution:
    _demand(isinstance(convolution, nn.Conv2d), name, f"is a {type(convolution).__name__}, not a convolution")
    numbers = not isinstance(convolution.padding, str)
    _demand(numbers and convolution.padding_mode == "zeros", name, "pads with something else than zeros")
    return Convolution(name, convolution, module, end_padding)


def _enlargement(module: nn.Upsample, name: str) -> Enlargement:
    factor = module.scale_factor
    factor = factor[0] if isinstance(factor, tuple) and len(set(factor)) == 1 else factor
    whole = isinstance(factor, (int, float)) and factor == int(factor)
    nearest = module.mode in ("nearest", "nearest-exact")  # by a whole factor, the two are one
    _demand(nearest and whole, name, "is not a nearest-neighbour enlargement by a whole factor")
    return Enlargement(name, int(factor))  # type: ignore[arg-type]


def _fused(operations: list[Operation]) -> list[Operation]:
    """An enlargement by 2 and the 3×3 convolution after it become one operation."""
    fused: list[Operation] = []
    for operation in operations:
        before = fused[-1] if fused else None
        if isinstance(before, Enlargement) and before.factor == 2 and _is_plain_3x3(operation):
            assert isinstance(operation, Convolution)
            fused[-1] = EnlargedConvolution(operation.name, operation.convolution)
        else:
            fused.append(operation)
    return fused


def _is_plain_3x3(operation: Operation) -> bool:
    if not isinstance(operation, Convolution) or operation.module is not operation.convolution:
        return False
    convolution = operation.convolution
    shape = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation)
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1)) and convolution.groups == 1


def _demand(condition: bool, name: str, what: str) -> None:
    if not condition:
        raise ModelError(
            f'{name} {what}, which exact tiling of the VAE does not know: leave this VAE alone with vae_memory="off"'
        )
