"""The life of one picture: what it is made of, what stops it, and what its file carries."""

from __future__ import annotations

import json
import os
import resource
import signal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from scalecrafter import NumericalError, RecipeError, ScaleCrafterError, SizeError
from scalecrafter.errors import OutOfMemoryError, UnwritableError
from scalecrafter.generation.generate import Result, generate
from scalecrafter.generation.picture_files import CHUNK, read_request, save_picture
from scalecrafter.methods.steps.diagnostics import explained_out_of_memory
from scalecrafter.request.request import Request, RequestError
from scalecrafter.request.schedulers import SCHEDULERS
from scalecrafter.request.text import parse_size, prompts_from_file
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sdxl_pipeline

RECIPE = '[redilation]\nuntil = 0.5\nlayers = { "mid_block" = 2 }\n'


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_sd_pipeline()


@pytest.fixture(scope="module")
def result(pipe: Any) -> Result:
    return generate(pipe, ask(seed=3, negative="a cat"))


def ask(**values: Any) -> Request:
    return Request.from_mapping({"prompt": "a blue fox", "steps": 3, **values})


def test_unsaid_size_and_seed_are_settled_and_told(pipe: Any) -> None:
    made = generate(pipe, ask())
    assert made.image.size == (256, 256) == (made.request.width, made.request.height)
    assert made.request.seed is not None
    assert generate(pipe, made.request).image.tobytes() == made.image.tobytes()
    assert made.seconds > 0
    assert made.peak_memory


