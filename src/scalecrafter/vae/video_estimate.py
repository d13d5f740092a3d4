"""Which blocks a video's tiles go through, and the memory and the work of that, estimated from shapes alone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from .._util.memory import readable
from ..errors import ScaleCrafterError
from .chain import Chain
from .operations import Convolution, Operation
from .regions import Region, Size
from .spans import Estimator, tile_choices

KEPT = 2
"""Frames that a causal convolution keeps."""
AT_ONCE = 4
"""The most frames that are computed together: of one latent frame, or of what becomes one."""
_BEYOND = {"encoder": "mid_block", "decoder": "up_blocks"}
"""Where the first half ends: tiles before it in the encoder, after it in the decoder."""


@dataclass(frozen=True)
class Block:
    """A child of a part, or an entry of one that is a list: what lies between two places where a tile may be cut."""

    path: str
    """As "mid_block" or "up_blocks.0"."""
    start: int
    stop: int
    """Its operations are those from `start` to before `stop`."""

    def chain(self, whole: Chain, given: Region) -> Chain:
        """What it does to a region of its map."""
        return Chain(whole.operations[self.start : self.stop], whole.channels[self.start], given.size)


def halves_of(operations: list[Operation]) -> tuple[list[Block], list[Block]]:
    """The blocks before and after the place where maps of all frames are kept."""
    blocks: list[Block] = []
    for path, places in itertools.groupby(range(len(operations)), lambda place: _path(operations[place].name)):
        within = list(places)
        blocks.append(Block(path, within[0], within[-1] + 1))
    beyond = _BEYOND[operations[0].name.split(".")[0]]
    middle = next(number for number, block in enumerate(blocks) if block.path.startswith(beyond))
    return blocks[:middle], blocks[middle:]


def _path(name: str) -> str:
    """Of the block that holds a module of this name."""
    _, child, *rest = name.split(".")
    return f"{child}.{rest[0]}" if rest and rest[0].isdigit() else child


def regions_of(chain: Chain, blocks: list[Block], wanted: Region) -> list[Region]:
    """What each of some blocks in a row is given, and at last what they make, for a region of the last map."""
    regions = [wanted]
    for block in reversed(blocks):
        needed = chain.regions(block.start, block.stop, regions[0])[0][0]
        step = max(chain.sizes[block.start][0] // chain.sizes[block.stop][0], 1)
        regions.insert(0, Region(_from(needed.rows, step), _from(needed.columns, step)))
    return regions


def _from(interval: tuple[int, int], step: int) -> tuple[int, int]:
    """Begun where a pixel of a map that is `step` times smaller does."""
    return interval[0] // step * step, interval[1]


class VideoEstimate:
    """Memory and work of a video, from shapes alone."""

    def __init__(self, operations: list[Operation], name: str, item: int, device: str, frames: int, calls: int) -> None:
        self._operations, self._name, self._item, self._device = operations, name, item, device
        self._given, self._calls = frames, calls
        self._before, self._after = halves_of(operations)

    def whole(self, batch: int, size: Size) -> int:
        """Bytes added at the peak by the VAE's own loop."""
        chain = self._chain(size)
        blocks = self._before + self._after
        return batch * (self._at_once(chain, blocks) + 2 * self._result(chain, len(chain)))

    def tile(self, batch: int, size: Size, budget: int, strict: bool) -> Size:
        """The tile of the least work within a budget; or, unless that is strict, the one that takes least memory.

        Raises:
            ScaleCrafterError: names the lowest budget that is possible.
        """
        chain = self._chain(size)
        needs = [(*self.of_tile(batch, size, choice), choice) for choice in tile_choices(chain.scale)]
        fitting = [(work, choice) for peak, work, choice in needs if peak <= budget]
        if fitting:
            return min(fitting)[1]
        lowest, _, thriftiest = min(needs)
        if not strict:
            return thriftiest
        raise ScaleCrafterError(
            f"{readable(budget)} are too little for the VAE with {self._given} frames of this size: it needs "
            f"{-(-lowest // 2**20)} MiB at the least; raise vae_memory to that, or make a smaller or shorter video"
        )

    def of_tile(self, batch: int, size: Size, tile: Size) -> tuple[int, float]:
        """Bytes added at the peak, and work for each frame, with tiles of this size."""
        chain = self._chain(size)
        blocks, rest = (self._after, self._before) if self._name == "decoder" else (self._before, self._after)
        stop = blocks[-1].stop
        wanted = Estimator(chain, self._item, self._device).largest_tile(stop, tile)
        count = chain.sizes[stop][0] * chain.sizes[stop][1] / wanted.pixels
        held, work = self._held(chain, blocks, regions_of(chain, blocks, wanted))
        made = self._frames(stop) * chain.channels[stop] * wanted.pixels * self._item
        between, result = self._result(chain, self._after[0].start), self._result(chain, len(chain))
        peak = max(held + 2 * made, self._at_once(chain, rest)) + between + 2 * result
        return batch * peak, count * work

    def _chain(self, size: Size) -> Chain:
        first = self._operations[0]
        assert isinstance(first, Convolution)
        return Chain(self._operations, first.convolution.in_channels, size)

    def _at_once(self, chain: Chain, blocks: list[Block]) -> int:
        """Bytes that some blocks hold for whole frames."""
        return self._held(chain, blocks, [Region.whole(chain.sizes[block.start]) for block in blocks])[0]

    def _held(self, chain: Chain, blocks: list[Block], regions: list[Region]) -> tuple[int, float]:
        """(bytes of the caches of all causal convolutions, and of what is being computed; work) on these regions."""
        parts = [
            Estimator(block.chain(chain, region), self._item, self._device)
            for block, region in zip(blocks, regions, strict=False)
        ]
        kept = sum(part.kept_by_causal() for part in parts)
        return KEPT * kept + 2 * AT_ONCE * max(part.working() for part in parts), sum(part.work() for part in parts)

    def _result(self, chain: Chain, place: int) -> int:
        """All frames of map `place`."""
        height, width = chain.sizes[place]
        return self._frames(place) * chain.channels[place] * height * width * self._item

    def _frames(self, place: int) -> int:
        """Of a map at this place, in the whole video."""
        grown = self._name == "decoder" and place > self._after[0].start
        return 1 + (self._given - 1) * AT_ONCE if grown else self._calls
