"""Greyscale pictures of 16 bits and of floats: black stays black and white white, as image, mask and control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scalecrafter.request.control import Control
from scalecrafter.request.inputs import open_control, open_image, open_mask
from scalecrafter.request.request import Request, RequestError

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)
FILES = {
    "sixteen.png": (RAMP * 65535).astype("uint16"),
    "sixteen.tif": (RAMP * 65535).astype("uint16"),
    "integers.tif": (RAMP * 65535).astype("int32"),
    "floats.tif": RAMP.astype("float32"),
}


def opened(what: str, path: Path) -> Image.Image:
    size = (64, 64)
    if what == "control":
        return open_control(Control(model="x", image=str(path)), size)
    request = Request(prompt="x", image=str(path), mask=str(path) if what == "mask" else None)
    return open_mask(request, size) if what == "mask" else open_image(request, size)


@pytest.mark.parametrize("what", ["image", "mask", "control"])
@pytest.mark.parametrize("name", FILES)
def test_a_ramp_stays_a_ramp(tmp_path: Path, what: str, name: str) -> None:
    Image.fromarray(FILES[name]).save(tmp_path / name)
    image = opened(what, tmp_path / name)
    values: Any = np.asarray(image.convert("L"), dtype=float)
    assert image.mode == ("L" if what == "mask" else "RGB")
    assert np.abs(values - RAMP * 255).max() <= 1


def test_big_endian_files_are_read_alike(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (64, 64), (RAMP * 65535).astype(">u2").tobytes()).save(tmp_path / "big.tif")
    assert np.abs(np.asarray(opened("image", tmp_path / "big.tif"))[..., 0] - RAMP * 255).max() <= 1


@pytest.mark.parametrize(
    "values", [RAMP * 255, RAMP - 1, np.where(RAMP > 0.5, np.nan, RAMP), (RAMP * 2**20).astype("int32")]
)
def test_values_without_a_known_range_are_refused(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "depth.tif"
    Image.fromarray(values if values.dtype.kind == "i" else values.astype("float32")).save(path)
    with pytest.raises(RequestError, match=r"cannot read the image .*: its values reach from .* scale them"):
        opened("image", path)
