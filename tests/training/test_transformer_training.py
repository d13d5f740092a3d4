"""critters-dit's training: a smoke run through every stage, resumed to the bit, and a folder that draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import CLIPTokenizer

from scalecrafter import Request, generate, load_pipeline
from scalecrafter.models.denoisers import read_model
from scalecrafter.ops import packing
from training.critters.captions import vocabulary
from training.critters.denoiser import Denoiser, Latents, build_scheduler, tokenize
from training.critters.export import forget_places
from training.critters.teacher import Teacher
from training.critters.tokenizer import build_tokenizer
from training.critters.train import SMOKE, run
from training.critters.transformer import (
    TransformerDenoiser,
    TransformerSettings,
    noise_levels,
    packed,
    positions,
    train_transformer,
    unpacked,
)

SMALL = replace(SMOKE.transformer, channels=4)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return build_tokenizer(vocabulary("flat"), tmp_path_factory.mktemp("tokenizer"))


def latents(tokenizer: CLIPTokenizer) -> list[Latents]:
    """Of two shapes."""
    found = []
    for height, width in ((8, 8), (6, 12)):
        means = torch.randn(3, 4, height, width, generator=torch.Generator().manual_seed(height)).half()
        tokens = torch.stack([tokenize(tokenizer, ["a blue fox", "a green frog"])] * 3)
        found.append(Latents(means, torch.full((4,), 0.1), tokens, torch.ones(3, height, width, dtype=torch.bool)))
    return found


def test_the_smoke_run_writes_a_model_that_draws(tmp_path: Path) -> None:
    folder = run(replace(SMOKE, scenes=2), tmp_path, torch.device("cpu"), torch.float32, architecture="dit")
    assert folder == tmp_path / "critters-dit"
    assert (tmp_path / "latents.pt").exists()
    pipe = load_pipeline(folder, device="cpu")
    assert read_model(pipe).native_size == (256, 256)
    request = Request.from_mapping(
        {"prompt": "a blue fox", "steps": 2, "seed": 1, "guidance": 3, "width": 64, "height": 64}
    )
    assert generate(pipe, request).image.size == (64, 64)
    log = (tmp_path / "log.txt").read_text()
    run(replace(SMOKE, scenes=2), tmp_path, torch.device("cpu"), torch.float32, architecture="dit")
    assert "autoencoder step" not in (tmp_path / "log.txt").read_text().removeprefix(log)  # all was there already


def test_a_kept_autoencoder_keeps_its_scaling_factor(tmp_path: Path) -> None:
    """The denoiser that the training goes on from knows latents of that scale, whatever scenes it sees now."""
    settings = replace(SMOKE, scenes=2)
    first = run(settings, tmp_path / "first", torch.device("cpu"), torch.float32, architecture="dit")
    config = json.loads((first / "vae" / "config.json").read_text("utf-8"))
    (first / "vae" / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.75}), "utf-8")
    kept = replace(settings, autoencoder=replace(settings.autoencoder, steps=0))
    then = run(kept, tmp_path / "then", torch.device("cpu"), torch.float32, architecture="dit", warm_start=first)
    assert json.loads((then / "vae" / "config.json").read_text("utf-8"))["scaling_factor"] == 0.75


def test_a_resumed_training_is_the_uninterrupted_one(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    def trained(name: str, stop_at: int | None = None) -> Any:
        def stop(step: int, _average: Any) -> None:
            if step == stop_at:
                raise KeyboardInterrupt

        return train_transformer(
            latents(tokenizer), tokenizer, 1.0, replace(SMALL, steps=4), tmp_path / name, torch.device("cpu"),
            torch.float32, lambda _line: None, checkpoint_every=2, on_checkpoint=stop,
        )  # fmt: skip

    whole = trained("whole.pt")
    with pytest.raises(KeyboardInterrupt):
        trained("halves.pt", stop_at=2)
    again = trained("halves.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(("muon", "rate"), [(False, 3e-3), (True, 1e-2)])
def test_training_learns_the_velocity_of_one_picture(
    tokenizer: CLIPTokenizer, tmp_path: Path, muon: bool, rate: float
) -> None:
    one = latents(tokenizer)[0]
    data = [Latents(one.means[:1], one.deviation * 0, one.tokens[:1], one.details[:1])]
    losses: list[str] = []
    train_transformer(
        data, tokenizer, 1.0, replace(SMALL, steps=120, batch=8, learning_rate=rate, muon=muon),
        tmp_path / "one.pt", torch.device("cpu"), torch.float32, losses.append,
    )  # fmt: skip
    seen = [float(line.split("loss ")[1].split()[0]) for line in losses if "loss" in line]
    assert seen[-1] < 0.8 * seen[0]


class Oracle(torch.nn.Module):
    """A U-Net that knows the picture: of `clean`, the exact velocity in its own terms."""

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean, self.timesteps = clean, torch.empty(0)

    def forward(self, latents: torch.Tensor, timesteps: torch.Tensor, **_text: torch.Tensor) -> Any:
        self.timesteps = timesteps
        alphas = build_scheduler().alphas_cumprod.double()
        ratios = ((1 - alphas) / alphas).sqrt()
        low = timesteps.long()
        ratio = torch.lerp(ratios[low], ratios[(low + 1).clamp(max=999)], timesteps.double() - low)[:, None, None, None]
        signal, noise = 1 / (1 + ratio**2).sqrt(), ratio / (1 + ratio**2).sqrt()
        eps = (latents - signal * self.clean) / noise
        return SimpleNamespace(sample=signal * eps - noise * self.clean)


@pytest.fixture(scope="module")
def taught_by(tokenizer: CLIPTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    parts = Denoiser(replace(SMOKE.denoiser, channels=4), tokenizer)
    parts.unet.save_pretrained(folder / "unet")
    parts.text_encoder.save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def test_a_teachers_velocity_is_that_of_the_flow(taught_by: Path, tokenizer: CLIPTokenizer) -> None:
    teacher = Teacher(taught_by, tokenizer, torch.device("cpu"))
    clean, noise = torch.randn(2, 5, 4, 8, 8)
    teacher._seen = torch.randn(5, 16, 4, 4)
    teacher._unet = Oracle(clean.double())  # type: ignore[assignment]
    levels = torch.tensor([0.1, 0.4, 0.7, 0.93, 0.95])
    share = levels[:, None, None, None]
    tokens = tokenize(tokenizer, ["a blue fox"] * 5)
    lesson = teacher((1 - share) * clean + share * noise, levels, tokens)
    assert lesson.known.tolist() == [True] * 4 + [False]  # more noise than Stable Diffusion's schedule ends with
    assert torch.allclose(lesson.velocity[:4], (noise - clean)[:4], atol=1e-4)
    assert len(set(teacher._unet.timesteps.tolist())) == 5  # type: ignore[attr-defined]


def test_a_taught_transformer_asks_its_teacher_at_every_step(
    taught_by: Path, tokenizer: CLIPTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    whole = Teacher.__call__

    def counted(self: Teacher, *arguments: torch.Tensor) -> torch.Tensor:
        asked.append(len(asked))
        return whole(self, *arguments)

    monkeypatch.setattr(Teacher, "__call__", counted)
    train_transformer(
        latents(tokenizer), tokenizer, 1.0, replace(SMALL, steps=5), tmp_path / "taught.pt", torch.device("cpu"),
        torch.float32, lambda _line: None, teacher=taught_by,
    )  # fmt: skip
    assert len(asked) == 5


def test_a_teacher_of_other_words_is_refused(taught_by: Path, tmp_path: Path) -> None:
    others = build_tokenizer(["one", "two"], tmp_path)
    with pytest.raises(ValueError, match=r"another vocabulary.*--warm-start"):
        Teacher(taught_by, others, torch.device("cpu"))


def test_an_exported_folder_does_not_tell_where_its_parts_were(tmp_path: Path) -> None:
    for name, values in {"vae": {"_name_or_path": "/somewhere", "norm": "é"}, "transformer": {"heads": 2}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(values), "utf-8")
    forget_places(tmp_path)
    assert json.loads((tmp_path / "vae" / "config.json").read_text("utf-8")) == {"norm": "é"}
    assert json.loads((tmp_path / "transformer" / "config.json").read_text("utf-8")) == {"heads": 2}


def test_tokens_are_those_of_the_pipelines() -> None:
    maps = torch.randn(2, 4, 6, 10)
    assert torch.equal(packed(maps), packing.packed(maps))
    assert torch.equal(unpacked(packed(maps), 3, 5), maps)
    assert positions(3, 5)[7].tolist() == [0.0, 1.0, 2.0]


def test_noise_levels_are_those_of_sampling_at_their_median() -> None:
    levels = noise_levels(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    shift = torch.tensor(1.15).exp()
    assert levels[2] == pytest.approx(float(shift / (1 + shift)), abs=1e-6)
    assert (levels.diff() > 0).all()
    assert 0 < levels[0] < 0.05
    assert 0.95 < levels[-1] < 1


def test_a_model_begins_with_no_velocity(tokenizer: CLIPTokenizer) -> None:
    model = TransformerDenoiser(SMALL, tokenizer)
    tokens = tokenize(tokenizer, ["a blue fox", "a frog"])
    assert model(torch.randn(2, 4, 8, 12), torch.tensor([0.2, 0.9]), tokens).abs().max() == 0


def test_the_model_has_about_six_million_parameters(tokenizer: CLIPTokenizer) -> None:
    with torch.device("meta"):
        model = TransformerDenoiser(TransformerSettings(channels=16), tokenizer)
    assert 5.5e6 < sum(value.numel() for value in model.transformer.parameters()) < 7e6
    assert model.transformer.config.axes_dims_rope == (4, 14, 14)
