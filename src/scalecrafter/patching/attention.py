"""Self-attention whose entropy stays that of the native size.

Paper: Jin et al. 2023 (arXiv 2306.08645), section 3.2.  With more tokens to attend to, attention spreads: its entropy
grows with the logarithm of their number.  The paper takes the logits times √(log_T N / d) instead of √(1 / d), where T
is the number of tokens in training and N that of now; that is the usual attention with its queries scaled by
√(log N / log T).  So the queries are scaled, and any attention processor does.

All self-attention layers of the U-Net are scaled, each by its own level's numbers of tokens.  Cross-attention attends
to the text, whose length does not change, and stays as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from ..ops.entropy import entropy_scale
from ..unet.architecture import Architecture, find_unet, read_architecture


@contextmanager
def scaled_attention(pipe: Any) -> Iterator[Any]:
    """Scale the self-attention of a pipeline's U-Net for the length of a `with` block, whatever size arrives.

    At the native size nothing changes, to the bit.

    Args:
        pipe: a pipeline with a U-Net, or a bare one.

    Raises:
        ModelError: for a U-Net whose query, key and value projections are fused into one.
    """
    unet = find_unet(pipe)
    scaling = _Scaling(read_architecture(pipe))
    projections = [_query_projection(module) for module in unet.modules() if _is_self_attention(module)]
    handles = [unet.register_forward_pre_hook(scaling.see_size, with_kwargs=True)]
    handles += [projection.register_forward_hook(scaling.scale) for projection in projections]
    try:
        yield pipe
    finally:
        for handle in handles:
            handle.remove()


class _Scaling(threading.local):
    """The two hooks: one sees the size of the latents, the other scales queries by the number of their tokens.

    Each thread sees its own sizes.
    """

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture
        self._levels = architecture.levels
        self._native = (architecture.native_height, architecture.native_width)
        self._scales: dict[int, float] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Scaling:
        return _Scaling(self._architecture)

    def see_size(self, _unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a U-Net call: the scale of every level, by its number of tokens."""
        sample: Tensor = args[0] if args else kwargs["sample"]
        size = (sample.shape[-2], sample.shape[-1])
        self._scales = {
            _tokens(size, level): entropy_scale(_tokens(size, level), _tokens(self._native, level))
            for level in range(self._levels)
        }

    def scale(self, _projection: nn.Module, _args: tuple[Any, ...], queries: Tensor) -> Tensor | None:
        """After a projection to queries `(…, tokens, channels)`."""
        factor = self._scales.get(queries.shape[-2], 1.0)
        return None if factor == 1.0 else queries * factor


def _tokens(size: tuple[int, int], level: int) -> int:
    """Tokens of a level: each halves the one above it, rounding up."""
    height, width = size
    return ceil(height / (1 << level)) * ceil(width / (1 << level))


def _is_self_attention(module: nn.Module) -> bool:
    return hasattr(module, "to_q") and getattr(module, "is_cross_attention", None) is False


def _query_projection(attention: nn.Module) -> nn.Module:
    """The last module that queries go through: their normalisation, which would undo a scale before it, if any."""
    if getattr(attention, "fused_projections", False):
        raise ModelError(
            "attention scaling needs separate projections for query, key and value, and these are fused: "
            "call pipe.unfuse_qkv_projections() first"
        )
    normalisation = getattr(attention, "norm_q", None)
    projection = normalisation if isinstance(normalisation, nn.Module) else attention.to_q
    assert isinstance(projection, nn.Module)
    return projection
