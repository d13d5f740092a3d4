"""`apply`, `remove`, `applied`: ScaleCrafter on a pipeline that is already there.

What is installed: a hook before each U-Net call that finds the place in the trajectory and sets every convolution,
a hook after it that damps the noise, and a `ConvolutionPatch` on each convolution.  Module hooks, rather than a new
`forward`, because offloading and compilation put their own `forward` there, before or after us.
"""

from __future__ import annotations

import inspect
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..errors import ModelError
from ..ops.guidance import damped_pair, own_containers, unconditional_half
from ..recipes.automatic import automatic_recipe
from ..recipes.recipe import FreeU, Recipe
from ..recipes.resolution import UNCHANGED, LayerChanges, ResolvedRecipe, resolve
from ..unet.architecture import Architecture, find_autoencoder, find_unet, read_architecture, unknown_adapters
from ..unet.guided_calls import frames_of, noise_channels
from ..unet.trajectory import Trajectory
from ..vae import (
    AUTO,
    MemoryBudget,
    apply_vae_memory,
    check_vae_memory,
    has_vae_memory,
    parse_memory_budget,
    remove_vae_memory,
)
from .convolution import ConvolutionPatch
from .damping import Branches, Damping, check_damping, with_possible_damping
from .feature_caches import DeepCacheFeatures, refuse_feature_caches
from .freeu import install_freeu, published_freeu, restore_freeu

_ATTRIBUTE = "_scalecrafter"
RecipeLike = Recipe | str | os.PathLike[str]


def apply(
    pipe: Any,
    *,
    recipe: RecipeLike | None = None,
    freeu: bool = False,
    vae_memory: MemoryBudget = AUTO,
    guided: bool | None = None,
) -> Any:
    """Install ScaleCrafter on a pipeline, whose own call then makes larger pictures.

    A second `apply` replaces the first.  At the native size with the automatic recipe nothing changes, to the bit.

    Args:
        pipe: any diffusers pipeline with a U-Net, the one that is called then, or a bare U-Net.
        recipe: a `Recipe`, the name of a shipped one, or a path to a .toml file; it acts at any size.
            None chooses one for each call by the architecture and the size of the latents that arrive.
        freeu: FreeU with the published factors of the architecture, unless the recipe has its own.
        vae_memory: the most that decoding (or encoding) may add to what the VAE's device holds, as "4GiB" or in bytes:
            above it the VAE runs in exact tiles.  "auto" does so only where one whole pass does not fit, with a
            warning, and leaves alone an unknown VAE and one that has a memory budget already; None or "off" always
            leaves the VAE alone.
        guided: only for a bare U-Net, which has no pipeline to ask: whether its calls are classifier-free guidance
            pairs, the unconditional half first.  By default every even batch is one.

    Returns:
        `pipe`.

    Raises:
        RecipeError: for a recipe that would not do what it says on this U-Net.
        ModelError: for a pipeline without a U-Net, or a memory budget without a VAE or for an unknown one.
        ScaleCrafterError: for a memory budget that cannot be read.
    """
    unet = find_unet(pipe)
    vae = _vae_for(pipe, vae_memory)
    architecture = read_architecture(pipe)
    chosen = recipe if isinstance(recipe, Recipe) or recipe is None else Recipe.load(recipe)
    check_damping(chosen, pipe, architecture, guided)
    resolved = resolve(chosen, architecture) if chosen is not None else None
    factors = (chosen.freeu if chosen else None) or (published_freeu(architecture) if freeu else None)
    remove(pipe)
    installation = _Installation(pipe, unet, architecture, resolved, factors, guided)
    setattr(unet, _ATTRIBUTE, installation)
    if vae is not None and not (vae_memory == AUTO and has_vae_memory(vae)):
        apply_vae_memory(vae, vae_memory)
        installation.vae = weakref.ref(vae)
    return pipe


def remove(pipe: Any) -> Any:
    """Undo `apply`: everything is exactly as it was.  Does nothing where nothing is applied."""
    unet = find_unet(pipe)
    installation = unet.__dict__.get(_ATTRIBUTE)
    if installation is not None:
        installation.remove(unet)
        del unet.__dict__[_ATTRIBUTE]
    return pipe


