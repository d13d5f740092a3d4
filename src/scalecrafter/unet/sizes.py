"""Which picture sizes a U-Net was trained for and can make, read from configurations alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._util.sizes import GridSize, ImageSize, check_size, nearest_size

AUTOENCODERS = ("vae", "movq", "vqvae")
"""What diffusers' pipelines call the part that turns latents into pictures."""


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a model."""

    native_height: int
    """Height of the latents it was trained on."""
    native_width: int
    levels: int
    """Resolutions of the U-Net; each halves the one above it."""
    pixel_factor: int
    """Image pixels to one latent pixel, along each axis."""

    @property
    def size_multiple(self) -> int:
        """Image sizes must be a multiple of this: VAE factor × the U-Net's reduction."""
        return self.pixel_factor * int(2 ** (self.levels - 1))

    @property
    def native_size(self) -> ImageSize:
        """The size of the pictures that it was trained on."""
        return ImageSize(self.native_width * self.pixel_factor, self.native_height * self.pixel_factor)

    @property
    def default_size(self) -> ImageSize:
        """The size of a picture for which none is asked: twice the native sides."""
        return ImageSize(2 * self.native_size.width, 2 * self.native_size.height)

    def nearest_size(self, size: ImageSize) -> ImageSize:
        """The size that the model can make which is nearest to this one."""
        return nearest_size(size, self.size_multiple)

    def grid_size(self, size: ImageSize) -> GridSize:
        """The size in latent pixels of a size in image pixels."""
        return GridSize(size.height // self.pixel_factor, size.width // self.pixel_factor)

    def check_size(self, height: int, width: int) -> None:
        """Raise `SizeError`, naming the two nearest good sizes, unless the U-Net halves this size evenly."""
        check_size(height, width, self.size_multiple)


def native_grid(config: Mapping[str, Any]) -> GridSize:
    """The latents that a U-Net of this configuration was trained on."""
    if "time_embedding_dim" in config and "sample_size" not in config:
        return GridSize(128, 128)  # Kandinsky 3, whose config is silent and whose pictures are 1024²
    native = config.get("sample_size") or 64
    if native == 96 and "num_frames" in config:
        return GridSize(72, 128)  # Stable Video Diffusion keeps SD 2.1's 96 in its config; it was trained at 1024×576
    height, width = (native, native) if isinstance(native, int) else native
    return GridSize(int(height), int(width))


def pixel_factor(block_out_channels: object) -> int:
    """Image pixels to one latent pixel of an autoencoder with these widths, one for each of its levels."""
    return int(2 ** (len(block_out_channels) - 1))  # type: ignore[arg-type]
