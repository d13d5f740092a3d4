"""Budgets as people write them, the automatic choice, and that whatever is applied can be taken off again."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import scalecrafter
from scalecrafter import ModelError, ScaleCrafterError
from scalecrafter._util.memory import free_memory
from scalecrafter.vae import (
    MemoryBudgetError,
    VaeNotice,
    apply_vae_memory,
    decode_memory,
    parse_memory_budget,
    part,
    remove_vae_memory,
    vae_memory_applied,
)
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sd_unet
from tests.support.vaes import difference, noise, sd_vae, wide_vae

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 << 30), ("800 MiB", 800 * MIB), ("1.5gb", 1_500_000_000), (5 * MIB, 5 * MIB), ("2g", 2 << 30),
     ("auto", "auto"), ("off", None), (None, None)],
)  # fmt: skip
def test_budgets_are_read(text: Any, size: Any) -> None:
    assert parse_memory_budget(text) == size


@pytest.mark.parametrize("text", ["4 GiBs", "much", "", "-1GiB", True, "4"])
def test_a_budget_that_cannot_be_read_says_how_to_write_one(text: Any) -> None:
    with pytest.raises(ScaleCrafterError, match=r"vae_memory is .*GiB"):
        parse_memory_budget(text)


def state(vae: nn.Module) -> dict[str, Any]:
    """Everything that could have been left behind."""
    return {
        "attributes": {key: repr(value) for key, value in vae.__dict__.items() if not key.startswith("_")},
        "own": sorted(vae.__dict__),
        "modules": [(name, id(module)) for name, module in vae.named_modules()],
        "hooks": [len(one._forward_hooks) + len(one._forward_pre_hooks) for one in vae.modules()],
        "forwards": ["forward" in module.__dict__ for module in vae.modules()],
    }


def test_remove_leaves_the_vae_as_it_was() -> None:
    vae = sd_vae(8)
    vae.enable_tiling()
    before = state(vae)
    apply_vae_memory(vae, "3MiB")
    assert not vae.use_tiling
    keys = list(vae.state_dict())
    vae.decode(noise(1, 4, 16, 16))
    apply_vae_memory(vae, "4MiB")
    assert list(vae.state_dict()) == keys
    remove_vae_memory(vae)
    assert state(vae) == before
    remove_vae_memory(vae)
    assert state(vae) == before


def test_an_error_in_the_middle_of_a_tiled_decode_leaves_the_vae_as_it_was() -> None:
    vae = sd_vae(8)
    modules = [name for name, _ in vae.named_modules()]

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = vae.decoder.up_blocks[2].resnets[0].conv2.register_forward_hook(fail)
    with vae_memory_applied(vae, "1GiB", tile=(64, 64)), pytest.raises(KeyboardInterrupt):
        vae.decode(noise(1, 4, 16, 16))
    handle.remove()
    assert [name for name, _ in vae.named_modules()] == modules
    assert torch.isfinite(vae.decode(noise(1, 4, 8, 8)).sample).all()


def test_a_budget_is_put_back_after_another_one_in_between() -> None:
    vae = sd_vae(8)
    apply_vae_memory(vae, "3MiB")
    outer = vae.__dict__["_scalecrafter_memory"]
    with vae_memory_applied(vae, "1GiB"):
        assert vae.__dict__["_scalecrafter_memory"] is not outer
    assert vae.__dict__["_scalecrafter_memory"] is outer
    with vae_memory_applied(vae, "auto"):
        assert vae.__dict__["_scalecrafter_memory"] is outer


def test_what_fits_is_decoded_at_once_to_the_bit() -> None:
    vae = sd_vae(8)
    latents = noise(1, 4, 16, 16)
    own = vae.decode(latents).sample
    for memory in ("auto", "1GiB"):
        with vae_memory_applied(vae, memory):
            assert torch.equal(vae.decode(latents).sample, own)


def test_free_memory_is_what_the_system_says_or_less_where_a_container_is_given_less() -> None:
    import psutil

    free = free_memory(torch.device("cpu"))
    assert free is not None
    assert 64 * MIB < free <= 1.2 * psutil.virtual_memory().available


@pytest.mark.slow
def test_automatic_tiles_where_the_whole_does_not_fit_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = sd_vae(8)
    latents = noise(1, 4, 24, 24)
    whole = vae.decode(latents).sample
    apply_vae_memory(vae)
    monkeypatch.setattr(part, "free_memory", lambda _device: 4 * MIB)
    with pytest.warns(VaeNotice, match=r"decoder would take \d+ MiB at once.*in tiles") as told:
        first = vae.decode(latents).sample
    assert len(told) == 1
    assert difference(first, whole) < 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae.decode(latents)
    monkeypatch.setattr(part, "free_memory", lambda _device: 1000)  # nothing fits: as little as can be
    assert difference(vae.decode(latents).sample, whole) < 1e-4


def test_a_budget_that_cannot_be_kept_names_the_lowest_that_can() -> None:
    vae = sd_vae(8)
    with vae_memory_applied(vae, "1MiB"), pytest.raises(MemoryBudgetError, match=r"needs (\d+) MiB at the least"):
        vae.decode(noise(1, 4, 64, 64))


def test_an_unknown_layer_is_refused_by_name_and_left_alone_by_auto() -> None:
    vae = sd_vae(8)
    vae.decoder.up_blocks[1].resnets[0].nonlinearity = nn.PReLU()
    with pytest.raises(ModelError, match=r"decoder.up_blocks.1.resnets.0.nonlinearity is a PReLU"):
        apply_vae_memory(vae, "4GiB")
    latents = noise(1, 4, 8, 8)
    own = vae.decode(latents).sample
    apply_vae_memory(vae, "auto")
    assert torch.equal(vae.decode(latents).sample, own)
    vae = sd_vae(8)
    vae.decoder.mid_block.extra = nn.Conv2d(8, 8, 1)
    with pytest.raises(ModelError, match=r"decoder.mid_block.extra \(Conv2d\)"):
        apply_vae_memory(vae, "4GiB")


# On a pipeline


def test_a_pipelines_own_call_decodes_in_tiles() -> None:
    pipe = tiny_sd_pipeline()
    arguments: dict[str, Any] = {"num_inference_steps": 1, "height": 192, "width": 128, "output_type": "pt"}
    before = state(pipe.vae)
    with scalecrafter.applied(pipe, vae_memory="off"):
        own = pipe("a fox", generator=torch.Generator().manual_seed(1), **arguments).images
    scalecrafter.apply(pipe, vae_memory="2MiB")
    assert decode_memory(pipe.vae, 192, 128, "2MiB")[1] is not None
    calls: list[int] = []
    handle = pipe.vae.decoder.conv_out.register_forward_hook(lambda *_: calls.append(1))
    tiled = pipe("a fox", generator=torch.Generator().manual_seed(1), **arguments).images
    handle.remove()
    assert len(calls) > 1
    assert difference(tiled, own) < 1e-4
    scalecrafter.remove(pipe)
    assert state(pipe.vae) == before


def test_apply_with_off_leaves_the_vae_alone_and_a_second_apply_replaces_the_budget() -> None:
    pipe = tiny_sd_pipeline()
    before = state(pipe.vae)
    for memory in ("off", None):
        scalecrafter.apply(pipe, vae_memory=memory)
        assert state(pipe.vae) == before
    scalecrafter.apply(pipe, vae_memory="2MiB")
    scalecrafter.apply(pipe, vae_memory="off")
    assert state(pipe.vae) == before


def test_apply_keeps_a_budget_that_was_there_before_it() -> None:
    pipe = tiny_sd_pipeline()
    apply_vae_memory(pipe.vae, "2MiB")
    with_budget = state(pipe.vae)
    with scalecrafter.applied(pipe):
        assert state(pipe.vae) == with_budget
    assert state(pipe.vae) == with_budget


def test_a_budget_without_a_vae_and_a_wrong_one_change_nothing() -> None:
    unet = tiny_sd_unet()
    scalecrafter.apply(unet)
    with pytest.raises(ModelError, match="has no VAE"):
        scalecrafter.apply(unet, vae_memory="4GiB")
    pipe = tiny_sd_pipeline()
    before = state(pipe.vae)
    with pytest.raises(ScaleCrafterError, match="vae_memory is 'lots'"):
        scalecrafter.apply(pipe, vae_memory="lots")
    assert state(pipe.vae) == before
    assert "_scalecrafter" not in pipe.unet.__dict__


@pytest.mark.parametrize("before", [True, False])
def test_layers_that_are_brought_in_one_by_one(before: bool) -> None:
    """accelerate's sequential offloading, on before or after: its weights are on the meta device between calls."""
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_submodules

    vae = sd_vae(8)
    latents = noise(1, 4, 16, 16)
    whole = vae.decode(latents).sample
    if before:
        apply_vae_memory(vae, "1GiB", tile=(64, 64))
    cpu_offload(vae, torch.device("cpu"))
    if not before:
        apply_vae_memory(vae, "1GiB", tile=(64, 64))
    assert next(vae.decoder.parameters()).is_meta
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert difference(vae.decode(latents).sample, whole) < 1e-4
    remove_vae_memory(vae)
    remove_hook_from_submodules(vae)


