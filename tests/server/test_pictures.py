"""Pictures as files: other formats, smaller ones, previews, and what a job started from."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from scalecrafter.server.conversions import converted
from tests.support.running_server import Running, eventually


def opened(content: bytes) -> Image.Image:
    image = Image.open(BytesIO(content))
    image.load()
    return image


def text_of(field: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(field)).decode()


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_a_picture_is_had_in_three_formats_and_smaller(server: Running) -> None:
    picture = server.finished(server.submit(seed=3)["id"])["pictures"][0]
    address = picture["url"].removesuffix(".png")
    whole = opened(server.http.get(f"{address}.png").content)
    for ending, kind in (("jpg", "JPEG"), ("webp", "WEBP")):
        answer = server.http.get(f"{address}.{ending}")
        image = opened(answer.content)
        assert (image.format, image.size) == (kind, (128, 128))
        assert answer.headers["content-type"] == f"image/{kind.lower()}"
        comment = image.getexif().get_ifd(0x8769)[0x9286]
        settings = comment.removeprefix(b"UNICODE\0").decode("utf-16-be")
        assert settings == whole.info["parameters"]
    small = opened(server.http.get(f"{address}.webp", params={"side": 32}).content)
    assert (small.format, small.size) == ("WEBP", (32, 32))
    rough, fine = (len(server.http.get(f"{address}.jpg", params={"quality": q}).content) for q in (20, 95))
    assert rough < fine
    assert server.http.get(f"{address}.gif").status_code == 404
    assert server.http.get(f"{address}.png", params={"side": 3}).status_code == 422


def test_a_preview_has_an_address_while_its_picture_is_made(server: Running) -> None:
    job = server.submit(steps=8, size="256x256")["id"]
    address = f"/v1/jobs/{job}/pictures/0/preview"

    def shown() -> bytes | None:
        answer = server.http.get(address)
        return answer.content if answer.status_code == 200 else None

    assert opened(eventually(shown)).format == "JPEG"
    server.finished(job)
    assert server.http.get(address).status_code == 404
    assert server.http.get(f"/v1/jobs/{job}/pictures/7/preview").status_code == 404


def test_what_a_job_started_from_can_be_had_again(server: Running) -> None:
    image, mask = Image.new("RGB", (128, 128), "red"), Image.new("L", (128, 128), 255)
    job = server.submit(image=text_of(image), mask=text_of(mask))["id"]
    assert server.http.get(f"/v1/jobs/{job}/inputs/image").content == png(image)
    assert server.http.get(f"/v1/jobs/{job}/inputs/mask").content == png(mask)
    assert server.http.get(f"/v1/jobs/{job}/inputs/recipe").status_code == 422
    other = server.submit()["id"]
    assert server.http.get(f"/v1/jobs/{other}/inputs/image").status_code == 404
    server.finished(other)


def test_a_job_enlarges_a_picture(server: Running) -> None:
    image = text_of(Image.new("RGB", (100, 60), "red"))
    body = {"image": image, "enlarge": {"scale": 1.5, "creativity": 0.1}, "steps": 1}
    job = server.http.post("/v1/jobs", json=body).json()
    made = server.finished(job["id"])
    assert made["status"] == "done", made
    assert (made["pictures"][0]["width"], made["pictures"][0]["height"]) == (150, 90)
    alone = server.http.post("/v1/jobs", json={"prompt": "a fox", "scale": 2})
    assert alone.status_code == 400
    assert "there is no setting 'scale'" in alone.json()["error"]["message"]
    refused = server.http.post("/v1/jobs", json={"enlarge": 2})
    assert refused.status_code == 400
    assert "no picture to enlarge" in refused.json()["error"]["message"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_every_mode_is_converted_and_keeps_its_profile(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "one.png"
    Image.new(mode, (40, 20), 0).save(path, icc_profile=b"profile")
    for ending in ("jpg", "jpeg", "webp", "png"):
        image = opened(converted(path, ending, side=20))
        assert image.size == (20, 10)
        assert image.info["icc_profile"] == b"profile"
    if mode != "RGB":
        assert opened(converted(path, "jpg")).convert("L").getextrema() == (255, 255)
        assert opened(converted(path, "webp")).mode == "RGBA"
