"""A transformer that is evaluated in overlapping windows of tokens, whose predictions are averaged.

The same as `windows` does with a U-Net (Bar-Tal et al. 2023, arXiv 2302.08113, section 3).  Each window is a picture of
its own to the transformer, with the positions of one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..transformer.architecture import image_grid, read_transformer
from ..transformer.families import TransformerFamily
from .windows import Window, fuse, windows

Call = dict[str, Any]
"""The arguments of a transformer's `forward` by name."""


@contextmanager
def fused_token_windows(pipe: Any, transformer: nn.Module) -> Iterator[Any]:
    """For the length of a `with` block, let each call be the average of calls on windows of the native size.

    Windows are half a window apart.  A call on no more tokens than one window has is left alone, to the bit.

    Raises:
        ModelError: for a family whose calls cannot be taken apart.
    """
    architecture = read_transformer(pipe, transformer)
    if architecture.kind.embedding not in _CUTS and architecture.kind.embedding is not None:
        raise ModelError(f"windows of a transformer of the family {architecture.family} are not known")
    before = transformer.__dict__.get("forward")  # an offloading hook's, say
    transformer.__dict__["forward"] = _FusedForward(transformer, architecture.kind, architecture.native)
    try:
        yield pipe
    finally:
        del transformer.__dict__["forward"]
        if before is not None:
            transformer.__dict__["forward"] = before


class _FusedForward:
    """What stands in for a transformer's `forward`."""

    def __init__(self, transformer: nn.Module, family: TransformerFamily, window: tuple[int, int]) -> None:
        self._forward, self._transformer, self._family, self._window = transformer.forward, transformer, family, window
        self._parameters = list(inspect.signature(type(transformer).forward).parameters)[1:]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        named = dict(zip(self._parameters, args, strict=False)) | kwargs
        grid = image_grid(self._family, self._transformer, named)
        stride = (self._window[0] // 2, self._window[1] // 2)
        places = windows(grid, self._window, stride)
        if len(places) == 1:
            return self._forward(*args, **kwargs)
        cut = _CUTS[self._family.embedding or "grid"]
        outputs = [self._forward(**cut(named, grid, place)) for place in places]
        predictions = [output[0] for output in outputs]
        if self._family.packed:
            maps = [
                torch.unflatten(each.transpose(1, 2), 2, (rows.stop - rows.start, columns.stop - columns.start))
                for each, (rows, columns) in zip(predictions, places, strict=True)
            ]
            fused: Any = fuse(maps, places, grid).flatten(2).transpose(1, 2)
        elif isinstance(predictions[0], list):  # Z-Image: a list of pictures
            fused = [
                _fused_maps([each[number] for each in predictions], places, grid)
                for number in range(len(predictions[0]))
            ]
        else:
            fused = _fused_maps(predictions, places, grid)
        first = outputs[0]
        return (fused,) if isinstance(first, tuple) else type(first)(sample=fused)


def _fused_maps(predictions: list[Tensor], places: list[Window], grid: tuple[int, int]) -> Tensor:
    """Of maps of latents, of which a token is some by some."""
    rows, _ = places[0]
    factor = predictions[0].shape[-2] // (rows.stop - rows.start)
    return fuse(
        predictions,
        [(_times(rows, factor), _times(columns, factor)) for rows, columns in places],
        (grid[0] * factor, grid[1] * factor),
    )


def _times(axis: slice, factor: int) -> slice:
    return slice(axis.start * factor, axis.stop * factor)


def _tokens(values: Tensor, grid: tuple[int, int], place: Window) -> Tensor:
    """Of tokens `(batch, tokens, channels)` those of a window."""
    return torch.unflatten(values, 1, tuple(grid))[:, place[0], place[1]].flatten(1, 2)


def _by_ids(named: Call, grid: tuple[int, int], place: Window) -> Call:
    hidden, ids = named["hidden_states"], named["img_ids"]
    if hidden.shape[1] != grid[0] * grid[1]:
        raise ModelError("windows are not known for pictures that come with references: take another method")
    batched = ids if ids.ndim == 3 else ids[None]
    inner = _tokens(batched, grid, place).clone()
    corner = batched[:, :1]
    inner[..., 1:3] += corner[..., 1:3] - inner[:, :1, 1:3]
    changed = {"hidden_states": _tokens(hidden, grid, place), "img_ids": inner if ids.ndim == 3 else inner[0]}
    mask = named.get("attention_mask")
    if mask is not None:  # Chroma's: of the text's tokens, then of the image's
        text = mask.shape[1] - hidden.shape[1]
        changed["attention_mask"] = torch.cat([mask[:, :text], _tokens(mask[:, text:], grid, place)], dim=1)
    return named | changed


def _by_shapes(named: Call, grid: tuple[int, int], place: Window) -> Call:
    rows, columns = place
    shapes = named["img_shapes"]
    if named["hidden_states"].shape[1] != grid[0] * grid[1]:
        raise ModelError("windows are not known for pictures that come with references: take another method")
    size = (1, rows.stop - rows.start, columns.stop - columns.start)
    batch = [[size]] * len(shapes) if isinstance(shapes, list) else shapes
    return named | {"hidden_states": _tokens(named["hidden_states"], grid, place), "img_shapes": batch}


def _by_map(named: Call, grid: tuple[int, int], place: Window) -> Call:
    hidden = named["hidden_states"]
    factor = hidden.shape[-2] // grid[0]
    return named | {"hidden_states": hidden[..., _times(place[0], factor), _times(place[1], factor)]}


def _by_list(named: Call, grid: tuple[int, int], place: Window) -> Call:
    factor = named["x"][0].shape[-2] // grid[0]
    rows, columns = _times(place[0], factor), _times(place[1], factor)
    return named | {"x": [picture[..., rows, columns] for picture in named["x"]]}


_CUTS = {"ids": _by_ids, "shapes": _by_shapes, "grid": _by_map, "table": _by_map, "look-up": _by_list}
"""By the kind of embedding: the arguments of a call on one window."""
