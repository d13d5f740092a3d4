"""From rows to figures, tables, plots and sheets; pictures are drawn here, so every figure is known beforehand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from scalecrafter.evaluation.distances import fid
from scalecrafter.evaluation.figures import CellFigures, measure, measure_cell
from scalecrafter.evaluation.inspection import FeatureExtractor, Inspector
from scalecrafter.evaluation.intervals import Interval
from scalecrafter.evaluation.real_pictures import SHIPPED, SIGNATURE, real_rows
from scalecrafter.evaluation.reporting import report
from scalecrafter.evaluation.rows import PictureRow, write_parquet
from scalecrafter.evaluation.settings import NATIVE, REAL
from scalecrafter.evaluation.sheets import write_sheet
from scalecrafter.evaluation.store import RunFolder
from scalecrafter.evaluation.tables import comma_separated, in_words, markdown
from scalecrafter.request.request import RequestError
from tests.support.disc_observer import disc_inspector, draw, uncounted
from tests.support.small_evaluation import run

EXAMINER = disc_inspector()
SIZE = (96, 96)


def row(picture: Image.Image, index: int, method: str = "direct", **changed: Any) -> PictureRow:
    values: dict[str, Any] = {
        "file": f"{method}/{index}.png", "method": method, "width": picture.width, "height": picture.height,
        "index": index, "prompt": "a red disc", "expected": {"colour": "red"}, "seconds": 1.0 + index,
        "peak_memory": 2**30, "metrics": EXAMINER.inspect(picture),
    }  # fmt: skip
    return PictureRow(**(values | changed))


def some_rows(number: int, method: str = "direct", seed: int = 0, blur: float = 0.0) -> list[PictureRow]:
    """Noisy pictures of a disc, so that features and spectra vary."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(number):
        pixels = np.asarray(draw(1, ["red", "green", "blue"][index % 3])) * rng.uniform(0.7, 1.0)
        noisy = Image.fromarray(np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8))
        rows.append(row(noisy.filter(ImageFilter.GaussianBlur(blur)), index, method))
    return rows


def test_rates_and_counts_are_those_of_the_pictures() -> None:
    pictures = [draw(1), draw(2, "blue"), draw(1, "green"), draw(1, eyes=3)]
    found = measure_cell("direct", SIZE, [row(picture, index) for index, picture in enumerate(pictures)], (), ())
    values = {key: interval.value for key, interval in found.figures.items()}
    assert values["one_object"] == 0.75
    assert values["well_formed"] == 0.5
    assert values["animals"] == 1.25
    assert values["colour"] == 0.5
    assert values["seconds"] == 2.5
    assert values["peak_memory"] == 1.0
    assert "species" not in values  # nothing was promised
    assert not {"fid_real", "kid_native", "sharpness"} & set(values)
    assert found.pictures == 4


def test_distances_are_over_equally_many_pictures_on_both_sides() -> None:
    ours, real, native = some_rows(9), some_rows(6, seed=1), some_rows(30, seed=2)
    found = measure_cell("direct", SIZE, ours, real, native)
    assert (found.compared_real, found.compared_native) == (6, 9)
    features = [[seen.metrics.features["critters"].whole for seen in side] for side in (ours[:6], real)]
    assert found.figures["fid_real"] == fid(*features)
    features = [[seen.metrics.features["critters"].whole for seen in side] for side in (ours, native[:9])]
    assert found.figures["fid_native"] == fid(*features)


