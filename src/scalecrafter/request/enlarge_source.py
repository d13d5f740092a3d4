"""A picture of the user's own: its colours, its transparency and its colour profile."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageCms, ImageOps

from .._util.bit_depth import eight_bit
from .._util.extras import MissingExtraError
from .._util.pictures import LARGEST_PIXELS, open_header
from .._util.sizes import ImageSize
from .enlargement import target_size
from .request import Request, RequestError

_TURNED = {5, 6, 7, 8}
"""Values of EXIF's orientation with which width and height change places."""
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class SourcePicture:
    """An opened picture."""

    colours: Image.Image
    """8-bit RGB, upright."""
    alpha: Image.Image | None
    """8-bit greyscale, where anything of it is transparent."""
    profile: bytes | None
    """The ICC profile that its colours are meant in; None: sRGB."""
    notes: tuple[str, ...]
    """What was done to it."""

    @property
    def on_white(self) -> Image.Image:
        """Its colours, and white where it is transparent."""
        if self.alpha is None:
            return self.colours
        return Image.composite(self.colours, Image.new("RGB", self.colours.size, "white"), self.alpha)

    def dressed(self, picture: Image.Image) -> Image.Image:
        """An enlarged picture with this one's transparency and profile."""
        if self.alpha is not None:
            picture = picture.copy()
            picture.putalpha(self.alpha.resize(picture.size, Image.Resampling.LANCZOS))
        if self.profile is not None:
            picture.info["icc_profile"] = self.profile
        return picture


def source_size(path: str) -> ImageSize:
    """The size of a picture, upright, from its header (`RequestError`)."""
    with open_file("image", path) as image:
        return upright_size(image)


def upright_size(image: Image.Image) -> ImageSize:
    """The size of an opened picture once it is turned as its EXIF data says."""
    turned = image.getexif().get(_ORIENTATION) in _TURNED
    return ImageSize(*(reversed(image.size) if turned else image.size))


def enlarged_size(request: Request, source: ImageSize | None = None) -> ImageSize:
    """The size that an enlarged picture gets; `source` is the image's own, if it is known (`RequestError`)."""
    assert request.enlarge is not None
    asked = ImageSize(request.width, request.height) if request.width and request.height else None
    try:
        return target_size(source or source_size(str(request.image)), request.enlarge.scale, asked)
    except ValueError as error:
        raise RequestError(f"cannot enlarge {request.image!r}: {error}") from None


def open_source(path: str) -> SourcePicture:
    """A picture of any common kind.

    PNG, JPEG, WebP, AVIF, TIFF, BMP, GIF (its first frame), and HEIC with the extra `heic`; grey, palette, CMYK, 16
    bits a channel, transparent; turned as its EXIF data says.

    Raises:
        RequestError: for what cannot be read.
    """
    notes = []
    with open_file("image", path) as image:
        try:
            if getattr(image, "n_frames", 1) > 1:
                notes.append("took the first of its frames")
            upright = ImageOps.exif_transpose(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise RequestError(f"cannot read the image {path!r}: {error}") from None
        if image.getexif().get(_ORIENTATION, 1) != 1:
            notes.append("turned it as its EXIF data says")
        profile = image.info.get("icc_profile")
    alpha = None
    if "A" in upright.getbands() or "transparency" in upright.info:
        alpha = upright.convert("RGBA").getchannel("A")
        alpha = alpha if min(alpha.tobytes()) < 255 else None
    if upright.mode.startswith(("I", "F")):
        notes.append("took 8 of its 16 or more bits a channel")
        upright = _eight_bit(upright, path)
    if upright.mode == "CMYK":
        notes.append("converted CMYK to sRGB")
        colours, profile = _from_cmyk(upright, profile), None
    else:
        colours = upright.convert("RGB")
    return SourcePicture(colours, alpha, profile, tuple(notes))


def open_file(what: str, path: str) -> Image.Image:
    """A picture of which only the header is decoded.

    Args:
        what: its part in the request, for messages.
        path: of the file.

    Raises:
        RequestError: for what cannot be read, or has more pixels than `LARGEST_PIXELS`.
    """
    try:
        image = open_header(path)
    except FileNotFoundError:
        raise RequestError(f"there is no {what} {path!r}") from None
    except MissingExtraError as error:
        raise RequestError(f"cannot read the {what} {path!r}: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise RequestError(f"cannot read the {what} {path!r}: {error}") from None
    if image.width * image.height > LARGEST_PIXELS:
        image.close()
        raise RequestError(
            f"the {what} {path!r} has {image.width}×{image.height} pixels, and at most {LARGEST_PIXELS:,} in all can "
            "be read: give a smaller one"
        )
    return image


def _from_cmyk(image: Image.Image, profile: bytes | None) -> Image.Image:
    """In sRGB, by its own profile where it has one that can be read."""
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


def _eight_bit(image: Image.Image, path: str) -> Image.Image:
    try:
        return eight_bit(image)
    except ValueError as error:
        raise RequestError(f"cannot read the image {path!r}: {error}") from None
