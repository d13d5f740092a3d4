"""Pictures as PNG files that carry their whole request, and the request read back from one.

Two text chunks: `scalecrafter` holds the request as JSON; `parameters` tells it to image viewers of this field in
the form that AUTOMATIC1111's web UI made common.
"""

from __future__ import annotations

import json
import os
import platform
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .._util.files import write_new, write_whole
from .._util.png import SIGNATURE, read_text_chunk
from .._version import __version__
from ..request.methods import METHODS
from ..request.request import DIRECT, Request, RequestError

if TYPE_CHECKING:
    from .generate import Result

CHUNK = "scalecrafter"
VIEWER_CHUNK = "parameters"
FORMAT = 1
"""Version of the `scalecrafter` chunk; raised when an older reader would misunderstand it."""
PACKAGES = ("torch", "diffusers", "transformers")
WEIGHTS = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")
"""The endings of files with weights."""


def save_picture(result: Result, path: str | os.PathLike[str], replace: bool = True) -> Path:
    """Write a picture as PNG with its request inside; never half of it.

    Args:
        result: of `generation.generate`.
        path: ends in .png.
        replace: whether it takes the place of a file of that name; else it is name-2.png, name-3.png, …

    Returns:
        Where it is.

    Raises:
        RequestError: for another ending.
        UnwritableError: when it cannot be written (a full disk, a missing folder); nothing is left behind.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise RequestError(f"pictures are written as PNG, which carries the request: let {str(target)!r} end in .png")
    if replace:
        return write_whole(target, lambda file: write_png(result, file), parents=False)
    return write_new(target, lambda file: write_png(result, file))


def write_png(result: Result, file: BinaryIO) -> None:
    """Write a picture as PNG with its request inside into an open file."""
    chunks = PngInfo()
    chunks.add_text(CHUNK, metadata_text(result))
    chunks.add_text(VIEWER_CHUNK, viewer_text(result))
    result.image.save(file, format="PNG", pnginfo=chunks)


def metadata_text(result: Result) -> str:
    """The `scalecrafter` chunk: the same for the same picture, so it holds no times or dates."""
    content = {
        "format": FORMAT,
        "request": result.request.model_dump(mode="json"),
        "versions": package_versions(),
        "environment": dict(result.environment),
    }
    return json.dumps(content)


def viewer_text(result: Result) -> str:
    """The `parameters` chunk: prompt, negative prompt, and one line of settings."""
    request = result.request
    settings = {
        "Steps": request.steps,
        "Sampler": result.environment.get("sampler", request.scheduler),
        "CFG scale": f"{request.guidance:g}",
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model": _model_name(request.model),
    }
    method = METHODS[request.method]
    if request.image or ("strength" in method.takes and request.settings is None):
        settings["Denoising strength"] = f"{request.strength_or_default:g}"
    for number, control in enumerate(request.controls):
        model = _model_name(control.model)
        settings[f"ControlNet {number}"] = f"Module: none, Model: {model}, Weight: {control.scale:g}"
    if request.method_label not in ("scalecrafter", "direct"):
        settings["Method"] = request.method_label
    if "recipe" in method.takes and request.recipe != DIRECT:
        is_text = request.recipe is not None and "\n" in request.recipe
        settings["ScaleCrafter recipe"] = "custom" if is_text else request.recipe or "automatic"
    settings["Version"] = f"scalecrafter {package_versions()['scalecrafter']}"
    lines = [request.prompt]
    if request.negative:
        lines.append(f"Negative prompt: {request.negative}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items()))
    return "\n".join(lines)


def _model_name(model: str) -> str:
    """What viewers know a model by: the last part of a path or hub id, without the ending of a weights file."""
    name = re.split(r"[/\\]", model.rstrip("/\\"))[-1]
    return name.removesuffix(next((ending for ending in WEIGHTS if name.endswith(ending)), "")) or model


def _quoted(value: str) -> str:
    """A value as AUTOMATIC1111's web UI writes it: as JSON where it has a comma, a colon or a new line in it."""
    return json.dumps(value, ensure_ascii=False) if any(sign in value for sign in ",:\n") else value


