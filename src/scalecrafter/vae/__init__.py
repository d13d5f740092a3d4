"""The VAE in bounded memory: tiles with the result of the whole, and no black pictures.

`installation` puts it on a VAE; `part` is one half of the VAE; `walk` reads its modules into `operations`; `chain`
computes a region of a map; `spans` and `planning` choose how; `execution` does it.  Knows nothing of the U-Net.
"""

from .ceiling import AUTO, OFF, Ceiling, free_memory, parse_ceiling, readable
from .installation import (
    apply_vae_memory,
    check_vae_memory,
    decode_memory,
    encode_memory,
    has_vae_memory,
    remove_vae_memory,
    vae_memory_applied,
)
from .overflow import VaeNotice, in_type
from .planning import CeilingError, Plan

__all__ = [
    "AUTO",
    "OFF",
    "Ceiling",
    "CeilingError",
    "Plan",
    "VaeNotice",
    "apply_vae_memory",
    "check_vae_memory",
    "decode_memory",
    "encode_memory",
    "free_memory",
    "has_vae_memory",
    "in_type",
    "parse_ceiling",
    "readable",
    "remove_vae_memory",
    "vae_memory_applied",
]
