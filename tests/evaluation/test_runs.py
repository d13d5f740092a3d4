"""Runs that are stopped in every way: no finished picture is lost, none is made twice, nothing is mixed."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scalecrafter.errors import ScaleCrafterError, SizeError
from scalecrafter.evaluation.inspection import make_inspector
from scalecrafter.evaluation.rows import read_parquet, write_parquet
from scalecrafter.evaluation.runs import agree_on_inspector, check, weights_digest
from scalecrafter.evaluation.settings import Choice
from scalecrafter.evaluation.store import RUN, RunFolder
from scalecrafter.generation import peak_memory
from scalecrafter.generation.picture_files import read_request
from scalecrafter.request.request import RequestError
from tests.support.copies import Copy
from tests.support.disc_observer import DiscObserver, disc_inspector, uncounted
from tests.support.small_evaluation import DIRECT, PROMPTS, alone, run, small_settings
from tests.support.tiny_models import tiny_sd_pipeline

pytestmark = pytest.mark.sampled


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every picture: its bytes, and when it was written."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.png")
    }


def start(folder: Path, pictures: int, **options: Any) -> Copy:
    return Copy(folder.parent, partial(alone, **options), folder, pictures, torch.get_num_threads())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(folder)
    return folder


def test_every_picture_has_its_file_its_row_and_its_request(finished: Path) -> None:
    rows = RunFolder(finished).rows()
    assert sorted(row.file for row in rows) == [
        "pictures/128x128/native/0000.png", "pictures/128x128/native/0001.png",
        "pictures/256x128/direct/0000.png", "pictures/256x128/direct/0001.png",
        "pictures/256x128/upscale/0000.png", "pictures/256x128/upscale/0001.png",
    ]  # fmt: skip
    for row in rows:
        request = read_request(finished / row.file)
        assert (request.prompt, request.seed, request.steps) == (PROMPTS[row.index].text, row.seed, 2)
        assert row.request_sha256 == request.digest()
        assert row.expected == PROMPTS[row.index].expected
        assert row.seconds is not None
        assert row.seconds > 0
        with Image.open(finished / row.file) as picture:
            assert picture.size == (row.width, row.height)
            assert row.metrics == disc_inspector().inspect(picture)


def test_a_finished_run_makes_nothing_again(finished: Path) -> None:
    before = snapshot(finished)
    notes = run(finished)
    assert (notes.begun, notes.made) == ([(6, 6)], [])
    assert snapshot(finished) == before


def test_more_pictures_sizes_and_methods_are_added_to_what_is_there(tmp_path: Path) -> None:
    run(tmp_path, small_settings(choices=(DIRECT,)))
    before = snapshot(tmp_path)
    notes = run(tmp_path, small_settings(pictures=3, sizes=((256, 128), (128, 256))))
    assert notes.begun == [(4, 14)]
    after = snapshot(tmp_path)
    assert len(after) == 14
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_and_is_as_if_it_had_not_been_stopped(tmp_path: Path, how: signal.Signals) -> None:
    process = start(tmp_path / "stopped", pictures=30)
    process.printed(lines=7)
    process.signal(how)
    told = process.ended()[1].splitlines()
    before = snapshot(tmp_path / "stopped")
    assert len(told) <= len(before) <= len(told) + 1 < 60  # one may have been safe but not yet told of

    settings = small_settings(pictures=6, native_pictures=0)
    notes = run(tmp_path / "stopped", settings)
    after = snapshot(tmp_path / "stopped")
    assert {name: after[name] for name in before} == before
    assert len(notes.made) == len(after) - len(before)
    assert not list((tmp_path / "stopped").rglob("*.part"))
    run(tmp_path / "whole", settings)
    whole = snapshot(tmp_path / "whole")
    for name, (content, _) in whole.items():
        assert after[name][0] == content


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_the_picture_counts_as_not_made(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: rows fit, pictures do not."""
    code, _, errors = start(tmp_path / "full", 2, largest_file=40_000).ended()
    assert code == 1
    assert "cannot write" in errors
    assert not list((tmp_path / "full").rglob("*.png"))
    assert not list((tmp_path / "full").rglob("*.part"))
    assert RunFolder(tmp_path / "full").rows() == []
    notes = run(tmp_path / "full", small_settings(native_pictures=0))
    assert len(notes.made) == 4