def read_request(picture: str | os.PathLike[str] | BinaryIO, name: str = "") -> Request:
    """The request that made a picture (arguments and errors as `read_metadata`)."""
    name = name or _name_of(picture)
    return Request.from_mapping(read_metadata(picture, name)["request"], f"the request in {name!r}")


def read_metadata(picture: str | os.PathLike[str] | BinaryIO, name: str = "") -> dict[str, Any]:
    """The `scalecrafter` chunk of a picture: format, request, versions, environment.  Its pixels are not decoded.

    Args:
        picture: a path, or a file that is open at its beginning.
        name: of the picture, for messages.

    Raises:
        RequestError: for a file that is missing, is no PNG, holds no request, or one of a newer format.
    """
    name = name or _name_of(picture)
    try:
        with _opened(picture) as file:
            is_png = file.read(len(SIGNATURE)) == SIGNATURE
            file.seek(0)
            text = read_text_chunk(file, CHUNK) if is_png else None
            kind = "PNG" if is_png else _kind(file)
    except FileNotFoundError:
        raise RequestError(f"there is no file {name!r}") from None
    except OSError as error:
        raise RequestError(f"cannot read {name!r}: {error.strerror or error}") from None
    except ValueError as error:
        raise RequestError(f"cannot read {name!r}: {error}") from None
    if kind is None:
        raise RequestError(f"{name!r} is not a PNG picture: choose a PNG made by scalecrafter")
    if kind != "PNG":
        raise RequestError(
            f"{name!r} is a {kind} picture, and only PNG files hold requests: choose a PNG made by scalecrafter"
        )
    if text is None:
        raise RequestError(
            f"{name!r} holds no ScaleCrafter request: another program made it, or saved it anew. "
            "Choose a PNG made by scalecrafter"
        )
    try:
        content = json.loads(text)
        found = content["format"]
        if found == FORMAT and isinstance(content["request"], dict):
            return dict(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RequestError(f"the ScaleCrafter request in {name!r} is damaged: choose another picture") from None
    if isinstance(found, int) and found > FORMAT:
        raise RequestError(
            f"{name!r} was made by a newer scalecrafter (format {found}, this one reads {FORMAT}): update scalecrafter"
        )
    raise RequestError(f"the ScaleCrafter request in {name!r} is damaged: choose another picture")


@contextmanager
def _opened(picture: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(picture, (str, os.PathLike)):
        with open(picture, "rb") as file:
            yield file
    else:
        yield picture


def _name_of(picture: str | os.PathLike[str] | BinaryIO) -> str:
    return os.fspath(picture) if isinstance(picture, (str, os.PathLike)) else "the picture"


def _kind(file: BinaryIO) -> str | None:
    """The format of a picture by its header; None for what is no picture."""
    try:
        with Image.open(file) as image:
            return image.format
    except Exception:  # whatever Pillow raises for bytes that are no picture
        return None


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what a picture looks like."""
    return (
        {"scalecrafter": __version__}
        | {name: _version(name) for name in PACKAGES}
        | {"python": platform.python_version()}
    )


def changed_versions(metadata: Mapping[str, Any]) -> list[str]:
    """In words, each package that has another version than when a picture was made; a repeat may differ a little."""
    then, now = metadata.get("versions"), package_versions()
    if not isinstance(then, dict):
        return []
    return [f"{name} {then[name]} → {now[name]}" for name in now if name in then and then[name] != now[name]]


def slug(prompt: str) -> str:
    """A prompt as a short file name: lower case, words joined by hyphens."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    name = ""
    for word in words:
        if len(name) + len(word) > 48:
            break
        name = f"{name}-{word}" if name else word
    return name or "picture"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
