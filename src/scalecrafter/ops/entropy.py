"""Attention whose entropy stays that of the native size (Jin et al. 2023, arXiv 2306.08645, section 3.2)."""

from __future__ import annotations

from math import log, sqrt


def entropy_scale(tokens: int, native_tokens: int) -> float:
    """√(log N / log T), by which the logits are multiplied; 1 where there is only one token."""
    return sqrt(log(tokens) / log(native_tokens)) if min(tokens, native_tokens) > 1 else 1.0
