"""What `apply` puts on one U-Net, and how it is taken off again.

A hook before each U-Net call finds the place in the trajectory and sets every convolution, a hook after it damps the
noise, and a `ConvolutionPatch` is on each convolution.  Module hooks, rather than a new `forward`, because offloading
and compilation put their own `forward` there, before or after us.
"""

from __future__ import annotations

import copy
import inspect
import threading
import weakref
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..errors import ModelError
from ..ops.guidance import damped_pair, own_containers, unconditional_half
from ..recipes.automatic import automatic_recipe
from ..recipes.recipe import FreeU
from ..recipes.resolution import UNCHANGED, LayerChanges, ResolvedRecipe, resolve
from ..unet.architecture import Architecture, read_architecture
from ..unet.branches import frames_of, noise_channels
from ..vae import remove_vae_memory
from .adapters import adapters_in, refuse_adapters, refuse_skipped
from .callers import calling_pipeline, is_model
from .calls import UNetCalls
from .convolution import ConvolutionPatch, refused_pickle
from .damping import Branches, Damping, with_possible_damping
from .denoiser_check import DenoiserCheck
from .feature_caches import refuse_feature_caches
from .freeu import install_freeu, restore_freeu
from .module_tree import ModuleTree, WeightSamples
from .shared_attention import SharedAttention
from .shared_stages import SharedStages, differing_layers

_ATTRIBUTE = "_scalecrafter"
_ATTACHING = threading.Lock()


