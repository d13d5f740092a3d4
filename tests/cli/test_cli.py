"""The commands as a user meets them: what goes to stdout, which files appear, and the exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import scalecrafter
from scalecrafter.cli import app, main
from scalecrafter.generation.picture_files import read_request, slug
from scalecrafter.request.methods import METHODS
from tests.support.copies import Copy
from tests.support.tiny_models import tiny_sd_pipeline

SRC = Path(scalecrafter.__file__).parents[1]
GOOD = '[redilation]\nuntil = 0.5\nlayers = { "mid_block" = 2 }\n'


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("cli") / "tiny"
    tiny_sd_pipeline(layers_per_block=1).save_pretrained(path)
    return str(path)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    if code:
        assert "Traceback" not in result.stderr
        assert result.stdout == ""
    return result


def make(model: str, *arguments: str, **options: Any) -> Any:
    return run("generate", "--model", model, "--steps", "2", "--size", "128x128", *arguments, **options)


def complaint(result: Any) -> str:
    """The one line that an error is."""
    lines: list[str] = result.stderr.strip().splitlines()
    assert lines[-1].startswith("scalecrafter: ")
    return lines[-1]


def test_generate_prints_the_path_and_tells_the_seed(model: str) -> None:
    result = make(model, "A blue fox, & a cat!")
    path = Path(result.stdout.strip())
    assert result.stdout == f"{path}\n"
    request = read_request(path)
    assert path.name == f"a-blue-fox-a-cat-{request.seed}.png"
    assert f"seed {request.seed}" in result.stderr
    assert os.listdir() == [path.name]


def test_generate_without_a_size_takes_twice_the_native_side(model: str) -> None:
    run("generate", "a fox", "--model", model, "--steps", "1", "-o", "a.png")
    with Image.open("a.png") as image:
        assert image.size == (256, 256)


@pytest.mark.slow
def test_generate_never_overwrites(model: str) -> None:
    names = [make(model, "a fox", "--seed", "4").stdout.strip() for _ in range(3)]
    assert names == ["a-fox-4.png", "a-fox-4-2.png", "a-fox-4-3.png"]
    named = [make(model, "a fox", "-o", "a.png").stdout.strip() for _ in range(2)]
    assert named == ["a.png", "a-2.png"]


@pytest.mark.slow
def test_generate_from_a_picture_repeats_it_to_the_bit(model: str) -> None:
    make(model, "a fox", "--guidance", "4", "--scheduler", "euler-a", "--negative", "a cat", "-o", "first.png")
    run("generate", "--from", "first.png", "-o", "again.png")
    assert Path("first.png").read_bytes() == Path("again.png").read_bytes()


def test_other_options_override_the_repeated_picture(model: str) -> None:
    make(model, "a fox", "--recipe", "none", "-o", "first.png")
    run("generate", "a cat", "--from", "first.png", "--seed", "8", "--recipe", "auto", "-o", "other.png")
    first, other = read_request("first.png"), read_request("other.png")
    assert (other.prompt, other.seed, other.recipe) == ("a cat", 8, None)
    assert other == first.changed(prompt="a cat", seed=8, recipe=None)


def test_a_prompt_file_makes_a_picture_of_each_line(model: str) -> None:
    Path("prompts.txt").write_text("a fox\na cat\n")
    result = make(model, "--prompt-file", "prompts.txt", "--seed", "1", "-o", "out")
    assert result.stdout.split() == [str(Path("out") / "a-fox-1.png"), str(Path("out") / "a-cat-1.png")]
    assert sorted(os.listdir("out")) == ["a-cat-1.png", "a-fox-1.png"]


def test_image_to_image_starts_from_the_given_picture(model: str) -> None:
    Image.new("RGB", (128, 128), "red").save("start.png")
    make(model, "a fox", "--image", "start.png", "--strength", "0.5", "-o", "a.png")
    assert read_request("a.png").image == "start.png"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a fox", "--size", "500x512"], "448 and 512"),
        (["a fox", "--size", "big"], "WIDTHxHEIGHT"),
        (["a fox", "--recipe", "sd15-1024x102"], "did you mean 'sd15-1024x1024"),
        (["a fox", "--scheduler", "eulr"], "did you mean 'euler'"),
        (["a fox", "--method", "cascad"], "did you mean 'cascade'"),
        (["a fox", "--method", "upscale", "--recipe", "sd15-1024x1024"], "a recipe has no effect"),
        (["a fox", "--method", "scalecrafter-undamped", "--size", "256x256"], "the same as scalecrafter"),
        (["a fox", "--model", "criters"], "did you mean 'critters'"),
        (["a fox", "--strength", "0.4"], "strength has no effect"),
        (["a fox", "--image", "none.png"], "cannot read the image"),
        (["a fox", "-o", "a.jpg"], "written as PNG"),
        (["a fox", "-o", "no/a.png"], "there is no folder"),
        (["a fox", "--prompt-file", "x.txt"], "not both"),
        (["--from", "none.png"], "there is no file"),
        ([], "there is no prompt"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(model: str, arguments: list[str], told: str) -> None:
    assert told in complaint(
        run("generate", *(["--model", model] if "--from" not in arguments else []), *arguments, code=2)
    )
    assert os.listdir() == []


def test_an_unknown_option_is_wrong_use() -> None:
    assert "--sead" in run("generate", "a fox", "--sead", "1", code=2).stderr


def test_nan_from_the_vae_is_a_failure_that_writes_nothing(tmp_path: Path) -> None:
    broken = tiny_sd_pipeline()
    broken.vae.decoder.conv_out.bias[0] = float("nan")
    broken.save_pretrained(tmp_path.parent / f"{tmp_path.name}-broken")
    result = make(str(tmp_path.parent / f"{tmp_path.name}-broken"), "a fox", code=1)
    assert "NaN" in complaint(result)
    assert os.listdir() == []


def test_debug_shows_where_an_error_arose() -> None:
    result = CliRunner().invoke(app, ["generate", "a fox", "--model", "criters", "--debug"])
    assert isinstance(result.exception, scalecrafter.ModelError)


@pytest.mark.slow
def test_compare_shows_both_with_the_same_seed(model: str) -> None:
    result = run("compare", "a fox", "--model", model, "--steps", "2", "--seed", "3")
    assert result.stdout == "a-fox-3-compare.png\n"
    request = read_request("a-fox-3-compare.png")
    assert (request.recipe, request.seed) == (None, 3)
    for recipe, left in (("none", 0), (None, 260)):
        options = [] if recipe is None else ["--recipe", recipe]
        run("generate", "--from", "a-fox-3-compare.png", *options, "-o", f"{left}.png")
        with Image.open("a-fox-3-compare.png") as pair, Image.open(f"{left}.png") as half:
            assert pair.size == (516, 278)
            assert pair.crop((left, 22, left + 256, 278)).tobytes() == half.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["upscale", "hires-fix", "cascade", "multidiffusion"])
def test_compare_shows_any_method_beside_direct_inference(model: str, method: str) -> None:
    run("compare", "a fox", "--model", model, "--steps", "4", "--seed", "3", "--method", method, "-o", "pair.png")
    assert read_request("pair.png").method == method
    run("generate", "--from", "pair.png", "-o", "right.png")
    run("generate", "a fox", "--model", model, "--steps", "4", "--seed", "3", "--method", "direct", "-o", "left.png")
    for name, left in (("left.png", 0), ("right.png", 260)):
        with Image.open("pair.png") as pair, Image.open(name) as half:
            assert pair.crop((left, 22, left + 256, 278)).tobytes() == half.tobytes()


@pytest.mark.parametrize("direct", [("--recipe", "none"), ("--method", "direct")])
def test_compare_with_nothing_to_compare_is_wrong_use(model: str, direct: tuple[str, str]) -> None:
    assert "another recipe" in complaint(run("compare", "a fox", "--model", model, *direct, code=2))


@pytest.mark.slow
def test_plan_prints_what_the_library_plans(model: str) -> None:
    expected = scalecrafter.plan(tiny_sd_pipeline(layers_per_block=1), height=512, width=256, num_inference_steps=7)
    plan, _, cost = run("plan", "--model", model, "--size", "256x512", "--steps", "7").stdout.partition("\n\nA picture")
    assert plan == str(expected)
    assert cost.startswith(" by scalecrafter: about ")
    assert cost.endswith(" of memory, estimated\n")
    cost = run("plan", "--model", model, "--size", "256x512", "--method", "cascade").stdout
    assert cost.startswith("A picture by cascade: about ")
    Image.new("RGB", (100, 70)).save("photo.png")
    told = run("plan", "--model", model, "--image", "photo.png", "--steps", "8", "--strength", "0.5").stdout
    assert "It starts from a picture: of 8 steps the last 4 are run.\nA picture by scalecrafter: about " in told
    told = run("plan", "--model", model, "--enlarge", "photo.png", "--scale", "2.5").stdout
    assert told.startswith("A picture by cascade: about ")
    assert "scale: no effect without --enlarge" in complaint(run("plan", "--model", model, "--scale", "3", code=2))
    assert "192 and 256" in complaint(run("plan", "--model", model, "--size", "256x250", code=2))
    assert "steps" in complaint(run("plan", "--model", model, "--steps", "0", code=2))


def test_plan_follows_recipe_and_scheduler(model: str) -> None:
    Path("my.toml").write_text(GOOD)
    text = run("plan", "--model", model, "--recipe", "my.toml", "--scheduler", "heun", "--steps", "5").stdout
    assert "256×256 pixels, 9 steps" in text
    assert "mid_block" in text
    assert "down_blocks" not in text


def test_recipes_are_listed_and_shown() -> None:
    listed = [line.split()[0] for line in run("recipes", "list").stdout.splitlines()]
    assert "sd15-2048x2048-disperse" in listed
    text = run("recipes", "show", "sdxl-2048x2048").stdout
    assert scalecrafter.Recipe.parse(text) == scalecrafter.Recipe.load("sdxl-2048x2048")


def test_recipes_check_finds_wrong_files_and_layers(model: str) -> None:
    Path("good.toml").write_text(GOOD)
    Path("typo.toml").write_text(GOOD.replace("until", "untill"))
    Path("layer.toml").write_text(GOOD.replace("mid_block", "mid_blok"))
    assert "good.toml: good" in run("recipes", "check", "good.toml", "--model", model).stdout
    assert "did you mean 'until'" in complaint(run("recipes", "check", "typo.toml", code=1))
    run("recipes", "check", "layer.toml")  # nothing to hold it against
    assert "mid_block" in complaint(run("recipes", "check", "layer.toml", "--model", model, code=1))
    assert "no file is named" in complaint(run("recipes", "check", "none.toml", code=2))


@pytest.mark.parametrize("ending", [".npz", ".mat"])
def test_disperse_writes_the_librarys_transform(ending: str) -> None:
    if ending == ".mat":
        pytest.importorskip("scipy.io")
    settings = {"kernel_size": 3, "dispersed_size": 7, "scale": 3, "eta": 0.1, "feature_size": 5}
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert run("disperse", *options, "-o", f"R{ending}").stdout == f"R{ending}\n"
    found = np.load("R.npz") if ending == ".npz" else pytest.importorskip("scipy.io").loadmat("R.mat")
    np.testing.assert_array_equal(found["R"], scalecrafter.dispersion_transform(**settings))
    assert float(np.squeeze(found["eta"])) == 0.1


def test_disperse_draws_a_heat_map_in_the_terminal_and_as_png() -> None:
    text = run("disperse").stdout
    assert text.startswith("R: 25×9, largest 1.0000")
    assert len(text.splitlines()) == 26
    pytest.importorskip("matplotlib")
    assert run("disperse", "--plot", "R.png").stdout == "R.png\n"
    with Image.open("R.png") as image:
        assert image.format == "PNG"


def test_disperse_refuses_what_cannot_be() -> None:
    assert "odd" in complaint(run("disperse", "--kernel-size", "4", code=2))
    assert ".npz or .mat" in complaint(run("disperse", "-o", "R.txt", code=2))
    assert os.listdir() == []


def test_doctor_tells_versions_device_and_sizes(model: str) -> None:
    text = run("doctor", "--model", model).stdout
    assert scalecrafter.__version__ in text
    assert "diffusers" in text
    assert "256×256" in text
    assert "estimated, not measured" in text


def test_file_names_are_short() -> None:
    assert slug("Ein größer Fuchs: / 🦊") == "ein-groer-fuchs"
    assert slug("🦊") == "picture"
    assert len(slug("fox " * 100)) <= 49


@pytest.mark.parametrize("command", ["generate", "compare"])
def test_the_methods_are_in_the_help(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert ", ".join(METHODS) in run(command, "--help").stdout


def test_the_defaults_are_in_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    page = run("generate", "--help").stdout
    for default in ("critters", "those of --image, else twice the native side", "25", "a random one, which is printed"):
        assert f"[default: {default}]" in page


# Real processes


def python(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(SRC), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def typed(*words: str) -> None:
    """The program, in a process of its own, with these words behind its name."""
    sys.argv[1:] = words
    main()


@pytest.mark.slow
def test_ctrl_c_stops_with_one_line_and_no_partial_file(model: str, tmp_path: Path) -> None:
    Path("prompts.txt").write_text("first\nsecond\n")
    process = Copy(
        tmp_path, typed, "generate", "--model", model, "--prompt-file", "prompts.txt", "--steps", "80",
        "--seed", "1", "-o", "out",
    )  # fmt: skip
    (first,) = process.printed(lines=1)  # the second picture has begun
    process.signal(signal.SIGINT)
    code, _, errors = process.ended()
    assert code == 1
    assert errors.strip().splitlines()[-1] == "scalecrafter: stopped"
    assert [str(Path("out") / name) for name in os.listdir("out")] == [first]


def test_help_needs_neither_torch_nor_diffusers() -> None:
    process = python("-c", "import sys, scalecrafter.cli; print({'torch', 'diffusers'} & set(sys.modules))")
    assert process.communicate(timeout=300)[0] == "set()\n"


@pytest.mark.slow
def test_a_method_of_two_passes_is_as_quiet_as_one(model: str) -> None:
    """diffusers' image-to-image imports every pipeline that there is, and some of them complain."""
    process = python(
        "-m", "scalecrafter", "generate", "a fox", "--model", model, "--steps", "2", "--seed", "1", "--method",
        "hires-fix", "--size", "512x512", "-o", "out.png",
    )  # fmt: skip
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0
    assert errors.startswith("picture: seed 1"), errors
    assert len(errors.splitlines()) == 1


