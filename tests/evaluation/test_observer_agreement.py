"""The observer beside counts by eye: agreement is counted per picture, not per rate."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.observer_agreement import ByEye, read_counts, table
from scalecrafter.evaluation.inspection import PictureMetrics
from scalecrafter.evaluation.rows import PictureRow


def row(method: str, index: int, animals: int, well_formed: bool) -> PictureRow:
    found = PictureMetrics(
        animals=animals, one_object=animals == 1, well_formed=well_formed, spectrum=[0.0], top_octave=0.0
    )
    file = f"pictures/512x512/{method}/{index:04d}.png"
    return PictureRow(file=file, method=method, width=512, height=512, index=index, prompt="", metrics=found)


def test_equal_rates_of_different_pictures_are_no_agreement() -> None:
    rows = [row("direct", 0, 1, True), row("direct", 1, 2, False), row("upscale", 0, 1, True)]
    eye = {
        rows[0].file: ByEye(2, False),
        rows[1].file: ByEye(1, True),
        rows[2].file: ByEye(1, None),
    }
    direct, upscale, every = (line.strip("| ").split(" | ") for line in table(rows, eye)[2:])
    assert direct[:2] == ["512×512, direct", "2"]
    assert [cell.split()[0] for cell in direct[2:]] == ["50", "50", "0", "50", "50", "0"]
    assert upscale[2:] == ["100 % (100–100)"] * 3 + ["–"] * 3
    assert [cell.split()[0] for cell in every[1:5]] == ["3", "67", "67", "33"]


def test_counts_of_pictures_that_are_not_there_and_lines_without_a_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1 counted pictures are not in the run, pictures/512x512/direct/0009\.png"):
        table([row("direct", 0, 1, True)], {"pictures/512x512/direct/0009.png": ByEye(1, None)})
    path = tmp_path / "counts.csv"
    path.write_text("file,animals,well_formed\na.png,1,yes\nb.png,2,\nc.png,0,no\n")
    assert read_counts(path) == {"a.png": ByEye(1, True), "b.png": ByEye(2, None), "c.png": ByEye(0, False)}
    path.write_text("file,animals,well_formed\na.png,1,yes\nb.png,two,no\n")
    with pytest.raises(ValueError, match=r"counts\.csv, line 3"):
        read_counts(path)
