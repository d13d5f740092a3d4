"""The positions of a larger picture, in the form in which each kind of embedding gives them.

What the embedding itself computes is kept wherever an axis is not scaled, to the bit.  The angles of a scaled axis are
`o · f + (p − o) · f'`: o is where the axis begins (or its middle, for a table), which keeps its own angle f · o.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._util.sizes import GridSize
from ..errors import ModelError
from ..ops.rotary import PositionScaling, rotary_frequencies, whole_ids

TABLE_THETA = 10000.0
"""Of diffusers' tables of sines and cosines."""
_TABLE_ROUNDING = 2e-3
"""How far a stored table may be from the sines: those of published models are in half precision."""


@dataclass(frozen=True)
class PositionChanges:
    """What one call of a transformer does with its positions."""

    scaling: PositionScaling | None
    """None leaves all angles alone."""
    native: GridSize
    grid: GridSize
    """The tokens of the picture that is drawn."""
    magnitude: float = 1.0
    """By which cos and sin are multiplied."""
    text_tokens: int = 0
    """How many text tokens come before the image's, in a call that computes both."""
    image_tokens: int = 0
    """How many tokens of images there are, those of references included."""

    def axes(self, grid: GridSize | None = None) -> Iterator[tuple[int, float, int]]:
        """(axis, scale, native tokens) of every scaled axis; axis 0 is vertical."""
        for axis, (tokens, native) in enumerate(zip(grid or self.grid, self.native, strict=True)):
            if self.scaling is not None and tokens > native:
                yield axis, tokens / native, native

    def frequencies(self, dim: int, theta: float, scale: float, native: int) -> tuple[Tensor, Tensor]:
        """(plain, scaled) frequencies of an axis, each `(dim / 2,)`."""
        assert self.scaling is not None
        return rotary_frequencies(dim, theta), self.scaling.frequencies(dim, theta, scale, native)


def _angles(positions: Tensor, origin: float, plain: Tensor, scaled: Tensor) -> Tensor:
    """`(positions, dim / 2)` in float64, on the CPU: not every device has it."""
    offsets = positions.to("cpu", torch.float64) - origin
    return origin * plain + torch.outer(offsets, scaled)


