"""The statistics that group normalisation needs, gathered tile by tile over a whole feature map.

Mean and sum of squared deviations of every channel in float32, merged pairwise (Chan, Golub and LeVeque 1983): no
difference of large sums, so nothing is lost to cancellation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CHUNK = 1 << 18
"""Numbers looked at together on a CPU: they stay in its cache between the passes over them."""


class Moments:
    """Mean and squared deviations of each channel of the tiles seen so far."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = torch.zeros(())
        self._deviations = torch.zeros(())

    def add(self, tile: Tensor) -> None:
        """Count in a tile `(1, channels, height, width)`."""
        _, channels, height, width = tile.shape
        rows = max(_CHUNK // (channels * width), 1) if tile.device.type == "cpu" else height
        for top in range(0, height, rows):
            part = tile[0, :, top : top + rows].permute(1, 2, 0).reshape(-1, channels).float()
            if tile.device.type == "cpu":
                ones = part.new_ones(len(part))
                mean = ones @ part / len(part)
                deviations = ones @ (part - mean).square_()
            else:
                variance, mean = torch.var_mean(part, dim=0, correction=0)
                deviations = variance * len(part)
            self._merge(len(part), mean, deviations)

    def _merge(self, count: int, mean: Tensor, deviations: Tensor) -> None:
        if self.count == 0:
            self.count, self._mean, self._deviations = count, mean, deviations
            return
        total = self.count + count
        apart = mean - self._mean
        self._deviations = self._deviations + deviations + apart.square() * (self.count * (count / total))
        self._mean = self._mean + apart * (count / total)
        self.count = total

    def of_groups(self, groups: int) -> tuple[Tensor, Tensor]:
        """(mean, variance) of every channel's group, `(channels,)` each, in float32."""
        means, deviations = self._mean.view(groups, -1), self._deviations.view(groups, -1)
        mean = means.mean(dim=1, keepdim=True)
        variance = (deviations.mean(dim=1, keepdim=True) / self.count) + (means - mean).square().mean(
            dim=1, keepdim=True
        )
        return mean.expand_as(means).flatten(), variance.expand_as(means).flatten()

    def normalise(self, tile: Tensor, norm: nn.GroupNorm) -> Tensor:
        """`norm` of a tile `(1, channels, height, width)` of the map that was counted; the tile is overwritten."""
        mean, variance = self.of_groups(norm.num_groups)
        scale = torch.rsqrt(variance + norm.eps)
        if norm.affine:
            weight, bias = _parameters(norm)
            scale = scale * weight.to(scale)
            shift = bias.to(scale) - mean * scale
        else:
            shift = -mean * scale
        scale, shift = scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)
        if tile.dtype is torch.float32 or tile.device.type != "cpu":
            return torch.addcmul(shift, tile, scale, out=tile)
        rows = max(_CHUNK // (tile.shape[1] * tile.shape[3]), 1)
        for part in torch.split(tile, rows, dim=2):  # a CPU would make the whole float32 copy at once
            part.copy_(torch.addcmul(shift, part.float(), scale))
        return tile


def _parameters(norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias, in float32; where they are brought in only for a call (sequential offload), a call tells them.

    Channels of the two numbers 1 and −1 have mean 0 and variance 1, so they leave as bias ± weight / √(1 + eps).
    """
    if not norm.weight.is_meta:
        return norm.weight.detach().float(), norm.bias.detach().float()
    probe = torch.tensor((1.0, -1.0), dtype=norm.weight.dtype).expand(1, norm.num_channels, 1, 2)
    output = norm(probe).float().view(-1, 2)
    bias = output.mean(dim=1)
    return (output[:, 0] - bias) * (1 + norm.eps) ** 0.5, bias