@pytest.mark.parametrize("make", [tiny_sd_pipeline, tiny_sdxl_pipeline])
def test_direct_inference_is_the_pipelines_own_picture_to_the_bit(make: Any) -> None:
    pipe = make()
    ours = generate(pipe, ask(seed=5, recipe="none", width=192, height=128))
    theirs = pipe(
        "a blue fox", num_inference_steps=3, guidance_scale=2.0, width=192, height=128,
        generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    assert ours.image.tobytes() == theirs.tobytes()


def test_the_recipe_acts_and_is_gone_afterwards(pipe: Any) -> None:
    before = generate(pipe, ask(seed=5, recipe="none")).image.tobytes()
    assert generate(pipe, ask(seed=5)).image.tobytes() != before
    assert generate(pipe, ask(seed=5, recipe=RECIPE)).image.tobytes() != before
    assert generate(pipe, ask(seed=5, recipe="none")).image.tobytes() == before


@pytest.mark.sampled
@pytest.mark.sampled
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_makes_a_picture_and_is_put_back(pipe: Any, scheduler: str) -> None:
    own = pipe.scheduler
    first, second = (generate(pipe, ask(seed=1, width=128, height=128, scheduler=scheduler)) for _ in range(2))
    assert first.environment["sampler"] == SCHEDULERS[scheduler]
    assert first.image.tobytes() == second.image.tobytes()
    assert pipe.scheduler is own


def test_progress_tells_every_step(pipe: Any) -> None:
    seen: list[tuple[int, int]] = []
    generate(pipe, ask(seed=1), lambda step, total: seen.append((step, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("make", "good"), [(tiny_sd_pipeline, ("448", "512")), (tiny_sdxl_pipeline, ("480", "512"))])
def test_a_wrong_size_names_the_two_nearest_good_ones(make: Any, good: tuple[str, str]) -> None:
    with pytest.raises(SizeError) as caught:
        generate(make(), ask(width=500, height=512))
    assert all(side in str(caught.value) for side in good)


def test_a_stop_in_the_middle_leaves_the_pipeline_as_it_was(pipe: Any) -> None:
    before = generate(pipe, ask(seed=2, recipe="none")).image.tobytes()

    def stop(_step: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(pipe, ask(seed=2, scheduler="heun"), stop)
    assert generate(pipe, ask(seed=2, recipe="none")).image.tobytes() == before


def test_nan_from_the_vae_raises_with_cause_and_remedy() -> None:
    broken = tiny_sd_pipeline()
    broken.vae.decoder.conv_out.bias[0] = float("nan")
    with pytest.raises(NumericalError, match="the decoded picture: 16384 of 49152 values are NaN"):
        generate(broken, ask(width=128, height=128))
    broken.vae.to(torch.float16)
    with pytest.raises(NumericalError, match="damaged VAE weights, since a wider type gives the same"):
        generate(broken, ask(width=128, height=128))


def test_infinity_from_the_unet_raises() -> None:
    broken = tiny_sd_pipeline()
    broken.unet.conv_out.bias[0] = float("inf")
    with pytest.raises(NumericalError, match="the latents after denoising"):
        generate(broken, ask(width=128, height=128))


def test_a_misspelt_recipe_gets_the_near_one(pipe: Any) -> None:
    with pytest.raises(RecipeError, match="did you mean 'sd15-2048x2048"):
        generate(pipe, ask(recipe="sd15-2048x204"))


def test_out_of_memory_says_what_to_try_next(pipe: Any) -> None:
    from scalecrafter.unet.architecture import read_architecture

    request, architecture = ask(width=512, height=512, device="cpu"), read_architecture(pipe)
    told = pytest.raises(OutOfMemoryError, match=r"--dtype bf16.*--size 384x384")
    with told, explained_out_of_memory(request, architecture):
        torch.empty(2**60)  # torch's own message for a real refusal
    with pytest.raises(RuntimeError, match="something else"), explained_out_of_memory(request, architecture):
        raise RuntimeError("something else")


# Image to image


@pytest.fixture
def start(tmp_path: Path) -> Path:
    path = tmp_path / "start.png"
    Image.linear_gradient("L").convert("RGB").resize((300, 200)).save(path)
    return path


def test_image_to_image_keeps_more_of_the_image_at_less_strength(pipe: Any, start: Path) -> None:
    made = [generate(pipe, ask(steps=10, seed=1, image=str(start), strength=s)) for s in (0.1, 0.2, 1.0)]
    assert made[0].request.image_sha256
    assert made[0].image.size == (320, 192)
    assert len({one.image.tobytes() for one in made}) == 3
    assert generate(pipe, made[1].request).image.tobytes() == made[1].image.tobytes()


def test_a_changed_or_missing_image_is_refused(pipe: Any, start: Path) -> None:
    made = generate(pipe, ask(seed=1, image=str(start), strength=0.5)).request
    Image.new("RGB", (300, 200)).save(start)
    with pytest.raises(RequestError, match="has changed"):
        generate(pipe, made)
    generate(pipe, made.changed(image=str(start)))  # named anew
    start.unlink()
    with pytest.raises(RequestError, match="cannot read the image"):
        generate(pipe, made)


# Requests


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"prompt": " "}, "is empty"),
        ({"step": 3}, "did you mean 'steps'"),
        ({"steps": 0}, "steps is 0"),
        ({"guidance": float("nan")}, "guidance"),
        ({"width": 512}, "given together"),
        ({"width": 100_000, "height": 512}, "width is 100000"),
        ({"seed": -1}, "seed is -1"),
        ({"scheduler": "eulr"}, "did you mean 'euler'"),
        ({"dtype": "fp8"}, "dtype"),
        ({"device": "gpu"}, "device"),
        ({"strength": 0.5}, "strength has no effect"),
        ({"image": "a.png", "strength": 0.1, "steps": 3}, "leave no step"),
        ({"negative": "a cat", "guidance": 1.0}, "no effect at a guidance"),
        ({"freeu": True, "recipe": "none"}, "freeu has no effect"),
    ],
)
def test_a_request_that_cannot_be_is_refused_in_words(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        ask(**values)


def test_sizes_and_prompt_files_are_read(tmp_path: Path) -> None:
    assert parse_size("1024x768") == (1024, 768)
    with pytest.raises(RequestError, match="WIDTHxHEIGHT"):
        parse_size("1024")
    (tmp_path / "prompts.txt").write_text("# foxes\na blue fox\n\n a red fox \n")
    assert prompts_from_file(tmp_path / "prompts.txt") == ["a blue fox", "a red fox"]
    (tmp_path / "prompts.txt").write_text("\n")
    with pytest.raises(RequestError, match="holds no prompt"):
        prompts_from_file(tmp_path / "prompts.txt")


# Files


def test_a_picture_carries_its_request(result: Result, tmp_path: Path) -> None:
    path = save_picture(result, tmp_path / "fox.png")
    assert read_request(path) == result.request
    with Image.open(path) as image:
        assert image.tobytes() == result.image.tobytes()
        assert json.loads(image.text[CHUNK])["versions"]["torch"] == version("torch")
        prompt, negative, settings = image.text["parameters"].split("\n")
    assert (prompt, negative) == ("a blue fox", "Negative prompt: a cat")
    assert settings.startswith("Steps: 3, Sampler: DDIM, CFG scale: 2, Seed: 3, Size: 256x256, Model: critters")


def test_a_repeated_picture_is_the_same_file_to_the_bit(pipe: Any, result: Result, tmp_path: Path) -> None:
    first = save_picture(result, tmp_path / "first.png")
    second = save_picture(generate(pipe, read_request(first)), tmp_path / "second.png")
    assert first.read_bytes() == second.read_bytes()


def test_a_recipe_file_travels_as_text(pipe: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "my.toml"
    recipe.write_text(RECIPE)
    made = generate(pipe, ask(seed=1, recipe=str(recipe)))
    path = save_picture(made, tmp_path / "a.png")
    recipe.unlink()
    assert generate(pipe, read_request(path)).image.tobytes() == made.image.tobytes()


def test_prompts_outside_ascii_survive(pipe: Any, tmp_path: Path) -> None:
    made = generate(pipe, ask(prompt="ein Fuchs 🦊, größer", seed=1, width=64, height=64))
    path = save_picture(made, tmp_path / "a.png")
    assert read_request(path).prompt == "ein Fuchs 🦊, größer"
    with Image.open(path) as image:
        assert image.text["parameters"].startswith("ein Fuchs 🦊, größer\n")


def test_files_without_a_request_are_told(tmp_path: Path, result: Result) -> None:
    plain, other, text = tmp_path / "plain.png", tmp_path / "other.jpg", tmp_path / "text.png"
    Image.new("RGB", (8, 8)).save(plain)
    Image.new("RGB", (8, 8)).save(other)
    text.write_text("no picture")
    for path, told in (
        (plain, "holds no ScaleCrafter request"),
        (other, "is a JPEG picture"),
        (text, "is not a PNG"),
        (tmp_path / "nothing.png", "there is no file"),
    ):
        with pytest.raises(RequestError, match=told):
            read_request(path)
    with pytest.raises(RequestError, match=r"let .* end in \.png"):
        save_picture(result, tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("chunk", "told"), [('{"format": 99}', "newer scalecrafter"), ("{", "is damaged"), ('{"format": 1}', "is damaged")]
)
def test_newer_and_damaged_requests_are_told(tmp_path: Path, chunk: str, told: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(CHUNK, chunk)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(RequestError, match=told):
        read_request(tmp_path / "a.png")


def test_a_file_that_cannot_be_written_leaves_nothing(result: Result, tmp_path: Path) -> None:
    with pytest.raises(UnwritableError, match="cannot write"):
        save_picture(result, tmp_path / "no" / "folder.png")
    (tmp_path / "old.png").write_text("the old one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as a full disk: the write fails half way
    try:
        with pytest.raises(UnwritableError, match="nothing was left there"):
            save_picture(result, tmp_path / "old.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["old.png"]
    assert (tmp_path / "old.png").read_text() == "the old one"


def test_the_errors_are_all_of_one_family() -> None:
    assert all(issubclass(error, ScaleCrafterError) for error in (RequestError, UnwritableError, OutOfMemoryError))


def test_without_a_size_a_picture_is_drawn_at_the_size_of_its_image(pipe: Any, tmp_path: Path) -> None:
    Image.new("RGB", (150, 70), "red").save(tmp_path / "a.png")
    request = Request(prompt="a fox", steps=2, seed=1, image=str(tmp_path / "a.png"))
    made = generate(pipe, request)
    assert made.image.size == (128, 64)
    assert made.notes == ("its image has 150×70 pixels: drawn at 128×64, the nearest good size",)
    assert generate(pipe, request.changed(width=64, height=64)).notes == ()
