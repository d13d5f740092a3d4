"""Memory and work of making one checkpoint of a chain from another, estimated from shapes alone."""

from __future__ import annotations

from dataclasses import dataclass

from .causal import FrameConvolution
from .chain import Chain
from .deep_compression import LinearAttention
from .feature_map import band_rows
from .operations import CONVOLUTION_COST, ELEMENT_COST, Addition, Attention, Convolution, EnlargedConvolution, Residual
from .regions import Region, Size

SCORES_BYTES = 256 << 20
"""Attention scores at once on a GPU: queries come in chunks of as many as give this.  A CPU keeps none."""
CALL_COST = 5e6
"""Floating point operations that could be done while an operation is being called."""
TRANSFER_COST = 2500.0
"""Floating point operations that a GPU does while a byte travels to or from host memory."""


@dataclass(frozen=True)
class Span:
    """One way to make map `stop` from map `start`."""

    start: int
    stop: int
    tile: Size
    """In image pixels, at most."""
    inner: bool = False
    """Whether the map inside the last residual block, before its last normalisation, is stored too.  Otherwise it is
    computed once for its statistics and again for the result."""
    host: bool = False
    """Whether map `stop` is stored in host memory."""
    peak: int = 0
    """Bytes on the device, beyond model, input and final output."""
    cost: float = 0.0
    """Work in floating point operations."""


