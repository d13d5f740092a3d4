"""The benchmark of kernels: its phases are the dilated convolution, and it runs anywhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks import kernels


@pytest.mark.parametrize(("dilation", "size"), [(2, (8, 12)), (3, (8, 11)), (4, (5, 3))])
def test_phases_are_the_dilated_convolution(dilation: int, size: tuple[int, int]) -> None:
    features, weight = torch.randn(2, 3, *size), torch.randn(5, 3, 3, 3)
    dilated = F.conv2d(features, weight, padding=dilation, dilation=dilation)
    torch.testing.assert_close(kernels.phases(features, weight, dilation), dilated, rtol=1e-4, atol=1e-4)


def test_it_runs_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kernels.json"
    monkeypatch.setattr(sys, "argv", ["kernels", "--tiny", "--device", "cpu", "--repeats", "1", "-o", str(file)])
    kernels.main()
    found = json.loads(file.read_text("utf-8"))
    assert {row["way"] for row in found["convolutions"]} == {"dilated", "phases"}
    assert all("seconds" in row for row in found["convolutions"])
    assert any("seconds" in row for row in found["attention"])
    assert len(file.read_bytes()) < 1 << 24
