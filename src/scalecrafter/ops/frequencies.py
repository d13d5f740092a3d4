"""Low frequencies of maps, by a Butterworth filter."""

from __future__ import annotations

import torch
from torch import Tensor


def low_pass(values: Tensor, cutoff: float, order: int = 4) -> Tensor:
    """The low frequencies of maps `(…, height, width)`: 1 / (1 + (r / cutoff)^(2 · order)) of each.

    r is the distance from the zero frequency, 1 where an axis has the highest that it can hold.  As in HiFlow
    (Bu et al. 2025, arXiv 2504.06232), whose code has the order 4.

    Args:
        values: of any real type; computed in float32.
        cutoff: where half of the amplitude is left; above 0.
        order: how steep the filter is.
    """
    height, width = values.shape[-2:]
    down = 2 * torch.fft.fftfreq(height, device=values.device)
    across = 2 * torch.fft.fftfreq(width, device=values.device)
    square = down[:, None] ** 2 + across[None, :] ** 2
    passed = 1 / (1 + (square / cutoff**2) ** order)
    filtered: Tensor = torch.fft.ifft2(torch.fft.fft2(values.float()) * passed).real
    return filtered.to(values.dtype)
