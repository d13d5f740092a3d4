"""LoRA, LoCon, textual inversion, IP-Adapter and FreeU, loaded from files as people load them, under ScaleCrafter.

The adapter of a convolution is dilated, dispersed and damped with it: the result is that of the reference
implementation on weights into which the adapter was fused first.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LCMScheduler
from safetensors.torch import save_file
from torch import Tensor

import scalecrafter
from scalecrafter import ModelError, Recipe
from scalecrafter.patching.freeu import published_freeu
from scalecrafter.unet.architecture import read_architecture
from tests.support.adapters import ip_adapter_folder, locon_file, lora_file, textual_inversion_file
from tests.support.reference_in_pipelines import reference_unet, relative
from tests.support.tasks import CHANGE, DAMPED, SIZE, Task, check, fresh, gradient, sized
from tests.support.tiny_models import tiny_sd_unet, tiny_sdxl_unet

TOLERANCE = 1e-4
TO_THE_END = DAMPED.replace("0.4", "1.0")
"""The same with kernels dispersed in every step."""


def run(pipe: Any, prompt: str = "a fox") -> Tensor:
    return Task(pipe, sized).run(SIZE, prompt=prompt)


def expected(pipe: Any, recipe: str = DAMPED) -> Tensor:
    """What the reference implementation makes of a pipeline whose adapters are fused."""
    pipe.unload_lora_weights()
    with reference_unet(pipe, tomllib.loads(recipe)):
        return run(pipe)


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def files(kind: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters of a kind: a LoRA in diffusers' layout (on attention too), and a LoCon as kohya's trainer writes it."""
    folder, unet = tmp_path_factory.mktemp("adapters"), fresh(kind).unet
    return {
        "lora": lora_file(folder / "lora.safetensors", unet, linear=True),
        "locon": locon_file(folder / "locon.safetensors", unet),
    }


@functools.cache
def without(kind: str) -> Tensor:
    """What ScaleCrafter makes without any adapter."""
    with scalecrafter.applied(fresh(kind), recipe=Recipe.parse(DAMPED)) as pipe:
        return run(pipe)


@functools.cache
def fused_first(kind: str, path: Path) -> Tensor:
    """What the reference implementation makes of weights into which the adapter was fused."""
    pipe = fresh(kind)
    pipe.load_lora_weights(path)
    pipe.fuse_lora()
    return expected(pipe)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("adapter", "loaded", "fused"),
    [
        ("lora", "before", False),
        ("lora", "before", True),
        ("lora", "after", False),
        ("lora", "after", True),
        ("locon", "before", False),
        ("locon", "after", True),
    ],
)
def test_an_adapter_is_dilated_with_its_base_whenever_it_is_loaded(
    kind: str, files: dict[str, Path], adapter: str, loaded: str, fused: bool
) -> None:
    pipe = fresh(kind)
    if loaded == "after":
        scalecrafter.apply(pipe, recipe=Recipe.parse(DAMPED))
        assert run(pipe).equal(without(kind))
    pipe.load_lora_weights(files[adapter])
    if fused:
        pipe.fuse_lora()
    if loaded == "before":
        plain, keys = run(pipe), list(pipe.unet.state_dict())
        scalecrafter.apply(pipe, recipe=Recipe.parse(DAMPED))
    result = run(pipe)
    assert relative(result, without(kind)) > CHANGE
    assert relative(result, fused_first(kind, files[adapter])) < TOLERANCE

    scalecrafter.remove(pipe)
    if loaded == "before":
        assert run(pipe).equal(plain)
        assert list(pipe.unet.state_dict()) == keys
    assert not any("_conv_forward" in module.__dict__ for module in pipe.unet.modules())


@pytest.mark.slow
def test_unloading_while_applied_leaves_what_was_there_before(kind: str, files: dict[str, Path]) -> None:
    pipe = fresh(kind)
    keys, plain = list(pipe.unet.state_dict()), run(pipe)
    pipe.load_lora_weights(files["lora"])
    scalecrafter.apply(pipe, recipe=Recipe.parse(DAMPED))
    run(pipe)
    pipe.unload_lora_weights()
    assert run(pipe).equal(without(kind))
    scalecrafter.remove(pipe)
    assert run(pipe).equal(plain)
    assert list(pipe.unet.state_dict()) == keys