def installation_on(unet: nn.Module) -> Installation | None:
    """What `apply` has put on a U-Net, if anything."""
    return unet.__dict__.get(_ATTRIBUTE)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _before_call(unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    unet.__dict__[_ATTRIBUTE].before(unet, args, kwargs)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _after_call(unet: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
    return unet.__dict__[_ATTRIBUTE].after(unet, output)


class Installation:
    """All that one `apply` puts on a U-Net."""

    def __init__(
        self,
        pipe: Any,
        unet: nn.Module,
        architecture: Architecture,
        resolved: ResolvedRecipe | None,
        freeu: FreeU | None,
        guided: bool | None,
    ) -> None:
        """Nothing is changed before `put_on`; the arguments are those of `apply`."""
        self.resolved = resolved
        self.vae: weakref.ref[nn.Module] | None = None
        """The VAE, where its memory budget came with this installation."""
        self.calls = UNetCalls()
        self._bare = pipe is unet
        self._pipe: weakref.ref[Any] | None = None if self._bare else weakref.ref(pipe)
        self._guided = guided
        self._damping = Damping(named=resolved is not None, bare=self._bare, guided=guided)
        self._parameters = list(inspect.signature(type(unet).forward).parameters)[1:]
        self._architecture = architecture
        self._tree = ModuleTree()
        self._weights = WeightSamples()
        self._stages = SharedStages()
        self._first_attention = SharedAttention()
        self._automatic: dict[tuple[int, int, type], ResolvedRecipe | None] = {}
        self._patches: dict[str, list[tuple[nn.Conv2d, ConvolutionPatch]]] = {}
        self._adapters: dict[str, nn.Module] = {}
        self._freeu = freeu
        self._freeu_before: Any = []
        self._handles: list[RemovableHandle] = []

    def put_on(self, unet: nn.Module) -> None:
        """Put everything on the U-Net; `take_off` is the inverse."""
        self._attach(unet)
        self._freeu_before = install_freeu(unet, self._freeu)
        self._handles = [
            unet.register_forward_pre_hook(_before_call, with_kwargs=True),
            unet.register_forward_hook(_after_call),
        ]
        unet.__dict__[_ATTRIBUTE] = self
        pipe = self._owner(unet)
        if pipe is not None:
            DenoiserCheck.put_on(pipe, "unet", unet)

    def take_off(self, unet: nn.Module) -> None:
        """Leave the U-Net as `put_on` found it."""
        pipe = self._pipe() if self._pipe is not None else None
        if pipe is not None:
            DenoiserCheck.take_off(pipe)
        self.calls.features.end(unet)
        for handle in self._handles:
            handle.remove()
        self._stages.leave()
        self._first_attention.leave()
        restore_freeu(self._freeu_before)
        for patches in self._patches.values():
            for convolution, patch in patches:
                patch.remove(convolution)
        self._patches = {}
        self._tree = ModuleTree()
        del unet.__dict__[_ATTRIBUTE]

    def remove(self, unet: nn.Module) -> None:
        """Take everything off, and the VAE's memory budget that came with it."""
        self.take_off(unet)
        vae = self.vae() if self.vae is not None else None
        if vae is not None:
            remove_vae_memory(vae)

    def at_native_size(self, architecture: Architecture) -> Architecture:
        """An architecture with the native size that `apply` read.

        DDPMPipeline and its like draw what `sample_size` in the U-Net's config says, which is where one asks for more.
        """
        height, width = self._architecture.native_height, self._architecture.native_width
        return replace(architecture, native_height=height, native_width=width)

    def before(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a U-Net call: find the place in the trajectory and set every convolution."""
        calls = self.calls
        if calls.in_strong_denoiser:
            return
        with _ATTACHING:
            self._attach(unet)
        named = dict(zip(self._parameters, args, strict=False)) | kwargs
        sample = named["sample"]
        pipe = self._caller(unet)
        calls.begin(pipe)
        scheduler, run_length = getattr(pipe, "scheduler", None), getattr(pipe, "num_timesteps", None)
        calls.timestep = named["timestep"]
        place = calls.trajectory.place(scheduler, calls.timestep, run_length)
        guider = getattr(pipe, "guider", None)
        first_branch = guider is None or guider.is_conditional
        if place < calls.last_place or (first_branch and (place == calls.last_place or calls.trajectory.is_new)):
            calls.features.begin_run()
        calls.last_place = place
        resolved = calls.resolved = self.resolved or self._automatic_for(pipe, *sample.shape[-2:])
        structure = resolved.structure(place) if resolved else UNCHANGED
        calls.strong = resolved.strong(place) if resolved else None
        calls.branches = self._damping.acts_on(pipe, unet, sample, calls.unconditional) if calls.strong else None
        if calls.branches is None:
            calls.strong = None
        if resolved is not None:
            refuse_feature_caches(self._tree.parents)
            self._refuse_checkpointing(structure, calls.strong)
        self._set(resolved, structure)
        calls.features.before_structure(unet, structure)
        self._share(unet, named, structure, calls)
        calls.arguments = ((), {}) if calls.strong is None else (own_containers(args), own_containers(kwargs))

    def after(self, unet: nn.Module, output: Any) -> Any:
        """After a U-Net call: with noise damping, evaluate the strong denoiser and return the damped pair."""
        calls = self.calls
        if calls.in_strong_denoiser:
            return None
        self._first_attention.end()
        if not calls.features.are_reused(unet, calls.timestep):
            refuse_skipped(self._patches)
        if calls.strong is None:
            return None
        args, kwargs = calls.arguments
        calls.arguments = ((), {})
        if calls.branches is Branches.PAIR:
            sample = (dict(zip(self._parameters, args, strict=False)) | kwargs)["sample"]
            batch, frames = sample.shape[0], frames_of(sample, getattr(unet, "config", {}))
            args = tuple(unconditional_half(value, batch, frames) for value in args)
            kwargs = unconditional_half(kwargs, batch, frames)
        self._set(calls.resolved, calls.strong)
        calls.in_strong_denoiser = True
        try:
            with calls.features.of_the_strong_one(unet, calls.strong), self._stages.replayed():
                strong = unet(*args, **kwargs)
        finally:
            calls.in_strong_denoiser = False
        structure, strong = (out[0] if isinstance(out, tuple) else out.sample for out in (output, strong))
        if calls.branches is Branches.UNCONDITIONAL:  # the guider goes on from here
            calls.strong_prediction = strong
            return None
        damped = damped_pair(structure, strong, noise_channels(calls.pipe(), getattr(unet, "config", {}), structure))
        return (damped, *output[1:]) if isinstance(output, tuple) else type(output)(sample=damped)

    def _share(self, unet: nn.Module, call: dict[str, Any], structure: LayerChanges, calls: UNetCalls) -> None:
        """What this call need not compute twice, where it is changed at all."""
        sample, rows = call["sample"], None
        if calls.branches is Branches.PAIR:
            rows = (sample.shape[0], sample.shape[0] * frames_of(sample, getattr(unet, "config", {})))
        self._stages.begin(unet, structure, calls.strong, rows)
        if calls.strong is not None or differing_layers(structure, UNCHANGED):
            self._first_attention.begin(call)
        else:
            self._first_attention.end()

    def _owner(self, unet: nn.Module) -> Any:
        """The pipeline that `apply` was called with, while it has this U-Net."""
        pipe = self._pipe() if self._pipe is not None else None
        own = getattr(pipe, "unet", None)
        return pipe if own is None or is_model(own, unet) else None

    def _caller(self, unet: nn.Module) -> Any:
        """The pipeline that calls now; None for a bare U-Net."""
        pipe = None if self._bare else calling_pipeline(lambda parts: is_model(parts.get("unet"), unet))[0]
        return self._owner(unet) if pipe is None else pipe

    def _attach(self, unet: nn.Module) -> None:
        """Where modules have changed, patch the convolutions that have no patch yet (a LoRA loaded later has some)."""
        if not self._tree.changed(unet):
            return
        architecture = self._architecture = self.at_native_size(read_architecture(self._owner(unet) or unet))
        known = {
            id(convolution): (convolution, patch) for found in self._patches.values() for convolution, patch in found
        }
        if known and self.resolved is not None:
            self.resolved = resolve(self.resolved.recipe, architecture)
        self._automatic = {}
        self._patches = {
            name: [known.pop(id(one)) if id(one) in known else _patched(one) for one in convolutions]
            for name, convolutions in architecture.convolutions.items()
        }
        for convolution, patch in known.values():
            patch.remove(convolution)
        self._adapters = adapters_in(self._tree.modules)
        self._stages.watch(unet)
        self._first_attention.watch(unet)

    def _refuse_checkpointing(self, structure: LayerChanges, strong: LayerChanges | None) -> None:
        """Gradient checkpointing evaluates blocks again during the backward pass, when other factors are set."""
        changes = torch.is_grad_enabled() and (strong is not None or structure != UNCHANGED)
        if changes and any(module.__dict__.get("gradient_checkpointing") for _, module in self._tree.parents):
            raise ModelError(
                "gradient checkpointing evaluates blocks again when other dilation factors are set, so its gradients "
                "would be wrong: call unet.disable_gradient_checkpointing(), or scalecrafter.remove(pipe), first"
            )

    def _set(self, resolved: ResolvedRecipe | None, settings: LayerChanges) -> None:
        refuse_adapters(self._adapters, self._patches, settings)
        transform = resolved.transform if resolved and settings.dispersed else None
        if transform is not None:
            convolutions = [one for name in settings.dispersed for one, _ in self._patches.get(name, ())]
            if self._weights.changed(convolutions):
                for _, patch in (one for found in self._patches.values() for one in found):
                    patch.forget()
        for name, patches in self._patches.items():
            for _, patch in patches:
                patch.set(settings.factors.get(name), transform if name in settings.dispersed else None)

    def _automatic_for(self, pipe: Any, height: int, width: int) -> ResolvedRecipe | None:
        key = (height, width, type(pipe))
        if key not in self._automatic:
            recipe = automatic_recipe(self._architecture, height, width)
            recipe = with_possible_damping(recipe, pipe, self._architecture, self._guided)
            self._automatic[key] = resolve(recipe, self._architecture, lenient=True) if recipe else None
        return self._automatic[key]

    def __reduce__(self) -> Any:
        raise refused_pickle()

    def __deepcopy__(self, memo: dict[int, Any]) -> Installation:
        """That of a copied U-Net: its pipeline is the copied one, where that was copied with it."""
        twin = memo[id(self)] = object.__new__(type(self))
        pipe = self._pipe() if self._pipe is not None else None
        state = {key: value for key, value in self.__dict__.items() if key != "_pipe"}
        twin.__dict__.update(copy.deepcopy(state, memo))
        copied = memo.get(id(pipe))
        twin._pipe = None if copied is None else weakref.ref(copied)
        return twin


def _patched(convolution: nn.Conv2d) -> tuple[nn.Conv2d, ConvolutionPatch]:
    patch = ConvolutionPatch(convolution)
    patch.install(convolution)
    return convolution, patch
