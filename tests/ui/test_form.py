"""Controls and requests say the same; presets give sizes that the model can make; plans show what they plan."""

from __future__ import annotations

import itertools
import re

import pytest

from scalecrafter.patching.plan import plan
from scalecrafter.recipes.plan_picture import plan_picture
from scalecrafter.recipes.recipe import Recipe
from scalecrafter.request.methods import METHODS
from scalecrafter.request.request import DIRECT, Request, RequestError
from scalecrafter.server.records import ModelFacts
from scalecrafter.ui.form import SMALLEST_STRENGTH, PageForm, default_strength, restored
from scalecrafter.ui.sizes import ENLARGEMENTS, SHAPES, preset_size
from tests.support.tiny_models import sdxl_unet_meta

BASE = Request(prompt="a fox", width=512, height=384, seed=0)
REQUESTS = [
    BASE,
    BASE.changed(negative="rain", steps=7, guidance=3.5, seed=2**53 - 1, scheduler="euler", freeu=True),
    BASE.changed(recipe="sd15-1024x1024"),
    BASE.changed(recipe=Recipe.load("sd15-1024x1024").to_toml()),
    BASE.changed(recipe=DIRECT),
    BASE.changed(method="hires-fix", strength=0.35),
    BASE.changed(method="cascade"),
    BASE.changed(method="cascade", cascade={"restart": [0.7, 0.4], "levels": 1}),
    *[BASE.changed(method=name) for name in METHODS],
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: f"{one.method}-{(one.recipe or 'auto')[:6]}")
def test_a_request_survives_the_controls(request_: Request) -> None:
    found = restored(request_, ["critters"], "critters")
    assert found.form.request() == request_


@pytest.mark.parametrize("method", METHODS)
def test_the_page_can_show_every_methods_own_strength(method: str) -> None:
    assert SMALLEST_STRENGTH <= default_strength(method) <= 1
    assert default_strength(method) == pytest.approx(round(default_strength(method), 2))  # the slider's step


def test_what_has_no_place_on_the_page_is_told() -> None:
    request = BASE.changed(model="elsewhere", image="start.png", strength=0.5)
    found = restored(request, ["critters"], "critters")
    assert found.form.model == "critters"
    assert "'elsewhere'" in found.notes[0]
    assert "another picture" in found.notes[1]


@pytest.mark.parametrize(("model", "guidance"), [("critters", 2.0), ("elsewhere", 7.5)])
def test_controls_that_were_never_opened_say_the_guidance_of_the_model(model: str, guidance: float) -> None:
    assert PageForm(prompt="a fox", model=model).request().guidance == guidance


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "9" * 30])
def test_a_seed_that_is_no_number_is_refused_in_words(text: str) -> None:
    with pytest.raises(RequestError, match="seed is"):
        PageForm(prompt="a fox", seed=text).request()


@pytest.mark.parametrize(("native", "multiple"), [(256, 64), (512, 64), (1024, 32)])
def test_presets_can_be_made_and_stay_within_the_limit(native: int, multiple: int) -> None:
    facts = ModelFacts(size_multiple=multiple, width=2 * native, height=2 * native)
    for shape, enlargement in itertools.product(SHAPES, ENLARGEMENTS):
        width, height = preset_size(facts, shape, enlargement, 4096 * 4096)
        assert width % multiple == height % multiple == 0
        assert width * height <= 4096 * 4096
        wide, high = SHAPES[shape]
        assert width / height == pytest.approx(wide / high, rel=0.2)
    assert preset_size(facts, "Square 1:1", "4× the pixels", 4096 * 4096) == (2 * native, 2 * native)


def test_a_plan_picture_tells_factor_layers_and_steps() -> None:
    outline = sdxl_unet_meta()
    drawn = plan_picture(plan(outline, 4096, 4096, 50, "sdxl-4096x4096-disperse"))
    made = plan(outline, 4096, 4096, 50, "sdxl-4096x4096-disperse")
    layer = next(name for name in made.factors(0) if name.startswith("up_blocks.1"))
    factor = f"{made.factors(0)[layer][0]:g}"
    last = max(step for step in range(50) if made.factors(step).get(layer) == made.factors(0)[layer])
    row = drawn.split("up 1: ")[1].split("up 2: ")[0]
    assert f"steps 1–{last + 1}: {factor}<" in row
    assert "5×5 kernel" in drawn
    assert "strong denoiser of noise damping" in drawn
    assert len(re.findall("step, from noise to picture", drawn)) == 2
    assert "as it was trained" in plan_picture(plan(outline, 1024, 1024, 50))
