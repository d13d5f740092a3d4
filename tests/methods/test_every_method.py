"""What holds for every method: one name, one path, one picture, and a pipeline that is left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scalecrafter import RecipeError
from scalecrafter.generation.generate import generate
from scalecrafter.generation.picture_files import read_metadata, read_request, save_picture
from scalecrafter.methods.cascade import CascadeSettings
from scalecrafter.recipes.ablations import ABLATIONS
from scalecrafter.request.methods import METHODS
from scalecrafter.request.request import Request, RequestError
from scalecrafter.request.schedulers import SCHEDULERS
from tests.support.small_pipeline import small_pipeline
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sdxl_pipeline

PLAIN = '[redilation]\nuntil = 0.8\nlayers = { "down_blocks.2" = [4, 3], "mid_block" = 3 }\n'
DAMPED = (
    '[redilation]\nuntil = 0.8\nprogressive = true\nlayers = { "down_blocks.2" = [4, 3], "mid_block" = 4 }\n'
    '[noise_damping]\nuntil = 0.8\nlayers = { "mid_block" = 2 }\n'
)
ON_A_UNET = [name for name, method in METHODS.items() if "unet" in method.models]
NAMES = [*ON_A_UNET, *(f"scalecrafter-{name}" for name in ABLATIONS)]
TAKES_AWAY = ("fixed", "not-progressive", "undamped")
NATIVE = (64, 64)
SINGLE_PASS = ("scalecrafter", "direct", "attention-scaling", "multidiffusion")


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def pipe(request: pytest.FixtureRequest) -> Any:
    make = tiny_sd_pipeline if request.param == "sd" else tiny_sdxl_pipeline
    return make(layers_per_block=1, sample_size=8)


@pytest.fixture(scope="module")
def sd() -> Any:
    return tiny_sd_pipeline(layers_per_block=1, sample_size=8)


@pytest.fixture(scope="module")
def two_levels() -> Any:
    return small_pipeline()


def ask(method: str, **values: Any) -> Request:
    settings: dict[str, Any] = {"prompt": "a blue fox", "steps": 4, "seed": 5, "method": method}
    if method.startswith("scalecrafter-"):
        settings["recipe"] = DAMPED if method.endswith(TAKES_AWAY) else PLAIN
    return Request.from_mapping(settings | values)


@pytest.mark.sampled
@pytest.mark.parametrize("method", NAMES)
def test_the_same_seed_gives_the_same_picture_of_the_right_size(sd: Any, method: str) -> None:
    request = ask(method, steps=3, width=64, height=128)
    first, again, other = (generate(sd, r) for r in (request, request, request.changed(seed=6)))
    assert first.image.size == (64, 128)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


@pytest.mark.sampled
@pytest.mark.parametrize("method", ON_A_UNET)
def test_at_the_native_size_every_method_is_direct_inference_to_the_bit(pipe: Any, method: str) -> None:
    size = {"width": NATIVE[0], "height": NATIVE[1]}
    assert generate(pipe, ask(method, **size)).image.tobytes() == generate(pipe, ask("direct", **size)).image.tobytes()


@pytest.mark.slow
def test_no_two_methods_make_the_same_picture(sd: Any) -> None:
    made = {method: generate(sd, ask(method, steps=6, width=128, height=192)).image.tobytes() for method in NAMES}
    assert len(set(made.values())) == len(NAMES)


@pytest.mark.sampled
@pytest.mark.parametrize("method", NAMES)
def test_a_stop_at_the_last_step_leaves_the_pipeline_as_it_was(sd: Any, method: str) -> None:
    def state() -> Any:
        return [
            (name, sorted(module.__dict__), len(module._forward_hooks), len(module._forward_pre_hooks))
            for name, module in sd.unet.named_modules()
        ]

    before, scheduler = state(), sd.scheduler

    def stop(step: int, total: int) -> None:
        if step == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(sd, ask(method, width=128, height=128, scheduler="euler"), stop)
    assert state() == before
    assert sd.scheduler is scheduler


@pytest.mark.sampled
@pytest.mark.parametrize("scheduler", [None, "heun"])
@pytest.mark.parametrize("method", NAMES)
def test_progress_counts_the_steps_of_all_passes(sd: Any, method: str, scheduler: str | None) -> None:
    seen: list[tuple[int, int]] = []
    width, height = (256, 256) if method == "cascade" else (128, 128)
    asked = ask(method, steps=4, width=width, height=height, scheduler=scheduler)
    generate(sd, asked, lambda step, total: seen.append((step, total)))
    passes = {"hires-fix": [4, 2], "cascade": [4, 1, 1], "fast": [4, 1]}.get(
        method, [4]
    )  # int(4 · 0.6) and int(4 · 0.3)
    whole = 4 if scheduler is None else 7
    total = sum(whole if steps == 4 else whole - (4 - steps) * (1 if scheduler is None else 2) for steps in passes)
    assert seen == [(step, total) for step in range(1, total + 1)]


@pytest.mark.sampled
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("method", ["cascade", "hires-fix"])
def test_added_noise_works_with_every_scheduler(two_levels: Any, method: str, scheduler: str) -> None:
    for needed in {"lms": ["scipy"], "dpm++-sde": ["torchsde"]}.get(scheduler, []):
        pytest.importorskip(needed)
    request = ask(method, steps=3, width=192, height=128, scheduler=scheduler)
    first, again = (generate(two_levels, request).image.tobytes() for _ in range(2))
    assert first == again
    assert first != generate(two_levels, request.changed(strength=0.75)).image.tobytes()


@pytest.mark.parametrize("method", SINGLE_PASS)
def test_methods_of_one_pass_start_from_a_given_picture(sd: Any, method: str, tmp_path: Path) -> None:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "start.png")
    start = {"image": str(tmp_path / "start.png"), "strength": 0.7, "width": 128, "height": 128}
    assert (
        generate(sd, ask(method, **start)).image.tobytes() != generate(sd, ask(method, seed=9, **start)).image.tobytes()
    )


# Requests


def test_the_recipe_none_still_means_direct_inference(sd: Any) -> None:
    by_recipe = generate(sd, ask("scalecrafter", recipe="none"))
    assert by_recipe.request == ask("direct", seed=5).changed(width=128, height=128)
    assert by_recipe.image.tobytes() == generate(sd, ask("direct")).image.tobytes()


def test_a_request_from_before_there_were_methods_is_scalecrafter() -> None:
    old = ask("scalecrafter").model_dump()
    del old["method"]
    assert Request.from_mapping(old) == ask("scalecrafter")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"method": "multidifusion"}, "did you mean 'multidiffusion'"),
        ({"method": "scalecrafter-undampd"}, "'scalecrafter'"),
        ({"method": "xyz"}, "Known: scalecrafter, attention-scaling"),
        ({"method": "direct", "recipe": PLAIN}, "a recipe has no effect with the method 'direct'"),
        ({"method": "scalecrafter-fixed", "recipe": "none"}, "name another"),
        ({"method": "cascade", "freeu": True}, "freeu has no effect with the method 'cascade'"),
        ({"method": "upscale", "image": "a.png"}, "leave the image out"),
        ({"method": "upscale", "strength": 0.5}, "strength has no effect"),
        ({"method": "hires-fix", "strength": 0.1}, "leave no step to run"),
        ({"method": "cascade", "strength": 0.5, "cascade": {}}, "give one of the two"),
        ({"method": "cascade", "cascade": {"restrat": 0.5}}, "did you mean 'restart'"),
        ({"method": "cascade", "cascade": {"restart": 2}}, "restart"),
        ({"method": "hires-fix", "cascade": {}}, "no effect with the method 'hires-fix'"),
    ],
)
def test_what_would_have_no_effect_is_refused_in_words(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        Request.from_mapping({"prompt": "a blue fox", "steps": 4, **values})


def test_a_misspelt_recipe_is_refused_whatever_varies_it(sd: Any) -> None:
    for method in ("cascade", "scalecrafter-fixed"):
        with pytest.raises(RecipeError, match="did you mean 'sd15-2048x2048"):
            generate(sd, ask(method, recipe="sd15-2048x204"))


# Files


@pytest.mark.parametrize(
    "values",
    [
        {
            "method": "cascade",
            "cascade": CascadeSettings(restart=(0.7, 0.4), guidance=(5,), upsample="latents").model_dump(),
        },
        {"method": "hires-fix", "strength": 0.4},
        {"method": "scalecrafter-damped"},
    ],
    ids=lambda values: values["method"],
)
def test_a_picture_carries_its_method_and_is_repeated_to_the_bit(
    sd: Any, values: dict[str, Any], tmp_path: Path
) -> None:
    made = generate(sd, ask(**values, width=256, height=256))
    first = save_picture(made, tmp_path / "first.png")
    assert Request.from_mapping(read_metadata(first)["request"]).method_label == values["method"]
    with Image.open(first) as image:
        assert f"Method: {values['method']}" in image.text["parameters"]
    again = save_picture(generate(sd, read_request(first)), tmp_path / "again.png")
    assert first.read_bytes() == again.read_bytes()
