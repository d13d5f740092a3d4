"""What a run says beforehand of what it will make."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalecrafter.evaluation.estimate import planned
from scalecrafter.evaluation.settings import Choice
from scalecrafter.models.denoisers import read_model
from tests.support.small_evaluation import DIRECT, UPSCALE, run, small_settings
from tests.support.tiny_models import tiny_sd_pipeline
from tests.support.whole_transformers import whole_flux


def test_cells_are_told_in_order_with_their_times_by_area_and_passes() -> None:
    pipe = tiny_sd_pipeline(layers_per_block=1)
    settings = small_settings(sizes=((256, 128), (256, 256)), choices=(DIRECT, UPSCALE), pictures=3)
    samples = list(settings.samples(read_model(pipe).native_size))
    cells = planned(pipe, samples)
    assert [(cell.label, cell.size, cell.pictures) for cell in cells] == [
        ("native", (128, 128), 2), ("direct", (256, 128), 3), ("upscale", (256, 128), 3),
        ("direct", (256, 256), 3), ("upscale", (256, 256), 3),
    ]  # fmt: skip
    seconds = [cell.seconds_each or 0.0 for cell in cells]
    assert seconds[0] > 0
    assert seconds[3] == pytest.approx(2 * seconds[1])
    assert seconds[1] == pytest.approx(2 * seconds[0])
    assert seconds[4] < seconds[3]


def test_a_model_with_a_transformer_has_an_estimate() -> None:
    pipe = whole_flux()
    width, height = read_model(pipe).native_size
    choices = (Choice("positions", {"recipe": "[positions]\nmethod = 'yarn'\n"}), UPSCALE)
    settings = small_settings(sizes=((2 * width, height),), choices=choices)
    cells = planned(pipe, list(settings.samples((width, height))))
    assert [cell.label for cell in cells] == ["native", "positions", "upscale"]
    assert all((cell.seconds_each or 0) > 0 for cell in cells)


@pytest.mark.slow
def test_only_what_is_missing_is_planned(tmp_path: Path) -> None:
    run(tmp_path)
    notes = run(tmp_path, small_settings(pictures=3))
    assert [(cell.label, cell.pictures) for cell in notes.cells] == [("direct", 1), ("upscale", 1)]
    assert run(tmp_path, small_settings(pictures=3)).cells == []


def test_a_unet_that_wants_more_than_text_has_no_estimate() -> None:
    pipe = tiny_sd_pipeline(layers_per_block=1, class_embed_type="timestep")
    cells = planned(pipe, list(small_settings().samples((128, 128))))
    assert [cell.seconds_each for cell in cells] == [None] * 3
