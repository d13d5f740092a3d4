"""Videos in exact tiles: every tile goes through all frames before the next one begins.

The causal convolutions of Wan's VAE keep the last two frames of what they saw.  Those of a whole picture are most of
what a decoding takes.  Up to the middle block's attention maps are small and are computed whole; what lies beyond is
computed tile by tile, with the model's own modules and caches, on a tile with as much around it as its result depends
on.  The VAE's own loop over frames stays: its calls are collected, and the last one returns everything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .._util.memory import readable
from ..errors import ScaleCrafterError
from .chain import Chain
from .operations import Convolution, Operation
from .regions import Region, Size, tiles_of
from .spans import Estimator, tile_choices

KEPT = 2
"""Frames that a causal convolution keeps."""
_AT_ONCE = 4
"""The most frames that are computed together: of one latent frame, or of what becomes one."""
_BEYOND = {"encoder": "mid_block", "decoder": "up_blocks"}
"""Where the first half ends: tiles before it in the encoder, after it in the decoder."""


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
        return self.frames if self._name == "_decode" else 1 + (self.frames - 1) // _AT_ONCE

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
    name = operations[0].name.split(".")[0]
    place = boundary(operations, name)
    chain = Chain(operations, chunks[0].shape[1], (chunks[0].shape[-2], chunks[0].shape[-1]))
    before, after = _halves(name)
    if name == "decoder":
        maps = _through(module, chunks, before, caches)
        return _tiled(module, maps, after, chain, (place, len(chain)), tile, caches)
    whole = _tiled(module, chunks, before, chain, (0, place), tile, caches)
    lengths = [1] * len(chunks)
    return torch.cat(_through(module, list(torch.split(whole, lengths, dim=2)), after, caches), dim=2)


def _tiled(
    module: nn.Module,
    chunks: list[Tensor],
    names: set[str],
    chain: Chain,
    places: tuple[int, int],
    tile: Size,
    caches: int,
) -> Tensor:
    """Some children of `module` on all frames, tile by tile."""
    start, stop = places
    given, made = chain.sizes[start], chain.sizes[stop]
    result: Tensor | None = None
    for wanted in tiles_of(made, chain.tile_at(stop, tile)):
        needed = chain.regions(start, stop, wanted)[0][0]
        step = max(given[0] // made[0], 1)  # the encoder's: a tile begins where a pixel of its result does
        seen = Region(_from(needed.rows, step), _from(needed.columns, step))
        rows, columns = (slice(*axis) for axis in (seen.rows, seen.columns))
        frames = _through(module, [chunk[..., rows, columns] for chunk in chunks], names, caches)
        if result is None:
            count = sum(each.shape[2] for each in frames)
            result = frames[0].new_empty((*frames[0].shape[:2], count, *made))
        begun = Region(*((axis[0] * size[1] // size[0], 0) for axis, size in zip(
            (seen.rows, seen.columns), zip(given, made, strict=True), strict=True
        )))  # fmt: skip
        inner = wanted.inside(begun)
        place = 0
        for each in frames:
            target = result[:, :, place : place + each.shape[2]]
            target[..., slice(*wanted.rows), slice(*wanted.columns)] = each[(..., *inner)]
            place += each.shape[2]
        del frames
    assert result is not None
    return result


def _from(interval: tuple[int, int], step: int) -> tuple[int, int]:
    return interval[0] // step * step, interval[1]


def _through(module: nn.Module, chunks: list[Tensor], names: set[str], caches: int) -> list[Tensor]:
    """The children of these names on chunk after chunk, with caches of their own."""
    forward = type(module).forward
    tells = "first_chunk" in inspect.signature(forward).parameters
    cache: list[Any] = [None] * caches
    outputs = []
    with _only(module, names):
        for number, chunk in enumerate(chunks):
            more = {"first_chunk": number == 0} if tells else {}
            outputs.append(forward(module, chunk, feat_cache=cache, feat_idx=[0], **more))
    return outputs


@contextmanager
def _only(module: nn.Module, names: set[str]) -> Iterator[None]:
    """All children but these hand on what they get."""
    own = dict(module._modules)
    module._modules.update({name: child for name, child in passing(module).items() if name not in names})
    try:
        yield
    finally:
        module._modules.update(own)


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


def boundary(operations: list[Operation], name: str) -> int:
    """The first operation of the second half."""
    return next(place for place, one in enumerate(operations) if one.name.startswith(f"{name}.{_BEYOND[name]}"))


def _halves(name: str) -> tuple[set[str], set[str]]:
    head = {"norm_out", "nonlinearity", "conv_out"}
    if name == "decoder":
        return {"conv_in", "mid_block"}, {"up_blocks", *head}
    return {"conv_in", "down_blocks"}, {"mid_block", *head}


class VideoEstimate:
    """Memory of a video, from shapes alone."""

    def __init__(self, operations: list[Operation], name: str, item: int, device: str, call: VideoCall) -> None:
        self._operations, self._name, self._item, self._device, self._call = operations, name, item, device, call
        self._place = boundary(operations, name)

    def whole(self, batch: int, size: Size) -> int:
        """Bytes added at the peak by the VAE's own loop."""
        chain = self._chain(size)
        return batch * (self._held(chain, 0, len(chain)) + 2 * self._result(chain, len(chain)))

    def tile(self, batch: int, size: Size, budget: int, strict: bool) -> Size:
        """The largest tile within a budget; or, unless that is strict, the one that takes least.

        Raises:
            ScaleCrafterError: names the lowest budget that is possible.
        """
        chain = self._chain(size)
        needs = [(self._with(batch, chain, choice), choice) for choice in tile_choices(chain.scale)]
        fitting = [(choice[0] * choice[1], choice) for peak, choice in needs if peak <= budget]
        if fitting:
            return max(fitting)[1]
        lowest, thriftiest = min(needs)
        if not strict:
            return thriftiest
        raise ScaleCrafterError(
            f"{readable(budget)} are too little for the VAE with {self._call.frames} frames of this size: it needs "
            f"{-(-lowest // 2**20)} MiB at the least; raise vae_memory to that, or make a smaller or shorter video"
        )

    def _with(self, batch: int, chain: Chain, tile: Size) -> int:
        """Bytes added at the peak with tiles of this size."""
        decodes = self._name == "decoder"
        start, stop = (self._place, len(chain)) if decodes else (0, self._place)
        wanted = Estimator(chain, self._item, self._device)._largest_tile(stop, tile)
        needed = chain.regions(start, stop, wanted)[0][0]
        part = Chain(chain.operations[start:stop], chain.channels[start], needed.size)
        around = self._held(chain, *((0, self._place) if decodes else (self._place, len(chain))))
        between = self._result(chain, self._place)
        peak = self._held(part, 0, len(part)) + 2 * self._result(part, len(part)) + between
        return batch * (max(peak, around + between) + 2 * self._result(chain, len(chain)))

    def _chain(self, size: Size) -> Chain:
        first = self._operations[0]
        assert isinstance(first, Convolution)
        return Chain(self._operations, first.convolution.in_channels, size)

    def _held(self, chain: Chain, start: int, stop: int) -> int:
        """Caches of all causal convolutions, and what is being computed."""
        part = Chain(chain.operations[start:stop], chain.channels[start], chain.sizes[start])
        estimator = Estimator(part, self._item, self._device)
        return KEPT * estimator.kept_by_causal() + 2 * _AT_ONCE * estimator.working()

    def _result(self, chain: Chain, place: int) -> int:
        """All frames of map `place`."""
        ahead = chain.sizes[place][0] > chain.sizes[0][0] or self._name == "encoder"
        frames = 1 + (self._call.frames - 1) * _AT_ONCE if ahead and self._name == "decoder" else self._call.calls
        return frames * self._bytes(chain, place)

    def _bytes(self, chain: Chain, place: int) -> int:
        height, width = chain.sizes[place]
        return chain.channels[place] * height * width * self._item
