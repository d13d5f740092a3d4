"""The two denoisers of noise damping are the same up to the first layer whose factor differs: that much runs once.

The stages of a U-Net, its down blocks and then the middle one, run one after another.  A hook on each keeps what it
returned for the unconditional half; where the strong denoiser is evaluated, the stages before the first difference
return that, and are not run.  So the U-Net's own forward does the rest: residuals of a ControlNet, features of a
T2I-Adapter, and what comes after.  Kept are copies, since a T2I-Adapter's features are added in place.

Where somebody else acts inside of these stages (`others`), in an unknown class of U-Net, and in a graph of
torch.compile that holds them, the strong denoiser is evaluated whole.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..ops.redilation import UNDILATED
from ..recipes.resolution import LayerChanges
from .others import is_transparent, undisturbed

_KNOWN = ("UNet2DConditionModel", "UNet3DConditionModel", "UNetMotionModel", "UNetSpatioTemporalConditionModel")
"""Classes of diffusers that give a stage nothing but its arguments, and use nothing but what it returns."""
_AFTER = ("up_blocks", "conv_norm_out", "conv_out")
_SHADOWING = threading.Lock()


class _Now(threading.local):
    """The current U-Net call of one thread."""

    shared = 0
    """How many stages, from the first, both denoisers have in common."""
    rows: tuple[int, ...] | None = None
    """What has as many rows holds both halves; None: one branch alone."""
    replays = False

    def __init__(self) -> None:
        self.kept: dict[int, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Now:
        return _Now()


class SharedStages:
    """The stages of one U-Net."""

    def __init__(self) -> None:
        self._stages: list[nn.Module] = []
        self._names: list[str] = []
        self._handles: list[RemovableHandle] = []
        self._now = _Now()
        self._replaying = 0
        self._forwards: list[Any] = []

    def watch(self, unet: nn.Module) -> None:
        """Follow the stages of a U-Net; again where its modules have changed."""
        self.leave()
        if not any(type(unet).forward is getattr(kind, "forward", None) for kind in _known_classes()):
            return
        found = [(f"down_blocks.{number}", block) for number, block in enumerate(unet.down_blocks)]  # type: ignore[arg-type]
        found += [("mid_block", unet.mid_block)] if isinstance(unet.mid_block, nn.Module) else []
        self._names, self._stages = [name for name, _ in found], [stage for _, stage in found]
        self._handles = [
            stage.register_forward_hook(functools.partial(self._keep, number))
            for number, stage in enumerate(self._stages)
        ]

    def leave(self) -> None:
        """Leave the stages as `watch` found them."""
        for handle in self._handles:
            handle.remove()
        self._names, self._stages, self._handles = [], [], []
        self.forget()

    def forget(self) -> None:
        """Nothing of this thread's call is kept any longer."""
        self._now.shared, self._now.replays = 0, False
        self._now.kept.clear()

    def begin(
        self, unet: nn.Module, structure: LayerChanges, strong: LayerChanges | None, rows: tuple[int, ...] | None
    ) -> None:
        """Before the structure-aware denoiser: keep what the strong one will need of it.

        Args:
            unet: the U-Net.
            structure: of the structure-aware denoiser.
            strong: of the strong one; None where there is none.
            rows: how many rows a tensor of both halves can have; None where the call is one branch alone.
        """
        self.forget()
        if strong is None or not self._stages or unet.training or not is_transparent(unet.forward):
            return
        shared = min(map(self._stage_of, differing_layers(structure, strong)), default=len(self._stages))
        stages = self._stages[:shared]
        if any(stage.__dict__.get("_compiled_call_impl") is not None for stage in stages):
            return
        if undisturbed(module for stage in stages for module in stage.modules()):
            self._now.shared, self._now.rows = shared, rows

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """While the strong denoiser is evaluated: the stages in common return what was kept, once."""
        now = self._now
        if len(now.kept) < now.shared or not now.shared:
            self.forget()
            yield
            return
        with _SHADOWING:
            self._replaying += 1
            if self._replaying == 1:
                self._shadow()
        now.replays = True
        try:
            yield
        finally:
            self.forget()
            with _SHADOWING:
                self._replaying -= 1
                if self._replaying == 0:
                    self._restore()

    def _keep(self, number: int, _stage: nn.Module, _args: Any, output: Any) -> None:
        """After a stage."""
        if torch.compiler.is_compiling():
            return
        now = self._now
        if number >= now.shared or now.replays:
            return
        kept = None if number in now.kept else _copied(output, now.rows, {})
        if kept is None:  # evaluated twice, or not in halves: not as we know it
            self.forget()
        else:
            now.kept[number] = kept

    def _stage_of(self, layer: str) -> int:
        """The number of the stage that a layer is in; after the last for what comes later."""
        for number, name in enumerate(self._names):
            if layer.startswith(f"{name}."):
                return number
        return len(self._names) if layer.startswith(_AFTER) else 0

    def _shadow(self) -> None:
        """Take the place of each stage's `forward`: for the threads that replay."""
        self._forwards = [stage.__dict__.get("forward") for stage in self._stages]
        for number, stage in enumerate(self._stages):
            stage.__dict__["forward"] = functools.partial(self._answer, number, stage.forward)

    def _restore(self) -> None:
        for stage, own in zip(self._stages, self._forwards, strict=True):
            del stage.__dict__["forward"]
            if own is not None:
                stage.__dict__["forward"] = own
        self._forwards = []

    def _answer(self, number: int, forward: Any, *args: Any, **kwargs: Any) -> Any:
        now = self._now
        return now.kept.pop(number) if now.replays and number in now.kept else forward(*args, **kwargs)


def differing_layers(structure: LayerChanges, strong: LayerChanges) -> set[str]:
    """The layers that the two denoisers run differently."""
    names = structure.factors.keys() | strong.factors.keys()
    factors = {name for name in names if structure.factors.get(name, UNDILATED) != strong.factors.get(name, UNDILATED)}
    return factors | (structure.dispersed ^ strong.dispersed)


def _copied(value: Any, rows: tuple[int, ...] | None, known: dict[int, Tensor]) -> Any:
    """The same with copies of the first half of every tensor, the same tensor being one copy; None: not in halves."""
    if isinstance(value, Tensor):
        if rows is not None and value.shape[0] not in rows:
            return None
        if id(value) not in known:
            known[id(value)] = value.clone() if rows is None else value[: value.shape[0] // 2].clone()
        return known[id(value)]
    if type(value) is not tuple:
        return None
    copies = tuple(_copied(item, rows, known) for item in value)
    return None if any(copy is None for copy in copies) else copies


@functools.cache
def _known_classes() -> list[Any]:
    import diffusers

    return [getattr(diffusers, name) for name in _KNOWN if hasattr(diffusers, name)]
