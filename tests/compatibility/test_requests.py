"""Image, mask and control images in a request and at a shell: what they do, and that pictures repeat from files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionInpaintPipeline, UNet2DModel
from PIL import Image, ImageOps
from safetensors.torch import save_file
from typer.testing import CliRunner

from scalecrafter import ModelError, ScaleCrafterError
from scalecrafter.cli import app
from scalecrafter.generation.generate import Result, generate
from scalecrafter.generation.picture_files import read_request, save_picture
from scalecrafter.request.control import parse_control
from scalecrafter.request.request import Request, RequestError
from tests.support.adapters import controlnet_folder
from tests.support.tasks import base, gradient, of_class

pytestmark = pytest.mark.sampled

KINDS = ("sd", "sdxl")
SIZE = {"width": 192, "height": 128}
RECIPE = '[redilation]\nuntil = 0.7\nlayers = { "mid_block" = 2 }\n[noise_damping]\nuntil = 0.7\nlayers = {}\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image, a mask (its lower half white, with grey between), a control image, and ControlNets."""
    path = tmp_path_factory.mktemp("inputs")
    gradient((300, 200)).save(path / "image.png")
    mask = Image.new("L", (150, 100))
    mask.paste(255, (0, 50, 150, 100))
    mask.paste(128, (0, 44, 150, 50))
    mask.save(path / "mask.png")
    gradient((256, 256), 90).save(path / "edges.png")
    for kind in KINDS:
        controlnet_folder(path / kind, base(kind).unet)
    return path


def ask(folder: Path, *inputs: str, **values: Any) -> Request:
    """A request with some of the inputs: image, mask, and the kind of a ControlNet."""
    said: dict[str, Any] = {"prompt": "a blue fox", "steps": 3, "seed": 5, "recipe": RECIPE, **SIZE}
    for name in inputs:
        if name in KINDS:
            said["controls"] = [{"model": str(folder / name), "image": str(folder / "edges.png")}]
        else:
            said[name] = str(folder / f"{name}.png")
    return Request.from_mapping(said | values)


@functools.cache
def made(folder: Path, kind: str, *inputs: str) -> Result:
    return generate(base(kind), ask(folder, *inputs))


def pixels(result: Result) -> Any:
    return np.asarray(result.image)


COMBINATIONS = [(), ("image",), ("image", "mask"), ("control",), ("image", "control"), ("image", "mask", "control")]


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inputs", COMBINATIONS, ids=lambda inputs: "+".join(inputs) or "text")
def test_every_combination_is_made_re_dilated_and_repeats_from_its_file(
    folder: Path, kind: str, inputs: tuple[str, ...], tmp_path: Path
) -> None:
    told = tuple(kind if name == "control" else name for name in inputs)
    result = made(folder, kind, *told)
    assert result.image.size == (192, 128)
    path = save_picture(result, tmp_path / "a.png")
    again = generate(base(kind), read_request(path))
    assert save_picture(again, tmp_path / "b.png").read_bytes() == path.read_bytes()
    direct = generate(base(kind), result.request.directly())
    assert direct.image.tobytes() != result.image.tobytes()
    for fewer in range(len(told)):
        assert result.image.tobytes() != made(folder, kind, *told[:fewer]).image.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_direct_inference_with_a_controlnet_is_the_pipelines_own_picture_to_the_bit(folder: Path, kind: str) -> None:
    controls = [{"model": str(folder / kind), "image": str(folder / "edges.png"), "scale": 0.5}]
    ours = generate(base(kind), ask(folder, recipe="none", controls=controls))
    net = ControlNetModel.from_pretrained(folder / kind, local_files_only=True)
    theirs = of_class(kind, "ControlNetPipeline", controlnet=net)(
        "a blue fox", num_inference_steps=3, guidance_scale=2.0, generator=torch.Generator().manual_seed(5), **SIZE,
        image=ImageOps.fit(gradient((256, 256), 90), (192, 128), Image.Resampling.LANCZOS),
        controlnet_conditioning_scale=0.5,
    ).images[0]  # fmt: skip
    assert ours.image.tobytes() == theirs.tobytes()


def test_freeu_in_a_request_has_the_values_of_the_models_architecture(folder: Path) -> None:
    plain, ours = made(folder, "sdxl"), generate(base("sdxl"), ask(folder, freeu=True))
    with_values = f"{RECIPE}[freeu]\nb1 = 1.1\nb2 = 1.2\ns1 = 0.6\ns2 = 0.4\n"
    assert ours.image.tobytes() == generate(base("sdxl"), ask(folder, recipe=with_values)).image.tobytes()
    assert ours.image.tobytes() != plain.image.tobytes()
    with pytest.raises(ScaleCrafterError, match="needs published factors"):
        generate(base("sd"), ask(folder, freeu=True))


