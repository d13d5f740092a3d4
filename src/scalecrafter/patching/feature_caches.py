"""Caches that reuse a U-Net's features from step to step, beside factors that change from step to step.

A feature that was made with one dilation must not be used with another, nor one denoiser's by the other.  DeepCache
(Ma et al. 2023, arXiv 2312.00858) is made to begin anew; caches without that possibility are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from ..recipes.resolution import LayerChanges

_HELPER = "DeepCacheSDHelper"
_REFUSED = ("faster_cache", "first_block_cache", "mag_cache", "pyramid_attention_broadcast", "sea_cache", "taylorseer")
"""Modules of diffusers.hooks whose hooks keep features."""


def refuse_feature_caches(modules: Iterable[tuple[str, nn.Module]]) -> None:
    """Raise `ModelError` for a cache of diffusers on any of a U-Net's modules, given with their paths."""
    for path, module in modules:
        registry = module.__dict__.get("_diffusers_hook")
        for hook in registry.hooks.values() if registry is not None else ():
            home = type(hook).__module__.rpartition(".")[2]
            if home.startswith(_REFUSED):
                raise ModelError(
                    f"{type(hook).__name__} on {path or 'the U-Net'} reuses features of earlier steps, which were made "
                    "with other dilation factors: take the cache off, or call scalecrafter.remove(pipe) first"
                )


class DeepCacheFeatures:
    """Which features DeepCache may reuse; does nothing where there is no DeepCache."""

    def __init__(self) -> None:
        self._structure: LayerChanges | None = None
        self._strong: LayerChanges | None = None
        self._strong_features: dict[Any, Any] = {}

    def begin_run(self) -> None:
        """Nothing of an earlier run is reused."""
        self._structure = self._strong = None
        self._strong_features = {}

    def end(self, unet: nn.Module) -> None:
        """Reset DeepCache's step counter."""
        helper = _deep_cache_on(unet)
        if helper is not None:
            helper.start_timestep = None

    def are_reused(self, unet: nn.Module, timestep: Any) -> bool:
        """After a U-Net call: whether DeepCache is on, which skips layers.

        Raises:
            ModelError: where DeepCache did not see the call, and so took features of another step.
        """
        helper = _deep_cache_on(unet)
        if helper is not None and not _saw(helper, timestep):
            raise ModelError(
                "DeepCache no longer sees the calls of this U-Net, so it reuses features of wrong steps: it was "
                "enabled after offloading, which has put the U-Net's own forward back.  Call helper.disable(), "
                "pipe.remove_all_hooks(), helper.enable(), and then enable offloading again"
            )
        return helper is not None

    def before_structure(self, unet: nn.Module, settings: LayerChanges) -> None:
        """Force a full evaluation if the factors changed since the last step."""
        helper = _deep_cache_on(unet)
        if helper is not None and settings != self._structure:
            helper.start_timestep = None  # its interval begins at this step
        self._structure = settings

    @contextmanager
    def of_the_strong_one(self, unet: nn.Module, settings: LayerChanges) -> Iterator[None]:
        """While the strong denoiser is evaluated: it has features of its own, and the same interval."""
        helper = _deep_cache_on(unet)
        if helper is None:
            yield
            return
        features, start = helper.cached_output, helper.start_timestep
        helper.cached_output = self._strong_features
        if settings != self._strong:
            helper.start_timestep = None
        self._strong = settings
        try:
            yield
        finally:
            helper.cached_output, helper.start_timestep = features, start


def _saw(helper: Any, timestep: Any) -> bool:
    """Whether DeepCache has counted up to this timestep."""
    value = float(timestep.flatten()[0]) if isinstance(timestep, Tensor) else float(timestep)
    table = [float(t) for t in helper.pipe.scheduler.timesteps]
    return value not in table or helper.cur_timestep == table.index(value)


def _deep_cache_on(unet: nn.Module) -> Any:
    """DeepCache's helper, which the `forward` that it puts on every block refers to; None where there is none."""
    block = getattr(unet, "mid_block", unet)  # None in a pruned U-Net, which DeepCache cannot wrap
    forward = None if block is None else block.__dict__.get("forward")
    for cell in getattr(forward, "__closure__", None) or ():
        if type(cell.cell_contents).__name__ == _HELPER:
            return cell.cell_contents
    return None
