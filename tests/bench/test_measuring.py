"""The clock of the bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scalecrafter._util.sizes import ImageSize
from scalecrafter.bench.measuring import UnetCourse, measured_rows
from scalecrafter.bench.rows import requests
from scalecrafter.cost import transformers
from scalecrafter.cost.architectures import outline, ready
from scalecrafter.cost.flops import FlopCounts
from scalecrafter.cost.passes import installed
from scalecrafter.cost.transformers import TEXT_TOKENS, TRANSFORMERS, BenchTransformer
from scalecrafter.errors import ModelError, OutOfMemoryError
from scalecrafter.recipes.recipe import Recipe
from scalecrafter.request.passes import Denoising
from scalecrafter.request.request import Request
from tests.support.tiny_bench import Tiny
from tests.support.whole_transformers import whole_sd3


@torch.no_grad()
def test_what_was_timed_is_kept_when_the_time_is_up() -> None:
    request = Request(prompt="a fox", method="direct", steps=4, width=128, height=64)
    course = UnetCourse(Tiny("cpu"), "direct", request, FlopCounts(Tiny("meta")), None)
    course.run(iter([False, False, True]).__next__)
    row = course.row()
    assert "seconds" not in row
    assert [(part["part"], part["times"]) for part in row["parts"]] == [("first step", 1), ("plain step", 3)]
    assert all(part["seconds"] > 0 for part in row["parts"])


TINY: dict[str, Any] = {
    "flux": (
        "FluxTransformer2DModel",
        {"guidance_embeds": True, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2,
         "attention_head_dim": 16, "joint_attention_dim": 16, "pooled_projection_dim": 16, "axes_dims_rope": (4, 6, 6)},
        "AutoencoderKL",
        {"block_out_channels": (8,) * 4, "latent_channels": 4, "norm_num_groups": 4,
         "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4},
    ),
    "qwen-image": (
        "QwenImageTransformer2DModel",
        {"in_channels": 16, "out_channels": 4, "num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16,
         "joint_attention_dim": 16, "axes_dims_rope": (4, 6, 6)},
        "AutoencoderKLQwenImage",
        {"base_dim": 8, "z_dim": 4, "num_res_blocks": 1, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4},
    ),
}  # fmt: skip


@pytest.fixture
def tiny_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the two families, with a native size of 128×128."""
    made = transformers._architecture

    def small(name: str) -> BenchTransformer:
        model = made(name)
        model.transformer.register_to_config(sample_size=16)
        return model

    monkeypatch.setattr(transformers, "_architecture", small)
    for name, parts in TINY.items():
        monkeypatch.setitem(TRANSFORMERS, name, parts)
        monkeypatch.setitem(TEXT_TOKENS, name, 8)


@pytest.mark.usefixtures("tiny_architectures")
@pytest.mark.parametrize("name", TINY)
def test_architectures_of_transformers_are_timed_with_random_weights(name: str) -> None:
    asked = requests(name, [ImageSize(256, 256)], ["direct", "scalecrafter", "cascade"], 3)
    counted = outline(name)
    assert counted.device.type == "meta"
    lines: list[str] = []
    model = ready(name, torch.float32, torch.device("cpu"))
    direct, scaled, cascade = measured_rows(model, counted, asked, 5.0, 1, {}, lines.append)
    for row in (direct, scaled, cascade):
        assert row["seconds"] > 0
        assert row["flops"] > 0
        assert row["tflops_per_s"] > 0
    assert [(part["part"], part["times"]) for part in direct["parts"]] == [
        ("first step", 1), ("plain step", 2), ("decode", 1), ("png", 1)
    ]  # fmt: skip
    assert scaled["parts"][1]["part"] == "changed step"
    assert {part["width"] for part in cascade["parts"]} == {128, 256}
    assert scaled["flops"] == direct["flops"]
    assert len(lines) == 3


@pytest.mark.usefixtures("tiny_architectures")
def test_weights_that_do_not_fit_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers, "free_memory", lambda _device: 1000)
    with pytest.raises(OutOfMemoryError, match=r"weights of flux take .* cpu has 0 MiB free: count it with --flops"):
        ready("flux", torch.float32, torch.device("cpu"))


@pytest.mark.usefixtures("tiny_architectures")
def test_random_weights_give_finite_values_and_a_recipe_changes_them() -> None:
    model = ready("flux", torch.float32, torch.device("cpu"))
    size = ImageSize(256, 256)
    with torch.no_grad():
        plain = model.evaluate(size, guided=True)
        with installed(model, Denoising(size, guided=True, recipe=Recipe.parse("[positions]\nmethod = 'yarn'\n"))):
            scaled = model.evaluate(size, guided=True)
        assert torch.equal(model.evaluate(size, guided=True), plain)
    assert plain.isfinite().all()
    assert not torch.allclose(plain, scaled)


def test_a_transformer_of_another_family_is_refused_by_name(tmp_path: Path) -> None:
    whole_sd3().save_pretrained(tmp_path / "sd3")
    with pytest.raises(ModelError, match=r"flux and qwen-image; .*sd3' has a SD3Transformer2DModel"):
        outline(str(tmp_path / "sd3"))
