"""How to run a chain within a memory budget in the least time: which maps are stored, where, and the tile sizes.

The maps that may be stored are checkpoints.  A plan is a path over checkpoints; its steps are `Span`s.  The peak of
each span must stay within the budget, and its work is its length.  The shortest path is the plan.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

from .._util.memory import readable
from ..errors import ScaleCrafterError
from .chain import Chain
from .operations import Attention
from .regions import Size
from .spans import Estimator, Span, tile_choices

_SPANS = (2, 4, 8)
"""The most maps that a span leads to the next of: longer ones are only tried when nothing else fits."""
_GOOD_ENOUGH = 1.04
"""Less memory is taken if it costs at most this much more work."""

State = tuple[int, bool]
"""A stored map, and whether it is in host memory."""


class MemoryBudgetError(ScaleCrafterError):
    """A memory budget below what any tile plan needs."""


@dataclass(frozen=True)
class TilePlan:
    """How a chain is run."""

    spans: tuple[Span, ...]
    output: int
    """Bytes of the result."""

    @property
    def peak(self) -> int:
        """Bytes that the run adds at its peak to what the device held before it, the result included."""
        return max(span.peak for span in self.spans) + self.output

    @property
    def cost(self) -> float:
        """Floating point operations, or what takes as long."""
        return sum(span.cost for span in self.spans)

    def __str__(self) -> str:
        tiles = sorted({span.tile for span in self.spans})
        sizes = ", ".join(f"{width}×{height}" for height, width in tiles)
        place = ", some maps in host memory" if any(span.host for span in self.spans) else ""
        return f"{len(self.spans)} sections in tiles of {sizes}{place}; peak about {readable(self.peak)}"


def make_plan(
    chain: Chain, item: int, device: str, budget: int | None, batch: int = 1, tile: Size | None = None
) -> TilePlan:
    """The quickest way to run a chain within a budget.

    Args:
        chain: what is run.
        item: bytes of a number.
        device: type of the device; maps can wait in host memory unless it is "cpu".
        budget: bytes that the run may add to what the device holds; None for as few as can be.
        batch: pictures, one after the other; their results are there together.
        tile: (height, width) in image pixels that every section uses; None to choose.

    Raises:
        MemoryBudgetError: names the lowest budget that is possible.
    """
    estimator = Estimator(chain, item, device)
    output = batch * estimator.map_bytes(len(chain))
    allowed = None if budget is None else budget - output
    if allowed is None:
        steps = _steps(chain, estimator, _SPANS[1], device != "cpu", tile)
        return TilePlan(_shortest(chain, steps, _lowest_peak(chain, steps)), output)
    for longest in _SPANS:
        steps = _steps(chain, estimator, longest, device != "cpu", tile)
        spans = _shortest(chain, steps, allowed)
        if spans:
            return TilePlan(spans, output)
    lowest = _lowest_peak(chain, steps) + output
    raise MemoryBudgetError(
        f"{readable(budget or 0)} are too little for the VAE at this size: it needs {-(-lowest // 2**20)} MiB at the "
        "least; raise vae_memory to that, or make a smaller picture"
    )


Steps = dict[State, list[tuple[State, Span]]]


def _steps(chain: Chain, estimator: Estimator, longest: int, host: bool, tile: Size | None) -> Steps:
    """All spans between maps at most `longest` checkpoints apart, from every state."""
    choices = [tile] if tile is not None else tile_choices(chain.scale)
    places = (False, True) if host else (False,)
    steps: Steps = {}
    for number, start in enumerate(chain.checkpoints[:-1]):
        for stop in chain.checkpoints[number + 1 : number + 1 + longest]:
            if stop > start + 1 and any(isinstance(one, Attention) for one in chain.operations[start:stop]):
                break
            inners = (False, True) if chain.last_branch(start, stop) else (False,)
            for from_host, to_host, inner in itertools.product(places, places, inners):
                if (from_host and start == 0) or (to_host and stop == len(chain)):
                    continue
                steps.setdefault((start, from_host), []).extend(
                    ((stop, to_host), estimator.span(start, stop, choice, inner, from_host, to_host))
                    for choice in choices
                )
    return steps


def _shortest(chain: Chain, steps: Steps, allowed: int) -> tuple[Span, ...]:
    """The spans of the least work from the first map to the last, all within `allowed` bytes; or none."""
    best: dict[State, float] = {(0, False): 0.0}
    came: dict[State, tuple[State, Span]] = {}
    queue: list[tuple[float, State]] = [(0.0, (0, False))]
    while queue:
        cost, state = heapq.heappop(queue)
        if cost > best[state]:
            continue
        for after, span in _thrifty(steps.get(state, []), allowed):
            if cost + span.cost < best.get(after, float("inf")):
                best[after], came[after] = cost + span.cost, (state, span)
                heapq.heappush(queue, (best[after], after))
    spans: list[Span] = []
    state = (len(chain), False)
    while state in came:
        state, span = came[state]
        spans.insert(0, span)
    return tuple(spans)


def _thrifty(ways: list[tuple[State, Span]], allowed: int) -> list[tuple[State, Span]]:
    """Of the ways to each state that fit, the one with the least memory among those about as quick as the quickest."""
    by_state: dict[State, list[Span]] = {}
    for state, span in ways:
        if span.peak <= allowed:
            by_state.setdefault(state, []).append(span)
    chosen = []
    for state, spans in by_state.items():
        quickest = min(span.cost for span in spans)
        chosen.append((state, min((s for s in spans if s.cost <= _GOOD_ENOUGH * quickest), key=lambda s: s.peak)))
    return chosen


def _lowest_peak(chain: Chain, steps: Steps) -> int:
    """The lowest peak that some path keeps."""
    peaks = sorted({span.peak for ways in steps.values() for _, span in ways})
    low, high = 0, len(peaks) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _shortest(chain, steps, peaks[middle]) else (middle + 1, high)
    return peaks[low]
