"""The library, through a pipeline's own call, against the reference implementation."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import scalecrafter
from tests.support.reference import denoise
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sdxl_pipeline

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

GUIDANCE = 5.0
TOLERANCE = 1e-9  # relative, in float64: the two differ by rounding alone
CHANGE = 1e-2  # how much a recipe must change the result, for the comparison to mean something
PROMPTS = ("a red fox", "an owl at night")
NEGATIVE = "dull"


BOTH = ("sd", "sdxl")


@dataclass(frozen=True)
class Case:
    """A recipe file, and the latents that it is run on."""

    recipe: str
    height: int = 20
    width: int = 16
    steps: int = 5
    prompts: int = 1
    images_per_prompt: int = 1
    models: tuple[str, ...] = ("sdxl",)


CASES = {
    "whole": Case(
        """
        [redilation]
        until = 0.7
        layers = { "down_blocks.2" = 2, "mid_block" = 2, "up_blocks.0" = 2 }
    """,
        height=16,
        width=16,
        models=BOTH,
    ),
    "whole-to-the-last-step": Case("""
        [redilation]
        until = 1
        layers = { "down_blocks.1" = 2, "up_blocks.1" = 3 }
    """),
    "four-levels": Case(
        """
        [redilation]
        until = 0.7
        layers = { "down_blocks.3" = 4, "mid_block" = 4, "up_blocks.0" = 4, "up_blocks.3" = 2 }
        [dispersion]
        until = 0.3
        layers = ["down_blocks.2.downsamplers.0", "down_blocks.3", "mid_block"]
        [noise_damping]
        until = 0.5
        layers = { "down_blocks.3" = 2, "up_blocks.3.resnets.1.conv2" = 1.5 }
    """,
        models=("sd",),
    ),
    "fractional": Case(
        """
        [redilation]
        until = 0.6
        layers = { "down_blocks.1" = 2.5, "down_blocks.2" = 2.5, "mid_block" = 2.5, "up_blocks.1" = 1.5 }
    """,
        models=BOTH,
    ),
    "longest-prefix-wins": Case("""
        [redilation]
        until = 0.5
        [redilation.layers]
        "down_blocks.2" = 2
        "up_blocks" = 1.25
        "up_blocks.0" = 2
        "up_blocks.0.resnets.1" = 1.5
        "up_blocks.0.resnets.1.conv2" = 3
        "up_blocks.1" = 2
    """),
    "named-in-full": Case("""
        [redilation]
        until = 0.5
        layers = { "conv_in" = 2, "conv_out" = 1.5, "down_blocks.2.resnets.0.conv_shortcut" = 1.5 }
    """),
    "samplers": Case(
        """
        [redilation]
        until = 0.8
        layers = { "down_blocks.0.downsamplers" = 2, "down_blocks.1.downsamplers.0" = 2.5, "up_blocks.0" = 3 }
        """,
        models=BOTH,
        height=14,
        width=19,
    ),
    "progressive": Case("""
        [redilation]
        until = 0.7
        progressive = true
        layers = { "down_blocks.1" = 1.5, "down_blocks.2" = 3.5, "mid_block" = 4, "up_blocks.0" = 4, "up_blocks.1" = 3 }
    """),
    "x8-damped-progressive": Case(
        """
        [redilation]
        until = 0.7
        progressive = true
        layers = { "down_blocks.1" = 2, "down_blocks.2" = 3, "mid_block" = 4, "up_blocks.0" = 4, "up_blocks.1" = 3 }
        [noise_damping]
        until = 0.5
        layers = { "down_blocks.2" = 3, "mid_block" = 4, "up_blocks.0" = 4 }
        """,
        models=BOTH,
        height=12,
        width=24,
    ),
    "x16-damped": Case(
        """
        [redilation]
        until = 0.6
        layers = { "down_blocks.1" = 3, "down_blocks.2" = 4, "mid_block" = 4, "up_blocks.0" = 4, "up_blocks.1" = 3 }
        [noise_damping]
        until = 0.3
        layers = { "mid_block" = 4, "up_blocks.0" = 3 }
        """,
        height=20,
        width=20,
        models=BOTH,
    ),
    "damped-longer-than-redilated": Case("""
        [redilation]
        until = 0.3
        layers = { "down_blocks.2" = 2, "up_blocks.1" = 2 }
        [noise_damping]
        until = 0.6
        layers = { "down_blocks.1" = 2 }
    """),
    "damped-by-the-original-model": Case(
        """
        [redilation]
        until = 0.6
        layers = { "down_blocks.1" = 2, "down_blocks.2" = 2.5, "up_blocks.1" = 2 }
        [noise_damping]
        until = 0.4
        layers = {}
    """,
        models=BOTH,
    ),
    "dispersed-alone": Case("""
        [dispersion]
        until = 0.4
        kernel_size = 5
        eta = 0.05
        layers = ["down_blocks.2", "mid_block", "up_blocks.0", "down_blocks.0.downsamplers.0"]
    """),
    "dispersed-shorter-than-redilated": Case(
        """
        [redilation]
        until = 0.7
        layers = { "down_blocks.1" = 2, "down_blocks.2" = 3, "mid_block" = 4, "up_blocks.1" = 2 }
        [dispersion]
        until = 0.3
        kernel_size = 5
        eta = 0.05
        layers = ["down_blocks.2", "mid_block", "up_blocks.1.resnets.0"]
    """,
        models=BOTH,
    ),
    "dispersed-longer-than-redilated": Case("""
        [redilation]
        until = 0.3
        progressive = true
        layers = { "down_blocks.1" = 2, "down_blocks.2" = 3.5, "mid_block" = 4 }
        [dispersion]
        until = 0.6
        kernel_size = 5
        eta = 0.2
        layers = ["down_blocks.1", "mid_block", "up_blocks.0"]
    """),
    "x16-dispersed-damped-progressive": Case(
        """
        [redilation]
        until = 0.7
        progressive = true
        layers = { "down_blocks.1" = 2, "down_blocks.2" = 3, "mid_block" = 4, "up_blocks.0" = 4, "up_blocks.1" = 3 }
        [dispersion]
        until = 0.4
        kernel_size = 5
        eta = 0.05
        layers = ["down_blocks.1.downsamplers.0", "down_blocks.2", "mid_block", "up_blocks.0"]
        [noise_damping]
        until = 0.5
        layers = { "down_blocks.2" = 3, "mid_block" = 4, "up_blocks.0" = 4 }
        """,
        models=("sdxl",),
        height=20,
        width=20,
    ),
    "dispersed-longer-than-damped": Case("""
        [redilation]
        until = 0.5
        layers = { "down_blocks.2" = 3, "mid_block" = 2 }
        [dispersion]
        until = 0.8
        kernel_size = 5
        eta = 0.05
        layers = ["down_blocks.2.resnets", "mid_block", "up_blocks.1"]
        [noise_damping]
        until = 0.6
        layers = {}
    """),
    "anisotropic": Case(
        """
        [redilation]
        until = 0.6
        [redilation.layers]
        "down_blocks.1" = [1, 2]
        "down_blocks.2" = [2, 3]
        "up_blocks.0" = [2.5, 1]
        "up_blocks.1" = [1, 1.5]
        """,
        width=24,
    ),
    "anisotropic-progressive-damped": Case(
        """
        [redilation]
        until = 0.7
        progressive = true
        layers = { "down_blocks.1" = [1, 2], "down_blocks.2" = [2, 3], "mid_block" = [1, 4], "up_blocks.0" = [1, 4] }
        [noise_damping]
        until = 0.4
        layers = { "down_blocks.2" = [1, 3], "mid_block" = [1, 4] }
        """,
        models=BOTH,
        height=12,
        width=24,
    ),
    "anisotropic-dispersed": Case(
        """
        [redilation]
        until = 0.6
        layers = { "down_blocks.1" = [1, 2], "down_blocks.2" = [2, 3], "mid_block" = [1, 4] }
        [dispersion]
        until = 0.4
        kernel_size = 5
        eta = 0.05
        layers = ["down_blocks.1", "down_blocks.2", "mid_block"]
        """,
        width=24,
    ),
    "odd-size": Case(
        """
        [redilation]
        until = 0.6
        layers = { "down_blocks" = 1.5, "down_blocks.1" = 2.5, "up_blocks.0" = 2.5, "up_blocks.1" = 3 }
        [noise_damping]
        until = 0.3
        layers = { "down_blocks.2" = 1.5 }
        """,
        models=BOTH,
        height=12,
        width=20,
    ),
    "odd-size-dispersed": Case(
        """
        [redilation]
        until = 0.6
        progressive = true
        layers = { "down_blocks" = 3, "up_blocks.1" = 2.5, "up_blocks.2" = [2, 3.5] }
        [dispersion]
        until = 0.5
        kernel_size = 5
        eta = 0.05
        layers = ["down_blocks", "up_blocks.1"]
        [noise_damping]
        until = 0.7
        layers = { "down_blocks.1" = 2.5 }
        """,
        models=BOTH,
        height=13,
        width=21,
    ),
    "several-images": Case(
        """
        [redilation]
        until = 0.6
        layers = { "down_blocks.1" = 2, "down_blocks.2" = 2.5, "up_blocks.1" = 2 }
        [noise_damping]
        until = 0.4
        layers = { "down_blocks.2" = 2 }
        [dispersion]
        until = 0.2
        kernel_size = 5
        eta = 0.05
        layers = ["down_blocks.2", "mid_block"]
        """,
        models=BOTH,
        prompts=2,
        images_per_prompt=2,
        height=12,
    ),
    "seven-steps": Case(
        """
        [redilation]
        until = 0.58
        progressive = true
        layers = { "down_blocks.1" = 3, "mid_block" = 4, "up_blocks.1" = 4 }
        [dispersion]
        until = 0.29
        kernel_size = 5
        eta = 0.05
        layers = ["mid_block"]
        [noise_damping]
        until = 0.43
        layers = { "up_blocks.1" = 4 }
        """,
        steps=7,
    ),
}


@functools.cache
def pipeline(kind: str) -> Any:
    return {"sd": tiny_sd_pipeline, "sdxl": tiny_sdxl_pipeline}[kind](layers_per_block=1).to(torch.float64)


def starting_latents(case: Case) -> Tensor:
    batch = case.prompts * case.images_per_prompt
    generator = torch.Generator().manual_seed(case.height * 1000 + case.width)
    return torch.randn(batch, 4, case.height, case.width, dtype=torch.float64, generator=generator)


def called(pipe: Any, case: Case) -> Tensor:
    """The latents that the pipeline's own call makes."""
    return pipe(
        list(PROMPTS[: case.prompts]),
        negative_prompt=[NEGATIVE] * case.prompts,
        height=case.height * 8,
        width=case.width * 8,
        num_inference_steps=case.steps,
        guidance_scale=GUIDANCE,
        num_images_per_prompt=case.images_per_prompt,
        latents=starting_latents(case),
        output_type="latent",
    ).images


