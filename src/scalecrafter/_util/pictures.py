"""Pictures opened by their header, so that their size can be checked before they are decoded."""

from __future__ import annotations

import threading
from os import PathLike
from typing import IO

from PIL import Image

from .extras import need_extra

FORMATS = {
    "PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp", "AVIF": "avif", "TIFF": "tiff", "BMP": "bmp",
    "GIF": "gif", "HEIF": "heic",
}  # fmt: skip
"""The formats of pictures that are read, as Pillow names them, and how their files end."""
FORMATS_TEXT = "PNG, JPEG, WebP, AVIF, TIFF, BMP, GIF or HEIC"
_HEIC = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis"})
LARGEST_PIXELS = 16_384 * 16_384
"""Of a picture that is read: the largest that can be made."""
_turn = threading.Lock()


def open_header(picture: str | PathLike[str] | IO[bytes], formats: tuple[str, ...] | None = None) -> Image.Image:
    """Open a picture without decoding it.  Compare its `size` with a limit of your own before you use its pixels.

    Pillow's own limit is off for this call: it lies below the largest picture that can be made.

    Args:
        picture: a path, or an open file at its start.
        formats: of `FORMATS`; by default all that Pillow reads.

    Raises:
        MissingExtraError: for HEIC without the extra `heic`.
        OSError, SyntaxError, ValueError: for what is no picture.
    """
    if _is_heic(picture):
        need_extra("HEIC", "heic")
        import pillow_heif

        pillow_heif.register_heif_opener()
    if formats is not None:
        Image.init()
        formats = tuple(name for name in formats if name in Image.OPEN)  # MPO is opened as JPEG, HEIC by an extra
    with _turn:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(picture, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _is_heic(picture: str | PathLike[str] | IO[bytes]) -> bool:
    """Whether a file begins as HEIC does; its name does not matter."""
    if isinstance(picture, (str, PathLike)):
        with open(picture, "rb") as file:
            start = file.read(12)
    else:
        start = picture.read(12)
        picture.seek(0)
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC
