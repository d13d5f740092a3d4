"""Counting the operations of what is run on the meta device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def counted(work: Callable[[], Any]) -> int:
    """Floating-point operations of convolutions, matrix products and attention, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
