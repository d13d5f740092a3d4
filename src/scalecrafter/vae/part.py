"""The encoder or the decoder of a VAE, hooked: whether a call is tiled, and how its own forward is led to do it.

For a call that is tiled, the hook before it puts stand-ins in the place of the part's children: the first one runs
all operations tile by tile, the others hand on what they get.  The part's own forward then runs as always, inside of
whatever offloading has put around it, and the hook after it puts the children back.

A VAE of videos calls its part once for each few frames (`video.py` says of how many in all).  One frame is a picture.
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
from .deep_compression import Halving
from .execution import execute
from .operations import Convolution, Operation
from .overflow import VaeNotice, check_given, repaired
from .planning import MemoryBudgetError, TilePlan, make_plan
from .regions import Size
from .spans import Estimator
from .video import VideoCall, passing
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
        self.channels = _channels_in(self._operations)
        self._children: dict[str, nn.Module | None] | None = None
        self._shortcut = next((each for each in ("in_shortcut", "out_shortcut") if module.__dict__.get(each)), None)
        """AutoencoderDC: what the part's own forward adds around its children."""
        self.video: VideoCall | None = None
        """The call of the VAE that this part's calls belong to, where it is one of videos."""
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
            self._module.register_forward_pre_hook(self._before, with_kwargs=True),
            self._module.register_forward_hook(self._after, always_call=True),
        ]

    def outlook(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[int, TilePlan | None]:
        """Return (peak bytes without tiling, tile plan or None if no tiling is needed)."""
        shape = (*shape[:2], *shape[-2:])
        chain = Chain(self._operations, self.channels, (shape[2], shape[3]))
        needed = shape[0] * Estimator(chain, dtype.itemsize, device.type).whole()
        budget = self._allowed(needed, device)
        if needed <= budget and self._tile is None:
            return needed, None
        budget -= budget % _STEP if budget > 16 * _STEP else 0  # so that plans are found again
        key = (tuple(shape), dtype, device.type, budget)
        if key not in self._plans:
            self._plans[key] = self._plan(chain, shape[0], dtype, device, budget)
        return needed, self._plans[key]

    def _allowed(self, needed: int, device: torch.device) -> int:
        """Bytes that a call may add which needs so many at once."""
        if self._budget != AUTO:
            return int(self._budget or needed)
        free = free_memory(device)
        return needed if free is None else int(_SHARE * free)

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
            if self._shortcut is not None:
                setattr(self._module, self._shortcut, True)

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
    def _before(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._turn.take()
        self.restore()
        values = arguments[0] if arguments else None
        if not isinstance(values, Tensor) or values.is_meta or values.ndim != (4 if self.video is None else 5):
            return
        check_given(values, self._name)
        if values.requires_grad or module.training or module._compiled_call_impl is not None:
            return  # a training needs the whole graph, and a compiled module is one
        entry: nn.Module
        if self.video is not None and self.video.frames > 1:
            needed, tile = self._video_tile(self.video, values)
            if tile is None:
                return
            cache = named["feat_cache"]
            cache[:] = [None] * len(cache)
            self._warn(needed, f"tiles of {tile[1]}×{tile[0]}, all frames of each")
            entry = self.video.collecting(module, self._operations, tile, self.restore, len(cache))
        else:
            needed, plan = self.outlook(tuple(values.shape), values.dtype, values.device)
            if plan is None:
                return
            self._warn(needed, str(plan))
            entry = _Tiled(self._operations, plan, self.restore)
        self._children = dict(module._modules)
        module._modules.update(self._stand_ins(entry))
        if self._shortcut is not None:
            setattr(module, self._shortcut, False)

    def _video_tile(self, video: VideoCall, values: Tensor) -> tuple[int, Size | None]:
        """Peak bytes of a whole video at once, and the tiles that it needs, if any."""
        size = (values.shape[-2], values.shape[-1])
        estimate = video.estimate(self._operations, values)
        needed = estimate.whole(values.shape[0], size)
        budget = self._allowed(needed, values.device)
        if needed <= budget and self._tile is None:
            return needed, None
        if self._tile is not None:
            return needed, self._tile
        return needed, estimate.tile(values.shape[0], size, budget, strict=self._budget != AUTO)

    def _warn(self, needed: int, how: str) -> None:
        if self._budget == AUTO and not self._warned:
            self._warned = True
            warnings.warn(
                f"the VAE's {self._name} would take {readable(needed)} at once, more than is free, so it runs in "
                f"tiles, with the same result: {how}",
                VaeNotice,
                stacklevel=3,
            )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _after(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor | None:
        self.restore()
        is_outer = not self._repairing
        self._repairing = True  # which may call the module again
        try:
            if not arguments or not isinstance(output, Tensor) or output.is_meta:
                return None
            if self.video is not None and self.video.frames > 1 and output.dtype is torch.float16:
                return None  # a video's calls hand on what they have seen, so that none can be repeated alone
            return repaired(module, self._name, arguments, output)
        finally:
            if is_outer:
                self._repairing = False
                self._turn.give()

    def _stand_ins(self, entry: nn.Module) -> dict[str, nn.Module | None]:
        children = passing(self._module)
        children[self._entry] = entry
        return children


def _channels_in(operations: list[Operation]) -> int:
    """Channels of the map that enters the first of some operations."""
    for operation in operations:
        if isinstance(operation, Convolution):
            return int(operation.convolution.in_channels)
        if isinstance(operation, Halving):
            return int(operation.module.conv.in_channels)
    raise ModelError("this VAE has no convolution, so exact tiling does not know it")


class _Tiled(nn.Module):
    """In the place of a part's first child: everything that the part does, in tiles."""

    def __init__(self, operations: list[Operation], plan: TilePlan, restore: Callable[[], None]) -> None:
        super().__init__()
        self._operations, self._plan, self._restore = operations, plan, restore

    def forward(self, values: Tensor, *_: Any) -> Tensor:
        if values.ndim == 5:  # a picture, given as a video of one frame
            return self.forward(values.squeeze(2)).unsqueeze(2)
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
