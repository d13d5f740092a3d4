"""The one attention of a VAE's middle block with keys and values pooled: approximate, for large pictures.

At 4096² it is half of a decoder's work.  Normalisation, queries and the rest stay whole, so there are no seams.
Where the VAE runs in exact tiles, these compute the attention themselves, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from .._util.sizes import GridSize
from ..ops.tokens import pooled_tokens


@contextmanager
def pooled_attention(vae: Any, factor: int) -> Iterator[Any]:
    """For the length of a `with` block, let keys and values be means of `factor` × `factor` positions.

    A VAE without such an attention stays as it is.
    """
    handles = []
    for half in (getattr(vae, "encoder", None), getattr(vae, "decoder", None)):
        for attention in getattr(getattr(half, "mid_block", None), "attentions", None) or ():
            if attention is None or not hasattr(attention, "to_k"):
                continue
            grids: list[GridSize] = []

            def see(_module: nn.Module, args: tuple[Any, ...], grids: list[GridSize] = grids) -> None:
                grids[:] = [GridSize(*args[0].shape[-2:])] if args[0].ndim == 4 else []

            def pool(_module: nn.Module, args: tuple[Tensor], grids: list[GridSize] = grids) -> Any:
                whole = grids and args[0].shape[1] == grids[0].height * grids[0].width
                return (pooled_tokens(args[0], grids[0], factor),) if whole else None

            handles.append(attention.register_forward_pre_hook(see))
            handles += [part.register_forward_pre_hook(pool) for part in (attention.to_k, attention.to_v)]
    try:
        yield vae
    finally:
        for handle in handles:
            handle.remove()