# Memory, measured

_MEASURE = """
import os, sys, torch
from pathlib import Path
from scalecrafter.vae import apply_vae_memory
from tests.support.vaes import noise, wide_vae

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

torch.set_grad_enabled(False)
vae, latents = wide_vae(), noise(1, 4, 64, 64)
for budget in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    vae.decode(noise(1, 4, 8, 8))  # libraries are resident from now on
    apply_vae_memory(vae, budget)
    before = resident("VmRSS")
    vae.decode(latents)
    print(resident("VmHWM") - before, flush=True)
    os._exit(0)
"""


def measured(*budgets: str) -> list[int]:
    """Bytes at each budget, with every block straight from the system: resident is then what is in use."""
    straight = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(MIB)}
    command = [sys.executable, "-c", _MEASURE, *budgets]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=straight)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory from /proc")
def test_a_quarter_of_the_memory_is_enough_and_the_prediction_is_near() -> None:
    vae = wide_vae()
    predicted, _ = decode_memory(vae, 512, 512, "64GiB")
    budget = str(int(0.22 * predicted))  # the rest is what the allocator and the process add
    _, plan = decode_memory(vae, 512, 512, budget)
    whole, tiled = measured("off", budget)
    assert abs(predicted - whole) < 0.15 * whole
    assert tiled < whole / 4
    assert plan is not None
    assert abs(plan.peak - tiled) < 0.2 * tiled
