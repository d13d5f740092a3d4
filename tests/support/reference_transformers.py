"""The positions and the attention of larger pictures, written plainly in float64 from the papers' formulas.

`by_hand` puts them into a pipeline by replacing its parts, with nothing of `scalecrafter`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Grid = tuple[int, int]


def frequency(
    pair: int, dim: int, theta: float, s: float, method: str, native: int, alpha: float, beta: float
) -> float:
    """f'_i of one pair of one axis."""
    plain = theta ** (-2 * pair / dim)
    if s <= 1:
        return float(plain)
    if method == "interpolate":
        return float(plain / s)
    if method == "ntk":
        return float((theta * s ** (dim / (dim - 2))) ** (-2 * pair / dim))
    turns = native * plain / (2 * math.pi)
    kept = min(max((turns - alpha) / (beta - alpha), 0.0), 1.0)
    return float((1 - kept) * plain / s + kept * plain)


class Reference:
    """One setting: method, native grid, grid of now, magnitude of cos and sin."""

    def __init__(
        self,
        method: str | None,
        native: Grid,
        grid: Grid,
        magnitude: float = 1.0,
        alpha: float = 1.0,
        beta: float = 32.0,
    ) -> None:
        self.method, self.native, self.grid, self.magnitude = method, native, grid, magnitude
        self.alpha, self.beta = alpha, beta

    def angles(self, positions: Tensor, dim: int, theta: float, axis: int | None) -> Tensor:
        """`(positions, dim / 2)`; `axis` is 0 (vertical), 1 (horizontal) or None (no image axis)."""
        s = 1.0 if axis is None or self.method is None else self.grid[axis] / self.native[axis]
        native = 1 if axis is None else self.native[axis]
        rates = [
            frequency(pair, dim, theta, s, self.method or "", native, self.alpha, self.beta) for pair in range(dim // 2)
        ]
        return torch.outer(positions.double(), torch.tensor(rates, dtype=torch.float64))

    def by_ids(self, ids: Tensor, dims: Any, theta: float, image_axes: tuple[int, int] = (1, 2)) -> Tensor:
        """All angles `(tokens, sum of dims / 2)`."""
        axes = [image_axes.index(axis) if axis in image_axes else None for axis in range(len(dims))]
        columns = [self.angles(ids[:, axis], dim, theta, axes[axis]) for axis, dim in enumerate(dims)]
        return torch.cat(columns, dim=1)

    def cos_sin(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Real pairs."""
        wide = angles.repeat_interleave(2, dim=1)
        return (wide.cos() * self.magnitude).float(), (wide.sin() * self.magnitude).float()

    def complex(self, angles: Tensor) -> Tensor:
        """Complex pairs."""
        return (torch.polar(torch.ones_like(angles), angles) * self.magnitude).to(torch.complex64)

    def qwen(self, text: int, dims: Any, theta: float) -> tuple[Tensor, Tensor]:
        """(image, text): the image centred, the text after the half of the native size (of an axis that is scaled)."""
        ids = [
            [0, row - (self.grid[0] - self.grid[0] // 2), column - (self.grid[1] - self.grid[1] // 2)]
            for row in range(self.grid[0])
            for column in range(self.grid[1])
        ]
        unscaled = Reference(None, self.native, self.grid, self.magnitude)
        sizes = self.grid if self.method is None else [min(pair) for pair in zip(self.grid, self.native, strict=True)]
        begins = max(size // 2 for size in sizes)
        words = torch.arange(begins, begins + text)[:, None].expand(-1, 3)
        image = self.by_ids(torch.tensor(ids), dims, theta)
        return self.complex(image), self.complex(unscaled.by_ids(words, dims, theta))

    def sd3(self, dim: int, table: int, unit: float) -> Tensor:
        """The sums of sines, `(1, tokens, 2 dim)`; horizontal ones first.  The middle of the table stays in place."""
        parts = []
        for axis in (1, 0):
            s = max(self.grid[axis] / self.native[axis], 1.0)
            begins = (table - self.grid[axis]) // 2
            middle = begins + (self.grid[axis] - 1) / 2
            own = (table - self.native[axis]) // 2 + (self.native[axis] - 1) / 2
            rows = torch.zeros(self.grid[axis], dim, dtype=torch.float64)
            for token in range(self.grid[axis]):
                for pair in range(dim // 2):
                    plain = unit * 10000 ** (-2 * pair / dim)
                    if s == 1 or self.method is None:
                        angle = (begins + token) * plain
                    else:
                        ratio = 1 / s
                        if self.method == "ntk":
                            ratio = s ** (-2 * pair / (dim - 2))
                        elif self.method == "yarn":
                            turns = self.native[axis] * plain / (2 * math.pi)
                            kept = min(max((turns - self.alpha) / (self.beta - self.alpha), 0.0), 1.0)
                            ratio = (1 - kept) / s + kept
                        angle = own * plain + (begins + token - middle) * plain * ratio
                    rows[token, pair], rows[token, dim // 2 + pair] = math.sin(angle), math.cos(angle)
            view = (1, -1, dim) if axis == 1 else (-1, 1, dim)
            parts.append(rows.view(view).expand(*self.grid, dim))
        return torch.cat(parts, dim=-1).reshape(1, -1, 2 * dim).float()


class ByIds(nn.Module):
    """In the place of the embeddings of FLUX."""

    def __init__(self, own: Any, reference: Reference) -> None:
        super().__init__()
        self.own, self.reference = own, reference

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin)."""
        return self.reference.cos_sin(self.reference.by_ids(ids, self.own.axes_dim, self.own.theta))


class Qwen(nn.Module):
    """In the place of Qwen-Image's."""

    def __init__(self, own: Any, reference: Reference) -> None:
        super().__init__()
        self.own, self.reference = own, reference

    def forward(self, _shapes: Any, max_txt_seq_len: int, **_: Any) -> tuple[Tensor, Tensor]:
        """(image, text)."""
        return self.reference.qwen(max_txt_seq_len, self.own.axes_dim, self.own.theta)


class LookUp:
    """In the place of Z-Image's."""

    def __init__(self, own: Any, reference: Reference) -> None:
        self.own, self.reference = own, reference

    def __call__(self, ids: Tensor) -> Tensor:
        """Complex numbers."""
        return self.reference.complex(self.reference.by_ids(ids, self.own.axes_dims, self.own.theta))


@contextmanager
def by_hand(pipe: Any, family: str, reference: Reference, temperature: float = 1.0) -> Iterator[Any]:
    """A pipeline with its embedding replaced, and the queries of image attention multiplied as they are used."""
    patch = pytest.MonkeyPatch()
    transformer = pipe.transformer
    kinds = {"flux": ByIds, "chroma": ByIds, "flux2": ByIds, "qwen-image": Qwen}
    if family in kinds:
        own = transformer.pos_embed
        transformer.pos_embed = kinds[family](own, reference)
    elif family == "z-image":
        own = transformer.rope_embedder
        transformer.rope_embedder = LookUp(own, reference)
    elif family == "sd3":
        own = transformer.pos_embed
        unit = own.base_size / own.pos_embed_max_size / own.interpolation_scale
        table = reference.sd3(own.pos_embed.shape[-1] // 2, own.pos_embed_max_size, unit)
        patch.setattr(own, "cropped_pos_embed", lambda *_: table)
    attend = nn.functional.scaled_dot_product_attention

    def scaled(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        seen = key.shape[-2] >= reference.grid[0] * reference.grid[1]
        return attend(query * temperature if seen and temperature != 1 else query, key, value, **options)

    patch.setattr(torch.nn.functional, "scaled_dot_product_attention", scaled)
    try:
        yield pipe
    finally:
        patch.undo()
        if family in kinds:
            transformer.pos_embed = own
        elif family == "z-image":
            transformer.rope_embedder = own
