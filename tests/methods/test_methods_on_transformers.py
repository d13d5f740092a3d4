"""Every method on pipelines with a transformer: it makes its picture, or is refused by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import scalecrafter
from scalecrafter import ModelError, RecipeError, Request, generate
from scalecrafter._util.sizes import GridSize
from scalecrafter.errors import ScaleCrafterError
from scalecrafter.generation.generate import generate_many
from scalecrafter.models.denoisers import read_model
from scalecrafter.ops.frequencies import low_pass
from scalecrafter.ops.packing import packed, patches, unpacked
from scalecrafter.request.methods import METHODS
from tests.support.made_once import MadeOnce
from tests.support.whole_transformers import NATIVE, WHOLE, stand_in_for_language_models

pytestmark = pytest.mark.sampled

LARGE = {"width": 192, "height": 256}
LARGER = {"width": 256, "height": 288}
"""Where FLUX.2 needs help, too: above four times its native area."""
REFUSED = {
    **{(family, method): "cannot start from a picture"
       for family in ("sana", "flux2") for method in ("cascade", "fast", "hires-fix", "hiflow")},
    ("sana", "attention-scaling"): "attention without a softmax",
}  # fmt: skip
GUIDANCE = {
    "flux": 3.5, "chroma": 5.0, "flux2": 4.0, "qwen-image": 4.0, "z-image": 5.0, "sd3": 7.0, "sana": 4.5
}  # fmt: skip
"""The defaults of diffusers' pipelines."""
METHOD_NAMES = [name for name in METHODS if "transformer" in METHODS[name].models]


@pytest.fixture(scope="module", autouse=True)
def _language_models() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        stand_in_for_language_models(patch)
        yield


@pytest.fixture(scope="module")
def pipes() -> dict[str, Any]:
    """By family, made when one is first asked for."""
    return MadeOnce(lambda family: WHOLE[family]())


@pytest.fixture(scope="module")
def direct() -> dict[str, bytes]:
    """By family, the picture of direct inference."""
    return {}


@pytest.fixture
def pipe(family: str, pipes: dict[str, Any]) -> Any:
    return pipes[family]


def ask(method: str, **values: Any) -> Request:
    return Request.from_mapping({"prompt": "a blue fox", "steps": 3, "seed": 5, "method": method} | values)


def pixels(image: Image.Image) -> Any:
    return np.asarray(image, np.int16)


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("family", WHOLE)
def test_a_method_makes_its_picture_or_is_refused_by_name(
    family: str, method: str, pipe: Any, direct: dict[str, bytes]
) -> None:
    before = set(pipe.transformer.__dict__), set(pipe.scheduler.__dict__), set(pipe.vae.__dict__)
    size = LARGER if family == "flux2" else LARGE
    request = ask(method, **size)
    if (family, method) in REFUSED:
        with pytest.raises(ScaleCrafterError) as refused:
            generate(pipe, request)
        assert REFUSED[family, method] in str(refused.value)
    else:
        made = generate(pipe, request)
        assert made.image.size == (size["width"], size["height"])
        if family == "flux":
            assert made.image.tobytes() == generate(pipe, request).image.tobytes()
        if family not in direct:
            direct[family] = generate(pipe, ask("direct", **size)).image.tobytes()
        assert (made.image.tobytes() == direct[family]) == (method == "direct")
    assert "_scalecrafter" not in pipe.transformer.__dict__
    assert "forward" not in pipe.transformer.__dict__
    assert set(pipe.scheduler.__dict__) - before[1] <= {"timesteps", "sigmas", "num_inference_steps", "_step_index"}


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_at_the_native_size_every_method_is_direct_inference(method: str, pipe: Any) -> None:
    made, direct = (generate(pipe, ask(name, width=NATIVE, height=NATIVE)).image for name in (method, "direct"))
    assert made.tobytes() == direct.tobytes()


