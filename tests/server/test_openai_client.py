"""The `openai` package, unchanged, against a real server; and the pictures are those of the command line."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import openai
import pytest
from PIL import Image
from typer.testing import CliRunner

from scalecrafter.cli import app
from scalecrafter.generation.generate import generate
from scalecrafter.generation.picture_files import read_request
from scalecrafter.models.loading import load_pipeline
from scalecrafter.request.request import Request
from tests.support.running_server import Running


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none needed", max_retries=0, timeout=300) as client:
        yield client


def pixels(data: bytes | str) -> np.ndarray:
    raw = base64.b64decode(data) if isinstance(data, str) else data
    with Image.open(BytesIO(raw)) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def photo(size: tuple[int, int] = (140, 130), kind: str = "PNG") -> bytes:
    random = np.random.default_rng(3)
    small = Image.fromarray(random.integers(0, 255, (5, 5, 3), dtype=np.uint8))
    file = BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


def test_generate_gives_the_pictures_that_the_library_makes(client: openai.OpenAI, tiny: Path) -> None:
    own = {"steps": 2, "seed": 11, "negative": "blur", "guidance": 5, "method": "direct", "scheduler": "euler"}
    answer = client.images.generate(model="tiny", prompt="a blue fox", n=2, size="128x192", extra_body=own)
    assert answer.data is not None
    assert len(answer.data) == 2
    pipe = load_pipeline(tiny)
    for picture, seed in zip(answer.data, (11, 12), strict=True):
        request = Request(prompt="a blue fox", model="tiny", width=128, height=192, **{**own, "seed": seed})
        assert picture.b64_json is not None
        np.testing.assert_array_equal(pixels(picture.b64_json), np.asarray(generate(pipe, request).image))


def test_a_picture_is_to_the_byte_the_file_of_the_command_line(client: openai.OpenAI, tmp_path: Path) -> None:
    options = ["--size", "256x256", "--steps", "2", "--seed", "5", "--recipe", "none", "-o", str(tmp_path / "a.png")]
    made = CliRunner().invoke(app, ["generate", "a blue fox", *options])
    assert made.exit_code == 0, made.output
    own = {"steps": 2, "seed": 5, "recipe": "none"}
    answer = client.images.generate(
        model="critters", prompt="a blue fox", size="256x256", response_format="b64_json", extra_body=own
    )
    assert answer.data is not None
    assert base64.b64decode(answer.data[0].b64_json or "") == (tmp_path / "a.png").read_bytes()


def test_urls_lead_to_pictures_that_carry_their_request(client: openai.OpenAI, server: Running, tmp_path: Path) -> None:
    answer = client.images.generate(
        prompt="a fox", size="128x128", response_format="url", extra_body={"steps": 1, "seed": 3}
    )
    assert answer.data is not None
    assert answer.data[0].b64_json is None
    url = answer.data[0].url
    assert url is not None
    assert url.startswith(f"{server.url}/v1/files/")
    got = server.http.get(url)
    assert got.headers["content-type"] == "image/png"
    (tmp_path / "a.png").write_bytes(got.content)
    request = read_request(tmp_path / "a.png")
    assert (request.prompt, request.seed, request.width, request.model) == ("a fox", 3, 128, "tiny")


def test_without_a_size_a_picture_has_twice_the_native_side(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="a fox", extra_body={"steps": 1})
    assert answer.data is not None
    assert pixels(answer.data[0].b64_json or "").shape == (256, 256, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_edit_starts_from_the_uploaded_picture(client: openai.OpenAI, tiny: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "photo").write_bytes(photo(kind=kind))
    own = {"steps": 4, "seed": 3, "strength": 0.5}
    answer = client.images.edit(
        image=open(tmp_path / "photo", "rb"),  # noqa: SIM115 - as the package's own examples have it
        prompt="a fox", size="128x128", response_format="url", extra_body=own,
    )  # fmt: skip
    assert answer.data is not None
    url = answer.data[0].url or ""
    request = Request(prompt="a fox", model="tiny", width=128, height=128, image=str(tmp_path / "photo"), **own)
    with openai.DefaultHttpxClient() as http:
        got = http.get(url).content
    np.testing.assert_array_equal(pixels(got), np.asarray(generate(load_pipeline(tiny), request).image))
    (tmp_path / "a.png").write_bytes(got)
    message = read_request(tmp_path / "a.png")
    assert (
        message.image == f"{message.image_sha256}.{kind.lower().replace('jpeg', 'jpg')}"
    )  # and not where the server has it


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"not a picture", "image cannot be read"),
        (photo()[:300], "image cannot be read"),
        (photo(kind="PPM"), "image cannot be read"),
        (photo((513, 512), "JPEG"), "513x512 pixels"),
    ],
)
def test_what_is_no_picture_to_start_from_is_refused(client: openai.OpenAI, image: bytes, message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        client.images.edit(image=("a.png", image), prompt="a fox", size="128x128", extra_body={"steps": 4})


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "critters"]
    assert client.models.retrieve("critters").id == "critters"
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("nope/model")
    assert raised.value.code == "model_not_found"


def test_a_model_that_is_not_served_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'critters'") as raised:
        client.images.generate(model="criters", prompt="a fox")
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("own", "message", "param"),
    [
        ({"steps": 0}, "steps is 0: input should be greater than or equal to 1", "steps"),
        ({"steps": 9}, "steps is 9: this server runs at most 8", "steps"),
        ({"size": "100x128"}, "width 100 is not a multiple of 64", "size"),
        ({"size": "1024x1024"}, "1,048,576 pixels: this server makes at most 262,144", "size"),
        ({"n": 11}, "n is 11: this server makes 1 to 10", "n"),
        ({"prompt": " "}, "the prompt is empty: say what the picture should show", "prompt"),
        ({"prompt": "x" * 4001}, "prompt has 4001 characters", "prompt"),
        ({"recipe": "sd15-1024x102"}, "did you mean", None),
        ({"recipe": "/etc/passwd"}, "no shipped recipe is named", None),
        ({"recipe": "[redilation]\nuntil = 2\n"}, "until is 2", None),
        ({"stepz": 3}, "there is no setting 'stepz'; did you mean 'steps'?", "stepz"),
    ],
)
def test_errors_have_openais_shape_and_the_command_lines_words(
    client: openai.OpenAI, own: dict[str, object], message: str, param: str | None
) -> None:
    body: dict[str, object] = {"steps": 1, **own}
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.generate(prompt="a fox", extra_body=body)
    error = raised.value
    assert message in str(error)
    assert (error.status_code, error.type, error.param) == (400, "invalid_request_error", param)


def test_what_only_the_model_can_tell_is_an_error_of_the_same_kind(client: openai.OpenAI) -> None:
    recipe = '[redilation]\nuntil = 0.5\nlayers = { "down_blocks.9" = 2 }\n'
    with pytest.raises(openai.BadRequestError, match=r"down_blocks\.9"):
        client.images.generate(prompt="a fox", size="128x128", extra_body={"steps": 1, "recipe": recipe})