def test_enlarge_names_the_picture_by_its_size_and_generate_repeats_it(model: str) -> None:
    Image.linear_gradient("L").resize((70, 50)).convert("RGB").save("photo.jpg")
    result = run("enlarge", "photo.jpg", "--model", model, "--steps", "2", "--scale", "1.5", "--creativity", "0.5")
    assert result.stdout == "photo-105x75.png\n"
    run("generate", "--from", "photo-105x75.png", "-o", "again.png")
    with Image.open("photo-105x75.png") as first, Image.open("again.png") as again:
        assert first.size == (105, 75)
        assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing.jpg"], "cannot read the image 'nothing.jpg'"),
        (["photo.jpg", "--scale", "9"], "enlarge.scale is 9.0: input should be less than or equal to 8"),
        (["photo.jpg", "--size", "100x100"], "ask for 100x71"),
        (["photo.jpg", "--method", "hires-fix"], "these do: scalecrafter"),
        (["photo.jpg", "-o", "big.gif"], "let 'big.gif' end in .png"),
    ],
)
def test_what_cannot_be_enlarged_is_refused_before_the_model_is_loaded(arguments: list[str], told: str) -> None:
    Image.linear_gradient("L").resize((70, 50)).save("photo.jpg")
    assert told in complaint(run("enlarge", *arguments, code=2))