@pytest.mark.parametrize("family", WHOLE)
def test_direct_is_the_pipelines_own_call(family: str, pipe: Any) -> None:
    made = generate(pipe, ask("direct", guidance=4, **LARGE)).image
    name = "true_cfg_scale" if family == "qwen-image" else "guidance_scale"
    extra: dict[str, Any] = {"negative_prompt": " "} if family == "qwen-image" else {}
    extra |= {"use_resolution_binning": False} if family == "sana" else {}
    extra |= {"max_sequence_length": 32} if family == "flux" else {}
    extra |= {"negative_prompt": ""} if family == "chroma" else {}
    shape = {"sd3": (1, 16, 32, 24), "sana": (1, 4, 8, 6)}.get(family, (1, 4, 32, 24))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    latents = packed(noise) if family in ("flux", "chroma", "qwen-image") else noise
    latents = patches(noise) if family == "flux2" else latents
    own = pipe(prompt="a blue fox", num_inference_steps=3, latents=latents, **{name: 4.0}, **LARGE, **extra).images[0]
    assert abs(pixels(made) - pixels(own)).max() <= 1


@pytest.mark.parametrize("family", WHOLE)
def test_a_request_that_says_no_guidance_gets_the_pipelines_own(family: str, pipe: Any) -> None:
    made = generate(pipe, ask("direct", width=NATIVE, height=NATIVE))
    assert made.request.guidance == GUIDANCE[family]


@pytest.mark.parametrize("family", ["flux", "chroma", "qwen-image", "z-image", "sd3"])
def test_an_image_and_a_mask_are_redrawn(pipe: Any, tmp_path: Any) -> None:
    picture = Image.linear_gradient("L").convert("RGB").resize((160, 144))
    picture.save(tmp_path / "a.png")
    mask = Image.new("L", picture.size)
    mask.paste(255, (0, 0, 80, 144))
    mask.save(tmp_path / "mask.png")
    given = {"image": str(tmp_path / "a.png"), "steps": 4}
    redrawn = generate(pipe, ask("direct", strength=0.5, **given)).image
    part = generate(pipe, ask("direct", strength=0.5, mask=str(tmp_path / "mask.png"), **given)).image
    assert redrawn.size == part.size == picture.size
    assert redrawn.tobytes() != part.tobytes()
    assert (pixels(part)[:, 90:] == pixels(picture)[:, 90:]).all()
    assert (pixels(part)[:, :70] != pixels(picture)[:, :70]).any()


@pytest.mark.parametrize(
    ("family", "method"),
    [("flux", method) for method in ("cascade", "fast", "upscale", "direct", "scalecrafter")]
    + [(family, "cascade") for family in ("chroma", "qwen-image", "z-image", "sd3")],
)
def test_a_picture_is_enlarged(method: str, pipe: Any) -> None:
    picture = Image.radial_gradient("L").convert("RGB").resize((130, 100))
    made = scalecrafter.enlarge(pipe, picture, 2, method=method, seed=1, steps=4, creativity=0.5)
    assert made.size == (260, 200)
    reduced = made.resize(picture.size, Image.Resampling.BOX)
    assert abs(pixels(reduced) - pixels(picture)).mean() < 40


@pytest.mark.parametrize("family", WHOLE)
def test_a_batch_is_its_pictures(family: str, pipe: Any) -> None:
    size = LARGER if family == "flux2" else LARGE
    requests = [ask("scalecrafter", prompt=prompt, seed=seed, **size) for prompt, seed in (("a", 1), ("b c", 2))]
    together = generate_many(pipe, requests)
    for made, request in zip(together, requests, strict=True):
        assert abs(pixels(made.image) - pixels(generate(pipe, request).image)).max() <= 1


