"""No black pictures, and memory that runs out: every fault is provoked, and leaves the pipeline as it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scalecrafter import NumericalError
from scalecrafter.errors import OutOfMemoryError, VaeOutOfMemoryError
from scalecrafter.generation.auto_fit import chunked_attention, generate_auto_fit
from scalecrafter.generation.generate import generate
from scalecrafter.request.request import Request
from scalecrafter.vae import VaeNotice, apply_vae_memory, vae_memory_applied
from tests.support.tiny_models import tiny_sd_pipeline
from tests.support.vaes import difference, noise, sd_vae

pytestmark = pytest.mark.sampled


def ask(**values: Any) -> Request:
    return Request.from_mapping({"prompt": "a fox", "steps": 1, "seed": 3, "width": 128, "height": 128, **values})


def overflowing(vae: Any) -> Any:
    """A VAE whose first layer makes numbers that float16 cannot hold, and float32 can."""
    for convolution in (vae.decoder.conv_in, vae.encoder.conv_in):
        convolution.weight.data.mul_(0.9 * 60_000 / convolution.weight.abs().max())
    return vae


# Bad numbers


@pytest.mark.parametrize("tile", [None, (48, 48)])
def test_a_float16_vae_that_overflows_runs_again_in_a_wider_type_and_keeps_its_weights(tile: Any) -> None:
    vae = overflowing(sd_vae(8))
    latents, image = 5 * noise(1, 4, 12, 12), 5 * noise(1, 3, 96, 96)
    exact, code = vae.decode(latents).sample, vae.encode(image).latent_dist.parameters
    vae.half()
    assert not torch.isfinite(vae.decode(latents.half()).sample).all()
    weights = dict(vae.named_parameters())
    copies = {name: value.clone() for name, value in weights.items()}
    apply_vae_memory(vae, "1GiB", tile=tile)
    with pytest.warns(VaeNotice, match="the decoded picture: .* in float16, so the VAE ran again in float32"):
        again = vae.decode(latents.half()).sample
    with pytest.warns(VaeNotice, match="the encoded image"):
        coded = vae.encode(image.half()).latent_dist.parameters
    assert again.dtype is torch.float16
    assert difference(again, exact) < 0.01
    assert difference(coded, code) < 0.01
    for name, value in vae.named_parameters():
        assert value is weights[name]
        assert value.dtype is torch.float16
        assert torch.equal(value, copies[name])


def test_a_picture_from_an_overflowing_float16_vae_is_that_of_float32() -> None:
    pipe = tiny_sd_pipeline()
    overflowing(pipe.vae)
    exact = generate(pipe, ask()).image
    pipe.vae.half()
    with pytest.warns(VaeNotice, match="ran again"):
        repaired = generate(pipe, ask()).image
    assert pipe.vae.dtype is torch.float16
    apart = [abs(a - b) for a, b in zip(exact.tobytes(), repaired.tobytes(), strict=True)]
    assert sum(apart) / len(apart) < 2


def test_damaged_weights_are_named_where_no_wider_type_helps() -> None:
    vae = sd_vae(8).half()
    vae.decoder.conv_out.bias[0] = float("nan")
    with vae_memory_applied(vae), pytest.raises(NumericalError, match="damaged VAE weights, since a wider type"):
        vae.decode(noise(1, 4, 8, 8, dtype=torch.float16))
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float16}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_latents_and_images_are_refused_with_the_likely_cause(bad: float) -> None:
    vae = sd_vae(8)
    latents, image = noise(1, 4, 8, 8), noise(1, 3, 64, 64)
    latents[0, 0, 0, 0] = image[0, 0, 0, 0] = bad
    with vae_memory_applied(vae):
        with pytest.raises(NumericalError, match=r"the latents given to the VAE's decoder.*the U-Net overflows"):
            vae.decode(latents)
        with pytest.raises(NumericalError, match=r"the image given to the VAE's encoder: 1 of 12288"):
            vae.encode(image)


def test_a_pipeline_called_by_itself_raises_rather_than_returning_a_black_picture() -> None:
    import scalecrafter

    pipe = tiny_sd_pipeline()
    pipe.unet.conv_out.bias[0] = float("nan")
    with scalecrafter.applied(pipe), pytest.raises(NumericalError, match="latents given to the VAE"):
        pipe("a fox", num_inference_steps=1, height=128, width=128)


# Memory that runs out


def refusing(module: nn.Module, limit: int, error: Exception) -> Any:
    """A module that cannot get memory for inputs of more than `limit` numbers."""

    def check(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(arguments[0], Tensor) and arguments[0].numel() > limit:
            raise error

    return module.register_forward_pre_hook(check)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory: you tried to allocate "
                 "21474836480 bytes. Error code 12 (Cannot allocate memory)"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS)
def test_the_unet_out_of_memory_says_what_was_tried_and_needed_and_what_is_next(error: Exception) -> None:
    pipe = tiny_sd_pipeline()
    handle = refusing(pipe.unet.conv_in, 0, error)
    told = r"U-Net ran out of memory at 128×128: 20.00 GiB more.*Tried: fp16 precision.*Try next: --fit.*--size 64x64"
    with pytest.raises(OutOfMemoryError, match=told):
        generate(pipe, ask(dtype="fp16"))
    handle.remove()
    assert "_scalecrafter" not in pipe.unet.__dict__
    assert "_scalecrafter_memory" not in pipe.vae.__dict__


@pytest.mark.parametrize("error", ERRORS)
def test_the_vae_out_of_memory_says_what_it_needed_and_which_budget_is_next(error: Exception) -> None:
    pipe = tiny_sd_pipeline()
    handle = refusing(pipe.vae.decoder.conv_in, 0, error)
    told = r"VAE ran out of memory decoding 128×128 at once in float32: it needed about \d+ MiB.*Try next: --vae-memory"
    with pytest.raises(VaeOutOfMemoryError, match=told):
        generate(pipe, ask())
    with pytest.raises(VaeOutOfMemoryError, match=r"in tiles: it tried \d+ sections.*Try next: a vae_memory of"):
        generate(pipe, ask(), vae_memory="1.5MiB")
    handle.remove()
    assert generate(pipe, ask()).image.size == (128, 128)


def test_fitting_tries_in_order_reports_and_puts_everything_back() -> None:
    pipe = tiny_sd_pipeline()
    own = pipe.unet.attn_processors
    exact = generate(pipe, ask()).image.tobytes()

    def until_attention_is_chunked(_module: nn.Module, _arguments: Any) -> None:
        if "Sliced" not in type(next(iter(pipe.unet.attn_processors.values()))).__name__:
            raise torch.OutOfMemoryError("out of memory")

    handle = pipe.unet.conv_in.register_forward_pre_hook(until_attention_is_chunked)
    lines: list[str] = []
    made = generate_auto_fit(pipe, ask(), report=lines.append)
    handle.remove()
    assert lines == ["did not fit: settings as they are", "fits: chunked attention"]
    apart = [abs(a - b) for a, b in zip(made.image.tobytes(), exact, strict=True)]
    assert max(apart) <= 2
    assert all(pipe.unet.attn_processors[name] is processor for name, processor in own.items())
    assert generate(pipe, ask()).image.tobytes() == exact


def test_fitting_halves_the_budget_of_the_vae_until_it_fits() -> None:
    pipe = tiny_sd_pipeline()
    handle = refusing(pipe.vae.decoder.conv_out, 8 * 40 * 300, torch.OutOfMemoryError("out of memory"))
    lines: list[str] = []
    made = generate_auto_fit(pipe, ask(width=256, height=256), report=lines.append, vae_memory="16MiB", least=1 << 20)
    handle.remove()
    assert lines[0] == "did not fit: settings as they are, VAE below 16 MiB"
    assert lines[-1].startswith("fits: settings as they are, VAE below")
    assert len(lines) > 1
    assert made.image.size == (256, 256)


def test_when_nothing_fits_the_error_says_what_was_tried_last() -> None:
    pipe = tiny_sd_pipeline()
    handle = refusing(pipe.unet.conv_in, 0, torch.OutOfMemoryError("out of memory"))
    with pytest.raises(OutOfMemoryError, match="nothing fits; the last that was tried was chunked attention"):
        generate_auto_fit(pipe, ask())
    handle.remove()


def test_chunked_attention_is_taken_off_after_an_error() -> None:
    pipe = tiny_sd_pipeline()
    own = pipe.unet.attn_processors

    def fail() -> None:
        with chunked_attention(pipe):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert all(pipe.unet.attn_processors[name] is processor for name, processor in own.items())


# At a shell


def test_generate_takes_a_budget_and_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from scalecrafter.cli import app

    tiny_sd_pipeline().save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    arguments = ["generate", "a fox", "--model", "model", "--steps", "1", "--size", "128x128", "--seed", "3"]
    done = CliRunner().invoke(app, [*arguments, "--fit", "--vae-memory", "1.5MiB", "-o", "fox.png"])
    assert done.exit_code == 0, done.output
    assert "fits: settings as they are, VAE below 2 MiB" in done.stderr
    assert done.stdout.strip() == "fox.png"
    wrong = CliRunner().invoke(app, [*arguments, "--vae-memory", "lots", "-o", "no.png"])
    assert wrong.exit_code == 2
    assert "--vae-memory is 'lots': give a size" in wrong.stderr
    assert not os.path.exists("no.png")