@pytest.mark.slow
def test_several_adapters_count_with_their_weights(kind: str, files: dict[str, Path]) -> None:
    def both(pipe: Any, weights: tuple[float, float]) -> Any:
        for name in ("lora", "locon"):
            pipe.load_lora_weights(files[name], adapter_name=name)
        pipe.set_adapters(["lora", "locon"], list(weights))
        return pipe

    reference = both(fresh(kind), (0.8, 0.3))
    reference.fuse_lora(adapter_names=["lora", "locon"])
    pipe = scalecrafter.apply(both(fresh(kind), (0.1, 0.9)), recipe=Recipe.parse(DAMPED))
    other = run(pipe)
    pipe.set_adapters(["lora", "locon"], [0.8, 0.3])
    result = run(pipe)
    assert relative(result, other) > CHANGE
    assert relative(result, expected(reference)) < TOLERANCE
    pipe.disable_lora()
    assert run(pipe).equal(without(kind))


@pytest.mark.slow
def test_fusing_while_applied_reaches_kernels_that_stay_dispersed(kind: str, files: dict[str, Path]) -> None:
    reference = fresh(kind)
    reference.load_lora_weights(files["lora"])
    reference.fuse_lora()
    pipe = fresh(kind)
    pipe.load_lora_weights(files["lora"])
    scalecrafter.apply(pipe, recipe=Recipe.parse(TO_THE_END))
    pipe.disable_lora()
    run(pipe)
    pipe.enable_lora()
    pipe.fuse_lora()
    assert relative(run(pipe), expected(reference, TO_THE_END)) < TOLERANCE


@pytest.mark.slow
def test_a_distilled_lora_without_guidance_is_re_dilated(kind: str, files: dict[str, Path]) -> None:
    """As an LCM-LoRA is used: its own scheduler, few steps, no unconditional half, so nothing to damp."""

    def distilled() -> Any:
        pipe = fresh(kind)
        pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
        pipe.load_lora_weights(files["lora"])
        return pipe

    task = functools.partial(Task, call=lambda size: {"guidance_scale": 1.0, **sized(size)})
    reference = distilled()
    plain = task(reference).run(SIZE)
    reference.fuse_lora()
    reference.unload_lora_weights()
    with reference_unet(reference, tomllib.loads(DAMPED), guided=False):
        wanted = task(reference).run(SIZE)
    result = task(scalecrafter.apply(distilled(), recipe=Recipe.parse(DAMPED))).run(SIZE)
    assert relative(result, plain) > CHANGE
    assert relative(result, wanted) < TOLERANCE


def on_the_middle(pipe: Any, config: Any) -> Any:
    torch.manual_seed(3)
    pipe.unet.add_adapter(config)
    return pipe


MIDDLE = {"r": 2, "target_modules": r"mid_block\.resnets\.0\.conv1"}


def test_a_dora_is_dilated_with_its_base() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(use_dora=True, init_lora_weights=False, **MIDDLE)
    reference = on_the_middle(fresh("sd"), config)
    reference.unet.fuse_lora()
    pipe = scalecrafter.apply(on_the_middle(fresh("sd"), config), recipe=Recipe.parse(DAMPED))
    result = run(pipe)
    assert relative(result, without("sd")) > CHANGE / 10
    assert relative(result, expected(reference)) < TOLERANCE


@pytest.mark.parametrize(("config", "alpha"), [("LoHaConfig", 4000), ("LoKrConfig", 40)])
def test_an_adapter_with_a_convolution_of_its_own_must_be_fused_first(config: str, alpha: int) -> None:
    peft = pytest.importorskip("peft")
    settings = getattr(peft, config)(init_weights=False, alpha=alpha, **MIDDLE)
    pipe = scalecrafter.apply(on_the_middle(fresh("sd"), settings), recipe=Recipe.parse(DAMPED))
    with pytest.raises(ModelError, match=r"mid_block\.resnets\.0\.conv1 has an adapter of the kind lo..*fuse it"):
        run(pipe)
    pipe.unet.fuse_lora()
    result = run(pipe)
    reference = on_the_middle(fresh("sd"), settings)
    reference.unet.fuse_lora()
    assert relative(result, without("sd")) > CHANGE / 10
    assert relative(result, expected(reference)) < TOLERANCE


# Textual inversion