# Masks


def test_outside_of_the_mask_the_picture_is_the_given_image_to_the_bit(folder: Path) -> None:
    result = pixels(made(folder, "sd", "image", "mask"))
    given = np.asarray(ImageOps.fit(gradient((300, 200)), (192, 128), Image.Resampling.LANCZOS))
    assert (result[:54] == given[:54]).all()
    assert (result[66:] != given[66:]).mean() > 0.9


def test_with_a_mask_all_is_drawn_anew_unless_a_strength_is_given(folder: Path) -> None:
    request = made(folder, "sd", "image", "mask").request
    assert request.strength_or_default == 1.0
    weaker = generate(base("sd"), request.changed(strength=0.4))
    given = pixels(generate(base("sd"), ask(folder, "image", strength=0.4)))
    strong, weak = (
        np.abs(pixels(one)[66:].astype(int) - given[66:]).mean()
        for one in (made(folder, "sd", "image", "mask"), weaker)
    )
    assert weak < strong


@pytest.mark.parametrize("method", ["direct", "attention-scaling", "multidiffusion", "scalecrafter-undamped"])
def test_every_method_that_takes_an_image_takes_a_mask(folder: Path, method: str) -> None:
    recipe = RECIPE if method.startswith("scalecrafter") else None
    result = pixels(generate(base("sd"), ask(folder, "image", "mask", method=method, recipe=recipe)))
    ours = pixels(made(folder, "sd", "image", "mask"))
    assert (result[:54] == ours[:54]).all()
    assert (result[66:] != ours[66:]).any()


@pytest.mark.parametrize("method", ["attention-scaling", "scalecrafter-undamped"])
def test_other_methods_of_one_pass_follow_controls_too(folder: Path, method: str) -> None:
    settings = {"method": method, "recipe": RECIPE if method.startswith("scalecrafter") else None}
    with_control, without = (generate(base("sd"), ask(folder, *told, **settings)) for told in (("sd",), ()))
    assert with_control.image.tobytes() != without.image.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_an_inpainting_model_of_nine_channels_takes_a_mask_and_wants_one(folder: Path, kind: str) -> None:
    pipe = of_class(kind, "InpaintPipeline", in_channels=9)
    result = generate(pipe, ask(folder, "image", "mask"))
    assert (pixels(result)[:54] == pixels(made(folder, kind, "image", "mask"))[:54]).all()
    assert result.image.tobytes() != made(folder, kind, "image", "mask").image.tobytes()
    assert generate(pipe, ask(folder, "image", "mask", kind)).image.tobytes() != result.image.tobytes()
    for inputs in ((), ("image",)):
        with pytest.raises(RequestError, match="is an inpainting model: give it an image and a mask"):
            generate(pipe, ask(folder, *inputs))


def test_a_model_for_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="takes 8 channels where text to image takes 4"):
        generate(base("sd", 8), ask(folder))


def test_a_mask_that_does_not_fit_or_would_do_nothing_is_refused(folder: Path, tmp_path: Path) -> None:
    Image.new("L", (100, 100), 255).save(tmp_path / "square.png")
    Image.new("L", (150, 100), 100).save(tmp_path / "dark.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, told in (
        ("square", r"100×100 and the image .* 300×200: a mask lies on its image"),
        ("dark", "has no white and no transparent part: nothing would be redrawn"),
        ("text", "cannot read the mask"),
        ("none", "cannot read the mask"),
    ):
        with pytest.raises(RequestError, match=told):
            generate(base("sd"), ask(folder, "image", mask=str(tmp_path / f"{name}.png")))


def test_the_transparent_part_of_a_mask_is_redrawn(folder: Path, tmp_path: Path) -> None:
    with Image.open(folder / "mask.png") as mask:
        picture = Image.new("RGB", mask.size, "white")
        picture.putalpha(ImageOps.invert(mask))
    picture.save(tmp_path / "transparent.png")
    result = generate(base("sd"), ask(folder, "image", mask=str(tmp_path / "transparent.png")))
    assert result.image.tobytes() == made(folder, "sd", "image", "mask").image.tobytes()


# Controls


