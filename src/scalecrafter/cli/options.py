"""The options that several commands share, and the request that they make."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import typer

from ..recipes.ablations import ABLATIONS
from ..request.control import parse_control
from ..request.methods import DEFAULT_METHOD, DEFAULT_STRENGTH, METHODS, named
from ..request.request import (
    DEFAULT_GUIDANCE,
    DEFAULT_MASKED_STRENGTH,
    DEFAULT_STEPS,
    MODELS_GUIDANCE,
    Request,
    RequestError,
)
from ..request.schedulers import SCHEDULERS
from ..request.text import parse_size

AUTOMATIC = "auto"
_NOT_VALUES = ("size", "control", "settings", "ablation", "config", "allow_pickle")
Command = TypeVar("Command", bound=Callable[..., None])

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Embedded model, folder, .safetensors file or hub id. \\[default: critters]"),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="For a single-file model: a folder with its configuration, or only with CLIP's vocabulary.",
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Also read .ckpt and .bin files, as weights only: none of their code is run."),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size", "-s", metavar="WxH", help="Image pixels. \\[default: those of --image, else twice the native side]"
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", "-r", help="Shipped name (`recipes list`), .toml file, none (direct inference). \\[default: auto]"
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", help=f"Steps of denoising. \\[default: {DEFAULT_STEPS}]")]
_MODELS_GUIDANCE = ", ".join(f"{scale:g} for {model}" for model, scale in MODELS_GUIDANCE.items())
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance", "-g", help=f"Guidance scale. \\[default: {_MODELS_GUIDANCE}, else {DEFAULT_GUIDANCE:g}]"
    ),
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help=f"{', '.join(SCHEDULERS)}. \\[default: the model's own]")
]
MethodName = Annotated[str | None, typer.Option("--method", help=f"{', '.join(METHODS)}. \\[default: scalecrafter]")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="fp32, fp16 or bf16. \\[default: fp16 on CUDA, else fp32]")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps. \\[default: auto]")]
VaeMemory = Annotated[
    str,
    typer.Option(
        "--vae-memory",
        metavar="SIZE",
        help="Memory budget of the VAE, as 4GiB. Above it the VAE runs in tiles, with the same result. auto: tiles "
        "only where the whole does not fit; off: never.",
    ),
]


_STRENGTHS = {name: method.default_strength for name, method in METHODS.items() if "strength" in method.takes}
_SETTINGS = {
    name: ", ".join(method.settings.model_fields) for name, method in METHODS.items() if method.settings is not None
}


@dataclass(frozen=True)
class PictureOptions:
    """The options of a picture beside its prompt; None where an option was not given."""

    model: Model = None
    size: Size = None
    method: MethodName = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SETTING",
            help="NAME=VALUE: a setting of the method's own; repeatable. "
            + "; ".join(f"{name}: {settings}" for name, settings in _SETTINGS.items())
            + ".",
        ),
    ] = None
    ablation: Annotated[
        str | None,
        typer.Option("--ablation", help=f"The recipe with one thing changed: {', '.join(ABLATIONS)}."),
    ] = None
    recipe: RecipeOption = None
    steps: Steps = None
    guidance: Guidance = None
    negative: Annotated[str | None, typer.Option("--negative", "-n", help="What the picture should not show.")] = None
    seed: Annotated[int | None, typer.Option("--seed", help="\\[default: a random one, which is printed]")] = None
    scheduler: Scheduler = None
    dtype: Dtype = None
    device: Device = None
    image: Annotated[Path | None, typer.Option("--image", "-i", help="Picture to start from (image to image).")] = None
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            help=f"How much of --image changes, 0 to 1; for {' and '.join(_STRENGTHS)}, of the picture they enlarge. "
            f"\\[default: {DEFAULT_STRENGTH}, with --mask {DEFAULT_MASKED_STRENGTH:g}; "
            f"{', '.join(f'{name} {strength:g}' for name, strength in _STRENGTHS.items())}]",
        ),
    ] = None
    mask: Annotated[
        Path | None,
        typer.Option("--mask", help="Picture: its white part of --image is redrawn, black stays (inpainting)."),
    ] = None
    control: Annotated[
        list[str] | None,
        typer.Option(
            "--control",
            metavar="CONTROL",
            help="MODEL=IMAGE or MODEL=IMAGE@SCALE: a ControlNet (folder, .safetensors file or hub id), the image "
            "that it follows, and its weight, by default 1; repeatable.",
        ),
    ] = None
    freeu: Annotated[bool | None, typer.Option("--freeu/--no-freeu", help="Also use FreeU. \\[default: no]")] = None
    config: Config = None
    allow_pickle: AllowPickle = False

    @property
    def loading(self) -> dict[str, Any]:
        """Options of loading.  They are not part of a request, so that no request can allow pickles."""
        return {"config": self.config, "allow_pickle": self.allow_pickle}

    def values(self, method: str = DEFAULT_METHOD) -> dict[str, Any]:
        """The options that were given, as values of a request (`RequestError` for what cannot be read).

        Args:
            method: that the settings are of, where no method was named.
        """
        values: dict[str, Any] = {
            option.name: getattr(self, option.name)
            for option in fields(self)
            if option.name not in _NOT_VALUES and getattr(self, option.name) is not None
        }
        if self.size is not None:
            values["width"], values["height"] = parse_size(self.size)
        for picture in ("image", "mask"):
            if picture in values:
                values[picture] = str(values[picture])
        if self.control:
            values["controls"] = _controls(self.control)
        if self.recipe == AUTOMATIC:
            values["recipe"] = None
        if self.ablation is not None:
            values[DEFAULT_METHOD] = {"ablation": self.ablation}
        if self.settings:
            name = named(self.method or method)[0]
            values[name] = values.get(name, {}) | dict(_setting(text) for text in self.settings)
        return values

    def request(self, prompt: str | None, base: Request | None = None) -> Request:
        """The request of these options; what they leave open is taken from `base` (`RequestError`)."""
        values = self.values() if base is None else self.values(base.method)
        if prompt is not None:
            values["prompt"] = prompt
        return Request.from_mapping(values) if base is None else base.changed(**values)


def _setting(text: str) -> tuple[str, Any]:
    """The name and value of "NAME=VALUE"; the value is JSON (a number, a list, true), else a text."""
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise RequestError(f"--set is NAME=VALUE, as restart=0.3 or restart=[0.3,0.2], not {text!r}")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def _controls(texts: list[str]) -> list[dict[str, str | float]]:
    try:
        return [parse_control(text) for text in texts]
    except ValueError as error:
        raise RequestError(str(error)) from None


def spread_options(*without: str) -> Callable[[Command], Command]:
    """Let a command that takes `options: PictureOptions` take each of them as an option of its own, but those named."""
    hints = get_type_hints(PictureOptions, include_extras=True)
    taken = [option for option in fields(PictureOptions) if option.name not in without]
    spread = [
        inspect.Parameter(
            option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=hints[option.name]
        )
        for option in taken
    ]

    def decorate(command: Command) -> Command:
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command, eval_str=True).parameters.values()
            if parameter.name != "options"
        ]

        @functools.wraps(command)
        def spread_command(**values: Any) -> None:
            options = PictureOptions(**{option.name: values.pop(option.name) for option in taken})
            command(**values, options=options)

        parameters = [*own, *spread]
        spread_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        spread_command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del spread_command.__wrapped__
        return cast(Command, spread_command)

    return decorate
