"""Videos in exact tiles: every tile goes through all frames before the next one begins.

The causal convolutions of Wan's VAE keep the last two frames of what they saw.  Those of a whole picture are most of
what a decoding takes.  Up to the middle block's attention maps are small and are computed whole; what lies beyond is
computed tile by tile, with the model's own modules and caches, on a tile with as much around it as its result depends
on; after every block, what the next one does not need is cut off.  The VAE's own loop over frames stays: its calls are
collected, and the last one returns everything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._util.memory import give_back_free_memory
from .chain import Chain
from .operations import Operation
from .regions import Region, Size, tiles_of
from .video_estimate import AT_ONCE, Block, VideoEstimate, halves_of, regions_of


class VideoCall:
    """In the place of a VAE's `_encode` or `_decode`: knows how many calls of its part belong together."""

    def __init__(self, vae: Any, part: Any, name: str) -> None:
        self._vae, self._part, self._name = vae, part, name
        self._own = vae.__dict__.get(name)
        self._plain: Callable[..., Any] = getattr(vae, name)
        self.frames = 0
        """Of what is given; 0 outside of a call."""
        self._seen: list[Tensor] = []

    @property
    def calls(self) -> int:
        """How often the part is called."""
        return self.frames if self._name == "_decode" else 1 + (self.frames - 1) // AT_ONCE

    def put_on(self) -> None:
        """Take its place."""
        self._vae.__dict__[self._name] = self
        self._part.video = self

    def take_off(self) -> None:
        """Leave the VAE's attributes as they were."""
        if self._vae.__dict__.get(self._name) is self:
            del self._vae.__dict__[self._name]
            if self._own is not None:
                self._vae.__dict__[self._name] = self._own
        self._part.video = None

    def __call__(self, values: Tensor, *args: Any, **kwargs: Any) -> Any:
        self.frames, self._seen = values.shape[2], []
        try:
            return self._plain(values, *args, **kwargs)
        finally:
            self.frames, self._seen = 0, []

    def estimate(self, operations: list[Operation], values: Tensor) -> VideoEstimate:
        """Of this call, whose part does this to the frames of `values`."""
        part = "decoder" if self._name == "_decode" else "encoder"
        return VideoEstimate(operations, part, values.element_size(), values.device.type, self.frames, self.calls)

    def collecting(
        self, module: nn.Module, operations: list[Operation], tile: Size, restore: Callable[[], None], caches: int
    ) -> nn.Module:
        """What stands for the first child of `module` in one of its calls."""
        return _Collecting(self, module, operations, tile, restore, caches)

    def collect(self, values: Tensor) -> list[Tensor] | None:
        """All chunks of frames, once the last one is here."""
        self._seen.append(values)
        return self._seen if len(self._seen) == self.calls else None


class _Collecting(nn.Module):
    """In the place of a part's first child: no frames for every call but the last one, and all of them for that."""

    def __init__(
        self,
        call: VideoCall,
        module: nn.Module,
        operations: list[Operation],
        tile: Size,
        restore: Callable[[], None],
        caches: int,
    ) -> None:
        super().__init__()
        self._part = (module,)  # no child of this one
        self._own = dict(module._modules)
        self._call, self._operations, self._tile, self._restore, self._caches = call, operations, tile, restore, caches

    def forward(self, values: Tensor, *_: Any) -> Tensor:
        chunks = self._call.collect(values)
        if chunks is None:
            chain = Chain(self._operations, values.shape[1], (values.shape[-2], values.shape[-1]))
            return values.new_empty((values.shape[0], chain.channels[-1], 0, *chain.sizes[-1]))
        (module,) = self._part
        stand_ins = dict(module._modules)
        module._modules.update(self._own)
        try:
            output = in_tiles(module, self._operations, chunks, self._tile, self._caches)
        except BaseException:
            self._restore()  # hooks after a call are not called for an interrupt
            raise
        module._modules.update(stand_ins)
        return output


def in_tiles(module: nn.Module, operations: list[Operation], chunks: list[Tensor], tile: Size, caches: int) -> Tensor:
    """What an encoder or decoder makes of a video.

    Args:
        module: the part.
        operations: what it does to one frame.
        chunks: the frames `(batch, channels, frames, height, width)` of each of its calls.
        tile: (height, width) in image pixels.
        caches: how many caches a call is given.

    Returns:
        `(batch, channels, frames, height, width)`.
    """
    chain = Chain(operations, chunks[0].shape[1], (chunks[0].shape[-2], chunks[0].shape[-1]))
    before, after = halves_of(operations)
    if operations[0].name.startswith("decoder"):
        maps = _through(module, chunks, dict.fromkeys(block.path for block in before), caches)
        return _tiled(module, maps, after, chain, tile, caches)
    whole = _tiled(module, chunks, before, chain, tile, caches)
    lengths = [1] * len(chunks)
    rest = dict.fromkeys(block.path for block in after)
    return torch.cat(_through(module, list(torch.split(whole, lengths, dim=2)), rest, caches), dim=2)