def test_several_controlnets_count_with_their_own_weights(folder: Path, tmp_path: Path) -> None:
    other = str(controlnet_folder(tmp_path / "other", base("sd").unet, seed=44))
    first = {"model": str(folder / "sd"), "image": str(folder / "edges.png")}
    second = {"model": other, "image": str(folder / "image.png")}

    def with_scales(*scales: float) -> bytes:
        controls = [control | {"scale": scale} for control, scale in zip((first, second), scales)]
        return generate(base("sd"), ask(folder, controls=controls)).image.tobytes()

    assert len({with_scales(*scales) for scales in ((0.7,), (0.7, 0.2), (0.2, 0.7))}) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_controlnet_in_a_single_file_is_that_of_its_folder(folder: Path, kind: str, tmp_path: Path) -> None:
    net = ControlNetModel.from_unet(base(kind).unet)  # of the usual width, which a file does not tell
    net.save_pretrained(tmp_path / "folder")
    save_file(net.state_dict(), tmp_path / "file.safetensors")
    pictures = [
        generate(
            base(kind), ask(folder, controls=[{"model": str(tmp_path / name), "image": str(folder / "edges.png")}])
        )
        for name in ("folder", "file.safetensors")
    ]
    assert pictures[0].image.tobytes() == pictures[1].image.tobytes()


def test_the_controlnets_of_the_last_picture_are_not_opened_again(folder: Path, tmp_path: Path) -> None:
    net = controlnet_folder(tmp_path / "net", base("sd").unet)
    request = ask(folder, controls=[{"model": str(net), "image": str(folder / "edges.png")}])
    first = generate(base("sd"), request)
    (net / "config.json").unlink()
    assert generate(base("sd"), request).image.tobytes() == first.image.tobytes()
    generate(base("sd"), ask(folder, "sd"))
    with pytest.raises(ModelError, match=r"has no config\.json"):
        generate(base("sd"), request)


def test_what_is_no_controlnet_for_this_model_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    UNet2DModel(
        block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",)
    ).save_pretrained(tmp_path / "unet")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    torch.save({}, tmp_path / "net.bin")
    for model, told in (
        (str(folder / "sdxl"), r"made for another kind of model: its block_out_channels is .*16, 24, 32"),
        (str(tmp_path / "empty"), "has no config.json"),
        (str(tmp_path / "unet"), "holds a model of the class UNet2DModel"),
        (str(tmp_path / "other.safetensors"), "cannot load the ControlNet"),
        (str(tmp_path / "net.bin"), "is a pickle"),
        (str(tmp_path / "none"), "there is no ControlNet"),
        ("cany", "there is no ControlNet 'cany'"),
    ):
        with pytest.raises(ModelError, match=told):
            generate(base("sd"), ask(folder, controls=[{"model": model, "image": str(folder / "edges.png")}]))