def expected(kind: str, case: Case, recipe: dict[str, Any]) -> Tensor:
    """The latents of the reference implementation."""
    pipe = pipeline(kind)
    encoded = pipe.encode_prompt(
        prompt=list(PROMPTS[: case.prompts]),
        negative_prompt=[NEGATIVE] * case.prompts,
        device="cpu",
        num_images_per_prompt=case.images_per_prompt,
        do_classifier_free_guidance=True,
    )
    added_cond_kwargs = None
    if kind == "sdxl":
        size = (case.height * 8, case.width * 8)
        time_ids = torch.tensor([[*size, 0, 0, *size]], dtype=torch.float64)
        batch = case.prompts * case.images_per_prompt
        added_cond_kwargs = {
            "text_embeds": torch.cat([encoded[3], encoded[2]]),
            "time_ids": time_ids.repeat(2 * batch, 1),
        }
    return denoise(
        pipe.unet,
        pipe.scheduler,
        starting_latents(case),
        prompt_embeds=encoded[0],
        negative_embeds=encoded[1],
        recipe=recipe,
        steps=case.steps,
        guidance_scale=GUIDANCE,
        added_cond_kwargs=added_cond_kwargs,
    )


@functools.cache
def unchanged(kind: str, case: Case) -> Tensor:
    """The same without a recipe."""
    return expected(kind, case, {})


