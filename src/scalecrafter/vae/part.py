"""The encoder or the decoder of a VAE, hooked: whether a call is tiled, and how its own forward is led to do it.

For a call that is tiled, the hook before it puts stand-ins in the place of the part's children: the first one runs
all operations tile by tile, the others hand on what they get.  The part's own forward then runs as always, inside of
whatever offloading has put around it, and the hook after it puts the children back.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .._util.memory import AUTO, MemoryBudget, free_memory, is_out_of_memory, readable
from ..errors import ModelError, VaeOutOfMemoryError
from .chain import Chain
from .execution import execute
from .operations import Convolution, Operation
from .overflow import VaeNotice, check_given, repaired
from .planning import MemoryBudgetError, TilePlan, make_plan
from .regions import Size
from .spans import Estimator
from .walk import operations_of

_SHARE = 0.8
"""Of the free memory, what an automatic choice uses."""
_STEP = 1 << 26


class _Turn:
    """One call at a time, since the stand-ins are there for all threads.  A thread that was interrupted keeps it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Turn:
        return _Turn()

    def take(self) -> None:
        if self._holder != threading.get_ident():
            self._lock.acquire()
            self._holder = threading.get_ident()

    def give(self) -> None:
        if self._holder == threading.get_ident():
            self._holder = None
            self._lock.release()


class Part:
    """One half of a VAE.

    Args:
        module: the encoder or decoder.
        name: "encoder" or "decoder".
        budget: bytes, or "auto".
        tile: (height, width) in image pixels, or None to choose.

    Raises:
        ModelError: for a layer that is not known.
    """

    def __init__(self, module: nn.Module, name: str, budget: MemoryBudget, tile: Size | None) -> None:
        self._module, self._name, self._budget, self._tile = module, name, budget, tile
        layers = module._modules.get("layers")  # AutoencoderTiny: what its forward does around them stays its own
        self._entry = "conv_in" if layers is None else "layers"
        self._operations = operations_of(module if layers is None else layers, name)
        first = self._operations[0]
        assert isinstance(first, Convolution)
        self.channels = first.convolution.in_channels
        self._children: dict[str, nn.Module | None] | None = None
        self._plans: dict[tuple[Any, ...], TilePlan] = {}
        self._warned = False
        self._repairing = False
        self._turn = _Turn()

    @property
    def factor(self) -> int:
        """How many times larger the image is than the latents, each way."""
        probe = Chain(self._operations, self.channels, (64, 64))
        return max(probe.sizes[-1][0] // 64, 64 // probe.sizes[-1][0])

    def hook(self) -> list[Any]:
        """Register the hooks and return their handles."""
        return [
            self._module.register_forward_pre_hook(self._before),
            self._module.register_forward_hook(self._after, always_call=True),
        ]

    def outlook(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[int, TilePlan | None]:
        """Return (peak bytes without tiling, tile plan or None if no tiling is needed)."""
        chain = Chain(self._operations, self.channels, (shape[2], shape[3]))
        needed = shape[0] * Estimator(chain, dtype.itemsize, device.type).whole()
        free = free_memory(device) if self._budget == AUTO else None
        if self._budget == AUTO:
            budget = needed if free is None else int(_SHARE * free)
        else:
            budget = int(self._budget or needed)
        if needed <= budget and self._tile is None:
            return needed, None
        budget -= budget % _STEP if budget > 16 * _STEP else 0  # so that plans are found again
        key = (tuple(shape), dtype, device.type, budget)
        if key not in self._plans:
            self._plans[key] = self._plan(chain, shape[0], dtype, device, budget)
        return needed, self._plans[key]

    def _plan(self, chain: Chain, batch: int, dtype: torch.dtype, device: torch.device, budget: int) -> TilePlan:
        try:
            return make_plan(chain, dtype.itemsize, device.type, budget, batch, self._tile)
        except MemoryBudgetError:
            if self._budget != AUTO:
                raise
            return make_plan(chain, dtype.itemsize, device.type, None, batch, self._tile)

    def restore(self) -> None:
        """Put the children back, if stand-ins are in their place."""
        if self._children is not None:
            self._module._modules.update(self._children)
            self._children = None

    def __reduce__(self) -> Any:
        raise ModelError(
            "this VAE has a memory budget of ScaleCrafter, and cannot be pickled with it: call "
            "scalecrafter.remove(pipe) first"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Part:
        """That of a copied VAE."""
        twin = memo[id(self)] = object.__new__(type(self))
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _before(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._turn.take()
        self.restore()
        values = arguments[0] if arguments else None
        if not isinstance(values, Tensor) or values.ndim != 4 or values.is_meta:
            return
        check_given(values, self._name)
        if values.requires_grad or module.training or module._compiled_call_impl is not None:
            return  # a training needs the whole graph, and a compiled module is one
        needed, plan = self.outlook(tuple(values.shape), values.dtype, values.device)
        if plan is None:
            return
        if self._budget == AUTO and not self._warned:
            self._warned = True
            warnings.warn(
                f"the VAE's {self._name} would take {readable(needed)} at once, more than is free, so it runs in "
                f"tiles, with the same result: {plan}",
                VaeNotice,
                stacklevel=2,
            )
        self._children = dict(module._modules)
        module._modules.update(self._stand_ins(plan))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _after(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor | None:
        self.restore()
        is_outer = not self._repairing
        self._repairing = True  # which may call the module again
        try:
            if not arguments or not isinstance(output, Tensor) or output.is_meta:
                return None
            return repaired(module, self._name, arguments, output)
        finally:
            if is_outer:
                self._repairing = False
                self._turn.give()

    def _stand_ins(self, plan: TilePlan) -> dict[str, nn.Module | None]:
        dtype = next(self._module.parameters()).dtype
        children: dict[str, nn.Module | None] = {}
        for name, child in self._module._modules.items():
            passing = _Passing(dtype)
            children[name] = nn.ModuleList([passing]) if isinstance(child, nn.ModuleList) else passing
        children[self._entry] = _Tiled(self._operations, plan, self.restore)
        return children


class _Tiled(nn.Module):
    """In the place of a part's first child: everything that the part does, in tiles."""

    def __init__(self, operations: list[Operation], plan: TilePlan, restore: Callable[[], None]) -> None:
        super().__init__()
        self._operations, self._plan, self._restore = operations, plan, restore

    def forward(self, values: Tensor) -> Tensor:
        chain = Chain(self._operations, values.shape[1], (values.shape[2], values.shape[3]))
        try:
            return execute(chain, self._plan, values)
        except BaseException as error:
            self._restore()  # hooks after a call are not called for an interrupt
            if not is_out_of_memory(error):
                raise
            raise VaeOutOfMemoryError(
                f"the VAE ran out of memory in tiles: it tried {self._plan}. Try next: a vae_memory of "
                f"{self._plan.peak >> 21} MiB, which takes more time"
            ) from error


class _Passing(nn.Module):
    """In the place of a part's other children: hands on what it gets."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, dtype=dtype), requires_grad=False)  # some versions ask its type

    def forward(self, values: Tensor, *_: Any) -> Tensor:
        return values
