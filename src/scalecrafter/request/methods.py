"""The table of methods: every way of making a large picture, by name.

Request, command line, API, page, metadata and docs read it.  The methods themselves are the modules of
`scalecrafter.methods`, and whatever other packages register under the entry point `scalecrafter.methods`; each has a
`METHOD`.  They are found when the table is first read, and import torch only when a picture is made.
"""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, metadata
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from PIL import Image

    from .._util.sizes import ImageSize

GROUP = "scalecrafter.methods"
"""The package of the built-in methods, and the entry point group of all others."""
DEFAULT_METHOD = "scalecrafter"
ENLARGING_METHOD = "cascade"
"""The method that enlarges, where none is named."""
DEFAULT_STRENGTH = 0.6

Models = Literal["unet", "transformer"]
Takes = Literal["recipe", "freeu", "image", "control", "strength"]
Ability = Literal["image-to-image", "softmax", "freeu", "control"]
"""What some models cannot do: start from a picture with a strength, attend with a softmax, FreeU, ControlNets."""
Task = Literal["create", "edit", "enlarge"]
"""From a prompt alone, from a picture, from a picture to a larger one."""


class MethodSettings(BaseModel):
    """The base of a method's own settings.  In a request they stand under the method's name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
    not_from_clients: ClassVar[frozenset[str]] = frozenset()
    """Settings that a client of a server may not give: they name files or models, or mean nothing without one."""

    @classmethod
    def schema_for_clients(cls) -> dict[str, Any]:
        """The JSON schema of the settings that a client of a server may give."""
        schema = cls.model_json_schema()
        schema["properties"] = {
            name: value for name, value in schema.get("properties", {}).items() if name not in cls.not_from_clients
        }
        return schema

    @property
    def label(self) -> str:
        """What follows the method's name where a variant of it is named; usually nothing."""
        return ""


@dataclass(frozen=True)
class Method:
    """One way of making a large picture."""

    name: str
    summary: str
    """In one line, what it does: the help text."""
    source: str
    """Paper and section, or where the practice is from."""
    make: Callable[[Any], Image.Image]
    """Makes the picture of a `methods.steps.job.PictureJob`."""
    make_batch: Callable[[Sequence[Any]], list[Image.Image]] | None = None
    """Makes several pictures of one batch key in one call of the pipeline, all of them from noise."""
    enlarge: Callable[[Any, Image.Image], Image.Image] | None = None
    """Enlarges a picture of any size in 8-bit RGB to the job's size.  A method that takes an image can do without: it
    is given the picture at its full size."""
    takes: frozenset[Takes] = frozenset()
    """What has an effect: recipe, freeu, image (and its mask), control, and strength without an image."""
    settings: type[MethodSettings] | None = None
    """The class of its own settings; all of them have defaults."""
    without_recipe: str | None = None
    """Method to use instead when the recipe is "none" (for example direct)."""
    default_strength: float = DEFAULT_STRENGTH
    """The strength that acts where a request says none."""
    check: Callable[[Any], None] | None = None
    """Raises ValueError for a request of this method that cannot be; the request is otherwise valid."""
    passes: Callable[[Any, Any], Sequence[Any]] | None = None
    """What its picture is made of, for estimates of its cost: of a settled request that draws or starts from an image,
    and the model's `Architecture`; control images are counted elsewhere.  None: not known."""
    enlarging_passes: Callable[[Any, Any, ImageSize], Sequence[Any]] | None = None
    """Likewise of `enlarge`, from the size of the given picture too.  A method without `enlarge` needs none."""
    models: frozenset[Models] = frozenset({"unet", "transformer"})
    """What it can run on."""
    needs: frozenset[Ability] = frozenset()
    """What a model must be able to do, whatever is asked."""
    title: str = ""
    """Its name where people choose it; empty: made from `name`."""
    plain: str = ""
    """What to expect of it, in usual words, for the page; empty: the summary."""
    aliases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Other names for it, each with the settings that it stands for."""

    @property
    def can_enlarge(self) -> bool:
        """Whether it can be given a picture to enlarge."""
        return self.enlarge is not None or "image" in self.takes

    def does(self, task: Task) -> bool:
        """Whether it can be asked for that, on some model."""
        return task == "create" or ("image" in self.takes if task == "edit" else self.can_enlarge)

    def needed_for(self, task: Task) -> frozenset[Ability]:
        """What a model must be able to do for that."""
        starts_from_it = task == "edit" or (task == "enlarge" and self.enlarge is None)
        return self.needs | {"image-to-image"} if starts_from_it else self.needs


class _Table(Mapping[str, Method]):
    """The methods by name: the built-in ones, then those of other packages."""

    def __init__(self) -> None:
        self._found: Mapping[str, Method] | None = None

    @property
    def _methods(self) -> Mapping[str, Method]:
        if self._found is None:
            self._found = MappingProxyType(_find())
        return self._found

    def __getitem__(self, name: str) -> Method:
        return self._methods[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)


METHODS: Mapping[str, Method] = _Table()
"""Every method by name, ours first."""


def methods_for(task: Task, kind: Models, lacks: Collection[Ability] = ()) -> tuple[str, ...]:
    """The methods that can do that with a model of this kind which lacks these abilities."""
    return tuple(
        name
        for name, method in METHODS.items()
        if kind in method.models and method.does(task) and method.needed_for(task).isdisjoint(lacks)
    )


def named(name: str) -> tuple[str, Mapping[str, Any]]:
    """The method that a name or an alias means, and the settings that the alias stands for."""
    if name not in METHODS:
        for method in METHODS.values():
            if name in method.aliases:
                return method.name, method.aliases[name]
    return name, {}


def _find() -> dict[str, Method]:
    package = import_module(GROUP)
    own = [import_module(f"{GROUP}.{module.name}") for module in pkgutil.iter_modules(package.__path__)]
    methods = {module.METHOD.name: module.METHOD for module in own if hasattr(module, "METHOD")}
    found = dict(sorted(methods.items(), key=lambda item: (item[0] not in package.FIRST, item[0])))
    for entry in metadata.entry_points(group=GROUP):
        method = _load(entry, found)
        if method is not None:
            found[method.name] = method
    return found


def _load(entry: metadata.EntryPoint, known: Mapping[str, Method]) -> Method | None:
    """A method of another package; None, with a warning, for one that cannot be used."""
    try:
        method = entry.load()
    except Exception as error:
        problem = f"it cannot be imported ({type(error).__name__}: {error})"
    else:
        if isinstance(method, Method) and method.name not in known:
            return method
        problem = f"the name {method.name!r} is taken" if isinstance(method, Method) else "it is no Method"
    warnings.warn(f"the method {entry.name!r} ({entry.value}) is left out: {problem}", stacklevel=2)
    return None