def relative(result: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float((result - reference).norm() / reference.norm())


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("case", [Case("", 12, 21, 4), Case("", 16, 16, prompts=2, images_per_prompt=2)], ids=str)
def test_the_reference_without_a_recipe_is_the_plain_pipeline(kind: str, case: Case) -> None:
    assert relative(called(pipeline(kind), case), expected(kind, case, {})) < TOLERANCE


@pytest.mark.sampled
@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, case in CASES.items() for kind in case.models])
def test_a_pipeline_with_a_recipe_agrees_with_the_reference(name: str, kind: str, tmp_path: Path) -> None:
    case = CASES[name]
    text = 'architecture = "any"\n' + case.recipe
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    reference = expected(kind, case, tomllib.loads(text))
    plain = unchanged(kind, replace(case, recipe="", models=()))
    assert relative(reference, plain) > CHANGE

    pipe = pipeline(kind)
    scalecrafter.apply(pipe, recipe=str(path))
    try:
        result = called(pipe, case)
    finally:
        scalecrafter.remove(pipe)
    assert relative(result, reference) < TOLERANCE


SEVERAL_PARTS = [name for name, case in CASES.items() if case.recipe.count("until") > 1 and "sdxl" in case.models]


@pytest.mark.slow
@pytest.mark.parametrize("name", SEVERAL_PARTS)
def test_every_part_of_a_recipe_matters_to_the_reference(name: str) -> None:
    """Otherwise a library that ignores a section could agree."""
    case = Case(CASES[name].recipe, height=12, width=12, steps=CASES[name].steps)
    recipe = tomllib.loads(case.recipe)
    whole = expected("sdxl", case, recipe)
    for section in recipe:
        rest = {key: value for key, value in recipe.items() if key != section}
        assert relative(expected("sdxl", case, rest), whole) > CHANGE, section
    if recipe.get("redilation", {}).get("progressive"):
        steady = recipe | {"redilation": recipe["redilation"] | {"progressive": False}}
        assert relative(expected("sdxl", case, steady), whole) > CHANGE, "progressive"
