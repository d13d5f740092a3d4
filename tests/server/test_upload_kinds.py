"""Every kind of picture that the shell takes arrives over HTTP as well, and an edit keeps its own size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scalecrafter.request.enlarge_source import open_source
from scalecrafter.request.request import Request
from scalecrafter.server.claims import Claims
from scalecrafter.server.jobs import Jobs
from scalecrafter.server.records import ModelFacts
from scalecrafter.server.settings import LimitError, Limits, ServerSettings
from tests.support.picture_kinds import KINDS, smooth, transparent, turned
from tests.support.running_server import Running


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    limits = Limits(pixels=200 * 200)
    jobs = Jobs(ServerSettings(data=tmp_path / "data", models={"tiny": "tiny"}, limits=limits))
    facts = ModelFacts(size_multiple=64, width=128, height=128)
    Claims(jobs.store.database, "one", 30).publish_facts(jobs.settings.model_key("tiny"), facts)
    return jobs


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_of_any_kind_is_kept_as_what_it_shows(jobs: Jobs, kind: str, tmp_path: Path) -> None:
    if kind == "heic":
        pytest.importorskip("pillow_heif")
    path, picture = KINDS[kind](tmp_path)
    job = jobs.submit(Request(prompt="a fox", model="tiny", image="upload"), files={"image": path.read_bytes()})
    kept = open_source(str(jobs.folders.upload(str(jobs.get(job).request.image)))).colours
    assert kept.size == picture.size
    difference = np.abs(np.asarray(kept, int) - np.asarray(picture.convert("RGB"), int))
    assert difference.mean() < 6  # JPEG and palettes lose a little


def test_an_edit_without_a_size_that_comes_to_too_many_pixels_is_refused_before_it_is_queued(
    jobs: Jobs, tmp_path: Path
) -> None:
    smooth(180, 200).save(tmp_path / "a.bmp")  # 192x192 would do, 180 and 200 are nearest to 192
    request = Request(prompt="a fox", model="tiny", image="upload")
    jobs.submit(request, files={"image": (tmp_path / "a.bmp").read_bytes()})
    smooth(150, 230).save(tmp_path / "b.bmp")  # 128x256
    jobs.submit(request, files={"image": (tmp_path / "b.bmp").read_bytes()})
    smooth(161, 225).save(tmp_path / "c.bmp")  # 192x256 are more than 40,000
    with pytest.raises(LimitError, match="192x256 is 49,152 pixels"):
        jobs.submit(request, files={"image": (tmp_path / "c.bmp").read_bytes()})


@pytest.mark.parametrize("size", [{}, {"size": "auto"}])
def test_an_edit_without_a_size_has_the_pictures_own_and_says_what_was_done(
    server: Running, size: dict[str, Any], tmp_path: Path
) -> None:
    path, picture = turned(tmp_path)  # 70x50 once it is upright
    data = {"prompt": "a fox", "steps": "2", "strength": "0.5", **size}
    answer = server.http.post("/v1/images/edits", data=data, files={"image": path.read_bytes()}).json()
    made = answer["data"][0]
    assert picture.size == (70, 50)
    assert (made["width"], made["height"]) == (64, 64)
    assert made["notes"] == [
        "turned it as its EXIF data says",
        "its image has 70×50 pixels: drawn at 64×64, the nearest good size",
    ]
    assert server.job(answer["job"])["pictures"][0]["notes"] == made["notes"]


def test_what_is_transparent_in_an_edited_picture_is_white(tmp_path: Path) -> None:
    path, _ = transparent(tmp_path)
    with Image.open(path) as image:
        image.putalpha(0)
        image.save(path)
    assert open_source(str(path)).on_white.getextrema() == ((255, 255),) * 3
