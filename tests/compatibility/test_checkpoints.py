"""Checkpoints as people have them: single files, folders in halves and shards, and what is wrong with some."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from typer.testing import CliRunner

import scalecrafter
from scalecrafter import ModelError, load_pipeline
from scalecrafter.models.checkpoint_config import checkpoint_family, unet_configuration
from scalecrafter.models.embedded import embedded_folder
from scalecrafter.unet.families import FAMILIES
from tests.support import tiny_architectures as tiny
from tests.support.ldm_checkpoint import ldm_state, unet_state, with_prefix
from tests.support.reference_in_pipelines import relative_difference
from tests.support.tiny_models import MAX_LENGTH, sd15_unet_meta, sd21_unet_meta, sdxl_unet_meta, tiny_tokenizer

pytestmark = pytest.mark.sampled

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def seeded(build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().requires_grad_(False).eval()


def text_encoder(kind: type, width: int, layers: int, activation: str) -> Any:
    return seeded(
        lambda: kind(
            CLIPTextConfig(
                vocab_size=len(tiny_tokenizer()), hidden_size=width, intermediate_size=2 * width, projection_dim=width,
                num_hidden_layers=layers, num_attention_heads=width // 64, max_position_embeddings=MAX_LENGTH,
                hidden_act=activation, bos_token_id=0, eos_token_id=2, pad_token_id=1,
            )
        )
    )  # fmt: skip


def vae(**config: Any) -> Any:
    return seeded(
        lambda: diffusers.AutoencoderKL(
            block_out_channels=(32,) * 4, layers_per_block=1, latent_channels=4, norm_num_groups=32,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **config,
        )
    )  # fmt: skip


def unet(**config: Any) -> Any:
    settings: dict[str, Any] = {
        "block_out_channels": (32, 32, 64, 64), "layers_per_block": 1, "cross_attention_dim": 64,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    }  # fmt: skip
    return seeded(lambda: diffusers.UNet2DConditionModel(**(settings | config)))


def stable_diffusion(**parts: Any) -> Any:
    return tiny.quiet(
        diffusers.StableDiffusionPipeline(
            vae=vae(scaling_factor=0.18215, force_upcast=False), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False, **parts,
        )
    )  # fmt: skip


def sd1() -> Any:
    return stable_diffusion(
        text_encoder=text_encoder(CLIPTextModel, 64, 2, "quick_gelu"),
        tokenizer=tiny_tokenizer(),
        unet=unet(sample_size=64, attention_head_dim=8),
        scheduler=diffusers.PNDMScheduler(**SCHEDULE, skip_prk_steps=True, set_alpha_to_one=False),
    )


def sd2() -> Any:
    """23 layers of the 24 that the file has, as the published one."""
    return stable_diffusion(
        text_encoder=text_encoder(CLIPTextModel, 64, 23, "gelu"),
        tokenizer=tiny_tokenizer(pad_token="!"),
        unet=unet(
            sample_size=96, attention_head_dim=(1, 1, 1, 1), use_linear_projection=True, upcast_attention=True
        ),
        scheduler=diffusers.DDIMScheduler(
            **SCHEDULE, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False
        ),
    )  # fmt: skip


def sdxl() -> Any:
    return tiny.quiet(
        diffusers.StableDiffusionXLPipeline(
            vae=vae(scaling_factor=0.13025, force_upcast=True),
            text_encoder=text_encoder(CLIPTextModel, 64, 2, "quick_gelu"),
            text_encoder_2=text_encoder(CLIPTextModelWithProjection, 128, 11, "gelu"),
            tokenizer=tiny_tokenizer(),
            tokenizer_2=tiny_tokenizer(pad_token="!"),
            unet=unet(
                sample_size=128, block_out_channels=(32, 32, 64), attention_head_dim=(1, 1, 1),
                transformer_layers_per_block=(1, 1, 2), use_linear_projection=True, cross_attention_dim=192,
                addition_embed_type="text_time", addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=6 * 8 + 128,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            ),
            scheduler=diffusers.EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading"),
            add_watermarker=False,
        )
    )  # fmt: skip


PIPELINES = {"sd1": sd1, "sd2": sd2, "sdxl": sdxl}


def picture(pipe: Any) -> torch.Tensor:
    return pipe(
        "a red fox", negative_prompt="dull", height=64, width=64, num_inference_steps=2, guidance_scale=5.0,
        generator=torch.Generator().manual_seed(0), output_type="pt",
    ).images  # fmt: skip


def assert_same(pipe: Any, files: Files) -> None:
    """The same weights to the bit, and so the same picture; its last digits follow how tensors lie in memory."""
    for name, component in files.pipe.components.items():
        if isinstance(component, torch.nn.Module):
            theirs, ours = component.state_dict(), getattr(pipe, name).state_dict()
            assert theirs.keys() == ours.keys()
            assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
    assert relative_difference(picture(pipe), files.expected) < 1e-5


class Files:
    """One pipeline as a diffusers folder, as a single file, and as a vocabulary alone."""

    def __init__(self, family: str, place: Path) -> None:
        self.pipe = PIPELINES[family]()
        self.folder, self.file, self.pickle = place / "folder", place / "model.safetensors", place / "model.ckpt"
        self.vocabulary = place / "vocabulary"
        self.pipe.save_pretrained(self.folder)
        self.pipe.tokenizer.save_pretrained(self.vocabulary)
        save_file(ldm_state(self.pipe), self.file)
        self.expected = picture(tiny.quiet(load_pipeline(self.folder, device="cpu")))


@pytest.fixture(scope="module", params=PIPELINES)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files("sd1", tmp_path_factory.mktemp("one"))


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty hub cache, and no network to fill it from."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "cache"), raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("no_hub")
def test_a_single_file_makes_the_picture_of_its_folder(files: Files) -> None:
    """With the folder as its configuration, and with nothing but the vocabulary."""
    for config in (files.folder, str(files.vocabulary), files.folder / "tokenizer"):
        pipe = load_pipeline(files.file, device="cpu", config=config)
        assert type(pipe) is type(files.pipe)
        assert_same(pipe, files)


@pytest.mark.usefixtures("no_hub")
def test_a_single_file_is_as_large_as_its_folder_says_and_takes_the_same_recipe(files: Files) -> None:
    plans = [
        str(scalecrafter.plan(load_pipeline(source, device="cpu", config=config), 2048, 2048))
        for source, config in ((files.folder, None), (files.file, files.vocabulary))
    ]
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("family", "meta"), [("sd15", sd15_unet_meta), ("sd21", lambda: sd21_unet_meta(96)), ("sdxl", sdxl_unet_meta)]
)
def test_the_published_unets_are_read_from_their_shapes(family: str, meta: Callable[[], Any]) -> None:
    """Real widths and depths, on the meta device: the configuration read builds the same modules."""
    published = meta()
    shapes = {n: tuple(t.shape) for n, t in with_prefix("model.diffusion_model.", unet_state(published)).items()}
    shapes["conditioner.embedders.1.model.text_projection"] = (1280, 1280)
    read = unet_configuration(shapes, FAMILIES[family].checkpoint)
    assert read["sample_size"] == published.config.sample_size
    with torch.device("meta"):
        ours = diffusers.UNet2DConditionModel.from_config(read)
    assert {n: t.shape for n, t in ours.state_dict().items()} == {n: t.shape for n, t in published.state_dict().items()}
    heads = [m.heads for m in published.modules() if hasattr(m, "heads")]
    assert [m.heads for m in ours.modules() if hasattr(m, "heads")] == heads


@pytest.mark.usefixtures("no_hub")
def test_what_a_single_file_needs_is_said_where_it_is_not_to_be_had(one: Files, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot load .*model\.safetensors.*--config.*CLIP's vocabulary"):
        load_pipeline(one.file, device="cpu")
    with pytest.raises(ModelError, match=r"holds neither model_index\.json nor a vocabulary.*--config"):
        load_pipeline(one.file, device="cpu", config=tmp_path)
    with pytest.raises(ModelError, match="is no folder"):
        load_pipeline(one.file, device="cpu", config="./nothing")
    with pytest.raises(ModelError, match="config is for a single file"):
        load_pipeline(one.folder, device="cpu", config=one.folder)


@pytest.mark.usefixtures("no_hub")
def test_a_vocabulary_of_another_model_is_told(one: Files) -> None:
    critters = embedded_folder("critters")
    with pytest.raises(ModelError, match=r"vocabulary in .* has \d+ tokens, and the text encoder in the file knows"):
        load_pipeline(one.file, device="cpu", config=critters / "tokenizer")


def test_a_checkpoint_of_another_family_is_told() -> None:
    with pytest.raises(ModelError, match="none of Stable Diffusion 1, 2 and XL"):
        checkpoint_family({"model.diffusion_model.joint_blocks.0.weight": (1,)})


@pytest.mark.usefixtures("no_hub")
def test_a_unet_of_another_build_is_told(one: Files, tmp_path: Path) -> None:
    state = ldm_state(one.pipe) | {"model.diffusion_model.extra.weight": torch.zeros(3)}
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"its U-Net has \d+ parameters, and one of the shapes that are known"):
        load_pipeline(tmp_path / "other.safetensors", device="cpu", config=one.vocabulary)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_is_read_only_when_asked_for_and_makes_the_same_picture(one: Files, wrapped: bool) -> None:
    state = ldm_state(one.pipe)
    torch.save({"state_dict": state, "global_step": 7} if wrapped else state, one.pickle)
    with pytest.raises(ModelError, match=r"is a pickle.*--allow-pickle"):
        load_pipeline(one.pickle, device="cpu", config=one.folder)
    pipe = load_pipeline(one.pickle, device="cpu", config=one.folder, allow_pickle=True)
    assert_same(pipe, one)


class Evil:
    """Makes a folder when it is unpickled, if it is."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.slow
