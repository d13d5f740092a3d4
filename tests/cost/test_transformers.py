"""The operations of FLUX.1 and Qwen-Image, against their layers counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scalecrafter._util.sizes import ImageSize
from scalecrafter.cli.app import app
from scalecrafter.cost.transformers import TEXT_TOKENS, TransformerCounts, outline_of
from scalecrafter.request.passes import Denoising

WIDTH = 3072


def by_hand(text: int, image: int, double: int, single: int) -> float:
    """Linear layers of 12 · width² weights a token and block, and attention of all tokens over all."""
    tokens = text + image
    return (double + single) * (24 * WIDTH**2 * tokens + 4 * tokens**2 * WIDTH)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "blocks"), [("flux", (19, 38)), ("qwen-image", (60, 0))])
def test_a_step_has_the_operations_of_its_layers(name: str, blocks: tuple[int, int]) -> None:
    counts = TransformerCounts(outline_of(name))
    step = counts.of_pass(Denoising(ImageSize(1024, 1024), guided=False), 1)
    assert step == pytest.approx(by_hand(TEXT_TOKENS[name], 4096, *blocks), rel=0.005)
    guided = counts.of_pass(Denoising(ImageSize(1024, 1024), guided=True), 1)
    assert guided == step * (1 if name == "flux" else 2)  # FLUX.1 [dev] has learnt its guidance
    assert counts.of_pass(Denoising(ImageSize(1024, 1024), guided=False, strength=0.5), 20) == 10 * step


@pytest.mark.slow
def test_the_shell_counts_methods_of_flux(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["bench", "--flops", "-a", "flux", "-s", "2048x2048", "--method", "direct", "--method", "cascade",
         "--method", "hiflow", "--steps", "30", "-o", str(tmp_path / "bench.json")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = {row["method"]: row for row in json.loads((tmp_path / "bench.json").read_text())["rows"]}
    assert set(rows) == {"direct", "cascade", "hiflow"}
    assert rows["direct"]["flops"] == pytest.approx(30 * by_hand(512, 16384, 19, 38), rel=0.02)
    assert rows["cascade"]["flops_over_direct"] < 0.6