def test_what_cannot_be_is_refused_by_name(pipes: dict[str, Any], tmp_path: Any) -> None:
    pipe = pipes["flux"]
    control = tmp_path / "control.png"
    Image.new("RGB", (64, 64)).save(control)
    with pytest.raises(RecipeError, match="freeu has no effect on a transformer"):
        generate(pipe, ask("scalecrafter", freeu=True))
    with pytest.raises(ModelError, match="ControlNets of transformers are not loaded by a request"):
        generate(pipe, ask("direct", controls=[{"model": "x/y", "image": str(control)}]))
    with pytest.raises(RecipeError, match="ablation 'fixed' changes a recipe for a U-Net"):
        generate(pipe, ask("scalecrafter-fixed", **LARGE))
    with pytest.raises(RecipeError, match="levels has no effect with a transformer"):
        generate(pipe, ask("cascade", cascade={"levels": 2, "until": 0.9}, **LARGE))
    with pytest.raises(RecipeError, match="attention has no effect with a transformer"):
        generate(pipe, ask("fast", fast={"attention": "windows"}, **LARGE))
    with pytest.raises(ModelError, match="scheduler 'ddim' is not for flow matching"):
        generate(pipe, ask("direct", scheduler="ddim", **LARGE))
    with pytest.raises(scalecrafter.SizeError, match="VAE factor × the transformer's patch"):
        generate(pipe, ask("direct", width=200, height=192))


def test_a_size_above_the_tables_is_told_before_anything_runs(pipes: dict[str, Any]) -> None:
    pipe = pipes["z-image"]
    with pytest.raises(ModelError, match="tables hold 32 positions along an axis, and 33 tokens are asked for"):
        generate(pipe, ask("direct", width=128, height=33 * 16))


def test_hiflow_is_refused_for_a_unet_by_name() -> None:
    from tests.support.tiny_models import tiny_sd_pipeline

    with pytest.raises(ModelError, match="the method 'hiflow' is for models with a transformer"):
        generate(tiny_sd_pipeline(layers_per_block=1, sample_size=8), ask("hiflow"))


def test_sana_with_euler_steps_is_drawn(pipes: dict[str, Any]) -> None:
    pipe = pipes["sana"]
    made = generate(pipe, ask("direct", scheduler="euler", **LARGE))
    assert made.environment["scheduler"] == "FlowMatchEulerDiscreteScheduler"
    assert type(pipe.scheduler).__name__ == "DPMSolverMultistepScheduler"


def test_windows_of_a_transformer_are_the_average_of_its_own_calls(pipes: dict[str, Any]) -> None:
    """One call, taken apart by hand."""
    from scalecrafter.patching.transformer_windows import fused_token_windows
    from tests.support.tiny_transformers import embeddings

    transformer = pipes["flux"].transformer
    ids = torch.tensor([[0.0, row, column] for row in range(12) for column in range(8)])
    call = {
        "hidden_states": embeddings(1, 96, 16), "timestep": torch.tensor([0.5]), "guidance": torch.tensor([3.5]),
        "encoder_hidden_states": embeddings(1, 5, 32), "pooled_projections": embeddings(1, 32),
        "txt_ids": torch.zeros(5, 3), "img_ids": ids, "return_dict": False,
    }  # fmt: skip
    with torch.no_grad(), fused_token_windows(pipes["flux"], transformer):
        ours = transformer(**call)[0]
    total, count = torch.zeros(12, 8, 16), torch.zeros(12, 8, 1)
    window = ids[:64]
    with torch.no_grad():
        for top in (0, 4):
            part = call["hidden_states"].view(12, 8, 16)[top : top + 8].reshape(1, 64, 16)
            made = transformer(**call | {"hidden_states": part, "img_ids": window})[0]
            total[top : top + 8] += made.view(8, 8, 16)
            count[top : top + 8] += 1
    assert (ours.view(12, 8, 16) - total / count).abs().max() < 1e-5


