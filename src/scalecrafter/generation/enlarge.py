"""A picture of the user's own, or one just made, enlarged: any shape, nothing cropped, in stages of at most twice."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from ..request.methods import ENLARGING_METHOD
from ..request.request import Request
from .generate import generate


def enlarge(
    pipe: Any,
    image: Image.Image | str | os.PathLike[str],
    scale: float = 2.0,
    *,
    size: tuple[int, int] | None = None,
    prompt: str = "",
    creativity: float = 0.3,
    method: str = ENLARGING_METHOD,
    seed: int | None = None,
    **settings: Any,
) -> Image.Image:
    """A picture enlarged by a diffusion model.

    Args:
        pipe: a text-to-image pipeline with a U-Net, as `load_pipeline` gives it; afterwards it is what it was.
        image: a picture of any size and shape, or the path of one.
        scale: how much longer both sides get: above 1 and at most 8.
        size: (width, height) in image pixels instead; of the picture's shape.
        prompt: what the picture shows, if that is to guide what is drawn.
        creativity: 0 keeps to the picture, 1 draws anew.
        method: a name of `request.methods.METHODS` that can enlarge.
        seed: of what is drawn; None draws one.
        settings: further values of a `Request`, as `steps`, `guidance`, `negative` or the method's own.

    Returns:
        The picture, 8-bit RGB or RGBA.  Reduced to the size of `image` it has that one's low frequencies: all of them
        with creativity 0.  Transparency and colour profile are those of `image`.

    Raises:
        RequestError: for a picture that cannot be read, or a size of another shape.
        ModelError, NumericalError, OutOfMemoryError: as `generate`.
    """
    values: dict[str, Any] = {
        "prompt": prompt, "method": method, "seed": seed, "enlarge": {"scale": scale, "creativity": creativity},
    }  # fmt: skip
    if size is not None:
        values["width"], values["height"] = size
    if not isinstance(image, Image.Image):
        return generate(pipe, Request.from_mapping(values | settings | {"image": os.fspath(image)})).image
    with tempfile.TemporaryDirectory(prefix="scalecrafter-") as folder:
        path = Path(folder) / "image.tiff"  # keeps modes, transparency and profile as they are
        image.save(path, icc_profile=image.info.get("icc_profile"))
        return generate(pipe, Request.from_mapping(values | settings | {"image": str(path)})).image