def test_the_distance_of_crops_sees_the_blur_that_reduced_features_do_not() -> None:
    def rows(number: int, seed: int, enlarged: bool = False) -> list[PictureRow]:
        rng = np.random.default_rng(seed)
        found = []
        for index in range(number):
            small = rng.uniform(0, 255, (8, 8, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
            large = small.repeat(4, 0).repeat(4, 1).astype(float) + rng.choice([-40, 40], (128, 128, 1))
            picture = Image.fromarray(np.clip(large, 0, 255).astype(np.uint8))
            if enlarged:
                picture = picture.resize((32, 32), Image.Resampling.BOX).resize((128, 128), Image.Resampling.LANCZOS)
            found.append(row(picture, index, metrics=reduced.inspect(picture)))
        return found

    def statistics(picture: Image.Image) -> Any:
        pixels = np.asarray(picture.resize((32, 32), Image.Resampling.BOX), np.float32)
        return np.array([pixels.mean(), pixels.std(), np.abs(np.diff(pixels, axis=0)).mean()], np.float32) / 255

    reduced = Inspector("imagenet", None, {"imagenet": FeatureExtractor(statistics, 32)})
    real, sharp, blurred = rows(12, 1), rows(12, 2), rows(12, 2, enlarged=True)
    cells = [measure_cell("a", (128, 128), side, real, ()) for side in (sharp, blurred)]
    crops, whole = ([cell.figures[key] for cell in cells] for key in ("fid_crops_imagenet", "fid_real_imagenet"))
    assert cells[0].compared_crops == 12
    assert crops[1].low > crops[0].high
    assert whole[1].low < whole[0].high
    features = [[view for one in side for view in one.metrics.features["imagenet"].crops] for side in (sharp, real)]
    assert crops[0] == fid(*features, each=4, resamples=500)


def test_rows_from_before_there_were_crops_count_for_all_but_their_distance() -> None:
    found = measure_cell("a", SIZE, some_rows(4), some_rows(4, seed=1), ())
    assert "fid_crops" not in found.figures
    assert (found.compared_real, found.compared_crops) == (4, 0)


def test_sharpness_is_the_log_ratio_to_real_pictures() -> None:
    real, same, blurred = some_rows(12), some_rows(12, seed=5), some_rows(12, seed=5, blur=2.0)
    assert measure_cell("a", SIZE, real, real, ()).figures["sharpness"].value == 0
    found = measure_cell("a", SIZE, same, real, ()).figures["sharpness"]
    assert found.low < 0 < found.high
    found = measure_cell("a", SIZE, blurred, real, ()).figures["sharpness"]
    assert found.high < -2


def test_a_run_is_measured_cell_by_cell_with_native_and_real_pictures_beside() -> None:
    rows = [*some_rows(4, "upscale"), *some_rows(4, "direct", seed=1), *some_rows(6, NATIVE, seed=2)]
    measured = measure(rows, {SIZE: some_rows(5, REAL, seed=3)}, ["direct", "upscale"])
    assert [cell.method for cell in measured] == [NATIVE, "direct", "upscale", REAL]
    assert [cell.compared_native for cell in measured] == [0, 4, 4, 0]
    assert [cell.compared_real for cell in measured] == [5, 4, 4, 0]
    assert "one_object" in measured[-1].figures  # how often the observer is right, where the truth is known


def test_real_pictures_of_a_folder_are_reduced_to_the_size(tmp_path: Path) -> None:
    for index in range(3):
        draw(1, side=200).save(tmp_path / f"{index}.png")
    (tmp_path / "notes.txt").write_text("x")
    rows, origin = real_rows(SIZE, 2, EXAMINER, tmp_path, None, uncounted)
    assert [(found.width, found.height, found.metrics.animals) for found in rows] == [(96, 96, 1)] * 2
    assert str(tmp_path) in origin


def test_of_folders_named_after_sizes_only_the_one_of_this_size_counts(tmp_path: Path) -> None:
    (tmp_path / "96x96").mkdir()
    for index in range(2):
        draw(1).save(tmp_path / "96x96" / f"{index}.png")
        draw(2, side=200).save(tmp_path / f"{index}.png")
    rows, _ = real_rows(SIZE, 9, EXAMINER, tmp_path, None, uncounted)
    assert [found.metrics.animals for found in rows] == [1, 1]
    rows, why = real_rows((96, 48), 9, EXAMINER, tmp_path, None, uncounted)
    assert rows == []
    assert "none named 96x48" in why


def test_real_pictures_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    def asked(folder: Path) -> None:
        real_rows(SIZE, 9, EXAMINER, folder, None, uncounted)

    with pytest.raises(RequestError, match="no folder"):
        asked(tmp_path / "none")
    with pytest.raises(RequestError, match="at least 2"):
        asked(tmp_path)
    for index in range(2):
        draw(1, side=64).save(tmp_path / f"{index}.png")
    with pytest.raises(RequestError, match="64×64, smaller than the 96×96"):
        asked(tmp_path)
    (tmp_path / "0.png").write_text("no picture")
    with pytest.raises(RequestError, match=r"cannot read .*0\.png"):
        asked(tmp_path)


def test_without_real_pictures_the_report_says_why() -> None:
    rows, why = real_rows(SIZE, 9, EXAMINER, None, None, uncounted)
    assert rows == []
    assert "--real" in why


def test_shipped_figures_of_another_observer_or_size_are_not_compared_with(tmp_path: Path) -> None:
    shipped = tmp_path / "real.parquet"

    def asked(size: tuple[int, int] = SIZE) -> tuple[list[PictureRow], str]:
        return real_rows(size, 3, EXAMINER, None, shipped, uncounted)

    assert "no figures of real renders are installed" in asked()[1]
    for signature, found, why in ((EXAMINER.signature(), 3, "shipped"), ([1.0, 2.0], 0, "another observer")):
        write_parquet(some_rows(4, REAL), shipped, {SIGNATURE: json.dumps(signature)})
        assert len(asked()[0]) == found
        assert why in asked()[1]
    write_parquet(some_rows(4, REAL), shipped, {SIGNATURE: json.dumps(EXAMINER.signature())})
    assert asked((512, 512))[0] == []
    assert "real_pictures --size 512x512" in asked((512, 512))[1]


@pytest.mark.parametrize(
    ("key", "interval", "text"),
    [
        ("one_object", (0.97, 0.92, 1.0), "97 % (92–100)"),
        ("fid_real", (12.3456, 10.0, 14.999), "12.35 (10.00–15.00)"),
        ("sharpness", (-0.5, -1.0, 0.25), "−0.50 (−1.00 to 0.25)"),
        ("peak_memory", (1.5, 1.5, 1.5), "1.50 GiB (1.50–1.50)"),
    ],
)
def test_figures_in_words(key: str, interval: tuple[float, float, float], text: str) -> None:
    from scalecrafter.evaluation.figures import KINDS

    kind = next(kind for kind in KINDS if kind.key == key)
    assert in_words(kind, Interval(*interval)) == text
    assert in_words(kind, None) == "–"


def some_cells() -> list[CellFigures]:
    rate, distance = Interval(0.5, 0.25, 0.75), Interval(3.0, 2.0, 4.0)
    return [
        CellFigures("direct", (512, 512), 8, {"one_object": rate, "fid_native": distance}, 0, 8),
        CellFigures("cascade", (512, 512), 8, {"one_object": rate}),
        CellFigures("direct", (1024, 1024), 4, {"one_object": rate}),
    ]


def test_markdown_has_methods_by_size_and_a_table_a_size() -> None:
    text = markdown(some_cells(), {"model": "tiny"}, {(512, 512): "those in x"}, ["scalecrafter eval"])
    assert "| method | 512×512 | 1024×1024 |" in text
    assert "| cascade | 50 % (25–75) | – |" in text
    assert "| method | pictures | FID_b |" in text
    assert "**4 pictures a method tell little" in text
    assert "Real pictures: those in x. Pictures on each side: 8 for FID_b and KID_b." in text
    assert "- model: tiny" in text
    assert "scalecrafter eval" in text
    assert "species" not in text  # nobody told it
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| cascade") or line == "| method |"}
    assert widths <= {4}


def test_csv_has_a_line_a_figure() -> None:
    lines = list(csv.DictReader(io.StringIO(comma_separated(some_cells()))))
    assert len(lines) == 4
    assert lines[1] == {
        "method": "direct", "width": "512", "height": "512", "pictures": "8",
        "figure": "fid_native", "value": "3", "low": "2", "high": "4",
    }  # fmt: skip


def test_a_sheet_shows_picture_i_in_place_i(tmp_path: Path) -> None:
    rows = []
    for index, colour in ((0, "red"), (9, "blue")):
        picture = draw(1, colour)
        picture.save(tmp_path / f"{index}.png")
        rows.append(row(picture, index, file=f"{index}.png"))
    with Image.open(write_sheet(tmp_path, rows, tmp_path / "sheet.png")) as sheet:
        assert sheet.size == (8 * 260 - 4, 36 + 2 * 260 - 4)
        pixels = sheet.convert("RGB")
        assert pixels.getpixel((128, 36 + 200)) == (200, 30, 30)
        assert pixels.getpixel((260 + 128, 36 + 260 + 200)) == (30, 30, 200)
        assert pixels.getpixel((260 + 128, 36 + 200)) == (255, 255, 255)


@contextmanager
def quietly(_: str) -> Iterator[Any]:
    yield uncounted


@pytest.mark.slow
def test_the_report_of_a_run_is_complete_and_can_be_made_again(tmp_path: Path) -> None:
    run(tmp_path / "run")
    store = RunFolder(tmp_path / "run")
    real = tmp_path / "real"
    for size in ((256, 128), (128, 128)):
        (real / f"{size[0]}x{size[1]}").mkdir(parents=True)
        for index in range(3):
            draw(1, side=256).resize(size).save(real / f"{size[0]}x{size[1]}" / f"{index}.png")
    for _ in range(2):
        written = report(store, EXAMINER, real, None, quietly)
        assert [path.name for path in written] == ["report.md", "report.csv", "report.json"]
    names = {str(path.relative_to(store.folder)) for path in store.folder.rglob("*") if path.is_file()}
    assert {
        "pictures.parquet", "plots/rates.png", "plots/distances-critters.png", "plots/texture-and-cost.png",
        "plots/spectrum-256x128.png", "plots/spectrum-128x128.png",
        "sheets/256x128-direct.png", "sheets/256x128-upscale.png", "sheets/128x128-native.png",
    } <= names  # fmt: skip
    content = json.loads((store.folder / "report.json").read_text())
    assert {(cell["method"], *cell["size"]) for cell in content["cells"]} == {
        ("native", 128, 128), (REAL, 128, 128), ("direct", 256, 128), ("upscale", 256, 128), (REAL, 256, 128),
    }  # fmt: skip
    direct = next(cell for cell in content["cells"] if cell["method"] == "direct")
    assert direct["compared_real"] == 2
    assert set(direct["figures"]) >= {"fid_real", "kid_real", "fid_native", "kid_native", "sharpness", "colour"}
    text = (store.folder / "report.md").read_text()
    assert "2 steps, guidance 2.0, scheduler its own, float32, seeds from 0" in text


def test_an_empty_folder_is_nothing_to_report_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no picture"):
        report(RunFolder(tmp_path), EXAMINER, None, None, quietly)


def test_the_script_that_ships_figures_writes_them_where_they_are_looked_for() -> None:
    pytest.importorskip("skia")
    from training.critters.real_pictures import TARGET

    assert SHIPPED.parts[-len(TARGET.parts) :] == TARGET.parts
