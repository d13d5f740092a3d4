"""Every task of Stable Diffusion and SDXL with re-dilation and noise damping, in the pipelines that people have.

Each cell is a real diffusers pipeline with tiny random models.  ScaleCrafter must change what it makes (on), to what
the reference implementation makes in the same pipeline (right), and be gone after `remove`, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import scalecrafter
from scalecrafter import Recipe, RecipeError
from tests.support import tasks
from tests.support.tasks import DAMPED, DILATED, KINDS, Task, check

IN_PAIRS = (
    tasks.text_to_image,
    tasks.image_to_image,
    tasks.inpainting,
    tasks.inpainting_of_nine_channels,
    tasks.controlnet,
    tasks.controlnet_in_guess_mode,
    tasks.controlnet_for_a_part_of_the_steps,
    tasks.two_controlnets,
    tasks.controlnet_from_an_image,
    tasks.controlnet_inpainting,
    tasks.ip_adapter,
    tasks.t2i_adapter,
    tasks.two_t2i_adapters,
)
IN_THREE_BRANCHES = (tasks.perturbed_attention, tasks.instruct_pix2pix)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", IN_PAIRS, ids=lambda make: make.__name__)
def test_a_task_runs_re_dilated_and_damped(make: Callable[[str, Path], Task], kind: str, tmp_path: Path) -> None:
    check(make(kind, tmp_path), DAMPED, guided=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", IN_THREE_BRANCHES, ids=lambda make: make.__name__)
def test_a_pipeline_of_three_branches_runs_re_dilated_and_says_why_it_is_not_damped(
    make: Callable[[str, Path], Task], kind: str, tmp_path: Path
) -> None:
    task = make(kind, tmp_path)
    with pytest.raises(RecipeError, match=rf"{type(task.pipe).__name__} guides in three branches"):
        scalecrafter.apply(task.pipe, recipe=Recipe.parse(DAMPED))
    check(task, DILATED, guided=False)
