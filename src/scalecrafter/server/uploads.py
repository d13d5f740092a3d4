"""Pictures that clients send: checked before anything is done with them, and kept by their SHA-256."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO

from PIL import Image, ImageOps

from .._util.extras import MissingExtraError
from .._util.files import write_whole
from .._util.pictures import FORMATS, FORMATS_TEXT, open_header
from .._util.sizes import ImageSize
from ..request.enlarge_source import upright_size
from ..request.request import Request, RequestError
from .folders import Folders, make_private
from .settings import LimitError

PICTURE_FIELDS = ("image", "mask")
"""Those fields of a request that are pictures."""
_DECODING = threading.Lock()
"""Only one picture is decoded at a time: many uploads at once need no more memory than one."""


def upload_name(field: str, data: bytes, pixels: int) -> str:
    """The name under which a picture is kept (errors as `_decoded`)."""
    with _decoded(field, data, pixels) as image:
        return f"{hashlib.sha256(data).hexdigest()}.{FORMATS[str(image.format)]}"


def upload_size(field: str, data: bytes, pixels: int) -> ImageSize:
    """The size of a picture, upright (errors as `_decoded`)."""
    with _decoded(field, data, pixels) as image:
        return upright_size(image)


def keep_upload(folders: Folders, name: str, data: bytes) -> None:
    """Write a picture to the disk under its name."""
    target = folders.upload(name)
    if target.exists():
        target.touch()  # it counts as new, so it is not swept away
    else:
        write_whole(target, data)
        make_private(target)


def with_pictures(request: Request, names: Mapping[str, str]) -> Request:
    """Return the request with new file names for its pictures; known hashes are kept."""
    values: dict[str, str | None] = {}
    for field, name in names.items():
        digest = f"{field}_sha256"
        values |= {field: name, digest: getattr(request, digest) or name.partition(".")[0]}
    return request.changed(**values)


def opaque_mask(data: bytes, pixels: int) -> bytes:
    """Convert an OpenAI-style mask (transparent = redraw) to ours (white = redraw), a PNG.

    A picture without transparent parts is returned as it is (errors as `_decoded`).
    """
    with _decoded("mask", data, pixels) as image:
        if not image.has_transparency_data:
            return data
        alpha = image.convert("RGBA").getchannel("A")
    if alpha.getextrema()[0] == 255:
        return data
    file = BytesIO()
    ImageOps.invert(alpha).save(file, format="PNG")
    return file.getvalue()


@contextmanager
def _decoded(field: str, data: bytes, pixels: int) -> Iterator[Image.Image]:
    """A decoded picture; nobody else decodes one meanwhile.

    Args:
        field: what it is sent as, for errors.
        data: a whole file of one of the `FORMATS`.
        pixels: the most that it may have. The header says how many, before it is decoded.

    Raises:
        RequestError: for what is no such picture, or is damaged.
        LimitError: for too many pixels.
    """
    with _DECODING:
        try:
            image = open_header(BytesIO(data), tuple(FORMATS))
            width, height = image.size
            if width * height <= pixels:
                image.load()
        except MissingExtraError as error:
            raise RequestError(f"{field} is HEIC, which this server cannot read: send a JPEG ({error})") from None
        except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
            raise RequestError(
                f"{field} cannot be read ({type(error).__name__}): send a whole {FORMATS_TEXT} file"
            ) from None
        if width * height > pixels:
            raise LimitError(f"{field} has {width}x{height} pixels: this server takes at most {pixels:,} in all")
        with image:
            yield image
