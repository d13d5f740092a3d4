"""Enlarging a picture of any kind and size: nothing cropped, its colours kept, as much drawn anew as was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import scalecrafter
from scalecrafter._util.sizes import ImageSize
from scalecrafter.batch.jobs import read_lines, to_request
from scalecrafter.generation.generate import generate
from scalecrafter.generation.picture_files import read_request, save_picture
from scalecrafter.methods.steps.enlarging import cut, keep_low_frequencies, padded, padded_size
from scalecrafter.request.methods import METHODS
from scalecrafter.request.request import Request, RequestError
from tests.support.picture_kinds import KINDS, PROFILE, smooth, transparent, turned
from tests.support.tiny_models import tiny_sd_pipeline


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_sd_pipeline()


def psnr(first: Image.Image, second: Image.Image) -> float:
    error = np.asarray(first.convert("RGB"), float) - np.asarray(second.convert("RGB"), float)
    return float(10 * np.log10(255**2 / max((error**2).mean(), 1e-9)))


def enlarge(pipe: Any, path: Path, **values: Any) -> Any:
    return generate(pipe, Request.from_mapping({"image": str(path), "enlarge": 2, "steps": 3, "seed": 1} | values))


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_any_kind_keeps_its_shape_and_its_low_frequencies(pipe: Any, kind: str, tmp_path: Path) -> None:
    if kind == "heic":
        pytest.importorskip("pillow_heif")
    path, picture = KINDS[kind](tmp_path)
    made = enlarge(pipe, path, enlarge={"scale": 2, "creativity": 0}).image
    assert made.size == (2 * picture.width, 2 * picture.height)
    assert psnr(made.convert("RGB").resize(picture.size, Image.Resampling.BOX), picture) > 30


def test_transparency_and_profile_are_kept_in_the_file(pipe: Any, tmp_path: Path) -> None:
    path, picture = transparent(tmp_path)
    large = save_picture(enlarge(pipe, path), tmp_path / "large.png")
    with Image.open(large) as made:
        assert made.mode == "RGBA"
        assert made.info["icc_profile"] == PROFILE
        alpha = made.getchannel("A").resize(picture.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(alpha, int) - np.asarray(picture.getchannel("A"), int)).max() <= 3


def test_what_was_done_is_told(pipe: Any, tmp_path: Path) -> None:
    path, _ = turned(tmp_path)
    assert enlarge(pipe, path).notes == ("turned it as its EXIF data says",)


@pytest.mark.sampled
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.can_enlarge])
def test_every_method_that_can_enlarges(pipe: Any, method: str, tmp_path: Path) -> None:
    smooth(97, 71).save(tmp_path / "a.png")
    first, again = (enlarge(pipe, tmp_path / "a.png", method=method, enlarge=3).image for _ in range(2))
    assert first.size == (291, 213)
    assert first.tobytes() == again.tobytes()


def test_creativity_is_how_much_is_drawn_anew(pipe: Any, tmp_path: Path) -> None:
    smooth(64, 64).save(tmp_path / "a.png")
    plain = smooth(64, 64).resize((128, 128), Image.Resampling.LANCZOS)
    made = [enlarge(pipe, tmp_path / "a.png", enlarge={"creativity": c}, steps=8).image for c in (0, 0.5, 1)]
    assert psnr(made[0], plain) > psnr(made[1], plain) > psnr(made[2], plain)


def test_a_prompt_guides_what_is_drawn(pipe: Any, tmp_path: Path) -> None:
    smooth(64, 64).save(tmp_path / "a.png")
    made = {p: enlarge(pipe, tmp_path / "a.png", prompt=p).image.tobytes() for p in ("", "a fox", "a cat")}
    assert len(set(made.values())) == 3


def test_progress_counts_the_steps_of_all_stages(pipe: Any, tmp_path: Path) -> None:
    smooth(32, 32).save(tmp_path / "a.png")
    request = Request.from_mapping(
        {"image": str(tmp_path / "a.png"), "enlarge": {"scale": 8, "creativity": 0.5}, "steps": 4}
    )
    told: list[tuple[int, int]] = []
    picture = generate(pipe, request, lambda done, steps: told.append((done, steps))).image
    assert picture.size == (256, 256)
    assert told == [(step, 6) for step in range(1, 7)]  # three stages of two steps


def test_a_picture_carries_what_repeats_it(pipe: Any, tmp_path: Path) -> None:
    smooth(50, 40).save(tmp_path / "a.png")
    large = save_picture(enlarge(pipe, tmp_path / "a.png", enlarge=1.5), tmp_path / "large.png")
    request = read_request(large)
    assert (request.width, request.height) == (75, 60)
    assert generate(pipe, request).image.tobytes() == Image.open(large).tobytes()
    smooth(50, 41).save(tmp_path / "a.png")
    with pytest.raises(RequestError, match="has changed since"):
        generate(pipe, request)


def test_lines_of_a_batch_enlarge(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"image": "a.png", "enlarge": {"scale": 3, "creativity": 0}}\n')
    (tmp_path / "jobs.csv").write_text("image,enlarge,prompt\na.png,1.5,a fox\n")
    (tmp_path / "short.csv").write_text("image,enlarge\na.png,2\n")
    lines = [next(read_lines(str(tmp_path / name))) for name in ("jobs.jsonl", "jobs.csv", "short.csv")]
    requests = [to_request(line, {"steps": 2}) for line in lines]
    assert [request.enlarge.scale for request in requests if request.enlarge] == [3.0, 1.5, 2.0]
    assert {request.method for request in requests} == {"cascade"}


def test_in_python_a_picture_gives_a_picture(pipe: Any, tmp_path: Path) -> None:
    picture = smooth(50, 40)
    picture.save(tmp_path / "a.png")
    options: dict[str, Any] = {"steps": 3, "seed": 1, "creativity": 0.2}
    made = scalecrafter.enlarge(pipe, picture, scale=2, **options)
    assert made.size == (100, 80)
    assert made.tobytes() == scalecrafter.enlarge(pipe, tmp_path / "a.png", size=(100, 80), **options).tobytes()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"enlarge": 9}, "less than or equal to 8"),
        ({"enlarge": 1}, "greater than 1"),
        ({"enlarge": {"creativty": 1}}, "did you mean 'creativity'"),
        ({"method": "hires-fix"}, "enlarges no given picture; these do: .*cascade"),
        ({"strength": 0.5}, "say its creativity"),
        ({"mask": "a.png"}, "mask has no effect"),
        ({"image": None}, "there is no picture to enlarge"),
        ({"width": 100, "height": 100}, "ask for 100x75"),
        ({"width": 40, "height": 30}, "ask for more than 1"),
        ({"width": 1600, "height": 1200}, "at most 8 times"),
        ({"image": "nothing.png"}, "cannot read the image 'nothing.png'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(pipe: Any, values: dict[str, Any], told: str, tmp_path: Path) -> None:
    smooth(64, 48).save(tmp_path / "a.png")
    with pytest.raises(RequestError, match=told):
        enlarge(pipe, tmp_path / "a.png", **values)


def test_padding_is_the_mirror_image_and_is_cut_off_again() -> None:
    picture = smooth(13, 9)
    large = padded(picture, padded_size(ImageSize(13, 9), 8))
    assert large.size == (16, 16)
    assert cut(large, ImageSize(13, 9)).tobytes() == picture.tobytes()
    pixels = np.asarray(large)
    assert (pixels[:, 13:] == pixels[:, 12:9:-1]).all()


def test_low_frequencies_are_those_of_the_source_whatever_was_drawn() -> None:
    source = smooth(40, 30)
    noise = np.random.default_rng(0).integers(60, 196, (120, 160, 3))
    kept = keep_low_frequencies(Image.fromarray(noise.astype(np.uint8)), source, 0.0)
    assert psnr(kept.resize(source.size, Image.Resampling.BOX), source) > 35
    free = keep_low_frequencies(Image.fromarray(noise.astype(np.uint8)), source, 1.0)
    assert np.abs(np.asarray(free, float).mean((0, 1)) - np.asarray(source, float).mean((0, 1))).max() < 1


def test_a_file_that_is_no_picture_is_told(pipe: Any) -> None:
    with pytest.raises(RequestError, match="cannot read the image"):
        enlarge(pipe, Path(__file__))
