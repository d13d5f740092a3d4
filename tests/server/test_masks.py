"""Masks: OpenAI's (what is transparent is redrawn) and ours (what is white is)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import openai
import pytest
from PIL import Image

from scalecrafter.generation.generate import generate
from scalecrafter.models.loading import load_pipeline
from scalecrafter.request.request import Request
from scalecrafter.server.uploads import opaque_mask
from tests.support.running_server import Running

SIZE = (128, 128)


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def half(mode: str, left: object, right: object) -> Image.Image:
    """A picture of two colours, side by side."""
    image = Image.new(mode, SIZE, left)  # type: ignore[arg-type]
    image.paste(right, (SIZE[0] // 2, 0, *SIZE))  # type: ignore[arg-type]
    return image


OPENAIS = half("RGBA", (9, 9, 9, 0), (9, 9, 9, 255))
OURS = half("L", 255, 0)


def test_a_transparent_mask_becomes_a_white_one() -> None:
    with Image.open(BytesIO(opaque_mask(png(OPENAIS), 1 << 20))) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(OURS))


@pytest.mark.parametrize("mask", [png(OURS), png(half("RGBA", (255,) * 4, (0, 0, 0, 255)))], ids=["grey", "opaque"])
def test_a_mask_without_transparency_is_taken_as_it_is(mask: bytes) -> None:
    assert opaque_mask(mask, 1 << 20) == mask


def edited(server: Running, mask: bytes) -> bytes:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none needed", max_retries=0) as client:
        answer = client.images.edit(
            image=("image.png", png(half("RGB", "red", "blue"))), mask=("mask.png", mask),
            prompt="a fox", size="128x128", response_format="b64_json", extra_body={"steps": 2, "seed": 3},
        )  # fmt: skip
    assert answer.data is not None
    return base64.b64decode(answer.data[0].b64_json or "")


@pytest.mark.parametrize("make", [lambda: OPENAIS, lambda: OURS], ids=["transparent", "white"])
def test_what_the_mask_shows_is_redrawn_as_the_library_does_it(
    server: Running, tiny: Path, tmp_path: Path, make: Callable[[], Image.Image]
) -> None:
    paths = {"image": tmp_path / "image.png", "mask": tmp_path / "mask.png"}
    paths["image"].write_bytes(png(half("RGB", "red", "blue")))
    paths["mask"].write_bytes(png(OURS))
    request = Request.from_mapping(
        {"prompt": "a fox", "model": "tiny", "width": 128, "height": 128, "steps": 2, "seed": 3}
        | {field: str(path) for field, path in paths.items()}
    )
    with Image.open(BytesIO(edited(server, png(make())))) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(generate(load_pipeline(tiny), request).image))
