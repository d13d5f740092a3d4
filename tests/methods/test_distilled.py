"""A distilled LoRA for one picture: it acts, with its own scheduler and few unguided steps, and nothing of it stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from scalecrafter import ModelError, Request, generate
from scalecrafter._util.sizes import GridSize
from scalecrafter.methods.steps.distilled import kind_in, place_of, steps_in
from scalecrafter.request.request import RequestError
from scalecrafter.server.jobs import without_files
from tests.support.adapters import lora_file
from tests.support.small_pipeline import small_pipeline
from tests.support.tiny_models import tiny_sd_unet
from tests.support.unet_state import assert_untouched, attributes


@pytest.fixture(scope="module")
def pipe() -> Any:
    return small_pipeline()


@pytest.fixture(scope="module")
def lora(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lora_file(tmp_path_factory.mktemp("lora") / "tiny-lcm-lora.safetensors", pipe.unet, linear=True)


def ask(side: int = 256, **settings: Any) -> Request:
    asked = {"prompt": "a fox", "steps": 25, "seed": 1, "width": side, "height": side, "method": "fast"}
    return Request.from_mapping(asked | {"fast": {"most_steps": 2} | settings})


class Watch:
    """The scheduler, and the batch and timesteps of every U-Net call of a picture."""

    def __init__(self, pipe: Any) -> None:
        self.calls: list[tuple[int, int, float]] = []
        self._pipe = pipe

    def see(self, _unet: Any, args: tuple[Any, ...], _kwargs: Any) -> None:
        sample, timestep = args[0], args[1]
        self.calls.append((sample.shape[0], sample.shape[-1], float(timestep)))

    def __enter__(self) -> Watch:
        self._handle = self._pipe.unet.register_forward_pre_hook(self.see, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


def test_a_picture_with_a_lora_leaves_nothing_behind(pipe: Any, lora: Path) -> None:
    before, text, scheduler = attributes(pipe.unet), attributes(pipe.text_encoder), pipe.scheduler
    plain = generate(pipe, ask()).image.tobytes()
    made = generate(pipe, ask(lora=str(lora))).image.tobytes()
    assert made != plain
    assert generate(pipe, ask()).image.tobytes() == plain
    assert generate(pipe, ask(lora=str(lora))).image.tobytes() == made
    assert pipe.scheduler is scheduler
    assert_untouched(before, pipe.unet)
    assert_untouched(text, pipe.text_encoder)
    assert pipe.get_list_adapters() == {}


def test_it_is_the_lora_that_diffusers_loads(pipe: Any, lora: Path) -> None:
    """At the native size: the pipeline's own call with the LoRA and LCMScheduler, without guidance."""
    from diffusers import LCMScheduler

    from scalecrafter.methods.steps.denoising import draw_noise

    made = generate(pipe, ask(128, lora=str(lora))).image
    own = StableDiffusionPipeline(**pipe.components)
    own.set_progress_bar_config(disable=True)
    own.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    generator = torch.Generator().manual_seed(1)
    noise = draw_noise(pipe, GridSize(16, 16), generator)
    own.load_lora_weights(str(lora))
    try:
        whole = own(
            "a fox", num_inference_steps=4, guidance_scale=1.0, latents=noise, generator=generator, output_type="pil"
        )
    finally:
        own.unload_lora_weights()
        vars(pipe.unet).pop("_hf_peft_config_loaded", None)
    assert made.tobytes() == whole.images[0].tobytes()


@pytest.mark.parametrize(
    ("name", "steps", "first"),
    [("a-lcm-lora", 4, 999), ("sdxl_lightning_2step_lora", 2, 999), ("Hyper-SD15-8steps-lora", 8, 999)],
)
def test_the_name_says_steps_and_schedule(pipe: Any, tmp_path: Path, name: str, steps: int, first: int) -> None:
    file = lora_file(tmp_path / f"{name}.safetensors", pipe.unet)
    with Watch(pipe) as watch:
        generate(pipe, ask(192, lora=str(file)))
    native = [call for call in watch.calls if call[1] == watch.calls[0][1]]
    stage = watch.calls[len(native) :]
    assert len(native) == steps
    assert {batch for batch, _, _ in watch.calls} == {1}
    assert native[0][2] == first  # "trailing" begins at the last entry, where DDIM's table ("leading") does not
    assert len(stage) == 1
    assert stage[0][2] < 60  # one step at the end of the trajectory, not a quarter of it


