"""Carry out a tile plan: sweep over tiles, gather statistics on the way, store and free maps."""

from __future__ import annotations

import torch
from torch import Tensor

from .._util.memory import give_back_free_memory
from .chain import Chain
from .feature_map import FeatureMap
from .global_attention import attend
from .moments import Moments
from .operations import Attention
from .planning import TilePlan
from .regions import Region, tiles_of
from .spans import Span


def execute(chain: Chain, plan: TilePlan, values: Tensor) -> Tensor:
    """What the operations of `chain` make of `values`.

    Args:
        chain: operations, and the size of their input.
        plan: how to run them.
        values: `(batch, channels, height, width)`; samples are run one after the other.

    Returns:
        `(batch, channels, height, width)` on the device of `values`.
    """
    shape = (len(values), chain.channels[-1], *chain.sizes[-1])
    output = torch.empty(shape, dtype=values.dtype, device=values.device)
    with torch.no_grad():
        for sample, result in zip(torch.split(values, 1), torch.split(output, 1), strict=True):
            _Run(chain, sample, result).run(plan)
    return output


class _Run:
    """One sample on its way through a chain."""

    def __init__(self, chain: Chain, sample: Tensor, result: Tensor) -> None:
        self._chain, self._result = chain, result
        self._device, self._dtype = sample.device, sample.dtype
        self._source = FeatureMap.over(sample)
        self._moments: dict[int, Moments] = {}

    def run(self, plan: TilePlan) -> None:
        """All spans, one after the other."""
        for span in plan.spans:
            target = self._target(span)
            if isinstance(self._chain.operations[span.start], Attention):
                self._attend(span, target)
            else:
                self._convolve(span, target)
            self._source = target
            if self._device.type == "cpu":
                give_back_free_memory()

    def _target(self, span: Span) -> FeatureMap:
        if span.stop == len(self._chain):
            return FeatureMap.over(self._result)
        return self._new_map(span.stop, torch.device("cpu") if span.host else self._device)

    def _new_map(self, place: int, where: torch.device) -> FeatureMap:
        return FeatureMap(self._chain.channels[place], self._chain.sizes[place], self._dtype, where)

    def _convolve(self, span: Span, target: FeatureMap) -> None:
        """Statistics first, norm by norm, each from the start of the span; then the map itself."""
        chain, start = self._chain, span.start
        branch = chain.last_branch(start, span.stop) if span.inner else None
        inner: FeatureMap | None = None
        for norm in chain.norms(start, span.stop):
            if branch is not None and norm == branch[1]:
                inner = self._new_map(norm, self._device)
            if norm not in self._moments:
                self._gather(start, norm, span, inner)
        following = chain.norm_at(span.stop)
        if following is not None:
            self._moments[following] = Moments()
        for region in self._tiles(span.stop, span):
            if branch is None or inner is None:
                self._free_rows(self._source, start, span.stop, region)
                tile = self._evaluate(start, span.stop, region)
            else:
                tile = self._finish(start, span.stop, branch, inner, region)
            target.write(region, tile)
            if following is not None:
                self._moments[following].add(tile)
            del tile  # before the next one is made

    def _finish(self, start: int, stop: int, branch: tuple[int, int], inner: FeatureMap, region: Region) -> Tensor:
        """A tile at the end of a residual block: its branch from the source, the rest from `inner`."""
        chain, (begin, norm) = self._chain, branch
        self._free_rows(self._source, start, begin, region)
        self._free_rows(inner, norm, stop, region)
        shortcut = chain.operations[begin].run(self._evaluate(start, begin, region), region, region)
        return chain.evaluate(norm, stop, region, inner, self._moments, self._device, branch=shortcut)

    def _gather(self, start: int, norm: int, span: Span, store: FeatureMap | None = None) -> None:
        """The statistics of the map that enters operation `norm`, which may be stored at once."""
        moments = Moments()
        for region in self._tiles(norm, span):
            tile = self._evaluate(start, norm, region)
            moments.add(tile)
            if store is not None:
                store.write(region, tile)
            del tile
        self._moments[norm] = moments

    def _attend(self, span: Span, target: FeatureMap) -> None:
        operation, place = self._chain.operations[span.start], span.start
        assert isinstance(operation, Attention)
        if operation.needs_statistics and place not in self._moments:
            self._gather(place, place, span)
        rows = self._chain.tile_at(place, span.tile)[0]
        following = self._chain.norm_at(span.stop)
        added = attend(operation, self._source, target, self._moments.get(place), rows, self._device)
        if following is not None:
            self._moments[following] = added

    def _tiles(self, place: int, span: Span) -> list[Region]:
        return list(tiles_of(self._chain.sizes[place], self._chain.tile_at(place, span.tile)))

    def _evaluate(self, start: int, stop: int, region: Region) -> Tensor:
        return self._chain.evaluate(start, stop, region, self._source, self._moments, self._device)

    def _free_rows(self, waiting: FeatureMap, place: int, stop: int, region: Region) -> None:
        """What lies above everything that this tile of the last sweep, and so all later ones, need."""
        needed, _ = self._chain.regions(place, stop, region)
        waiting.free_rows_above(needed[0].rows[0])
