"""What `apply` puts on one transformer and its ControlNets, and how it is taken off again.

A hook before each call sees the size and the place in the trajectory, and sets what the embedding of positions, the
attention and the convolutions do in that call.  The scheduler's `set_timesteps` gets another shift.
"""

from __future__ import annotations

import copy
import inspect
import os
import weakref
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .._util.sizes import GridSize
from ..errors import ModelError, RecipeError
from ..recipes.recipe import Recipe
from ..recipes.resolution import LayerChanges
from ..recipes.transformer_plan import TransformerPlan
from ..recipes.transformers import ResolvedTransformer, automatic_transformer_recipe, resolve_transformer
from ..transformer.architecture import (
    TransformerArchitecture,
    attention_layers,
    control_networks,
    embedding_of,
    image_grid,
    read_transformer,
)
from ..transformer.trajectory import call_place, largest_value
from ..unet.architecture import convolutions_by_path
from ..unet.trajectory import table_length
from ..vae import remove_vae_memory
from .callers import Parts, calling_pipeline, is_model
from .convolution import ConvolutionPatch, refused_pickle
from .denoiser_check import DenoiserCheck
from .per_thread import PerThread
from .schedule import ScheduleHook, check_schedule, native_mu, shifts_by_size
from .transformer_parts import CallChanges, EmbeddingPatch, QueryScale

RecipeLike = Recipe | str | os.PathLike[str]
_ATTRIBUTE = "_scalecrafter"
_CONTROL = "_scalecrafter_control"


def _before_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The hook; a ControlNet leads to its transformer's installation."""
    installation = module.__dict__.get(_ATTRIBUTE) or module.__dict__[_CONTROL]()
    if installation is not None:
        installation.before(module, args, kwargs)


_before_call = torch.compiler.disable(_before_call)  # type: ignore[no-untyped-call]


class _Link:
    """From a ControlNet to the installation on its transformer, held weakly; a copied one leads to the copied."""

    def __init__(self, installation: TransformerInstallation) -> None:
        self._to = weakref.ref(installation)

    def __call__(self) -> TransformerInstallation | None:
        return self._to()

    def __reduce__(self) -> Any:
        raise refused_pickle()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Link:
        twin = memo[id(self)] = object.__new__(_Link)
        installation = self._to()
        twin._to = self._to if installation is None else weakref.ref(memo.get(id(installation), installation))
        return twin