def test_a_malicious_pickle_never_runs(one: Files, tmp_path: Path) -> None:
    """As a single file, and as a folder's .bin, asked for or not, in Python and on the command line."""
    mark = tmp_path / "ran"
    file, folder = tmp_path / "evil.ckpt", tmp_path / "folder"
    torch.save(ldm_state(one.pipe) | {"evil": Evil(mark)}, file)
    shutil.copytree(one.folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    torch.save(one.pipe.unet.state_dict() | {"evil": Evil(mark)}, weights.with_suffix(".bin"))
    for source, config in ((file, one.folder), (folder, None)):
        for allowed in (False, True):
            with pytest.raises(ModelError):
                load_pipeline(source, device="cpu", config=config, allow_pickle=allowed)
    for options in ([], ["--allow-pickle"]):
        run = command("generate", "a fox", "--model", file, "--config", one.folder, *options, "-o", tmp_path)
        assert run.exit_code == 2
        assert ("cannot be read as weights only" if options else "is a pickle") in run.output
    assert not mark.exists()
    with pytest.raises(Exception, match=r"ran|Weights only"):
        torch.load(file, weights_only=True)
    torch.load(file, weights_only=False)
    assert mark.exists()  # it would have


def command(*arguments: object) -> Any:
    from scalecrafter.cli import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_line_takes_a_single_file_a_pickle_and_its_configuration(one: Files, tmp_path: Path) -> None:
    torch.save(ldm_state(one.pipe), one.pickle)
    common = ("--config", one.vocabulary, "--size", "64x64", "--steps", "1", "--seed", "1", "--recipe", "none")
    for file, options in ((one.file, []), (one.pickle, ["--allow-pickle"])):
        run = command("generate", "a fox", "--model", file, *common, *options, "-o", tmp_path / f"{file.name}.png")
        assert run.exit_code == 0, run.output
    planned = command("plan", "--model", one.file, "--config", one.vocabulary, "--size", "1024x1024")
    assert planned.exit_code == 0, planned.output
    assert "native 512×512" in planned.output


@pytest.mark.parametrize("source", ["folder", "file"])
def test_a_truncated_file_is_told_with_its_size(one: Files, tmp_path: Path, source: str) -> None:
    if source == "folder":
        shutil.copytree(one.folder, tmp_path / "folder")
        model, cut = tmp_path / "folder", tmp_path / "folder" / "unet" / "diffusion_pytorch_model.safetensors"
    else:
        model = cut = Path(shutil.copy(one.file, tmp_path / "model.safetensors"))
    whole = cut.stat().st_size
    os.truncate(cut, whole // 2)
    with pytest.raises(ModelError, match=rf"{cut.name}' is .*cut short: it has {whole // 2} of {whole} bytes: fetch"):
        load_pipeline(model, device="cpu", config=one.folder if source == "file" else None)


def test_halves_and_shards_make_the_picture_of_the_whole(one: Files, tmp_path: Path) -> None:
    one.pipe.unet.save_pretrained(tmp_path / "unet", max_shard_size="200KB")
    shutil.copytree(one.folder, tmp_path / "sharded")
    shutil.rmtree(tmp_path / "sharded" / "unet")
    shutil.move(tmp_path / "unet", tmp_path / "sharded" / "unet")
    shards = list((tmp_path / "sharded" / "unet").glob("*.safetensors"))
    assert len(shards) > 2
    assert_same(load_pipeline(tmp_path / "sharded", device="cpu"), one)

    half = load_pipeline(one.folder, device="cpu", dtype="fp16")
    half.save_pretrained(tmp_path / "half", variant="fp16")
    names = {file.name for file in (tmp_path / "half").glob("*/*.safetensors")}
    assert all(".fp16." in name for name in names)
    pipe = load_pipeline(tmp_path / "half", device="cpu")
    weights = pipe.unet.state_dict()
    assert all(torch.equal(weights[name], tensor.float()) for name, tensor in half.unet.state_dict().items())


def test_plan_reads_folders_whose_autoencoder_has_another_name_or_that_have_none(tmp_path: Path) -> None:
    for name, pipe, native in (("movq", tiny.kandinsky22(), 64), ("pixels", tiny.ddpm(), 8)):
        pipe.save_pretrained(tmp_path / name)
        run = command("plan", "--model", tmp_path / name, "--size", f"{2 * native}x{2 * native}")
        assert run.exit_code == 0, run.output
        assert f"native {native}×{native}" in run.output
        index = json.loads((tmp_path / name / "model_index.json").read_text())
        assert "vae" not in index
