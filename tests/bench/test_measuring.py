"""The clock of the bench."""

from __future__ import annotations

import torch

from scalecrafter.bench.measuring import Course
from scalecrafter.cost.flops import FlopCounts
from scalecrafter.request.request import Request
from tests.support.tiny_bench import Tiny


@torch.no_grad()
def test_what_was_timed_is_kept_when_the_time_is_up() -> None:
    request = Request(prompt="a fox", method="direct", steps=4, width=128, height=64)
    course = Course(Tiny("cpu"), "direct", request, FlopCounts(Tiny("meta")), None)
    course.run(iter([False, False, True]).__next__)
    row = course.row()
    assert "seconds" not in row
    assert [(part["part"], part["times"]) for part in row["parts"]] == [("first step", 1), ("plain step", 3)]
    assert all(part["seconds"] > 0 for part in row["parts"])