def test_hiflow_is_a_plain_loop(pipes: dict[str, Any]) -> None:
    """The whole method on FLUX.1 in one loop, after the paper; no recipe, so positions are the model's own."""
    pipe = pipes["flux"]
    settings = {"restart": 0.5, "alpha": 0.8, "beta": 0.4, "cutoff": 0.3}
    request = ask("hiflow", steps=4, width=256, height=256, recipe="none", guidance=3.0, hiflow=settings)
    seen: list[torch.Tensor] = []
    handle = pipe.vae.post_quant_conv.register_forward_pre_hook(lambda _module, args: seen.append(args[0].clone()))
    generate(pipe, request)
    handle.remove()
    vae = pipe.vae
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((1, 4, 16, 16), generator=generator)
    with torch.no_grad():
        embeds, pooled, text_ids = pipe.encode_prompt("a blue fox", None, max_sequence_length=32)

        def velocity(latents: torch.Tensor, sigma: float) -> torch.Tensor:
            side = latents.shape[-1] // 2
            ids = torch.tensor([[0.0, row, column] for row in range(side) for column in range(side)])
            made = pipe.transformer(
                hidden_states=packed(latents), timestep=torch.tensor([sigma]), guidance=torch.tensor([3.0]),
                pooled_projections=pooled, encoder_hidden_states=embeds, txt_ids=text_ids, img_ids=ids,
            ).sample  # fmt: skip
            return unpacked(made, GridSize(2 * side, 2 * side))

        def table(tokens: int) -> list[float]:
            mu = 0.5 + (tokens - 256) * (1.15 - 0.5) / (4096 - 256)
            raw = torch.linspace(1.0, 0.25, 4).double()
            shifted = torch.tensor(mu).double().exp() / (torch.tensor(mu).double().exp() + 1 / raw - 1)
            return [*shifted.tolist(), 0.0]

        small, latents, said = table(64), noise, []
        for sigma, following in itertools.pairwise(small):
            made = velocity(latents, sigma)
            said.append((sigma, latents - sigma * made))
            latents = latents + (following - sigma) * made
        assert (seen[0] - (latents / vae.config.scaling_factor + 0.1)).abs().max() < 1e-4

        decoded = vae.decode(latents / vae.config.scaling_factor + 0.1).sample
        picture = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
        enlarged = pipe.image_processor.preprocess(picture.resize((256, 256), Image.Resampling.LANCZOS))
        code = vae.encode(enlarged).latent_dist.sample(generator)
        code = (code - 0.1) * vae.config.scaling_factor
        large = table(256)[2:]
        fresh = torch.randn((1, 4, 32, 32), generator=generator)
        latents = large[0] * fresh + (1 - large[0]) * code
        before: Any = None
        for number, (sigma, following) in enumerate(itertools.pairwise(large)):
            fading = 1 - number / 2
            made = velocity(latents, sigma)
            clean = latents - sigma * made
            reference = min(said, key=lambda each: abs(each[0] - sigma))[1]
            reference = F.interpolate(reference, (32, 32), mode="bicubic", align_corners=False)
            clean = clean + 0.8 * fading * (low_pass(reference, 0.3) - low_pass(clean, 0.3))
            made, followed = (latents - clean) / (sigma + 1e-6), (latents - reference) / (sigma + 1e-6)
            if before is not None:
                made = made + 0.4 * fading * (before[0] + followed - before[1] - made)
            before = (made, followed)
            latents = latents + (following - sigma) * made
    assert (seen[-1] - (latents / vae.config.scaling_factor + 0.1)).abs().max() < 2e-3 * seen[-1].abs().max()


def test_a_low_pass_keeps_what_is_slow_and_half_at_its_cutoff() -> None:
    wave = torch.cos(2 * torch.pi * torch.arange(40) / 40 * 4).expand(40, 40)  # 4 of 20 possible cycles: 0.2
    assert (low_pass(wave, 0.2) - wave / 2).abs().max() < 1e-5
    assert (low_pass(wave, 0.8) - wave).abs().max() < 1e-4
    assert (low_pass(torch.ones(6, 9), 0.1) - 1).abs().max() < 1e-5
    assert low_pass(wave, 0.05).abs().max() < 1e-4


def test_the_sizes_of_a_model_are_read_from_its_parts(pipes: dict[str, Any]) -> None:
    for family in ("flux", "sd3", "sana"):
        sizes = read_model(pipes[family])
        assert sizes.native_size == (NATIVE, NATIVE)
        assert sizes.size_multiple == (32 if family == "sana" else 16)
        assert sizes.default_size == (2 * NATIVE, 2 * NATIVE)
