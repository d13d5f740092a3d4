"""Pictures that clients send: looked at before anything is done with them, and kept by their SHA-256."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Mapping
from io import BytesIO

from PIL import Image, ImageOps

from .._util.files import write_whole
from ..request.request import Request, RequestError
from .folders import Folders
from .settings import LimitError

PICTURE_FIELDS = ("image", "mask")
"""Those fields of a request that are pictures."""
_DECODING = threading.Lock()
"""One picture at a time is decoded, so that many uploads at once need no more memory than one."""
_ENDINGS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


def upload_name(field: str, data: bytes, pixels: int) -> str:
    """The name under which a picture is kept, once it is known to be one.

    Args:
        field: what it is sent as, for errors.
        data: a whole PNG, JPEG or WebP file.
        pixels: the most that it may have; seen to before it is decoded.

    Raises:
        RequestError: for what is no such picture, or is damaged.
        LimitError: for too many pixels.
    """
    try:
        with _DECODING, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=tuple(_ENDINGS)) as image:
                ending = _ENDINGS[str(image.format)]
                width, height = image.size
                if width * height > pixels:
                    raise LimitError(
                        f"{field} has {width}x{height} pixels: this server takes at most {pixels:,} in all"
                    )
                image.load()
    except LimitError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything for bytes that are wrong
        raise RequestError(
            f"{field} cannot be read ({type(error).__name__}): send a whole PNG, JPEG or WebP file"
        ) from None
    return f"{hashlib.sha256(data).hexdigest()}.{ending}"


def keep_upload(folders: Folders, name: str, data: bytes) -> None:
    """Keep a picture under its name; it is on the disk afterwards."""
    target = folders.upload(name)
    if target.exists():
        target.touch()  # so that it counts as new when old uploads are swept away
    else:
        write_whole(target, data)


def with_pictures(request: Request, names: Mapping[str, str]) -> Request:
    """The request with its pictures called by other names; each is known by the SHA-256 that it had, or has."""
    values: dict[str, str | None] = {}
    for field, name in names.items():
        digest = f"{field}_sha256"
        values |= {field: name, digest: getattr(request, digest) or name.partition(".")[0]}
    return request.changed(**values)


def opaque_mask(data: bytes) -> bytes:
    """A mask as OpenAI's API has it (what is transparent is redrawn) as ours (what is white is), as PNG.

    A picture that is not transparent anywhere is taken for one of ours.  What is no picture is left for `upload_name`.
    """
    try:
        with _DECODING, Image.open(BytesIO(data), formats=tuple(_ENDINGS)) as image:
            if not image.has_transparency_data:
                return data
            alpha = image.convert("RGBA").getchannel("A")
    except Exception:
        return data
    if alpha.getextrema()[0] == 255:
        return data
    file = BytesIO()
    ImageOps.invert(alpha).save(file, format="PNG")
    return file.getvalue()
