"""Pictures opened by their header, so that their size can be checked before they are decoded."""

from __future__ import annotations

import threading
from os import PathLike
from typing import IO

from PIL import Image

LARGEST_PIXELS = 16_384 * 16_384
"""Of a picture that is read: the largest that can be made."""
_turn = threading.Lock()


def open_header(picture: str | PathLike[str] | IO[bytes], formats: tuple[str, ...] | None = None) -> Image.Image:
    """Open a picture without decoding it.  Compare its `size` with a limit of your own before you use its pixels.

    Pillow's own limit is off for this call: it lies below the largest picture that can be made.
    """
    with _turn:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(picture, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