def test_a_picture_that_was_deleted_is_made_again_and_is_the_same(tmp_path: Path) -> None:
    run(tmp_path)
    before = snapshot(tmp_path)
    name = "pictures/256x128/upscale/0001.png"
    (tmp_path / name).unlink()
    assert len(RunFolder(tmp_path).rows()) == 5
    assert run(tmp_path).made == [("upscale", (256, 128), 1)]
    assert snapshot(tmp_path)[name][0] == before[name][0]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"base": small_settings().base.changed(steps=3)}, "steps was 2 and now is 3"),
        ({"base": small_settings().base.changed(seed=1)}, "seed was 0 and now is 1"),
        ({"base": small_settings().base.changed(guidance=3.0)}, "guidance"),
        ({"prompts": PROMPTS[:1]}, "prompts"),
        ({"choices": (Choice("direct", {"method": "direct", "steps": 9}),)}, "the method direct"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(finished: Path, changed: dict[str, Any], told: str) -> None:
    before = snapshot(finished)
    with pytest.raises(RequestError, match=told):
        run(finished, small_settings(**changed))
    assert snapshot(finished) == before


def test_another_model_of_the_same_name_is_refused(finished: Path) -> None:
    with pytest.raises(RequestError, match="weights"):
        run(finished, pipe=tiny_sd_pipeline(seed=9))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(RequestError, match="something else"):
        run(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_one_changed_weight_is_noticed() -> None:
    pipe = tiny_sd_pipeline()
    before = weights_digest(pipe)
    assert weights_digest(tiny_sd_pipeline()) == before
    pipe.vae.decoder.conv_out.bias[0] += 1e-3
    assert weights_digest(pipe) != before


def test_another_number_for_a_token_is_noticed() -> None:
    pipe = tiny_sd_pipeline()
    before = weights_digest(pipe)
    pipe.tokenizer.add_tokens(["wombat"])
    assert weights_digest(pipe) != before


def test_pictures_that_another_examiner_looked_at_are_looked_at_again(tmp_path: Path) -> None:
    run(tmp_path, inspector=make_inspector("none", observe=False))
    store = RunFolder(tmp_path)
    assert all(row.metrics.animals is None for row in store.rows())
    before = snapshot(tmp_path)
    assert run(tmp_path, inspector=disc_inspector()).made == []
    assert all(row.metrics.animals is not None for row in store.rows())
    assert snapshot(tmp_path) == before


def test_looking_again_is_left_out_unless_the_examiner_changed_or_it_is_asked_for(finished: Path) -> None:
    store = RunFolder(finished)
    told: list[int] = []
    agree_on_inspector(store, disc_inspector(), lambda seen, _: told.append(seen), again=False)
    assert told == []
    agree_on_inspector(store, disc_inspector(), lambda seen, _: told.append(seen), again=True)
    assert told == [1, 2, 3, 4, 5, 6]


def test_what_another_examiner_saw_is_not_joined_and_own_pictures_count_before_joined_ones(tmp_path: Path) -> None:
    run(tmp_path / "one")
    store = RunFolder(tmp_path / "one")
    rows = [row.model_copy(update={"seconds": 1e6}) for row in store.rows()]
    metadata = {RUN: json.dumps(store.manifest | {"commands": ["another"], "machines": ["fast"]})}
    write_parquet(
        [*rows, rows[0].model_copy(update={"file": "pictures/256x128/direct/0009.png"})], tmp_path / "p", metadata
    )
    with pytest.raises(RequestError, match="another observer saw"):
        store.join(tmp_path / "p", make_inspector("none", observe=False).signature())
    assert len(store.rows()) == 6
    store.join(tmp_path / "p", disc_inspector().signature())
    assert [row.file for row in store.rows() if row.seconds == 1e6] == ["pictures/256x128/direct/0009.png"]
    assert store.manifest["commands"] == ["another", "scalecrafter eval"]
    assert store.manifest["machines"] == ["fast", "unknown"]
    write_parquet(rows, tmp_path / "q")
    with pytest.raises(RequestError, match="does not say how"):
        store.join(tmp_path / "q", disc_inspector().signature())


def test_a_picture_that_cannot_be_made_names_its_cell(tmp_path: Path) -> None:
    pipe = tiny_sd_pipeline()
    pipe.vae.decoder.conv_out.bias[0] = float("nan")
    with pytest.raises(ScaleCrafterError, match="native at 128×128, picture 0"):
        run(tmp_path, pipe=pipe)


def test_an_impossible_size_is_refused_before_any_work() -> None:
    with pytest.raises(SizeError):
        check(tiny_sd_pipeline(), small_settings(sizes=((250, 128),)))


def test_damaged_rows_and_pictures_are_named_with_the_remedy(tmp_path: Path) -> None:
    run(tmp_path, small_settings(native_pictures=0))
    picture = tmp_path / "pictures/256x128/direct/0000.png"
    picture.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(ScaleCrafterError, match=r"0000\.png.*delete it"):
        agree_on_inspector(RunFolder(tmp_path), disc_inspector(), uncounted, again=True)
    (tmp_path / "rows/256x128/direct/0001.json").write_text("{")
    with pytest.raises(ScaleCrafterError, match=r"0001\.json.*delete it"):
        RunFolder(tmp_path).rows()


def test_parquet_holds_a_row_a_picture_and_can_be_read_back(finished: Path, tmp_path: Path) -> None:
    rows = RunFolder(finished).rows()
    write_parquet(rows, tmp_path / "p.parquet", {"note": "x"})
    again, metadata = read_parquet(tmp_path / "p.parquet")
    assert metadata["note"] == "x"
    assert len(again) == 6
    for row, same in zip(rows, again, strict=True):
        assert same.model_dump(exclude={"metrics"}) == row.model_dump(exclude={"metrics"})
        assert same.metrics.parts == row.metrics.parts
        assert same.metrics.attributes == row.metrics.attributes
        ours, theirs = (one.metrics.features["critters"] for one in (row, same))
        np.testing.assert_allclose(theirs.whole, ours.whole, rtol=1e-6)
        assert len(theirs.crops) == len(ours.crops)

    import pyarrow.parquet

    names = pyarrow.parquet.read_table(tmp_path / "p.parquet").column_names
    assert {"prompt", "method", "seed", "request_sha256", "part_eye", "expected_colour", "seen_colour"} <= set(names)


def test_what_nobody_was_there_to_tell_is_missing_in_parquet_too(tmp_path: Path) -> None:
    run(tmp_path / "run", small_settings(native_pictures=0), inspector=make_inspector("none", observe=False))
    rows = RunFolder(tmp_path / "run").rows()
    write_parquet(rows, tmp_path / "p.parquet")
    assert read_parquet(tmp_path / "p.parquet")[0][0].metrics.animals is None


def test_the_steps_of_each_picture_are_told(tmp_path: Path) -> None:
    notes = run(tmp_path, small_settings(native_pictures=0, choices=(DIRECT,)))
    assert notes.steps == [("direct", 1, 2), ("direct", 2, 2)] * 2
    assert min(notes.seconds) > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets a process reset its own mark")
def test_peak_memory_is_of_one_picture_not_of_the_largest_so_far() -> None:
    import resource

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    pipe = tiny_sd_pipeline()
    assert peak_memory.begin(pipe)
    large = np.ones(40_000_000)  # 320 MB
    reached = peak()
    del large
    assert peak() == reached
    assert peak_memory.begin(pipe)
    assert peak() < reached - 250_000_000


def test_the_observer_of_these_tests_can_count() -> None:
    from tests.support.disc_observer import draw

    assert [DiscObserver().observe([draw(discs)])[0].animals for discs in (0, 1, 3)] == [0, 1, 3]


def test_a_run_of_version_0_1_is_read_with_its_old_names(tmp_path: Path) -> None:
    file = "pictures/64x64/direct/0000.png"
    row = {"file": file, "method": "direct", "width": 64, "height": 64, "index": 0, "prompt": "a fox"}
    row["findings"] = {"animals": 2, "spectrum": [1.0], "top_octave": 0.5}
    for name, content in {
        "run.json": json.dumps({"format": 1, "examiner": {"name": "critters", "signature": [1.0]}}),
        "rows/64x64/direct/0000.json": json.dumps(row),
        file: "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert RunFolder(tmp_path).manifest["inspector"]["name"] == "critters"
    assert [found.metrics.animals for found in RunFolder(tmp_path).rows()] == [2]
