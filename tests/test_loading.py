"""Opening models: every kind of source, and an error that helps for every wrong one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scalecrafter import ModelError, load_pipeline
from scalecrafter.models.loading import load_outline, locate, resolve_device, resolve_dtype
from tests.support.tiny_models import tiny_sd_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loading") / "tiny"
    tiny_sd_pipeline().save_pretrained(path)
    return path


def test_a_folder_loads_with_its_weights_in_float32_on_the_cpu(folder: Path) -> None:
    pipe = load_pipeline(folder, device="cpu")
    expected = tiny_sd_pipeline().unet.state_dict()
    assert pipe.dtype is torch.float32
    assert all(torch.equal(value, expected[name]) for name, value in pipe.unet.state_dict().items())


def test_dtypes_are_taken_by_short_name_and_as_torch_dtypes(folder: Path) -> None:
    assert load_pipeline(folder, dtype="bf16", device="cpu").unet.dtype is torch.bfloat16
    assert load_pipeline(str(folder), dtype=torch.float16, device="cpu").vae.dtype is torch.float16


def test_the_default_dtype_follows_the_device() -> None:
    assert resolve_dtype(None, torch.device("cuda")) is torch.float16
    assert resolve_dtype(None, torch.device("cpu")) is torch.float32
    with pytest.raises(ModelError, match="fp32, fp16 or bf16"):
        resolve_dtype("fp8", torch.device("cpu"))


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match="there is no device 'gpu'"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no CUDA device"):
            resolve_device("cuda")


def test_weights_that_exist_only_as_fp16_variant_are_found(tmp_path: Path) -> None:
    tiny_sd_pipeline().to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    assert load_pipeline(tmp_path / "half", device="cpu").unet.dtype is torch.float32


def test_loading_needs_no_progress_bars(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_pipeline(folder, device="cpu")
    assert capfd.readouterr() == ("", "")


def test_a_misspelt_embedded_name_gets_the_near_one() -> None:
    with pytest.raises(ModelError, match="did you mean 'critters'"):
        load_pipeline("criters")


@pytest.mark.parametrize("name", ["./nothing", "/no/such/model.safetensors", "models/model.ckpt", "nothing-like-it"])
def test_a_missing_path_is_told_and_never_asked_of_the_hub(name: str) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        load_pipeline(name)


def test_owner_and_name_are_a_hub_id() -> None:
    assert locate("owner/some-model-1.5") == ("hub", "owner/some-model-1.5")


def test_a_folder_without_model_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model_index\.json"):
        load_pipeline(tmp_path)


def test_a_pickle_is_refused_unless_asked_for_and_never_runs_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"model.diffusion_model.x": torch.zeros(1)}, "extra": Evil()}, path)
    with pytest.raises(ModelError, match="is a pickle"):
        load_pipeline(path)
    with pytest.raises(ModelError, match="cannot be read as weights only"):
        load_pipeline(path, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_pickles_is_refused_unless_asked_for(tmp_path: Path) -> None:
    pipe = tiny_sd_pipeline()
    pipe.save_pretrained(tmp_path / "old", safe_serialization=False)
    text_encoder = tmp_path / "old" / "text_encoder" / "model.safetensors"
    if text_encoder.exists():  # transformers 5 writes nothing else
        torch.save(pipe.text_encoder.state_dict(), text_encoder.with_name("pytorch_model.bin"))
        text_encoder.unlink()
    with pytest.raises(ModelError, match="allow_pickle=True"):
        load_pipeline(tmp_path / "old")
    loaded = load_pipeline(tmp_path / "old", allow_pickle=True, device="cpu")
    assert torch.equal(loaded.unet.conv_in.weight, pipe.unet.conv_in.weight)


def test_a_single_file_that_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    save_file({"lora_unet_down.weight": torch.zeros(2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match="but a LoRA"):
        load_pipeline(tmp_path / "lora.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ModelError, match="not a safetensors file, or is cut short"):
        load_pipeline(tmp_path / "cut.safetensors")
    (tmp_path / "model.zip").write_bytes(b"")
    with pytest.raises(ModelError, match="is no model"):
        load_pipeline(tmp_path / "model.zip")


def test_a_damaged_folder_is_told(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot load the model in"):
        load_pipeline(tmp_path / "damaged")


def test_an_outline_has_the_unets_layers_without_its_weights(folder: Path) -> None:
    outline = load_outline(folder)
    assert [name for name, _ in outline.unet.named_modules()] == [
        name for name, _ in tiny_sd_pipeline().unet.named_modules()
    ]
    assert {parameter.device.type for parameter in outline.unet.parameters()} == {"meta"}
    assert outline.vae_scale_factor == 8


def test_an_outline_of_a_model_without_unet_is_told(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "transformer")
    shutil.rmtree(tmp_path / "transformer" / "unet")
    index = tmp_path / "transformer" / "model_index.json"
    content = json.loads(index.read_text())
    del content["unet"]
    index.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="needs a U-Net or a diffusion transformer"):
        load_outline(tmp_path / "transformer")