def _columns(dims: list[int], axis: int, pairs: bool = False) -> slice:
    """The channels of an axis; `pairs` counts complex numbers."""
    counts = [dim // 2 for dim in dims] if pairs else list(dims)
    start = sum(counts[:axis])
    return slice(start, start + counts[axis])


def rotary_of_ids(embedding: Any, plain: Callable[..., Any], changes: PositionChanges, ids: Tensor) -> Any:
    """(cos, sin) `(tokens, channels)` of an embedding that gets ids `(tokens, axes)`; axes 1 and 2 are spatial.

    Tokens that share their first id are one picture, which is scaled by its own size.
    """
    cos, sin = (part.clone() for part in plain(ids))
    start = changes.text_tokens if len(ids) == changes.text_tokens + changes.image_tokens else 0
    image = ids[start:]
    for picture in sorted(set(image[:, 0].tolist())):
        rows = start + (image[:, 0] == picture).nonzero().flatten()
        spans = whole_ids(ids[rows])
        low, high = spans.amin(0).tolist(), spans.amax(0).tolist()
        grid = GridSize(*(int(high[axis] - low[axis]) + 1 for axis in (1, 2)))
        for axis, scale, native in changes.axes(grid):
            dim = embedding.axes_dim[axis + 1]
            frequencies = changes.frequencies(dim, embedding.theta, scale, native)
            angles = _angles(spans[:, axis + 1], low[axis + 1], *frequencies).repeat_interleave(2, dim=1)
            columns = _columns(embedding.axes_dim, axis + 1)
            cos[rows, columns] = angles.cos().to(cos)
            sin[rows, columns] = angles.sin().to(sin)
    return (cos, sin) if changes.magnitude == 1 else (cos * changes.magnitude, sin * changes.magnitude)


def rotary_of_shapes(
    embedding: Any, _plain: Callable[..., Any], changes: PositionChanges, *args: Any, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """(image, text) `(tokens, channels / 2)` complex, of Qwen-Image's embedding, which gets (frames, height, width).

    Its tables and caches are read, never filled.  Text begins where it would at the native size.
    """
    named = inspect.signature(type(embedding).forward).bind(embedding, *args, **kwargs).arguments
    shapes = named["video_fhw"]
    shapes = shapes[0] if isinstance(shapes, list) else shapes
    shapes = shapes if isinstance(shapes, list) else [shapes]
    length = named.get("max_txt_seq_len")
    length = int(max(named["txt_seq_lens"]) if length is None else length)
    pictures, begins = [], 0
    for index, (frames, height, width) in enumerate(shapes):
        grid = GridSize(height, width)
        scaled = {axis: (scale, native) for axis, scale, native in changes.axes(grid)}
        axes = [_qwen_table(embedding, 0, torch.arange(index, index + frames))]
        for axis, tokens in enumerate(grid):
            positions = torch.arange(tokens) - (tokens - tokens // 2 if embedding.scale_rope else 0)
            if axis in scaled:
                frequencies = changes.frequencies(embedding.axes_dim[axis + 1], embedding.theta, *scaled[axis])
                angles = _angles(positions, 0.0, *frequencies)
                axes.append(torch.polar(torch.ones_like(angles), angles).to(torch.complex64))
            else:
                axes.append(_qwen_table(embedding, axis + 1, positions))
            own = scaled[axis][1] if axis in scaled else tokens
            begins = max(begins, own // 2 if embedding.scale_rope else own)
        views = ((frames, 1, 1, -1), (1, height, 1, -1), (1, 1, width, -1))
        spread = [part.view(view).expand(frames, height, width, -1) for part, view in zip(axes, views, strict=True)]
        pictures.append(torch.cat(spread, dim=-1).reshape(frames * height * width, -1))
    image, text = torch.cat(pictures), embedding.pos_freqs[begins : begins + length].cpu()
    if changes.magnitude != 1:
        image, text = image * changes.magnitude, text * changes.magnitude
    device = named.get("device") or "cpu"
    return image.to(device), text.to(device)


def _qwen_table(embedding: Any, axis: int, positions: Tensor) -> Tensor:
    """Its own entries for whole positions, negative ones too, `(positions, dim / 2)`."""
    columns = _columns(embedding.axes_dim, axis, pairs=True)
    above, below = embedding.pos_freqs[:, columns].cpu(), embedding.neg_freqs[:, columns].cpu()
    if len(positions) and (int(positions.max()) >= len(above) or int(positions.min()) < -len(below)):
        raise ModelError(
            f"this model knows positions up to {len(above)} along an axis, and {len(positions)} tokens are asked for "
            "on an axis that is not scaled: name a recipe with [positions]"
        )
    return torch.where((positions >= 0)[:, None], above[positions.clamp(min=0)], below[positions.clamp(max=-1)])


def rotary_of_look_up(embedding: Any, plain: Callable[..., Any], changes: PositionChanges, ids: Tensor) -> Tensor:
    """`(tokens, channels / 2)` complex, of Z-Image's look-up of whole ids `(tokens, 3)`; axes 1 and 2 are spatial.

    Captions and padding are at (0, 0) of the spatial axes, whose angle is 0 in any case.
    """
    scaled = list(changes.axes())
    known = ids.clone()
    for axis, tokens in enumerate(changes.grid):
        if axis in [one for one, *_ in scaled]:
            known[:, axis + 1].clamp_(max=embedding.axes_lens[axis + 1] - 1)
        elif tokens > embedding.axes_lens[axis + 1]:
            raise ModelError(
                f"this model knows {embedding.axes_lens[axis + 1]} positions along an axis, and {tokens} tokens are "
                "asked for on an axis that is not scaled: name a recipe with [positions]"
            )
    found: Tensor = plain(known)
    for axis, scale, native in scaled:
        dim = embedding.axes_dims[axis + 1]
        angles = _angles(ids[:, axis + 1], 0.0, *changes.frequencies(dim, embedding.theta, scale, native))
        columns = _columns(embedding.axes_dims, axis + 1, pairs=True)
        found[:, columns] = torch.polar(torch.ones_like(angles), angles).to(found)
    return found if changes.magnitude == 1 else found * changes.magnitude


def rotary_of_grid(embedding: Any, plain: Callable[..., Any], changes: PositionChanges, latents: Tensor) -> Any:
    """(cos, sin) of an embedding that reads the grid off the latents `(batch, channels, [frames,] height, width)`."""
    cos, sin = plain(latents)
    shape = cos.shape
    dims = _grid_dims(embedding)
    before = len(dims) - 2  # the frames
    height, width = changes.grid
    cos, sin = (part.reshape(-1, height, width, shape[-1]).clone() for part in (cos, sin))
    for axis, scale, native in changes.axes():
        dim = dims[before + axis]
        frequencies = changes.frequencies(dim, float(getattr(embedding, "theta", 10000.0)), scale, native)
        angles = _angles(torch.arange(changes.grid[axis]), 0.0, *frequencies).repeat_interleave(2, dim=1)
        angles = angles.unsqueeze(1 - axis)  # along the other axis all alike
        columns = _columns(dims, before + axis)
        cos[..., columns] = angles.cos().to(cos)
        sin[..., columns] = angles.sin().to(sin)
    return tuple((part * changes.magnitude).reshape(shape) for part in (cos, sin))


def _grid_dims(embedding: Any) -> list[int]:
    if hasattr(embedding, "t_dim"):
        return [embedding.t_dim, embedding.h_dim, embedding.w_dim]
    return list(embedding.rope_dim)


def table_of_sines(embedding: Any, plain: Callable[..., Any], changes: PositionChanges, height: int, width: int) -> Any:
    """The part `(1, tokens, channels)` of SD3's table for latents of `height` × `width`.

    The part is cut from the table's middle, which therefore keeps its angles while those around it are scaled.
    """
    grid = GridSize(height // embedding.patch_size, width // embedding.patch_size)
    scaled = {axis: (scale, native) for axis, scale, native in changes.axes(grid)}
    if not scaled:
        return plain(height, width)
    side = embedding.pos_embed_max_size
    table = embedding.pos_embed
    dim = table.shape[-1] // 2  # of each axis; the horizontal one comes first
    for axis, tokens in enumerate(grid):
        if axis not in scaled and tokens > side:
            raise ModelError(
                f"this model's table knows {side} positions along an axis, and {tokens} tokens are asked for on an "
                "axis that is not scaled: name a recipe with [positions]"
            )
    unit = embedding.base_size / side / embedding.interpolation_scale
    _check_table(table, side, dim, unit)
    halves = []
    for axis, tokens in enumerate(grid):
        plain_frequencies = unit * rotary_frequencies(dim, TABLE_THETA)
        positions = torch.arange(tokens) + (side - tokens) // 2
        if axis in scaled:
            assert changes.scaling is not None
            scale, native = scaled[axis]
            frequencies = changes.scaling.scaled(plain_frequencies, dim, TABLE_THETA, scale, native)
            middle = (side - tokens) // 2 + (tokens - 1) / 2
            own = (side - native) // 2 + (native - 1) / 2  # the middle of the native part
            offsets = positions.double() - middle
            angles = own * plain_frequencies + torch.outer(offsets, frequencies)
        else:
            angles = torch.outer(positions.double(), plain_frequencies)
        view = (tokens, 1, -1) if axis == 0 else (1, tokens, -1)
        halves.append(torch.cat([angles.sin(), angles.cos()], dim=1).view(view).expand(*grid, -1))
    return torch.cat([halves[1], halves[0]], dim=-1).reshape(1, -1, 2 * dim).to(table)


def _check_table(table: Tensor, side: int, dim: int, unit: float) -> None:
    """Raise `ModelError` for a table that is not made of these sines, such as a trained one."""
    positions = torch.arange(side, dtype=torch.float64)
    angles = torch.outer(positions, unit * rotary_frequencies(dim, TABLE_THETA))
    sines = torch.cat([angles.sin(), angles.cos()], dim=1)
    stored = table.detach().reshape(side, side, 2 * dim)
    across, down = stored[0, :, :dim].double().cpu(), stored[:, 0, dim:].double().cpu()
    if max((across - sines).abs().max(), (down - sines).abs().max()) > _TABLE_ROUNDING:
        raise ModelError(
            "this model's table of positions is not the sines and cosines of diffusers' PatchEmbed, so [positions] "
            "cannot be computed for it: name a recipe without that section"
        )


POSITIONS: dict[str, Callable[..., Any]] = {
    "ids": rotary_of_ids,
    "shapes": rotary_of_shapes,
    "look-up": rotary_of_look_up,
    "grid": rotary_of_grid,
    "table": table_of_sines,
}
"""By the kind of embedding: what stands in for its call.  Each gets the embedding, its own call and the changes."""
