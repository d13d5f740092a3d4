"""Pictures that clients send: looked at before anything is done with them, and kept by their SHA-256."""

from __future__ import annotations

import hashlib
import warnings
from io import BytesIO

from PIL import Image

from ..request import RequestError
from .folders import Folders, write_durably
from .settings import LimitError

_ENDINGS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


def upload_name(data: bytes, pixels: int) -> str:
    """The name under which a picture is kept, once it is known to be one.

    Args:
        data: a whole PNG, JPEG or WebP file.
        pixels: the most that it may have; seen to before it is decoded.

    Raises:
        RequestError: for what is no such picture, or is damaged.
        LimitError: for too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=tuple(_ENDINGS)) as image:
                ending = _ENDINGS[str(image.format)]
                width, height = image.size
                if width * height > pixels:
                    raise LimitError(f"image has {width}x{height} pixels: this server takes at most {pixels:,} in all")
                image.load()
    except LimitError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything for bytes that are wrong
        raise RequestError(
            f"image cannot be read ({type(error).__name__}): send a whole PNG, JPEG or WebP file"
        ) from None
    return f"{hashlib.sha256(data).hexdigest()}.{ending}"


def keep_upload(folders: Folders, name: str, data: bytes) -> None:
    """Keep a picture under its name; it is on the disk afterwards."""
    target = folders.upload(name)
    if target.exists():
        target.touch()  # so that it counts as new when old uploads are swept away
    else:
        write_durably(target, data)
