"""Pictures in every format and of every kind that people have, each with what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def smooth(width: int, height: int) -> Image.Image:
    """A picture without fine detail."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    channels = [127 + 100 * np.sin(5 * x + k) * np.cos(4 * y - k) for k in range(3)]
    return Image.fromarray(np.rint(np.stack(channels, -1)).astype(np.uint8))


def turned(folder: Path) -> tuple[Path, Image.Image]:
    picture, exif = smooth(50, 70), Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "a.jpg", exif=exif, quality=95)
    return folder / "a.jpg", picture.transpose(Image.Transpose.ROTATE_270)


def transparent(folder: Path) -> tuple[Path, Image.Image]:
    picture = smooth(61, 47).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(folder / "a.png", icc_profile=PROFILE)
    return folder / "a.png", picture


def saved(name: str, picture: Image.Image, **options: Any) -> Any:
    def make(folder: Path) -> tuple[Path, Image.Image]:
        picture.save(folder / name, **options)
        return folder / name, picture.convert("RGB")

    return make


def heic(folder: Path) -> tuple[Path, Image.Image]:
    import pillow_heif

    picture = smooth(64, 48)
    pillow_heif.from_pillow(picture).save(folder / "a.heic", quality=100)
    return folder / "a.heic", picture


def sixteen_bits(folder: Path) -> tuple[Path, Image.Image]:
    ramp = np.linspace(0, 65535, 60 * 40).reshape(40, 60)
    Image.fromarray(ramp.astype(np.uint16)).save(folder / "a.png")
    return folder / "a.png", Image.fromarray(np.rint(ramp / 257).astype(np.uint8)).convert("RGB")


KINDS = {
    "png": saved("a.png", smooth(64, 48)),
    "grey": saved("a.png", smooth(64, 48).convert("L")),
    "jpeg-turned": turned,
    "webp": saved("a.webp", smooth(63, 49), lossless=True),
    "avif": saved("a.avif", smooth(64, 48), quality=100),
    "tiff": saved("a.tiff", smooth(40, 33)),
    "bmp": saved("a.bmp", smooth(40, 33)),
    "gif-of-two-frames": saved("a.gif", smooth(64, 48).convert("P"), save_all=True, append_images=[smooth(64, 48)]),
    "heic": heic,
    "cmyk": saved("a.jpg", smooth(64, 48).convert("CMYK"), quality=100),
    "palette": saved("a.png", smooth(64, 48).convert("P", palette=Image.Palette.ADAPTIVE)),
    "transparent": transparent,
    "sixteen-bits": sixteen_bits,
}
