"""Greyscale pictures of 16 and 32 bits as 8-bit ones, which Pillow's own conversion cuts off at 255."""

from __future__ import annotations

from PIL import Image

_SIXTEEN_BITS = 65535


def eight_bit(image: Image.Image) -> Image.Image:
    """A picture with 8 bits a channel; its mode decides the range of its values.

    Integers (I;16 and its byte orders, and I, as which Pillow opens some 16-bit files) reach from 0 to 65535, floats
    (F) from 0 to 1.  Pictures that have 8 bits already are returned as they are.

    Raises:
        ValueError: for values outside of that range, which says nothing of what is black and what is white.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    import numpy as np

    values = np.asarray(image).astype(np.float64)
    white = 1 if image.mode == "F" else _SIXTEEN_BITS
    if not (values.min() >= 0 and values.max() <= white):  # NaN is neither
        raise ValueError(
            f"its values reach from {values.min():g} to {values.max():g}, and a greyscale picture of the mode "
            f"{image.mode} is taken from 0 (black) to {white} (white): scale them, or save it with 8 bits"
        )
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
