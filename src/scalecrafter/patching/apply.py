"""`apply`, `remove`, `applied`, `set_aside`: ScaleCrafter on a loaded pipeline."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..errors import ModelError
from ..recipes.recipe import Recipe
from ..recipes.resolution import resolve
from ..transformer.architecture import transformer_of
from ..unet.architecture import Architecture, find_autoencoder, find_unet, read_architecture
from ..vae import (
    AUTO,
    MemoryBudget,
    apply_vae_memory,
    check_vae_memory,
    has_vae_memory,
    parse_memory_budget,
    vae_memory_kept,
)
from .calls import UNetCalls
from .damping import check_damping
from .denoiser_check import DenoiserCheck
from .freeu import published_freeu
from .installation import Installation, installation_on
from .transformer import TransformerInstallation, check_options

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
        pipe: any diffusers pipeline with a U-Net or with a transformer of a known family, the one that is called
            then, or a bare U-Net or transformer.
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
        RecipeError: for a recipe that would not do what it says on this model.
        ModelError: for a pipeline without a U-Net or a known transformer, or a memory budget without a VAE or for an
            unknown one.
        ScaleCrafterError: for a memory budget that cannot be read.
    """
    model = _denoiser(pipe)
    vae = _vae_for(pipe, vae_memory)
    chosen = recipe if isinstance(recipe, Recipe) or recipe is None else Recipe.load(recipe)
    installation: Installation | TransformerInstallation
    if transformer_of(pipe) is not None:
        check_options(freeu, guided)
        installation = TransformerInstallation(pipe, model, chosen)
    else:
        installation = _unet_installation(pipe, model, chosen, freeu, guided)
    remove(pipe)
    installation.put_on(model)
    if vae is not None and not (vae_memory == AUTO and has_vae_memory(vae)):
        apply_vae_memory(vae, vae_memory)
        installation.vae = weakref.ref(vae)
    return pipe


def _unet_installation(
    pipe: Any, unet: nn.Module, chosen: Recipe | None, freeu: bool, guided: bool | None
) -> Installation:
    architecture = read_architecture(pipe)
    check_damping(chosen, pipe, architecture, guided)
    resolved = resolve(chosen, architecture) if chosen is not None else None
    factors = (chosen.freeu if chosen else None) or (published_freeu(architecture) if freeu else None)
    return Installation(pipe, unet, architecture, resolved, factors, guided)


def remove(pipe: Any) -> Any:
    """Undo `apply`: everything is exactly as it was.  Does nothing where nothing is applied."""
    check = DenoiserCheck.of(pipe)
    for model in [_denoiser(pipe)] if check is None else [check.model, _denoiser(pipe)]:
        installation = installation_on(model)
        if installation is not None:
            installation.remove(model)
    return pipe


@contextmanager
def applied(pipe: Any, **options: Any) -> Iterator[Any]:
    """`apply` for the length of a `with` block, with the same options.

    On the way out, exceptions included, everything is as before: what was applied is applied again.
    """
    with set_aside(pipe):
        apply(pipe, **options)
        yield pipe


@contextmanager
def set_aside(pipe: Any) -> Iterator[Any]:
    """Take off what is applied to a pipeline for the length of a `with` block, and put exactly that back.

    Whatever is applied within the block is removed at its end, exceptions included.  The VAE keeps its memory budget.
    """
    model = _denoiser(pipe)
    installation = installation_on(model)
    with vae_memory_kept(find_autoencoder(pipe)):
        if installation is not None:
            installation.take_off(model)
        try:
            yield pipe
        finally:
            check = DenoiserCheck.of(pipe)
            for touched in (model, *([] if check is None else [check.model])):
                remove(touched)
            if installation is not None:
                installation.put_on(model)


def applied_recipe(pipe: Any) -> Recipe | None:
    """The recipe that was named when ScaleCrafter was applied to `pipe`, if it was."""
    installation = installation_on(_denoiser(pipe))
    return installation.resolved.recipe if installation is not None and installation.resolved else None


def applied_at_native_size(pipe: Any, architecture: Architecture) -> Architecture:
    """An architecture read from `pipe` with the native size that `apply` took for it, if it was applied."""
    installation = installation_on(find_unet(pipe))
    return architecture if installation is None else installation.at_native_size(architecture)


def calls_of(unet: Any) -> UNetCalls | None:
    """What this thread knows about its calls of a U-Net, for the guider of a modular pipeline; None without `apply`."""
    installation = installation_on(find_unet(unet))
    return installation.calls if installation is not None else None


def _denoiser(pipe: Any) -> nn.Module:
    """What is applied to: the transformer of a pipeline, or else its U-Net."""
    transformer = transformer_of(pipe)
    return find_unet(pipe) if transformer is None else transformer


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
