"""Which picture sizes a model can make.  Knows nothing of torch, so that a server can refuse a size at once."""

from __future__ import annotations

from .errors import SizeError


def check_size(height: int, width: int, multiple: int) -> None:
    """Raise `SizeError`, naming the two nearest good ones, unless both sides (image pixels) are multiples."""
    for name, value in (("height", height), ("width", width)):
        if value % multiple or value <= 0:
            below = max(value // multiple * multiple, multiple)
            raise SizeError(
                f"{name} {value} is not a multiple of {multiple} (VAE factor × the U-Net's reduction); "
                f"the nearest good ones are {below} and {below + multiple}"
            )
