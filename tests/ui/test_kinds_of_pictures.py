"""Pictures of every kind enlarged through the page, the server and the shell: one result, and what it must keep."""

from __future__ import annotations

import base64
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from scalecrafter.cli.app import app
from tests.support.browser import count, fill, saved, settled, until
from tests.support.picture_kinds import KINDS, PROFILE
from tests.support.running_server import Running

ENOUGH = 30.0
"""Decibels of the result, reduced to the size of what was given, against that."""
LARGEST = ("jpeg-turned", "transparent", "cmyk", "sixteen-bits")
"""Those that are enlarged four times as well, and from the shell."""


def check(made: Image.Image, kind: str, scale: int, given: Image.Image) -> None:
    """Size and so orientation, transparency, colour profile, low frequencies."""
    assert made.size == (scale * given.width, scale * given.height), kind
    assert made.mode == ("RGBA" if kind == "transparent" else "RGB"), kind
    assert made.info.get("icc_profile") == (PROFILE if kind == "transparent" else None), kind
    reduced = made.convert("RGB").resize(given.size, Image.Resampling.BOX)
    error = ((np.asarray(reduced, float) - np.asarray(given.convert("RGB"), float)) ** 2).mean()
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > ENOUGH, kind
    if kind == "transparent":
        alpha = made.getchannel("A").resize(given.size, Image.Resampling.BOX)
        assert np.abs(np.asarray(alpha, int) - np.asarray(given.getchannel("A"), int)).max() <= 3


def by_server(site: Running, path: Path, scale: int) -> Image.Image:
    fields = {"scale": str(scale), "creativity": "0", "steps": "2", "seed": "1", "response_format": "b64_json"}
    answer = site.http.post("/v1/images/enlarge", data=fields, files={"image": path.read_bytes()})
    assert answer.status_code == 200, answer.text
    return Image.open(BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))


def by_page(page: Any, path: Path, scale: int, number: int, folder: Path) -> Image.Image:
    page.locator("#source-file").set_input_files(path)
    until(page, f"document.querySelector('#source-text').textContent.startsWith('{path.name}')")
    page.locator("#scale").fill(str(scale))
    page.locator("#make").click()
    count(page, "#gallery-list img", number)
    settled(page)
    with Image.open(saved(page, folder)) as picture:
        picture.load()
        return picture


def by_shell(site: Running, path: Path, scale: int) -> Image.Image:
    large = path.with_name("by-shell.png")
    options = ["--scale", scale, "--creativity", 0, "--steps", 2, "--seed", 1, "-o", large]
    model = site.data.with_name("tiny")
    ran = CliRunner().invoke(app, [str(one) for one in ("enlarge", path, "--model", model, *options)])
    assert ran.exit_code == 0, ran.output
    return Image.open(large)


def test_every_kind_is_enlarged_from_page_server_and_shell(page: Any, site: Running, tmp_path: Path) -> None:
    page.locator("#tab-enlarge").click()
    fill(page, steps=2, seed=1, creativity=0)
    number = 0
    for kind, write in KINDS.items():
        if kind == "heic" and find_spec("pillow_heif") is None:
            continue
        folder = tmp_path / kind
        folder.mkdir()
        path, given = write(folder)
        for scale in (2, 4) if kind in LARGEST else (2,):
            number += 1
            made = by_page(page, path, scale, number, folder)
            check(made, kind, scale, given)
            ways = (by_server, by_shell) if scale == 4 else (by_server,) if kind == "tiff" else ()
            for other in (way(site, path, scale) for way in ways):
                assert other.info.get("icc_profile") == made.info.get("icc_profile")
                np.testing.assert_array_equal(np.asarray(other), np.asarray(made), err_msg=kind)
        if kind == "jpeg-turned":
            assert page.locator("#scale-hint").inner_text() == "70 × 50 becomes 280 × 200."
            assert "turned it as its EXIF data says" in page.locator("#stage-foot").inner_text()