def inverted(kind: str, folder: Path) -> Any:
    """A pipeline that has learnt the word <fox>."""
    pipe = fresh(kind)
    if kind == "sd":
        path = textual_inversion_file(folder / "fox.safetensors", "<fox>", pipe.text_encoder.config.hidden_size)
        pipe.load_textual_inversion(str(path), token="<fox>", local_files_only=True)
        return pipe
    for number, (encoder, tokenizer) in enumerate(
        ((pipe.text_encoder, pipe.tokenizer), (pipe.text_encoder_2, pipe.tokenizer_2))
    ):
        path = folder / f"fox{number}.safetensors"
        generator = torch.Generator().manual_seed(number)
        save_file({"<fox>": torch.randn(2, encoder.config.hidden_size, generator=generator)}, path)
        pipe.load_textual_inversion(
            str(path), token="<fox>", text_encoder=encoder, tokenizer=tokenizer, local_files_only=True
        )
    return pipe


@pytest.mark.slow
def test_a_textual_inversion_is_a_word_like_others(kind: str, tmp_path: Path) -> None:
    pipe = inverted(kind, tmp_path)
    check(Task(pipe, lambda size: {"prompt": "a <fox>", **sized(size)}), DAMPED, guided=True)
    with scalecrafter.applied(pipe, recipe=Recipe.parse(DAMPED)):
        assert relative(run(pipe, "a <fox>"), run(pipe, "a fix")) > CHANGE / 10
        known = run(pipe, "a <fox>")
        pipe.unload_textual_inversion("<fox>", pipe.tokenizer, pipe.text_encoder)
        assert not run(pipe, "a <fox>").equal(known)


# IP-Adapter (its pictures are checked in test_tasks.py)


@pytest.mark.slow
def test_an_ip_adapter_may_be_loaded_and_unloaded_while_applied(kind: str, tmp_path: Path) -> None:
    results = []
    for order in ("before", "after"):
        pipe = fresh(kind)
        if order == "after":
            scalecrafter.apply(pipe, recipe=Recipe.parse(DAMPED))
        folder = ip_adapter_folder(tmp_path / order, pipe.unet)
        pipe.load_ip_adapter(str(folder), subfolder="", weight_name="ip_adapter.safetensors", local_files_only=True)
        if order == "before":
            scalecrafter.apply(pipe, recipe=Recipe.parse(DAMPED))
        results.append(Task(pipe, lambda size: {"ip_adapter_image": gradient((32, 32)), **sized(size)}).run(SIZE))
        pipe.unload_ip_adapter()
        assert run(pipe).equal(without(kind))
    assert results[0].equal(results[1])
    assert relative(results[0], without(kind)) > CHANGE / 10


# FreeU


def sd15() -> Any:
    return tiny_sd_unet(cross_attention_dim=768, layers_per_block=1)


def sd21() -> Any:
    return tiny_sd_unet(cross_attention_dim=1024, layers_per_block=1)


def sdxl() -> Any:
    return tiny_sdxl_unet(layers_per_block=1)


PUBLISHED = {
    sd15: {"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    sd21: {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2},
    sdxl: {"b1": 1.1, "b2": 1.2, "s1": 0.6, "s2": 0.4},
}
"""As the public repository of ScaleCrafter has them for SD 1.5 and 2.1, and FreeU's own page for SDXL."""


@pytest.mark.parametrize("make", PUBLISHED, ids=lambda make: make.__name__)
def test_freeu_has_the_published_values_of_each_architecture_beside_re_dilation(make: Callable[[], Any]) -> None:
    unet = make()
    assert published_freeu(read_architecture(unet)).model_dump() == PUBLISHED[make]
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 24, 32, generator=generator)
    text = torch.randn(2, 7, unet.config.cross_attention_dim, generator=generator)
    extra = {}
    if make is sdxl:
        extra = {"added_cond_kwargs": {"text_embeds": torch.randn(2, 16), "time_ids": torch.randn(2, 6)}}
    recipe = Recipe.parse(DAMPED)
    with torch.no_grad():
        with scalecrafter.applied(unet, recipe=recipe):
            plain = unet(sample, 900, text, **extra).sample
        with scalecrafter.applied(unet, recipe=recipe, freeu=True):
            result = unet(sample, 900, text, **extra).sample
        unet.enable_freeu(**PUBLISHED[make])
        with scalecrafter.applied(unet, recipe=recipe):
            theirs = unet(sample, 900, text, **extra).sample
        unet.disable_freeu()
        with scalecrafter.applied(unet, recipe=recipe):
            assert unet(sample, 900, text, **extra).sample.equal(plain)
    assert relative(result, plain) > CHANGE / 100
    assert result.equal(theirs)
