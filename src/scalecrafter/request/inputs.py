"""The pictures that a request starts from: its image, its mask and its control images.

They are recognised by their SHA-256.  Each fills the size of the picture to make: scaled, and cropped around its middle
where the shapes differ.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from .._util.bit_depth import eight_bit
from .control import Control
from .enlarge_source import open_file, open_source
from .request import Request, RequestError

_SAME_SHAPE = 0.02
"""How far the ratio of a mask's sides may be from that of its image's, relatively."""

_WHITE = 128
"""From this grey on a pixel of a mask is redrawn, as the pipelines of diffusers have it."""


def digests(request: Request) -> dict[str, Any]:
    """Those values of a request that know its pictures by their SHA-256.

    Raises:
        RequestError: for a picture that cannot be read, or that has changed since its SHA-256 was taken.
    """
    values: dict[str, Any] = {}
    if request.image is not None:
        values["image_sha256"] = _digest("image", request.image, request.image_sha256)
    if request.mask is not None:
        values["mask_sha256"] = _digest("mask", request.mask, request.mask_sha256)
    if request.controls:
        values["controls"] = [
            control.model_dump() | {"image_sha256": _digest("control image", control.image, control.image_sha256)}
            for control in request.controls
        ]
    return values


def check_inputs(request: Request) -> None:
    """Raise `RequestError` for a picture that cannot be opened, or has changed; only headers are decoded."""
    digests(request)
    paths = [("image", request.image), ("mask", request.mask)]
    paths += [("control image", control.image) for control in request.controls]
    for what, path in paths:
        if path is not None:
            open_picture(what, path, decode=False)


def open_image(request: Request, size: tuple[int, int]) -> Image.Image:
    """The image to start from, in RGB at `size` (width, height); white where it is transparent."""
    return ImageOps.fit(open_source(str(request.image)).on_white, size, Image.Resampling.LANCZOS)


def open_control(control: Control, size: tuple[int, int]) -> Image.Image:
    """The image that a ControlNet follows, in RGB at `size` (width, height)."""
    image = open_picture("control image", control.image).convert("RGB")
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def open_mask(request: Request, size: tuple[int, int]) -> Image.Image:
    """The mask in grey at `size` (width, height): white is redrawn, black is kept.

    Of a picture with transparent parts, as picture editors and OpenAI's Images API have masks, those are redrawn.

    Raises:
        RequestError: for a mask of another shape than the image's, or one that would let nothing be redrawn.
    """
    mask, image = open_picture("mask", str(request.mask)), open_picture("image", str(request.image))
    ratio = (mask.width * image.height) / (mask.height * image.width)
    if abs(ratio - 1) > _SAME_SHAPE:
        raise RequestError(
            f"the mask {request.mask!r} is {mask.width}×{mask.height} and the image {request.image!r} "
            f"{image.width}×{image.height}: a mask lies on its image, so give one of the same shape"
        )
    fitted = ImageOps.fit(_redrawn(mask), size, Image.Resampling.BILINEAR)
    if max(fitted.tobytes()) < _WHITE:
        raise RequestError(
            f"the mask {request.mask!r} has no white and no transparent part: nothing would be redrawn. "
            "Paint white what is to be redrawn"
        )
    return fitted


def composite_mask(picture: Image.Image, request: Request) -> Image.Image:
    """The picture where the mask is white and the given image where it is black, to the bit; greys blend the two."""
    return Image.composite(picture, open_image(request, picture.size), open_mask(request, picture.size))


def _redrawn(mask: Image.Image) -> Image.Image:
    if "A" in mask.getbands() or "transparency" in mask.info:
        opacity = mask.convert("RGBA").getchannel("A")
        if min(opacity.tobytes()) < 255 - _WHITE:
            return ImageOps.invert(opacity)
    return mask.convert("L")


def open_picture(what: str, path: str, decode: bool = True) -> Image.Image:
    """A picture, turned as its EXIF data says.

    Args:
        what: its part in the request, for messages.
        path: of the file.
        decode: False reads its header only.

    Returns:
        A picture with 8 bits a channel (see `eight_bit`).

    Raises:
        RequestError: for what cannot be read, or has more pixels than `LARGEST_PIXELS`.
    """
    try:
        with open_file(what, path) as image:
            return eight_bit(ImageOps.exif_transpose(image)) if decode else image
    except RequestError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise RequestError(f"cannot read the {what} {path!r}: {error}") from None


def _digest(what: str, path: str, known: str | None) -> str:
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a device has no end
            raise RequestError(f"cannot read the {what} {path!r}: it is no file")
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise RequestError(f"cannot read the {what} {path!r}: {error.strerror}") from None
    if known not in (None, digest):
        raise RequestError(
            f"the {what} {path!r} has changed since this request was made (its SHA-256 differs): "
            f"bring the old one back, or name {_ARTICLE[what]} {what} anew to start from what is there now"
        )
    return digest


_ARTICLE = {"image": "an", "mask": "a", "control image": "a"}