def test_a_named_scheduler_and_number_of_steps_go_before_the_lora(pipe: Any, lora: Path) -> None:
    with Watch(pipe) as watch:
        made = generate(pipe, ask(128, lora=str(lora), lora_steps=3).changed(scheduler="ddim"))
    assert len(watch.calls) == 3
    assert made.environment["scheduler"] == "DDIMScheduler"


def test_after_an_exception_nothing_of_it_is_left(pipe: Any, lora: Path) -> None:
    before, plain = attributes(pipe.unet), generate(pipe, ask()).image.tobytes()

    def stop(done: int, _steps: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(pipe, ask(lora=str(lora)), stop)
    assert_untouched(before, pipe.unet)
    assert generate(pipe, ask()).image.tobytes() == plain


def test_a_lora_that_cannot_be_used_is_refused_and_leaves_nothing(pipe: Any, lora: Path, tmp_path: Path) -> None:
    before, plain = attributes(pipe.unet), generate(pipe, ask()).image.tobytes()
    other = lora_file(tmp_path / "lcm-of-another.safetensors", tiny_sd_unet(block_out_channels=(8, 8, 8, 8)))
    none = tmp_path / "lcm-none.safetensors"
    none.write_bytes(b"no weights")
    nothing = tmp_path / "lcm-nothing.safetensors"
    save_file({"something.weight": torch.zeros(2, 2)}, nothing)
    for file in (other, none, nothing):
        with pytest.raises(ModelError, match="LoRA"):
            generate(pipe, ask(lora=str(file)))
        assert_untouched(before, pipe.unet)
    with pytest.raises(ModelError, match="there is no LoRA"):
        generate(pipe, ask(lora=str(tmp_path / "lcm-missing.safetensors")))
    pipe.load_lora_weights(str(lora), adapter_name="mine")
    with pytest.raises(ModelError, match="has LoRAs already \\(mine\\)"):
        generate(pipe, ask(lora=str(lora)))
    assert pipe.get_list_adapters() == {"unet": ["mine"]}
    pipe.unload_lora_weights()
    vars(pipe.unet).pop("_hf_peft_config_loaded", None)
    assert generate(pipe, ask()).image.tobytes() == plain


def test_a_picture_is_enlarged_with_it(pipe: Any, lora: Path) -> None:
    from PIL import Image

    import scalecrafter

    picture = Image.radial_gradient("L").convert("RGB").resize((130, 100))
    with Watch(pipe) as watch:
        made = scalecrafter.enlarge(
            pipe, picture, 2, method="fast", creativity=0.5, seed=1, settings={"lora": str(lora)}
        )
    assert made.size == (260, 200)
    assert [batch for batch, _, _ in watch.calls] == [1, 1]  # half of four steps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora": "some/thing"}, "give lora_kind"),
        ({"lora_kind": "lcm"}, "lora_kind has no effect without a lora"),
        ({"lora_steps": 4}, "lora_steps has no effect without a lora"),
        ({"lora": "x/lcm", "lora_steps": 0}, "greater than or equal to 1"),
    ],
    ids=range(4),
)
def test_what_makes_no_sense_is_refused_before_a_model_is_loaded(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        ask(**settings)


def test_a_negative_prompt_has_no_effect_with_it() -> None:
    with pytest.raises(RequestError, match="runs without guidance"):
        ask(lora="x/lcm").changed(negative="text")


def test_a_client_of_a_server_names_none() -> None:
    with pytest.raises(RequestError, match=r"fast\.lora is for the one who runs this server"):
        without_files(ask(lora="latent-consistency/lcm-lora-sdv1-5"))
    assert without_files(ask(attention="full")) == ask(attention="full")


def test_names_are_read() -> None:
    published = {
        "latent-consistency/lcm-lora-sdxl": ("lcm", None),
        "ByteDance/SDXL-Lightning:sdxl_lightning_4step_lora.safetensors": ("lightning", 4),
        "ByteDance/Hyper-SD:Hyper-SDXL-8steps-lora.safetensors": ("hyper", 8),
        "someone/lora-1234": (None, None),
    }
    assert {name: (kind_in(name), steps_in(name)) for name in published} == published
    assert place_of("ByteDance/Hyper-SD:Hyper-SDXL-8steps-lora.safetensors") == (
        "ByteDance/Hyper-SD", "Hyper-SDXL-8steps-lora.safetensors",
    )  # fmt: skip
