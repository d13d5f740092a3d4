"""The training command, from nothing to a diffusers folder, in seconds; and that it goes on where it was stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import scalecrafter
from training.critters.autoencoder import (
    AutoencoderSettings,
    build_autoencoder,
    fine_detail,
    normalise,
    to_unit,
)
from training.critters.loop import Schedule, compile_blocks, train
from training.critters.optimizer import KernelOptimizer
from training.critters.tokenizer import build_tokenizer
from training.critters.train import SMOKE, run

CPU = torch.device("cpu")
FLAT = replace(SMOKE, world="flat")


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run in seconds. Tests that write into it take a copy."""
    out = tmp_path_factory.mktemp("training") / "run"
    assert run(FLAT, out, CPU, torch.float32, checkpoint_every=1, preview_every=2) == out / "critters"
    return out


@pytest.fixture(scope="module")
def detailed_run(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in the detailed world, begun from the first one's model: of other latents and words."""
    detailed = replace(
        SMOKE,
        world="detailed",
        autoencoder=replace(SMOKE.autoencoder, channels=16, power_weight=1.0, normalised=True),
        denoiser=replace(SMOKE.denoiser, channels=16, learning_rate=0.0),
    )
    out = tmp_path_factory.mktemp("detailed") / "run"
    run(detailed, out, CPU, torch.float32, preview_every=100, warm_start=smoke_run / "critters")
    return out


def test_one_command_makes_a_folder_that_opens_and_runs(smoke_run: Path) -> None:
    folder = smoke_run / "critters"
    assert (smoke_run / "preview-000002.png").is_file()
    pipe = scalecrafter.load_pipeline(folder)
    assert pipe.unet.config.sample_size == 32
    with scalecrafter.applied(pipe):
        picture = pipe("a blue fox", height=512, width=512, num_inference_steps=2).images[0]
    assert picture.size == (512, 512)
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert size < 2_000_000


def test_a_model_of_the_detailed_world_has_sixteen_latent_channels_of_one_size_and_draws_wide_pictures(
    detailed_run: Path,
) -> None:
    sets = torch.load(detailed_run / "latents.pt", weights_only=True)
    assert len(sets) > 1  # shapes of pictures
    assert {each["means"].shape[2] * each["means"].shape[3] for each in sets} <= {1024, 960, 1152}
    for each in sets:
        assert each["means"].shape[1] == 16
        assert each["details"].shape[1:] == each["means"].shape[2:]
    values = torch.cat([each["means"].float().transpose(0, 1).flatten(1) for each in sets], dim=1)
    torch.testing.assert_close(values.mean(1), torch.zeros(16), atol=0.05, rtol=0)
    torch.testing.assert_close(values.std(1), torch.ones(16), atol=0.05, rtol=0)
    pipe = scalecrafter.load_pipeline(detailed_run / "critters")
    assert pipe.unet.config.in_channels == pipe.vae.config.latent_channels == 16
    picture = pipe("a close-up of a blue fox", height=192, width=384, num_inference_steps=2).images[0]
    assert picture.size == (384, 192)


def test_normalised_latents_decode_to_the_same_picture() -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(AutoencoderSettings(widths=(8, 8, 8, 8), channels=6))
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 32, 3), np.uint8)
    unit = to_unit(pictures, CPU)
    before = vae.decode(vae.encode(unit).latent_dist.mean).sample
    noise = vae.encode(unit).latent_dist.std / vae.encode(unit).latent_dist.mean.std((0, 2, 3), keepdim=True)
    normalise(vae, [pictures], CPU)
    latents = vae.encode(unit).latent_dist
    torch.testing.assert_close(vae.decode(latents.mean).sample, before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(latents.mean.std((0, 2, 3)), torch.ones(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std, noise, atol=1e-4, rtol=1e-3)


def test_an_autoencoder_that_blurs_has_lost_power() -> None:
    torch.manual_seed(0)
    pictures = to_unit(np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8), CPU)
    blurred = torch.nn.functional.avg_pool2d(pictures, 3, 1, 1)
    assert float(fine_detail(blurred).mean()) < 0.4 * float(fine_detail(pictures).mean())
    shifted = torch.roll(pictures, 1, 3)
    assert float(fine_detail(shifted).mean()) == pytest.approx(float(fine_detail(pictures).mean()), rel=0.05)


def test_a_model_of_other_latents_and_words_can_be_begun_from(smoke_run: Path, detailed_run: Path) -> None:
    first, second = smoke_run / "critters", detailed_run / "critters"
    ours, theirs = (scalecrafter.load_pipeline(folder) for folder in (first, second))
    torch.testing.assert_close(
        theirs.unet.mid_block.resnets[0].conv1.weight, ours.unet.mid_block.resnets[0].conv1.weight, atol=1e-3, rtol=1e-2
    )
    words = [
        pipe.text_encoder.get_input_embeddings().weight[pipe.tokenizer.convert_tokens_to_ids("fox</w>")]
        for pipe in (ours, theirs)
    ]
    torch.testing.assert_close(*words, atol=1e-3, rtol=1e-2)
    assert "but for" in (detailed_run / "log.txt").read_text()


def test_a_second_run_goes_on_from_what_is_there(smoke_run: Path, tmp_path: Path) -> None:
    out = shutil.copytree(smoke_run, tmp_path / "run")
    longer = replace(FLAT, denoiser=replace(SMOKE.denoiser, steps=3))
    run(longer, out, CPU, torch.float32, checkpoint_every=1, preview_every=100)
    log = (out / "log.txt").read_text()
    assert log.count("drew") == 2  # the renders and the held-out ones, once
    assert "denoiser.pt at step 2" in log


def exchange_tokens(folder: Path, one: str, other: str) -> None:
    """Let two words of a stored tokenizer have each other's number, as two trainings of it may."""
    for name in ("tokenizer.json", "vocab.json"):
        content = json.loads((folder / name).read_text())
        vocabulary = content["model"]["vocab"] if "model" in content else content
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
        (folder / name).write_text(json.dumps(content))


def test_a_later_run_can_begin_from_an_earlier_model(smoke_run: Path, tmp_path: Path) -> None:
    first = shutil.copytree(smoke_run / "critters", tmp_path / "first")
    for folder in ("second", "third"):  # the same scenes, which need not be drawn again
        (tmp_path / folder).mkdir()
        for renders in (*smoke_run.glob("renders-*"), *smoke_run.glob("held_out.*")):  # and the notes beside them
            shutil.copy(renders, tmp_path / folder)
    exchange_tokens(first / "tokenizer", "cat</w>", "dog</w>")
    still = replace(
        FLAT,
        autoencoder=replace(SMOKE.autoencoder, steps=0),
        denoiser=replace(SMOKE.denoiser, learning_rate=0.0),
    )
    second = run(still, tmp_path / "second", CPU, torch.float32, preview_every=100, warm_start=first)
    ours, theirs = (scalecrafter.load_pipeline(folder) for folder in (first, second))
    assert ours.tokenizer.get_vocab() == theirs.tokenizer.get_vocab()
    for name in ("vae", "unet", "text_encoder"):
        for a, b in zip(getattr(ours, name).parameters(), getattr(theirs, name).parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-4)

    faster = replace(still, autoencoder=replace(SMOKE.autoencoder, learning_rate=0.1))
    third = run(faster, tmp_path / "third", CPU, torch.float32, preview_every=100, warm_start=first)
    moved = scalecrafter.load_pipeline(third).vae.decoder.conv_in.weight - ours.vae.decoder.conv_in.weight
    assert 1e-5 < float(moved.detach().abs().max()) < 0.1  # from where it was, not from the beginning
    assert "drew" not in (tmp_path / "third" / "log.txt").read_text()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_kernels_are_trained_in_place_as_the_matrices_that_muon_takes(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(16, 24, 3, bias=False), torch.nn.Conv2d(24, 3, 1)).to(
        memory_format=layout
    )
    kernel, narrow = module[0].weight, module[1].weight
    matrix = torch.nn.Parameter(kernel.detach().permute(0, 2, 3, 1).reshape(24, -1).clone())
    oracle = torch.optim.Muon([matrix], 0.01, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    ours = KernelOptimizer(module, 0.01, muon=True)
    before = narrow.detach().clone()
    for step in range(3):
        module(torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(step))).square().sum().backward()
        assert kernel.grad is not None
        matrix.grad = kernel.grad.permute(0, 2, 3, 1).reshape(24, -1).clone()
        ours.step()
        oracle.step()
        module.zero_grad(set_to_none=True)
    torch.testing.assert_close(kernel.detach().permute(0, 2, 3, 1).reshape(24, -1), matrix.detach())
    assert float((narrow - before).detach().abs().max()) == pytest.approx(0.03, rel=0.3)  # AdamW's three steps


@pytest.mark.parametrize("muon", [False, True])
def test_a_resumed_training_ends_where_an_unbroken_one_ends(tmp_path: Path, muon: bool) -> None:
    def start() -> tuple[torch.nn.Module, object]:
        torch.manual_seed(0)
        module = torch.nn.Linear(16, 16)

        def loss(step: int) -> torch.Tensor:
            x = torch.randn(8, 16, generator=torch.Generator().manual_seed(step))
            return (module(x) - x.sum(1, keepdim=True)).square().mean()

        return module, loss

    schedule = Schedule(steps=20, learning_rate=0.1, warmup=2, checkpoint_every=5, muon=muon)
    module, loss = start()
    unbroken = train(module, loss, schedule, tmp_path / "a.pt", CPU, torch.float32, report=lambda _: None)  # type: ignore[arg-type]

    module, loss = start()

    def stop(step: int, _average: torch.nn.Module) -> None:
        if step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(module, loss, schedule, tmp_path / "b.pt", CPU, torch.float32, lambda _: None, stop)  # type: ignore[arg-type]
    module, loss = start()
    resumed = train(module, loss, schedule, tmp_path / "b.pt", CPU, torch.float32, report=lambda _: None)  # type: ignore[arg-type]
    for ours, theirs in zip(resumed.parameters(), unbroken.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_loss_that_is_not_a_number_stops_the_training(tmp_path: Path) -> None:
    module = torch.nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="became nan at step 0"):
        train(
            module,
            lambda _: module.weight.sum() * float("nan"),
            Schedule(2, 0.1),
            tmp_path / "c.pt",
            CPU,
            torch.float32,
        )


def test_words_of_the_captions_are_single_tokens_and_other_words_are_tokenized(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(["fox", "foxes", "ship", "hip", "a"], tmp_path / "tokenizer")
    assert [len(tokenizer(word)["input_ids"]) for word in ("fox", "foxes", "ship", "A")] == [3, 3, 3, 3]
    assert tokenizer.decode(tokenizer("a zebra, foxes!")["input_ids"], skip_special_tokens=True).split() == [
        "a", "zebra", ",", "foxes", "!",
    ]  # fmt: skip


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_blocks_give_the_same_gradients() -> None:
    settings = AutoencoderSettings(widths=(16,))  # every block has the same shape, and is compiled once
    pictures = torch.randn(2, 3, 16, 16)
    gradients = []
    for compiled in (False, True):
        torch.manual_seed(0)
        vae = build_autoencoder(settings)
        for parameter in vae.parameters():  # residual branches begin at zero, which would hide their gradients
            torch.nn.init.normal_(parameter, std=0.1)
        if compiled:
            compile_blocks(vae)
        latents = vae.encode(pictures).latent_dist.mean
        latents.retain_grad()
        vae.decode(latents).sample.square().mean().backward()
        assert latents.grad is not None
        gradients.append([latents.grad, *(p.grad for p in vae.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