def _tiled(
    module: nn.Module, chunks: list[Tensor], blocks: list[Block], chain: Chain, tile: Size, caches: int
) -> Tensor:
    """Some blocks of `module` on all frames, tile by tile."""
    made = chain.sizes[blocks[-1].stop]
    result: Tensor | None = None
    for wanted in tiles_of(made, chain.tile_at(blocks[-1].stop, tile)):
        seen, *regions = regions_of(chain, blocks, wanted)
        rows, columns = (slice(*axis) for axis in (seen.rows, seen.columns))
        cuts: dict[str, Cut | None] = {}
        for block, region in zip(blocks, regions, strict=True):
            cuts[block.path] = region.inside(_made(chain, block, seen))
            seen = region
        frames = _through(module, [chunk[..., rows, columns] for chunk in chunks], cuts, caches)
        if result is None:
            count = sum(each.shape[2] for each in frames)
            result = frames[0].new_empty((*frames[0].shape[:2], count, *made))
        place = 0
        for each in frames:
            target = result[:, :, place : place + each.shape[2]]
            target[..., slice(*wanted.rows), slice(*wanted.columns)] = each
            place += each.shape[2]
        del frames
    assert result is not None
    return result


def _made(chain: Chain, block: Block, given: Region) -> Region:
    """Where what a block makes of a region begins; where it ends does not matter."""
    before, after = chain.sizes[block.start], chain.sizes[block.stop]
    top, left = (axis[0] * large // small for axis, large, small in zip(
        (given.rows, given.columns), after, before, strict=True
    ))  # fmt: skip
    return Region((top, top), (left, left))


Cut = tuple[slice, slice]
"""Rows and columns that are kept of what a block makes."""


def _through(module: nn.Module, chunks: list[Tensor], cuts: Mapping[str, Cut | None], caches: int) -> list[Tensor]:
    """The blocks of these paths on chunk after chunk, with caches of their own; what each makes is cut."""
    forward = type(module).forward
    tells = "first_chunk" in inspect.signature(forward).parameters
    cache: list[Any] = [None] * caches
    outputs = []
    own = dict(module._modules)
    module._modules.update(_only(module, cuts))
    try:
        for number, chunk in enumerate(chunks):
            more = {"first_chunk": number == 0} if tells else {}
            outputs.append(forward(module, chunk, feat_cache=cache, feat_idx=[0], **more))
    finally:
        module._modules.update(own)
    return outputs


def _only(module: nn.Module, cuts: Mapping[str, Cut | None]) -> dict[str, nn.Module | None]:
    """By name, what stands for the children of a module: all blocks but those of these paths hand on what they get."""
    children = passing(module)
    for name, child in module._modules.items():
        if child is not None and name in cuts:
            children[name] = _cutting(child, cuts[name])
        elif isinstance(child, nn.ModuleList):
            kept = [(each, f"{name}.{number}") for number, each in enumerate(child) if f"{name}.{number}" in cuts]
            if kept:
                children[name] = nn.ModuleList([_cutting(each, cuts[path]) for each, path in kept])
    return children


def _cutting(block: nn.Module, cut: Cut | None) -> nn.Module:
    return block if cut is None else _Cutting(block, cut)


class _Cutting(nn.Module):
    """In the place of a block: what the block makes, of which some is cut off."""

    def __init__(self, block: nn.Module, cut: Cut) -> None:
        super().__init__()
        self._block = (block,)  # no child of this one
        self._cut = cut

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        output: Tensor = self._block[0](*args, **kwargs)
        output = output[(..., *self._cut)].contiguous()
        if output.device.type == "cpu":
            give_back_free_memory()  # what is freed lies in holes between the caches
        return output


def passing(module: nn.Module) -> dict[str, nn.Module | None]:
    """By the names of a module's children, what hands on what it gets."""
    dtype = next(module.parameters()).dtype
    children: dict[str, nn.Module | None] = {}
    for name, child in module._modules.items():
        one = _Passing(dtype)
        children[name] = nn.ModuleList([one]) if isinstance(child, nn.ModuleList) else one
    return children


class _Passing(nn.Module):
    """In the place of a child: hands on what it gets."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, dtype=dtype), requires_grad=False)  # some versions ask its type

    def forward(self, values: Tensor, *_: Any, **__: Any) -> Tensor:
        return values