class TransformerInstallation:
    """All that one `apply` puts on a transformer."""

    def __init__(self, pipe: Any, transformer: nn.Module, recipe: Recipe | None) -> None:
        """Nothing is changed before `put_on`.

        Args:
            pipe: the pipeline, or the transformer itself.
            transformer: of a known family.
            recipe: None chooses one for each call.

        Raises:
            RecipeError: for a recipe that would not do what it says on this transformer.
            ModelError: for a ControlNet that is not known.
        """
        self.vae: weakref.ref[nn.Module] | None = None
        """The VAE, where its memory budget came with this installation."""
        self.architecture: TransformerArchitecture = read_transformer(pipe, transformer)
        self._pipe: weakref.ref[Any] | None = None if pipe is transformer else weakref.ref(pipe)
        self._controls = [weakref.ref(one) for one in control_networks(pipe)]
        self._scheduler = getattr(pipe, "scheduler", None) if pipe is not transformer else None
        kind = self.architecture.kind
        found = convolutions_by_path(transformer) if "redilation" in kind.sections else {}
        self._convolutions = {path: modules for path, modules in found.items() if not path.startswith("patch_embed")}
        if recipe is not None:
            check_schedule(recipe.schedule, self._scheduler)
        self.resolved = self._resolve(recipe) if recipe is not None else None
        self._automatic: dict[tuple[GridSize, bool], ResolvedTransformer | None] = {}
        self._calls = PerThread(CallChanges)
        self._embeddings: list[EmbeddingPatch] = []
        self._queries: QueryScale | None = None
        self._patches: list[tuple[str, nn.Conv2d, ConvolutionPatch]] = []
        self._schedule: ScheduleHook | None = None
        self._handles: list[RemovableHandle] = []

    def _resolve(self, recipe: Recipe) -> ResolvedTransformer:
        return resolve_transformer(recipe, self.architecture, self._convolutions)

    def put_on(self, transformer: nn.Module) -> None:
        """Put everything on the transformer; `take_off` is the inverse."""
        kind = self.architecture.kind
        transformer.__dict__[_ATTRIBUTE] = self
        targets = [transformer, *(one for ref in self._controls if (one := ref()) is not None)]
        for target in targets:
            if target is not transformer:
                target.__dict__[_CONTROL] = _Link(self)
            self._handles.append(target.register_forward_pre_hook(_before_call, with_kwargs=True))
            embedding = embedding_of(target, kind)
            if embedding is not None and not isinstance(embedding, EmbeddingPatch):
                patch = EmbeddingPatch(target, embedding, str(kind.embedding), self._calls)
                patch.put_on()
                self._embeddings.append(patch)
            if self._convolutions:
                for path, modules in convolutions_by_path(target).items():
                    for module in modules if path in self._convolutions else ():
                        convolution = ConvolutionPatch(module)
                        convolution.install(module)
                        self._patches.append((path, module, convolution))
        if "attention" in kind.sections:
            self._queries = QueryScale((layer for one in targets for layer in attention_layers(one, kind)), self._calls)
            self._queries.refresh()
        if self._scheduler is not None and hasattr(self._scheduler, "set_timesteps"):
            self._schedule = ScheduleHook(self._scheduler)
            self._schedule.put_on()
        pipe = self._pipe() if self._pipe is not None else None
        if pipe is not None:
            DenoiserCheck.put_on(pipe, "transformer", transformer)

    def take_off(self, transformer: nn.Module) -> None:
        """Leave the transformer as `put_on` found it."""
        self._calls.set()
        pipe = self._pipe() if self._pipe is not None else None
        if pipe is not None:
            DenoiserCheck.take_off(pipe)
        for handle in self._handles:
            handle.remove()
        for ref in self._controls:
            control = ref()
            if control is not None:
                control.__dict__.pop(_CONTROL, None)
        for patch in self._embeddings:
            patch.take_off()
        if self._queries is not None:
            self._queries.take_off()
        for _, module, convolution in self._patches:
            convolution.remove(module)
        if self._schedule is not None:
            self._schedule.take_off()
        self._handles, self._embeddings, self._patches, self._queries, self._schedule = [], [], [], None, None
        transformer.__dict__.pop(_ATTRIBUTE, None)

    def remove(self, transformer: nn.Module) -> None:
        """Take everything off, and the VAE's memory budget that came with it."""
        self.take_off(transformer)
        vae = self.vae() if self.vae is not None else None
        if vae is not None:
            remove_vae_memory(vae)

    def resolved_for(self, grid: GridSize, scheduler: Any) -> ResolvedTransformer | None:
        """The recipe for `grid` image tokens: the one that was named, or the automatic one."""
        if self.resolved is not None:
            return self.resolved
        key = (grid, shifts_by_size(scheduler))
        if key not in self._automatic:
            recipe = automatic_transformer_recipe(self.architecture, *key)
            self._automatic[key] = self._resolve(recipe) if recipe is not None else None
        return self._automatic[key]

    def before(self, target: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a call of the transformer or of a ControlNet: set what it does."""
        kind = self.architecture.kind
        self._calls.set()
        parameters = list(inspect.signature(type(target).forward).parameters)[1:]
        named = dict(zip(parameters, args, strict=False)) | kwargs
        grid = image_grid(kind, target, named)
        pipe, _ = calling_pipeline(lambda parts: _is_in(parts, target))
        pipe = pipe or (self._pipe() if self._pipe is not None else None)
        scheduler = getattr(pipe, "scheduler", None)
        resolved = self.resolved_for(grid, scheduler)
        if resolved is None:
            self.architecture.check_reach(grid)
            self._set_convolutions(None, LayerChanges())
            return
        self._check_pipeline(pipe, resolved.shifts(grid), scheduler)
        timestep = named["timestep"] if "timestep" in named else named["t"]
        scale = getattr(target, "config", {}).get("timestep_scale") or 1.0
        changes = resolved.changes(call_place(scheduler, kind.timestep(largest_value(timestep) / scale)), grid)
        scaled = [axis for axis, *_ in changes.positions.axes()] if changes.positions is not None else []
        self.architecture.check_reach(grid, scaled)
        if changes.positions is not None and kind.embedding == "ids":
            changes = changes.with_tokens(named["txt_ids"].shape[-2], named["img_ids"].shape[-2])
        if self._queries is not None and changes.temperature is not None:
            self._queries.refresh()
        positions, temperature = changes.positions, changes.temperature
        self._calls.set(moved=positions is not None, positions=positions, temperature=temperature)
        self._set_convolutions(resolved, changes.layers)

    def _check_pipeline(self, pipe: Any, shifts: bool, scheduler: Any) -> None:
        """Parts that came after `apply`, on which nothing is applied."""
        again = "than when scalecrafter.apply was called: call scalecrafter.apply(pipe) again"
        if shifts and scheduler is not None and not ScheduleHook.is_on(scheduler):
            raise ModelError(f"pipe.scheduler is another one {again}")
        if pipe is not None and any(_CONTROL not in one.__dict__ for one in control_networks(pipe)):
            raise ModelError(f"pipe.controlnet is another one {again}")

    def __reduce__(self) -> Any:
        raise refused_pickle()

    def __deepcopy__(self, memo: dict[int, Any]) -> TransformerInstallation:
        """That of a copied transformer: its pipeline and ControlNets are the copied ones, where they were copied."""
        twin = memo[id(self)] = object.__new__(type(self))
        pipe = self._pipe() if self._pipe is not None else None
        controls = [one for ref in self._controls if (one := ref()) is not None]
        state = {key: value for key, value in self.__dict__.items() if key not in ("_pipe", "_controls", "vae")}
        twin.__dict__.update(copy.deepcopy(state, memo))
        copied = memo.get(id(pipe))
        twin._pipe = None if copied is None else weakref.ref(copied)
        twin._controls = [weakref.ref(memo.get(id(one), one)) for one in controls]
        vae = self.vae() if self.vae is not None else None
        twin.vae = None if vae is None else weakref.ref(memo.get(id(vae), vae))
        return twin

    def _set_convolutions(self, resolved: ResolvedTransformer | None, layers: LayerChanges) -> None:
        recipe = resolved.convolutions if resolved is not None else None
        transform = recipe.transform if recipe is not None and layers.dispersed else None
        for path, _, patch in self._patches:
            patch.set(layers.factors.get(path), transform if path in layers.dispersed else None)


def _is_in(parts: Parts, target: nn.Module) -> bool:
    """Whether a pipeline of these parts has a transformer or ControlNet."""
    found = [parts[name] for name in ("transformer", "controlnet") if name in parts]
    return any(is_model(one, target) for part in found for one in getattr(part, "nets", [part]))


def check_options(freeu: bool, guided: bool | None) -> None:
    """Raise `RecipeError` for options of `apply` that a transformer has no use for."""
    if freeu:
        raise RecipeError("freeu=True has no effect on a transformer: FreeU is for U-Nets")
    if guided is not None:
        raise RecipeError("guided has no effect on a transformer: it is for bare U-Nets")


def plan_transformer(
    pipe: Any,
    transformer: nn.Module,
    height: int,
    width: int,
    steps: int,
    recipe: Recipe | str | os.PathLike[str] | None,
) -> TransformerPlan:
    """`plan` of a pipeline with a transformer, or of a bare one."""
    applied = transformer.__dict__.get(_ATTRIBUTE)
    chosen = recipe if isinstance(recipe, Recipe) or recipe is None else Recipe.load(recipe)
    if chosen is None and applied is not None and applied.resolved is not None:
        chosen = applied.resolved.recipe
    about = TransformerInstallation(pipe, transformer, chosen)
    about.architecture.check_size(height, width)
    grid = about.architecture.grid(height, width)
    scheduler = getattr(pipe, "scheduler", None)
    resolved = about.resolved_for(grid, scheduler)
    mu = None
    if resolved is not None and resolved.shifts(grid) and resolved.recipe.schedule is not None:
        shift = resolved.recipe.schedule.shift
        tokens = resolved.native_tokens()
        mu = native_mu(about.architecture, pipe, scheduler, tokens, steps) if shift == "native" else float(shift)
    return TransformerPlan(height, width, table_length(scheduler, steps), about.architecture, resolved, mu)