@contextmanager
def applied(pipe: Any, **options: Any) -> Iterator[Any]:
    """`apply` for the length of a `with` block, with the same options; removed on the way out, exceptions included."""
    apply(pipe, **options)
    try:
        yield pipe
    finally:
        remove(pipe)


def applied_recipe(pipe: Any) -> Recipe | None:
    """The recipe that was named when ScaleCrafter was applied to `pipe`, if it was."""
    installation = find_unet(pipe).__dict__.get(_ATTRIBUTE)
    return installation.resolved.recipe if installation is not None and installation.resolved else None


def applied_at_native_size(pipe: Any, architecture: Architecture) -> Architecture:
    """An architecture read from `pipe` with the native size that `apply` took for it, if it was applied."""
    installation = find_unet(pipe).__dict__.get(_ATTRIBUTE)
    return architecture if installation is None else installation.at_native_size(architecture)


def damping_on(unet: Any) -> Damping | None:
    """The noise damping that `apply` put on a U-Net, for the guider of a modular pipeline; None without."""
    installation = find_unet(unet).__dict__.get(_ATTRIBUTE)
    return installation.damping if installation is not None else None


def _vae_for(pipe: Any, vae_memory: MemoryBudget) -> Any:
    """The VAE of a pipeline, where the memory budget concerns it; raises what applying it would raise."""
    vae = find_autoencoder(pipe)
    budget = parse_memory_budget(vae_memory)
    if budget is None:
        return None
    if vae is None:
        if budget != AUTO:
            raise ModelError(f"vae_memory is {vae_memory!r}, but {type(pipe).__name__} has no VAE: leave it out")
        return None
    check_vae_memory(vae, vae_memory)
    return vae