# Requests


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"mask": "m.png"}, "a mask has no effect without an image"),
        ({"image": "a.png", "mask": "m.png", "method": "cascade"}, "leave the image out"),
        ({"image": "a.png", "mask_sha256": "0" * 64}, "mask_sha256 has no meaning"),
        ({"controls": [{"model": "m", "image": "a.png"}], "method": "hires-fix"}, "follows no control image; these do"),
        (
            {"controls": [{"model": "m", "image": "a.png"}], "method": "multidiffusion"},
            "these do: scalecrafter, attention-scaling, direct",
        ),
        ({"controls": [{"model": "m", "image": "a.png", "scale": 0}]}, r"controls\.0\.scale is 0"),
        (
            {"controls": [{"model": "m", "image": "a.png", "weight": 1}]},
            r"no setting 'controls\.0\.weight'; known: model",
        ),
        ({"controls": [{"model": "m"}]}, r"controls\.0\.image"),
        ({"controls": [{"model": "m", "image": "a.png"}] * 9}, "controls"),
    ],
)
def test_a_request_that_cannot_be_is_refused_in_words(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        Request.from_mapping({"prompt": "a fox", **values})


@pytest.mark.parametrize("what", ["image", "mask", "control image"])
def test_a_picture_that_has_changed_since_is_refused_until_it_is_named_anew(
    folder: Path, tmp_path: Path, what: str
) -> None:
    for name in ("image", "mask", "edges"):
        (tmp_path / f"{name}.png").write_bytes((folder / f"{name}.png").read_bytes())
    controls = [{"model": str(folder / "sd"), "image": str(tmp_path / "edges.png")}]
    request = generate(base("sd"), ask(tmp_path, "image", "mask", controls=controls)).request
    changed = tmp_path / {"image": "image.png", "mask": "mask.png", "control image": "edges.png"}[what]
    ImageOps.invert(Image.open(changed)).save(changed)
    with pytest.raises(RequestError, match=f"the {what} .* has changed since"):
        generate(base("sd"), request)
    anew = {"controls": controls} if what == "control image" else {what: str(changed)}
    assert generate(base("sd"), request.changed(**anew)).request != request
    changed.unlink()
    with pytest.raises(RequestError, match=f"cannot read the {what}"):
        generate(base("sd"), request)


@pytest.mark.parametrize(
    ("text", "model", "image", "scale"),
    [
        ("owner/net=edges.png", "owner/net", "edges.png", 1.0),
        ("owner/net=edges.png@0.8", "owner/net", "edges.png", 0.8),
        ("net.safetensors=a=b@2x.png", "net.safetensors", "a=b@2x.png", 1.0),
        ("./net = edges@2x.png@.5", "./net", "edges@2x.png", 0.5),
    ],
)
def test_a_control_is_read(text: str, model: str, image: str, scale: float) -> None:
    assert parse_control(text) == {"model": model, "image": image, "scale": scale}


# At a shell


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "tiny"
    base("sd").save_pretrained(path)
    return str(path)


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def test_image_mask_and_controls_at_a_shell(model: str, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--model", model, "--steps", "2", "--size", "192x128", "--seed", "3"]
    inputs = ["--image", str(folder / "image.png"), "--mask", str(folder / "mask.png")]
    controls = ["--control", f"{folder / 'sd'}={folder / 'edges.png'}@0.6"]
    controls += ["--control", f"{folder / 'sd'}={folder / 'image.png'}"]
    run("generate", "a fox", *options, *inputs, *controls, "-o", "a.png")
    request = read_request("a.png")
    assert [control.scale for control in request.controls] == [0.6, 1.0]
    assert request.mask_sha256
    with Image.open("a.png") as picture:
        assert 'ControlNet 0: "Module: none, Model: sd, Weight: 0.6"' in picture.text["parameters"]
    run("generate", "--from", "a.png", "-o", "b.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    run("generate", "--from", "a.png", "--control", f"{folder / 'sd'}={folder / 'edges.png'}", "-o", "c.png")
    assert len(read_request("c.png").controls) == 1
    run("compare", "a fox", *options, *controls[:2], "-o", "d.png")


def test_an_inpainting_model_from_a_folder_at_a_shell(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    pipe: StableDiffusionInpaintPipeline = of_class("sd", "InpaintPipeline", in_channels=9)
    pipe.save_pretrained("inpainting")
    options = ["--model", "inpainting", "--steps", "2", "--size", "192x128"]
    run("generate", "a fox", *options, "--image", str(folder / "image.png"), "--mask", str(folder / "mask.png"))
    refused = run("generate", "a fox", *options, code=2)
    assert "is an inpainting model" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--mask", "m.png"], "a mask has no effect without an image"),
        (["--control", "edges.png"], "--control is MODEL=IMAGE"),
        (["--control", "net=edges.png@-1"], "controls.0.scale"),
        (["--control", "./net=edges.png"], "cannot read the control image"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(model: str, arguments: list[str], told: str) -> None:
    result = run("generate", "a fox", "--model", model, "--steps", "1", "--size", "64x64", *arguments, code=2)
    assert told in result.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_ones_own_picture_is_enlarged_four_times_with_a_tiled_encode(
    model: str, monkeypatch: Any, tmp_path: Path
) -> None:
    """`--vae-memory` bounds encoding too, and the picture is the same within a rounding of its last bit."""
    monkeypatch.chdir(tmp_path)
    gradient((128, 128)).save("small.png")
    encoded: list[tuple[int, ...]] = []
    conv2d = torch.nn.functional.conv2d

    def seen(features: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        if features.shape[1] == 3:  # pixels: the encoder's first convolution
            encoded.append(tuple(features.shape[-2:]))
        return conv2d(features, *arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", seen)
    said = ["--model", model, "--image", "small.png", "--strength", "0.5", "--size", "512x512", "--steps", "2"]
    said += ["--seed", "1", "--recipe", "none", "--guidance", "1"]
    run("generate", "a fox", *said, "--vae-memory", "off", "-o", "whole.png")
    assert encoded == [(512, 512)]
    encoded.clear()
    run("generate", "a fox", *said, "--vae-memory", "6MiB", "-o", "tiled.png")
    assert len(encoded) > 1
    assert all(height < 512 or width < 512 for height, width in encoded), encoded
    with Image.open("whole.png") as whole, Image.open("tiled.png") as tiled:
        assert whole.size == tiled.size == (512, 512)
        assert np.abs(np.asarray(whole).astype(int) - np.asarray(tiled)).max() <= 1
