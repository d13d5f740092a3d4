"""Models that are not whole: refused at loading, by component and weight, whatever library the component is of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file

from scalecrafter import ModelError, load_pipeline
from scalecrafter.models.controlnets import load_controlnet
from scalecrafter.models.loading import load_outline, resolve_device
from tests.support.ldm_checkpoint import ldm_state
from tests.support.tiny_models import tiny_sd_pipeline, tiny_sdxl_pipeline

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_sd_pipeline().save_pretrained(folder / "sd")
    tiny_sdxl_pipeline().save_pretrained(folder / "sdxl")
    return folder


@pytest.fixture
def model(models: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a model that a test may damage."""
    return lambda kind: Path(shutil.copytree(models / kind, tmp_path / kind))


def without_one(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if name != last(weights)}


def with_one_more(weights: Weights) -> Weights:
    return weights | {"not.of.this.model": torch.zeros(1)}


def all_renamed(weights: Weights) -> Weights:
    return {f"x.{name}": value for name, value in weights.items()}


def one_of_another_shape(weights: Weights) -> Weights:
    return weights | {last(weights): torch.zeros(3, 5)}


def last(weights: Weights) -> str:
    return max(name for name in weights if name.endswith("weight") and not name.startswith("text_projection"))


def damage(component: Path, change: Callable[[Weights], Weights]) -> None:
    file = next(component.glob("*.safetensors"))
    weights = change(load_file(file))
    save_file({name: value.contiguous() for name, value in weights.items()}, file, metadata={"format": "pt"})


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_one, "is not whole: 1 weight is missing"),
        (with_one_more, r"1 weight is of another model \(not\.of\.this\.model\)"),
        (all_renamed, r"weights are missing \(.* and \d+ more\)"),
        (one_of_another_shape, "shape"),
    ],
)
@pytest.mark.parametrize("component", ["text_encoder", "text_encoder_2", "unet", "vae"])
def test_a_component_with_other_weights_than_its_own_is_refused(
    model: Any, component: str, change: Callable[[Weights], Weights], message: str
) -> None:
    folder = model("sdxl")
    damage(folder / component, change)
    with pytest.raises(ModelError, match=message) as raised:
        load_pipeline(folder, device="cpu")
    if change is not one_of_another_shape:
        assert f"the {component} of" in str(raised.value)


def test_weights_that_old_files_hold_beside_the_models_own_do_no_harm(model: Any) -> None:
    folder = model("sd")
    ids = {"text_model.embeddings.position_ids": torch.arange(32)[None]}
    damage(folder / "text_encoder", lambda weights: weights | ids)
    load_pipeline(folder, device="cpu")


@pytest.mark.parametrize("component", ["tokenizer", "unet", "vae", "text_encoder", "scheduler"])
def test_a_folder_without_a_component_is_refused_by_its_name(model: Any, component: str) -> None:
    folder = model("sd")
    shutil.rmtree(folder / component)
    for load in (load_pipeline, load_outline):
        with pytest.raises(ModelError, match=f"lacks the folder '{component}', which its model_index.json names"):
            load(folder)


def test_a_tokenizer_without_its_vocabulary_or_of_another_model_is_refused(model: Any) -> None:
    folder = model("sd")
    for file in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / "tokenizer" / file).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"the tokenizer of .* has no vocabulary"):
        load_pipeline(folder, device="cpu")


def test_a_tokenizer_with_more_tokens_than_its_text_encoder_is_refused(model: Any) -> None:
    folder = model("sd")
    pipe = load_pipeline(folder, device="cpu")
    pipe.tokenizer.add_tokens([f"<one-more-{number}>" for number in range(5)])
    pipe.tokenizer.save_pretrained(folder / "tokenizer")
    with pytest.raises(ModelError, match=r"the tokenizer has \d+ tokens and its text encoder knows \d+"):
        load_pipeline(folder, device="cpu")


@pytest.mark.parametrize("text", ["[]", '{"unet": 3}', "nothing", "[" * 10**5])
@pytest.mark.parametrize("load", [load_pipeline, load_outline])
def test_an_index_that_is_none_is_told(model: Any, load: Any, text: str) -> None:
    folder = model("sd")
    (folder / "model_index.json").write_text(text)
    with pytest.raises(ModelError, match=r"model_index\.json in"):
        load(folder)


@pytest.mark.slow
def test_a_checkpoint_file_that_lacks_a_weight_is_refused(model: Any, tmp_path: Path) -> None:
    folder = model("sd")
    weights = ldm_state(load_pipeline(folder, device="cpu"))
    dropped = [
        next(name for name in weights if name.startswith(start) and name.endswith("weight"))
        for start in ("model.diffusion_model.middle_block", "first_stage_model.decoder", "cond_stage_model")
    ]
    for name in dropped:
        save_file({key: value for key, value in weights.items() if key != name}, tmp_path / "file.safetensors")
        with pytest.raises(ModelError, match="cannot load"):
            load_pipeline(tmp_path / "file.safetensors", device="cpu", config=folder)


def test_a_controlnet_with_other_weights_than_its_own_is_refused(tmp_path: Path) -> None:
    unet = tiny_sd_pipeline().unet
    ControlNetModel.from_unet(unet).save_pretrained(tmp_path)
    damage(tmp_path, without_one)
    with pytest.raises(ModelError, match=r"the ControlNet .* is not whole: 1 weight is missing"):
        load_controlnet(str(tmp_path), unet, torch.float32)


def test_a_pickle_with_more_than_tensors_is_refused_without_bad_advice(model: Any, tmp_path: Path) -> None:
    class Object:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    folder = model("sd")
    file = next((folder / "text_encoder").glob("*.safetensors"))
    torch.save(load_file(file) | {"extra": Object()}, file.with_name("pytorch_model.bin"))
    file.unlink()
    with pytest.raises(ModelError, match="holds more than tensors") as raised:
        load_pipeline(folder, device="cpu", allow_pickle=True)
    assert "weights_only" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("device", ["xpu", "meta", "cuda:99", "hpu"])
def test_a_device_that_this_torch_cannot_use_is_told(device: str) -> None:
    with pytest.raises(ModelError, match="take"):
        resolve_device(device)


def test_the_index_may_name_what_is_none_of_diffusers(model: Any) -> None:
    folder = model("sd")
    index = json.loads((folder / "model_index.json").read_text())
    assert index["safety_checker"] == [None, None]
    load_pipeline(folder, device="cpu")