def _uncompiled(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook, excluded from what torch.compile traces."""
    disabled: Callable[..., Any] = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]
    return disabled


def _before_call(unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    unet.__dict__[_ATTRIBUTE].before(unet, args, kwargs)


def _after_call(unet: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
    return unet.__dict__[_ATTRIBUTE].after(unet, output)


class _Installation:
    """All that `apply` puts on one U-Net, and how to take it off again."""

    def __init__(
        self,
        pipe: Any,
        unet: nn.Module,
        architecture: Architecture,
        resolved: ResolvedRecipe | None,
        freeu: FreeU | None,
        guided: bool | None,
    ) -> None:
        self.resolved = resolved
        self.vae: weakref.ref[nn.Module] | None = None
        """The VAE, where its memory budget came with this installation."""
        self._pipe = weakref.ref(pipe) if pipe is not unet else None
        self._guided = guided
        self.damping = Damping(named=resolved is not None, bare=pipe is unet, guided=guided)
        self._branches: Branches | None = None
        self._parameters = list(inspect.signature(type(unet).forward).parameters)[1:]
        self._trajectory = Trajectory()
        self._features = DeepCacheFeatures()
        self._last_place = Fraction(0)
        self._automatic: dict[tuple[int, int], ResolvedRecipe | None] = {}
        self._patches: dict[str, list[tuple[nn.Conv2d, ConvolutionPatch]]] = {}
        self._resolved: ResolvedRecipe | None = None
        self._strong: LayerChanges | None = None
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._busy = False
        self._unknown_adapters: dict[str, str] = {}
        self._attach(architecture)
        self._freeu_before = install_freeu(unet, freeu)
        self._handles: list[RemovableHandle] = [
            unet.register_forward_pre_hook(_uncompiled(_before_call), with_kwargs=True),
            unet.register_forward_hook(_uncompiled(_after_call)),
        ]

    def remove(self, unet: nn.Module) -> None:
        """Take everything off."""
        self._features.end(unet)
        for handle in self._handles:
            handle.remove()
        restore_freeu(self._freeu_before)
        for patches in self._patches.values():
            for convolution, patch in patches:
                patch.remove(convolution)
        vae = self.vae() if self.vae is not None else None
        if vae is not None:
            remove_vae_memory(vae)

    def _attach(self, architecture: Architecture) -> None:
        """Patch every convolution that has no patch yet (a LoRA loaded later brings new ones)."""
        self._architecture = architecture
        for name, convolutions in architecture.convolutions.items():
            patches = self._patches.setdefault(name, [])
            for convolution in convolutions:
                if not any(known is convolution for known, _ in patches):
                    patch = ConvolutionPatch(convolution)
                    patch.install(convolution)
                    patches.append((convolution, patch))
            for _, patch in patches:
                patch.forget()

    def at_native_size(self, architecture: Architecture) -> Architecture:
        """An architecture with the native size that `apply` read.

        DDPMPipeline and its like draw what `sample_size` in the U-Net's config says, which is where one asks for more.
        """
        height, width = self._architecture.native_height, self._architecture.native_width
        return replace(architecture, native_height=height, native_width=width)

    def before(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a U-Net call: find the place in the trajectory and set every convolution."""
        if self._busy:
            return
        named = dict(zip(self._parameters, args, strict=False)) | kwargs
        sample = named["sample"]
        pipe = self._pipe() if self._pipe is not None else None
        scheduler, run_length = getattr(pipe, "scheduler", None), getattr(pipe, "num_timesteps", None)
        place = self._trajectory.place(scheduler, named["timestep"], run_length)
        guider = getattr(pipe, "guider", None)
        first_branch = guider is None or guider.is_conditional
        new_run = place < self._last_place or (place == self._last_place and first_branch)
        if new_run:
            self._attach(self.at_native_size(read_architecture(pipe or unet)))
            self._unknown_adapters = unknown_adapters(unet)
            self._features.begin_run()
        self._last_place = place
        resolved = self.resolved or self._automatic_for(pipe, *sample.shape[-2:])
        if new_run and resolved:
            refuse_feature_caches(unet)
        structure = resolved.structure(place) if resolved else UNCHANGED
        self._set(resolved, structure)
        self._features.before_structure(unet, structure)
        self._strong = resolved.strong(place) if resolved else None
        self._branches = self.damping.acts_on(pipe, unet, sample) if self._strong is not None else None
        if self._branches is None:
            self._strong = None
        self._resolved = resolved
        self._arguments = ((), {}) if self._strong is None else (own_containers(args), own_containers(kwargs))

    def after(self, unet: nn.Module, output: Any) -> Any:
        """After a U-Net call: with noise damping, evaluate the strong denoiser and return the damped pair."""
        if self._busy or self._strong is None:
            return None
        args, kwargs = self._arguments
        self._arguments = ((), {})
        if self._branches is Branches.PAIR:
            sample = (dict(zip(self._parameters, args, strict=False)) | kwargs)["sample"]
            batch, frames = sample.shape[0], frames_of(sample, getattr(unet, "config", {}))
            args = tuple(unconditional_half(value, batch, frames) for value in args)
            kwargs = unconditional_half(kwargs, batch, frames)
        self._set(self._resolved, self._strong)
        self._busy = True
        try:
            with self._features.of_the_strong_one(unet, self._strong):
                strong = unet(*args, **kwargs)
        finally:
            self._busy = False
        structure, strong = (out[0] if isinstance(out, tuple) else out.sample for out in (output, strong))
        if self._branches is Branches.UNCONDITIONAL:  # the guider takes it from here
            self.damping.strong_prediction = strong
            return None
        channels = noise_channels(self._pipe() if self._pipe is not None else None, structure)
        damped = damped_pair(structure, strong, channels)
        return (damped, *output[1:]) if isinstance(output, tuple) else type(output)(sample=damped)

    def _set(self, resolved: ResolvedRecipe | None, settings: LayerChanges) -> None:
        for name, kind in self._unknown_adapters.items():
            if name in settings.factors or name in settings.dispersed:
                raise ModelError(
                    f"the convolution {name} has an adapter of the kind {kind}, which cannot be re-dilated with it: "
                    "fuse it into the weights first (pipe.fuse_lora()), or unload it"
                )
        transform = resolved.transform if resolved and settings.dispersed else None
        for name, patches in self._patches.items():
            for _, patch in patches:
                patch.set(settings.factors.get(name), transform if name in settings.dispersed else None)

    def _automatic_for(self, pipe: Any, height: int, width: int) -> ResolvedRecipe | None:
        if (height, width) not in self._automatic:
            recipe = automatic_recipe(self._architecture, height, width)
            recipe = with_possible_damping(recipe, pipe, self._architecture, self._guided)
            self._automatic[height, width] = resolve(recipe, self._architecture, lenient=True) if recipe else None
        return self._automatic[height, width]
