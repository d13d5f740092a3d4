"""What else acts on a convolution that is to be re-dilated, and would be silently wrong beside it: refused by name.

LoRAs of peft are re-dilated with their base (`architecture.convolutions`).  LoHa, LoKr, OFT and the like have a
convolution of their own that is no module.  Adapters that take the place of a convolution's `forward` (LyCORIS'
`apply_to`, kohya's networks, HiDiffusion) never ask its `_conv_forward`, or add a convolution that does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from ..errors import ModelError
from ..recipes.resolution import LayerChanges
from ..unet.architecture import ADAPTER_INPUT
from .convolution import ConvolutionPatch
from .others import home, is_transparent

Patches = Mapping[str, Sequence[tuple[nn.Conv2d, ConvolutionPatch]]]


def adapters_in(modules: Iterable[tuple[str, nn.Module]]) -> dict[str, nn.Module]:
    """Adapters of peft around a convolution that are no LoRA: module path → adapter."""
    return {
        path: module
        for path, module in modules
        if isinstance(getattr(module, "base_layer", None), nn.Conv2d) and not hasattr(module, ADAPTER_INPUT)
    }


def refuse_adapters(adapters: Mapping[str, nn.Module], patches: Patches, settings: LayerChanges) -> None:
    """Raise `ModelError` where such an adapter, or one in a `forward`, is on a layer that `settings` change."""
    for name in settings.factors.keys() | settings.dispersed:
        adapter = adapters.get(name)
        if adapter is not None and not getattr(adapter, "merged", False):
            raise _refused(name, type(adapter).__module__.split(".")[-2], "pipe.fuse_lora()")
        for convolution, patch in patches.get(name, ()):
            owner = _owner_of_forward(convolution)
            if owner is not None:
                raise _refused(name, f"{type(owner).__module__}.{type(owner).__name__}", "its own merge function")
            if patch.foreign is not None:
                raise ModelError(
                    f"the convolution {name} has a _conv_forward of {home(patch.foreign)}, which re-dilation would "
                    'leave out: take it off (for seamless tiling, set padding_mode = "circular" on the convolutions)'
                )


def refuse_skipped(patches: Patches) -> None:
    """After a U-Net call, raise `ModelError` for a layer that should have been re-dilated, and whose own `forward`
    never asked our patch."""
    for name, found in patches.items():
        for convolution, patch in found:
            if patch.was_skipped and not is_transparent(convolution.forward):
                raise ModelError(
                    f"the convolution {name} has a forward of {home(convolution.forward)}, which never asks "
                    "torch.nn.Conv2d._conv_forward, so it cannot be re-dilated: take that off, or call "
                    "scalecrafter.remove(pipe) first"
                )


def _refused(name: str, kind: str, merge: str) -> ModelError:
    return ModelError(
        f"the convolution {name} has an adapter of the kind {kind}, which cannot be re-dilated with it: fuse it into "
        f"the weights first ({merge}), or unload it"
    )


def _owner_of_forward(convolution: nn.Conv2d) -> nn.Module | None:
    """The module whose method stands in the place of a convolution's `forward`; None for its own."""
    forward = convolution.__dict__.get("forward")
    owner = getattr(inspect.unwrap(forward), "__self__", None) if forward is not None else None
    return owner if isinstance(owner, nn.Module) and owner is not convolution else None
