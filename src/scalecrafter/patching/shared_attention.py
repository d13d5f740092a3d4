"""Up to the first cross-attention, both halves of a guided batch are the same: one self-attention runs once for both.

In Stable Diffusion 1 and 2 that is the first of the five at the finest level, where most of the work is.  Two hooks
let it see the first half alone, and repeat what it returns.  SDXL's embeddings of text and size act from the first
block on, so its halves differ there.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .others import undisturbed


class _Now(threading.local):
    rows = 0
    """Rows of the current call's batch, where its halves are the same; else 0."""
    halved = False

    def __deepcopy__(self, memo: dict[int, Any]) -> _Now:
        return _Now()


class SharedAttention:
    """The first self-attention of one U-Net."""

    def __init__(self) -> None:
        self._attention: nn.Module | None = None
        self._handles: list[RemovableHandle] = []
        self._now = _Now()

    def watch(self, unet: nn.Module) -> None:
        """Follow the first self-attention of a U-Net, if no condition acts before it."""
        self.leave()
        attention = self._attention = _first_self_attention(unet)
        if attention is not None:
            self._handles = [
                attention.register_forward_pre_hook(self._halve, with_kwargs=True),
                attention.register_forward_hook(self._repeat),
            ]

    def leave(self) -> None:
        """Leave the U-Net as `watch` found it."""
        for handle in self._handles:
            handle.remove()
        self._attention, self._handles = None, []
        self.end()

    def begin(self, call: Mapping[str, Any]) -> None:
        """Before a U-Net call with these arguments."""
        self.end()
        if self._attention is not None and _halves_are_equal(call) and undisturbed(self._attention.modules()):
            self._now.rows = call["sample"].shape[0]

    def end(self) -> None:
        """The call is over."""
        self._now.rows, self._now.halved = 0, False

    def _halve(self, _attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if torch.compiler.is_compiling():
            return None
        now = self._now
        plain = args and kwargs.get("encoder_hidden_states") is None and kwargs.get("attention_mask") is None
        now.halved = bool(plain) and now.rows > 0 and args[0].shape[0] == now.rows
        return ((args[0][: now.rows // 2], *args[1:]), kwargs) if now.halved else None

    def _repeat(self, _attention: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        if torch.compiler.is_compiling() or not self._now.halved:
            return None
        self._now.halved = False
        return torch.cat([output, output])


def _first_self_attention(unet: nn.Module) -> nn.Module | None:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention import BasicTransformerBlock

    config: Any = getattr(unet, "config", {})
    embeds = ("addition_embed_type", "class_embed_type", "num_class_embeds", "time_cond_proj_dim")
    if type(unet).forward is not UNet2DConditionModel.forward or any(config.get(name) is not None for name in embeds):
        return None
    for block in unet.down_blocks.modules():  # type: ignore[union-attr]
        if type(block) is BasicTransformerBlock:
            return None if block.only_cross_attention else cast(nn.Module, block.attn1)
        if hasattr(block, "to_q"):
            return None
    return None


def _halves_are_equal(call: Mapping[str, Any]) -> bool:
    """Whether nothing but the text differs between the halves of a U-Net call."""
    sample: Tensor = call["sample"]
    adapted = call.get("down_intrablock_additional_residuals") is not None or (
        call.get("down_block_additional_residuals") is not None and call.get("mid_block_additional_residual") is None
    )
    if sample.shape[0] % 2 or adapted or call.get("class_labels") is not None:
        return False
    first, second = sample.chunk(2)
    return sample.is_meta or first.equal(second)  # what has no values is counted, as a guided pair
