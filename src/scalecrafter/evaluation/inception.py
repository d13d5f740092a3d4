"""Inception-v3's features, as the literature's FID and KID use them, with the resizing of clean-fid.

The network and the fetching of its weights are torch-fidelity's, by way of torchmetrics.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._util.extras import need_extra
from ..errors import ScaleCrafterError

Extractor = Callable[[Image.Image], NDArray[np.float32]]
"""A picture's features `(dimensions,)`."""
SIDE = 299


def load_inception() -> Extractor:
    """The extractor: a picture of any size becomes features `(2048,)`.

    Raises:
        ScaleCrafterError: if the package is missing, or the weights (about 91 MiB, fetched once) cannot be had.
    """
    import torch

    need_extra("--features inception", "inception", instead="take --features critters, which needs nothing more")
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        network = NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"])
    except OSError as error:
        raise ScaleCrafterError(
            f"the weights of inception could not be fetched ({error}): they come from torch-fidelity's release page at "
            "github.com, once, into torch's hub cache; try again with a network, or take --features critters or none"
        ) from error

    def extract(picture: Image.Image) -> NDArray[np.float32]:
        pixels = torch.from_numpy(np.rint(resized(picture, SIDE)).astype(np.uint8))  # which is what the network takes
        with torch.no_grad():
            features: NDArray[np.float32] = network(pixels.permute(2, 0, 1)[None])[0].float().numpy()
        return features

    return extract


def resized(picture: Image.Image, side: int) -> NDArray[np.float32]:
    """A picture as `(side, side, 3)`, 0 to 255, resized without aliasing.

    Bicubic with a support that grows with the reduction, each channel in float, as clean-fid does
    (Parmar, Zhang & Zhu 2022, arXiv 2104.11222, section 3).
    """
    channels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    planes = [
        np.asarray(Image.fromarray(channels[..., index]).resize((side, side), Image.Resampling.BICUBIC))
        for index in range(3)
    ]
    clipped: NDArray[np.float32] = np.clip(np.stack(planes, axis=-1), 0.0, 255.0)
    return clipped
