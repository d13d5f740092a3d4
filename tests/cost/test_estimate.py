"""What a picture will take: from its operations before the first one here, from what was measured after it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from scalecrafter._util.sizes import ImageSize
from scalecrafter.bench.rows import counted_rows
from scalecrafter.cost.architectures import outline
from scalecrafter.cost.estimate import Cost, Estimator, in_words
from scalecrafter.generation import timings
from scalecrafter.generation.generate import Result, generate
from scalecrafter.generation.timings import CACHE, KnownPicture, known_pictures, place_of, remember
from scalecrafter.methods.steps.stopwatch import PartTime
from scalecrafter.models.loading import load_outline
from scalecrafter.request.request import Request

pytestmark = [pytest.mark.sampled, pytest.mark.usefixtures("cache")]

PROMPT = "a fox that nobody else may read of"


def ask(folder: Path, side: int = 256, steps: int = 2, **values: Any) -> Request:
    given = {"prompt": PROMPT, "model": str(folder), "width": side, "height": side, "steps": steps, "seed": 1}
    return Request.from_mapping({**given, "device": "cpu", **values})


def make(pipe: Any, request: Request) -> tuple[Result, KnownPicture]:
    result = generate(pipe, request)
    return result, known_pictures(place_of(pipe, pipe.device, torch.float32))[0]


@pytest.mark.parametrize("method", ["scalecrafter", "cascade"])
def test_before_the_first_picture_the_cost_comes_from_the_operations_that_bench_counts(
    folder: Path, method: str
) -> None:
    request = ask(folder, method=method)
    cost = Estimator().cost(request)
    assert not cost.is_measured
    assert cost.flops == counted_rows(outline(str(folder)), [(method, request)])[0]["flops"]
    assert cost.seconds is not None
    assert cost.seconds > 0
    assert "estimated from" in str(cost)


def test_a_picture_that_was_made_is_what_the_next_one_takes(pipe: Any, folder: Path) -> None:
    request = ask(folder)
    result, known = make(pipe, request)
    cost = Estimator().cost(request)
    assert cost.is_measured
    assert cost.seconds == pytest.approx(result.seconds)
    assert "from the last picture here" in str(cost)
    spent = sum(part.seconds for part in known.parts if part.kind == "denoise")
    assert 0 < spent < result.seconds
    twice = Estimator().cost(ask(folder, steps=4))
    assert twice.seconds == pytest.approx(result.seconds + spent)


def test_other_methods_and_sizes_are_estimated_from_what_was_measured(pipe: Any, folder: Path) -> None:
    make(pipe, ask(folder, method="direct"))
    estimator = Estimator()
    costs = {method: estimator.cost(ask(folder, 512, 20, method=method)) for method in ("direct", "cascade", "fast")}
    assert all(cost.is_measured for cost in costs.values())
    assert costs["direct"].seconds > costs["cascade"].seconds > costs["fast"].seconds  # type: ignore[operator]


def test_what_is_kept_holds_neither_prompt_nor_seed(pipe: Any, folder: Path, cache: Path) -> None:
    make(pipe, ask(folder, method="fast", negative="nobody", guidance=3.0))
    kept = [file.read_text() for file in cache.rglob("*.json")]
    assert len(kept) == 1
    assert "nobody" not in kept[0]
    assert "seed" not in kept[0]
    assert {part.width for part in KnownPicture.model_validate_json(kept[0]).parts} == {128, 256}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"request": {}, "parts": []}', b"[1]"], ids=range(5))
def test_a_broken_file_counts_for_nothing_and_is_replaced(pipe: Any, folder: Path, cache: Path, content: bytes) -> None:
    request, estimator = ask(folder, 128, steps=1), Estimator()
    slow(pipe, request, 1.0)
    (file,) = cache.rglob("*.json")
    file.write_bytes(content)
    assert not estimator.cost(request).is_measured
    result, _ = make(pipe, request)
    assert estimator.cost(request).seconds == pytest.approx(result.seconds)


def test_a_picture_is_made_where_nothing_can_be_kept(
    pipe: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("no folder")
    monkeypatch.setenv(CACHE, str(tmp_path / "a file" / "cache"))
    assert generate(pipe, ask(folder)).image.size == (256, 256)
    assert not Estimator().cost(ask(folder)).is_measured
    monkeypatch.delenv(CACHE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert generate(pipe, ask(folder)).image.size == (256, 256)


def slow(pipe: Any, request: Request, seconds: float, peak: int | None = None) -> None:
    size = ImageSize(request.width or 0, request.height or 0)
    parts = [PartTime("denoise", size, 0.9 * seconds), PartTime("decode", size, 0.1 * seconds)]
    remember(pipe, [request], parts, seconds, peak)


def test_the_quicker_method_is_named_where_a_picture_takes_more_than_a_minute(pipe: Any, folder: Path) -> None:
    request, estimator = ask(folder, 512, 20), Estimator()
    slow(pipe, request, 50.0)
    assert estimator.cost(request).quicker is None
    slow(pipe, request, 100.0)
    cost = estimator.cost(request)
    assert cost.quicker == "fast"
    assert 0 < (cost.seconds_of_quicker or 0) < 70
    assert ". Quicker: the method fast, about" in str(cost)
    slow(pipe, ask(folder, 512, 20, method="fast"), 100.0)
    assert estimator.cost(ask(folder, 512, 20, method="fast")).quicker is None


def test_memory_is_that_of_the_same_picture_here_or_estimated(pipe: Any, folder: Path) -> None:
    slow(pipe, ask(folder), 1.0, peak=123 << 20)
    same, other = (Estimator().cost(ask(folder, side)) for side in (256, 512))
    assert (same.memory, same.memory_is_measured) == (123 << 20, True)
    assert "1.0 s and 123 MiB of memory, from the last picture here" in str(same)
    assert not other.memory_is_measured
    assert other.memory > 1 << 29


def test_only_so_many_sizes_are_kept(pipe: Any, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings, "_MOST", 3)
    for side in (128, 192, 256, 320, 384):
        slow(pipe, ask(folder, side), 1.0)
    kept = [KnownPicture.model_validate_json(file.read_bytes()).request.width or 0 for file in cache.rglob("*.json")]
    assert sorted(kept) == [256, 320, 384]


def test_the_same_architecture_in_another_folder_is_known(pipe: Any, folder: Path, tmp_path: Path) -> None:
    make(pipe, ask(folder))
    shutil.copytree(folder, tmp_path / "fine-tuned")
    assert Estimator().cost(ask(tmp_path / "fine-tuned")).is_measured
    other = load_outline(folder)
    other.unet.register_to_config(layers_per_block=3)
    place = place_of(other, torch.device("cpu"), torch.float32)
    assert known_pictures(place) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.1 s"),
        (1.23, "1.2 s"),
        (7.6, "8 s"),
        (42.0, "40 s"),
        (100, "2 min"),
        (4800, "1 h 20 min"),
        (7200, "2 h"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_cost_without_a_usable_device_tells_its_work() -> None:
    assert (
        str(Cost(None, False, 49_222 * 10**12, 5 << 30, False)) == "49.2 PFLOP of work; 5.00 GiB of memory, estimated"
    )


def test_a_full_disk_leaves_nothing_half_written(pipe: Any, folder: Path, cache: Path) -> None:
    """The system refuses to let any file grow beyond ten bytes."""
    resource = pytest.importorskip("resource")
    slow(pipe, ask(folder), 1.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        slow(pipe, ask(folder), 2.0)
        slow(pipe, ask(folder, 128), 2.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".json"]
    assert Estimator().cost(ask(folder)).seconds == pytest.approx(1.0)


def test_several_that_write_and_remove_at_once_leave_whole_files(
    pipe: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timings, "_MOST", 3)
    place, sides = place_of(pipe, pipe.device, torch.float32), (64, 128, 192, 256, 320, 384)
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda number: slow(pipe, ask(folder, sides[number % 6]), 1.0 + number), range(60)):
            assert all(picture.seconds >= 1.0 for picture in known_pictures(place))
    slow(pipe, ask(folder, 448), 99.0)
    assert known_pictures(place)[0].seconds == 99.0
    assert len(known_pictures(place)) == 3
