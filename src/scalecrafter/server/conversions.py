"""Finished pictures in other formats and sizes: the PNG that a worker wrote is read, and nothing is kept."""

from __future__ import annotations

import threading
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image

from .._util.pictures import open_header

MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
"""By the ending of a picture's address."""
USUAL_QUALITY = 92
_SETTINGS = "parameters"
"""The text chunk for image viewers, `generation.picture_files.VIEWER_CHUNK`; that module would bring torch."""
_DECODING = threading.Lock()
"""Only one picture is decoded at a time: a page of small pictures needs the memory of one large one."""


def converted(path: Path | IO[bytes], ending: str, side: int | None = None, quality: int = USUAL_QUALITY) -> bytes:
    """A picture in another format, or smaller.

    Args:
        path: of a finished picture, a PNG; or an open file.
        ending: of `MEDIA_TYPES`.
        side: the longer side in pixels; a smaller picture stays as it is. None: the whole size.
        quality: of JPEG and WebP, 1 to 100.

    Returns:
        The file's bytes. JPEG and WebP carry the settings as EXIF, where image viewers of this field look for them,
        unless the picture was made smaller. JPEG has no transparency: it becomes white.

    Raises:
        FileNotFoundError: for a picture that is gone.
    """
    file = BytesIO()
    with _DECODING, open_header(path) as image:
        profile, settings = image.info.get("icc_profile"), image.info.get(_SETTINGS)
        picture: Image.Image = image
        if side is not None:
            picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
        if ending in ("jpg", "jpeg"):
            picture = _on_white(picture)
        more = {} if side is not None or settings is None or ending == "png" else {"exif": _exif(str(settings))}
        kind = {"jpg": "JPEG", "jpeg": "JPEG"}.get(ending, ending.upper())
        picture.save(file, format=kind, quality=quality, icc_profile=profile, **more)
    return file.getvalue()


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layers = picture.convert("RGBA")
    white = Image.new("RGBA", layers.size, "white")
    return Image.alpha_composite(white, layers).convert("RGB")


def _exif(settings: str) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + settings.encode("utf-16-be")
    return exif
