"""Exact tiled decoding and encoding within a memory budget, and no black pictures.

`installation` puts it on a VAE; `part` is one half of the VAE; `walk` reads its modules into `operations`; `chain`
computes a region of a map; `spans` and `planning` choose how; `execution` does it.
"""

from .._util.memory import AUTO, OFF, MemoryBudget, free_memory, parse_memory_budget, readable
from .installation import (
    apply_vae_memory,
    check_vae_memory,
    decode_memory,
    encode_memory,
    has_vae_memory,
    remove_vae_memory,
    vae_memory_applied,
    vae_memory_kept,
)
from .latents import decoded, latent_channels
from .overflow import VaeNotice, in_type
from .planning import MemoryBudgetError, TilePlan

__all__ = [
    "AUTO",
    "OFF",
    "MemoryBudget",
    "MemoryBudgetError",
    "TilePlan",
    "VaeNotice",
    "apply_vae_memory",
    "check_vae_memory",
    "decode_memory",
    "decoded",
    "encode_memory",
    "free_memory",
    "has_vae_memory",
    "in_type",
    "latent_channels",
    "parse_memory_budget",
    "readable",
    "remove_vae_memory",
    "vae_memory_applied",
    "vae_memory_kept",
]