class Estimator:
    """Memory and work of spans of one chain.

    Args:
        chain: the chain.
        item: bytes of a number.
        device: the type of the device that computes, "cpu" or another.
    """

    def __init__(self, chain: Chain, item: int, device: str) -> None:
        self.chain, self.item, self._on_cpu = chain, item, device == "cpu"
        self._known: dict[tuple[int, int, Size], tuple[int, float]] = {}

    def span(
        self, start: int, stop: int, tile: Size, inner: bool = False, from_host: bool = False, to_host: bool = False
    ) -> Span:
        """One way from map `start` to map `stop`, with its peak memory and its work."""
        source = 0 if from_host or start == 0 else self.map_bytes(start)
        if isinstance(self.chain.operations[start], Attention):
            peak, cost = self._attention(start, tile, source, to_host)
        else:
            peak, cost = self._sweeps(start, stop, tile, inner, source, to_host)
        moved = (from_host and start > 0) * self.map_bytes(start) * (1 + len(self.chain.norms(start, stop)))
        moved += to_host * self.map_bytes(stop)
        return Span(start, stop, tile, inner, to_host, peak, cost + TRANSFER_COST * moved)

    def map_bytes(self, place: int) -> int:
        """Bytes of a map."""
        height, width = self.chain.sizes[place]
        return self.chain.channels[place] * height * width * self.item

    def whole(self) -> int:
        """Bytes at the peak when the model's own forward makes everything at once, for one picture.

        A causal convolution is given its frame behind two of zeros, and keeps a copy of it to the end.
        """
        kept = self.kept_by_causal()
        return kept + 3 * self.working() if kept else self.working()

    def kept_by_causal(self) -> int:
        """Bytes of one frame of all that causal convolutions keep."""
        return sum(
            self.map_bytes(place)
            for place, operation in enumerate(self.chain.operations)
            if isinstance(operation, Convolution)
            and isinstance(operation.module, FrameConvolution)
            and operation.module.module.kernel_size[0] > 1
        )

    def working(self) -> int:
        """Bytes of the maps that are there together at the worst moment."""
        chain, kept, peak = self.chain, 0, 0
        for place, operation in enumerate(chain.operations):
            given, made = self.map_bytes(place), self.map_bytes(place + 1)
            low = given if self._on_cpu and not operation.in_place else 0  # oneDNN works on a copy in its own order
            if isinstance(operation, Residual):
                kept = max(given, made)
            elif isinstance(operation, EnlargedConvolution):
                given, low = chain.channels[place] * made // chain.channels[place + 1], given
            peak = max(peak, kept + given + made + low)
            if isinstance(operation, Addition):
                kept = 0
        return peak

    def work(self) -> float:
        """Floating point operations of making everything at once."""
        return self._work(0, len(self.chain), Region.whole(self.chain.sizes[-1]))

    def _sweeps(self, start: int, stop: int, tile: Size, inner: bool, source: int, to_host: bool) -> tuple[int, float]:
        chain, norms = self.chain, self.chain.norms(start, stop)
        if start > 0 and chain.norm_at(start) in norms:
            norms = norms[1:]  # its statistics came with the map
        peak, cost = 0, 0.0
        branch = chain.last_branch(start, stop) if inner else None
        for norm in norms:
            waiting = self.map_bytes(norm) if branch and norm == branch[1] else 0
            workspace, work = self._sweep(start, norm, tile)
            peak = max(peak, source + waiting + workspace)
            cost += work + ELEMENT_COST * chain.channels[norm] * chain.sizes[norm][0] * chain.sizes[norm][1]
        if branch is None:
            workspace, work = self._sweep(start, stop, tile)
        else:
            begin, norm = branch
            before, work_before = self._sweep(start, begin, tile)
            workspace, work = self._sweep(norm, stop, tile)
            kept = self._bytes(stop, self.largest_tile(stop, tile))
            workspace, work = max(before, workspace) + kept, work + work_before
            source += self.map_bytes(norm)
        cost += work
        written = 0 if to_host or stop == len(chain) else self.map_bytes(stop)
        peak = max(peak, self._while_written(start, stop, tile, source, written) + workspace)
        return peak, cost

    def _while_written(self, start: int, stop: int, tile: Size, source: int, written: int) -> int:
        """Bytes of both maps at the worst moment of the last sweep: the first is freed as the second grows."""
        height = self.chain.sizes[stop][0]
        rows = self.chain.tile_at(stop, tile)[0]
        ahead = self._band(start) if source else 0.0
        behind = self._band(stop) if written else 0.0
        worst = 0
        for top in {0, (height - 1) // rows * rows}:  # both are linear in between
            needed, _ = self.chain.regions(start, stop, Region((top, min(top + rows, height)), (0, 1)))
            gone = max(needed[0].rows[0] / self.chain.sizes[start][0] - ahead, 0)
            made = min((top + rows) / height + behind, 1)
            worst = max(worst, int(source * (1 - gone) + written * made))
        return worst

    def _band(self, place: int) -> float:
        """A band as a fraction of map `place`, since maps are made and freed in whole bands."""
        size = self.chain.sizes[place]
        return band_rows(self.chain.channels[place], size, self.item) / size[0]

    def _attention(self, place: int, tile: Size, source: int, to_host: bool) -> tuple[int, float]:
        height, width = self.chain.sizes[place]
        tokens, channels = height * width, self.chain.channels[place]
        operation = self.chain.operations[place]
        rows = min(self.chain.tile_at(place, tile)[0], height)
        band = rows * width * channels * self.item
        keys = 2 * self.map_bytes(place)
        written = 0 if to_host else self.map_bytes(place + 1)
        if isinstance(operation, LinearAttention):
            seen = min(rows + 2 * operation.halo, height) * width
            cost = CONVOLUTION_COST * 2 * seen * -(-height // rows) * operation.width * channels
            maps = self._while_written(place, place + 1, (tile[0], self.chain.scale[1]), source, written)
            return maps + seen * (2 * channels * self.item + operation.width * (3 * self.item + 4)), float(cost)
        cost = 2 * CONVOLUTION_COST * tokens * tokens * channels + 4 * CONVOLUTION_COST * tokens * channels * channels
        scores = 0 if self._on_cpu else min(SCORES_BYTES, 4 * tokens * rows * width)
        maps = self._while_written(place, place + 1, (tile[0], self.chain.scale[1]), source, written)
        return maps + keys + 5 * band + 2 * scores, float(cost)

    def _sweep(self, start: int, stop: int, tile: Size) -> tuple[int, float]:
        """(bytes of tiles at the worst moment, work) of a sweep over all tiles of map `stop`."""
        key = (start, stop, self.chain.tile_at(stop, tile))
        if key not in self._known:
            region = self.largest_tile(stop, tile)
            size = self.chain.sizes[stop]
            count = size[0] * size[1] / region.pixels
            self._known[key] = self._workspace(start, stop, region), self._work(start, stop, region) * count
        return self._known[key]

    def largest_tile(self, place: int, tile: Size) -> Region:
        """A tile of map `place` with as much halo as any has: the second one each way, if there is one."""
        size, limit = self.chain.sizes[place], self.chain.tile_at(place, tile)
        height, width = min(size[0], limit[0]), min(size[1], limit[1])
        top, left = min(height, size[0] - height), min(width, size[1] - width)
        return Region((top, top + height), (left, left + width))

    def _bytes(self, place: int, region: Region) -> int:
        return self.chain.channels[place] * region.pixels * self.item

    def _work(self, start: int, stop: int, region: Region) -> float:
        """Of one tile."""
        needed, shortcuts = self.chain.regions(start, stop, region)
        work = float(ELEMENT_COST * self.chain.channels[start] * needed[0].pixels)
        for place in range(start, stop):
            operation = self.chain.operations[place]
            if not isinstance(operation, Residual) or place in shortcuts:
                work += operation.cost(self.chain.channels[place]) * self._produced(place, needed[place - start])
            work += CALL_COST
        return work

    def _produced(self, place: int, given: Region) -> int:
        """Pixels that an operation makes of a region, those included that are cut off afterwards."""
        before, after = self.chain.sizes[place], self.chain.sizes[place + 1]
        return int(given.pixels * (after[0] / before[0]) * (after[1] / before[1]))

    def _workspace(self, start: int, stop: int, region: Region) -> int:
        """Bytes of tiles at the worst moment of `Chain.evaluate`."""
        chain = self.chain
        needed, shortcuts = chain.regions(start, stop, region)
        tile = peak = self._bytes(start, needed[0])
        branches: list[int] = []
        cut = False
        for place in range(start, stop):
            operation, given = chain.operations[place], needed[place - start]
            if isinstance(operation, Residual):
                if place in shortcuts:
                    pixels = shortcuts[place].pixels if operation.shortcut is None else given.pixels
                    branches.append(operation.width * pixels * self.item)
                    peak = max(peak, tile + sum(branches))
            elif isinstance(operation, Addition):
                branches = branches[:-1]
            elif not operation.in_place:
                made = chain.channels[place + 1] * self._produced(place, given) * self.item
                piece = tile if cut else 0  # a convolution wants its tile in one piece
                peak = max(peak, tile + made + int(operation.spare() * made) + piece + sum(branches))
                tile, cut = made, isinstance(operation, Convolution) and given.columns != (0, chain.sizes[place][1])
        return peak


def tile_choices(scale: Size) -> list[Size]:
    """The tiles that are considered, in image pixels: squares, stripes of the whole width, and everything at once."""
    height, width = scale
    squares = [(side, side) for side in (64, 128, 256, 512, 1024) if side < width]
    stripes = [(rows, width) for rows in (8, 16, 32, 64, 128, 256, 512, 1024) if rows < height]
    return [*squares, *stripes, scale]
