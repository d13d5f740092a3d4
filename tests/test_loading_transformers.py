"""Models with a transformer in folders: opened whole, outlined, sized and planned, through library, shell and batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ImageChops
from typer.testing import CliRunner

import scalecrafter
from scalecrafter import ModelError, Request, generate, load_pipeline
from scalecrafter.cli.app import app
from scalecrafter.generation.checks import facts_of_model
from scalecrafter.models.denoisers import read_model
from scalecrafter.models.loading import load_outline
from scalecrafter.server.models import facts_of
from tests.support.whole_transformers import whole_flux, whole_sd3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FLUX.1, tiny."""
    place = tmp_path_factory.mktemp("models") / "flux"
    whole_flux().save_pretrained(place)
    return place


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_folder_is_opened_and_draws_what_it_drew(folder: Path) -> None:
    request = Request.from_mapping({"prompt": "a fox", "steps": 2, "seed": 1, "width": 256, "height": 192})
    made = generate(load_pipeline(folder), request)
    before = generate(whole_flux(), request).image
    assert ImageChops.difference(made.image, before).getextrema() <= ((0, 1),) * 3  # kernels may round otherwise
    assert made.request.guidance == 3.5


@pytest.mark.parametrize("make", [whole_flux, whole_sd3])
def test_outline_configuration_and_pipeline_say_the_same_sizes(make: Any, tmp_path: Path) -> None:
    pipe = make()
    pipe.save_pretrained(tmp_path / "model")
    whole, outline = read_model(pipe), read_model(load_outline(tmp_path / "model"))
    facts = facts_of_model(str(tmp_path / "model"))
    assert facts is not None
    for found in (outline, facts.sizes):
        assert (found.native_size, found.size_multiple) == (whole.native_size, whole.size_multiple)
    assert outline == whole
    assert facts.channels == facts.latent_channels
    assert facts_of(outline).guidance == whole.guidance


def test_weights_that_are_missing_are_told(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    damaged = shutil.copytree(folder, tmp_path / "damaged")
    file = damaged / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["x_embedder.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"the transformer of .* is not whole: 1 weight is missing \(x_embedder"):
        load_pipeline(damaged)


def test_an_unknown_transformer_is_refused_by_name(tmp_path: Path) -> None:
    index = {"_class_name": "PixArtSigmaPipeline", "transformer": ["diffusers", "PixArtTransformer2DModel"],
             "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "DDIMScheduler"]}  # fmt: skip
    import diffusers

    (tmp_path / "model_index.json").write_text(json.dumps(index))
    diffusers.DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    for name, kind in (("transformer", "PixArtTransformer2DModel"), ("vae", "AutoencoderKL")):
        (tmp_path / name).mkdir()
        with torch.device("meta"):
            made = getattr(diffusers, kind)(**({"num_layers": 1} if name == "transformer" else {}))
        (tmp_path / name / "config.json").write_text(made.to_json_string())
    with pytest.raises(ModelError, match=r"does not know the transformer of PixArtSigmaPipeline"):
        read_model(load_outline(tmp_path))


def test_the_shell_plans_draws_and_repeats(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned = run("plan", "--model", folder, "--size", "256x256", "--steps", 4)
    assert planned.exit_code == 0, planned.stderr
    assert "family flux, 16×16 tokens, native 8×8" in planned.stdout
    assert "yarn 2" in planned.stdout
    made = run("generate", "a fox", "--model", folder, "--size", "256x192", "--steps", 2, "--seed", 3, "-o", "fox.png")
    assert made.exit_code == 0, made.stderr
    again = run("generate", "--from", "fox.png", "-o", "again.png")
    assert again.exit_code == 0, again.stderr
    assert Path("fox.png").read_bytes() == Path("again.png").read_bytes()
    checked = run("recipes", "check", "flux-4096x4096-i-max", "--model", folder)
    assert "good: flux; 4096×4096; positions by ntk 10 until 1; attention entropy" in checked.stdout
    wrong = run("recipes", "check", "sd15-1024x1024", "--model", folder)
    assert wrong.exit_code == 1
    bad = run("generate", "a fox", "--model", folder, "--size", "250x192", "-o", "no.png")
    assert bad.exit_code == 2
    assert "nearest good ones are 240 and 256" in bad.stderr
    told = run("doctor", "--model", folder)
    assert told.exit_code == 0, told.stderr
    assert "256×256" in told.stdout


def test_a_batch_of_lines_is_drawn(folder: Path, tmp_path: Path) -> None:
    lines = [{"prompt": f"a fox {number}", "steps": 2, "seed": number, "width": 128, "height": 160,
              "model": str(folder)} for number in range(2)]  # fmt: skip
    (tmp_path / "jobs.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    done = run("batch", tmp_path / "jobs.jsonl", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_a_plan_is_drawn(folder: Path, tmp_path: Path) -> None:
    from scalecrafter.recipes.plan_picture import plan_picture

    pipe = load_outline(folder)
    text = "[positions]\nuntil = 0.5\n[attention]\ntemperature = 1.2\n"
    picture = plan_picture(scalecrafter.plan(pipe, 256, 192, 10, recipe=scalecrafter.Recipe.parse(text)))
    assert "positions, vertical" in picture
    assert ">2<" in picture
    assert ">1.5<" in picture
    assert ">1.2<" in picture
    (tmp_path / "plan.svg").write_text(picture)
